// server.js - requests to the server that this page came from, with the API key where it wants one.
const STORED = "longspan-api-key";

let ask = null; // the dialog that is open

/** Asks for a key; resolves to true when there is one. */
export function askForKey() {
  const dialog = document.getElementById("key-dialog");
  const field = document.getElementById("key");
  document.getElementById("key-button").hidden = false;
  if (ask !== null) return ask;
  ask = new Promise((resolve) => {
    const done = (good) => {
      if (good) sessionStorage.setItem(STORED, field.value.trim());
      field.value = "";
      ask = null;
      resolve(good);
    };
    document.getElementById("key-cancel").onclick = () => dialog.close("cancel");
    dialog.onclose = () => done(dialog.returnValue !== "cancel" && field.value.trim() !== "");
    dialog.returnValue = "cancel"; // the Escape key
    document.getElementById("key-form").onsubmit = () => { dialog.returnValue = "use"; };
    dialog.showModal();
  });
  return ask;
}

function headers(body) {
  const key = sessionStorage.getItem(STORED);
  return { ...(body ? { "Content-Type": "application/json" } : {}), ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

/** What went wrong, in the server's words. */
export class ServerError extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** A response that is good; a key is asked for once where one is needed. Throws ServerError, or what fetch throws. */
export async function request(path, body = null, signal = undefined) {
  const send = () => fetch(path, { method: body ? "POST" : "GET", headers: headers(body), body: body ? JSON.stringify(body) : undefined, signal, cache: "no-store" });
  let response = await send();
  if (response.status === 401 && (await askForKey())) response = await send();
  if (response.ok) return response;
  const text = await response.text();
  let error = {};
  try {
    error = JSON.parse(text).error ?? {};
  } catch {
    // not JSON: somebody between us and the server answered
  }
  throw new ServerError(response.status, error.code ?? error.type ?? "", error.message ?? `the server answered ${response.status}`);
}

/** The objects of an event stream, until [DONE]. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const lines = rest.split("\n");
    rest = lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data:")) continue;
      const data = line.slice(5).trim();
      if (data === "[DONE]") return;
      const object = JSON.parse(data);
      if (object.error) throw new ServerError(200, object.error.code ?? "", object.error.message);
      yield object;
    }
  }
}
