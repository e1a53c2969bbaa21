// chat.js - a conversation through the server's own API, streamed. A model without a chat template continues the text
// instead: then each question stands alone.
import { count, element, figure, plural } from "./format.js";
import { events, request, ServerError } from "./server.js";

export class Chat {
  constructor() {
    const get = (id) => document.getElementById(id);
    Object.assign(this, { log: get("messages"), form: get("ask"), field: get("question"), send: get("send"), stop: get("stop"), mode: get("chat-mode"), temperature: get("temperature"), most: get("most-tokens") });
    this.hint = this.log.firstElementChild;
    this.name = "Model"; // for people
    this.model = ""; // for the server
    this.messages = [];
    this.plain = false; // no chat template: completions
    this.running = null; // an AbortController
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.ask();
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        this.ask();
      }
    });
    this.field.addEventListener("input", () => this.grow());
    this.stop.addEventListener("click", () => this.running?.abort());
    get("new-chat").addEventListener("click", () => {
      this.running?.abort();
      this.messages = [];
      this.log.replaceChildren(this.hint);
      this.field.focus();
    });
  }

  grow() {
    this.field.style.height = "auto";
    this.field.style.height = `${this.field.scrollHeight + 2}px`;
  }

  say(who, className, text) {
    this.hint.remove();
    const said = element("div", "said", text);
    const message = element("article", `message ${className}`, "", {}, element("div", "who", who), said);
    this.log.append(message);
    this.log.scrollTop = this.log.scrollHeight;
    return { message, said };
  }

  async ask() {
    const question = this.field.value, messages = this.messages; // another list after New
    if (question.trim() === "" || this.running) return;
    this.field.value = "";
    this.grow();
    this.say("You", "user", question);
    messages.push({ role: "user", content: question });
    this.running = new AbortController();
    this.stop.hidden = false;
    this.send.disabled = true;
    const answer = this.say(this.name, "assistant", "");
    answer.message.setAttribute("aria-busy", "true");
    try {
      await this.answer(answer, question);
    } catch (error) {
      const stopped = error.name === "AbortError";
      if (!stopped) answer.message.append(element("p", "failed", error.message));
      else answer.message.append(element("p", "figures", "stopped"));
    }
    answer.message.removeAttribute("aria-busy");
    if (answer.said.textContent === "") messages.pop(); // so that it can be asked again
    else messages.push({ role: "assistant", content: answer.said.textContent });
    this.running = null;
    this.stop.hidden = true;
    this.send.disabled = false;
  }

  /** What the server says of itself: {model: its id, chat: there is a chat template}. */
  meet({ model, chat }) {
    this.model = model;
    if (!chat && !this.plain) this.continueTexts();
  }

  continueTexts() {
    this.plain = true;
    this.mode.textContent = "This model has no chat template: it continues your text, and does not see earlier messages.";
    this.mode.hidden = false;
    this.hint.querySelector("code").textContent = "/v1/completions";
  }

  async open(question) {
    const options = {
      model: this.model, stream: true, stream_options: { include_usage: true },
      temperature: Number(this.temperature.value) || 0, max_tokens: Math.max(1, Number(this.most.value) || 512),
    };
    if (!this.plain)
      try {
        return await request("/v1/chat/completions", { ...options, messages: this.messages }, this.running.signal);
      } catch (error) {
        if (!(error instanceof ServerError) || !/template/i.test(`${error.code} ${error.message}`)) throw error;
        this.continueTexts();
      }
    return request("/v1/completions", { ...options, prompt: question }, this.running.signal);
  }

  async answer({ message, said }, question) {
    const began = performance.now();
    let first = 0, last = 0, n = 0, usage = null, reason = "";
    for await (const event of events(await this.open(question))) {
      usage = event.usage ?? usage;
      const choice = event.choices?.[0];
      if (!choice) continue;
      reason = choice.finish_reason ?? reason;
      const text = choice.delta?.content ?? choice.text ?? "";
      if (text === "") continue;
      last = performance.now();
      if (n++ === 0) first = last;
      const atEnd = this.log.scrollHeight - this.log.scrollTop - this.log.clientHeight < 60;
      said.append(text);
      if (atEnd) this.log.scrollTop = this.log.scrollHeight;
    }
    const facts = [];
    if (first > 0) facts.push(`first token after ${figure((first - began) / 1000)} s`);
    const tokens = usage?.completion_tokens ?? n;
    if (tokens > 1 && last > first) facts.push(`${figure(((tokens - 1) * 1000) / (last - first))} tokens/s`);
    if (usage) {
      const cached = usage.prompt_tokens_details?.cached_tokens ?? 0;
      facts.push(`${plural(usage.prompt_tokens, "prompt token")}${cached > 0 ? ` (${count(cached)} found in the cache)` : ""}`, `${plural(tokens, "token")} answered`);
    }
    if (reason === "length") facts.push("cut at the limit");
    message.append(element("p", "figures", facts.join(" · ")));
    this.log.scrollTop = this.log.scrollHeight;
  }
}
