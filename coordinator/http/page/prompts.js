// prompts.js - what waits, is read and is answered.
import { count, duration, element, plural } from "./format.js";
import { promptKey } from "./picture.js";

const STATES = { waiting: "waiting", prefill: "reading", decode: "answering" };

function bar(prompt) {
  const { prompt_tokens: total, prompt_done: done, cached_tokens: found, generated, max_tokens: most } = prompt;
  const reading = done < total;
  const holder = element("div", "bar", "", {
    role: "progressbar", "aria-valuemin": 0, "aria-valuemax": total, "aria-valuenow": done, "aria-label": "Prompt read",
  });
  const part = (className, share) => {
    const made = element("span", className);
    made.style.width = `${Math.max(0, Math.min(100, 100 * share))}%`;
    holder.append(made);
  };
  if (reading) {
    part("found", Math.min(found, done) / total);
    part("read", Math.max(0, done - found) / total);
  } else {
    part("complete", most > total ? generated / (most - total + 1) : 1);
  }
  const words = reading
    ? `${count(done)} of ${count(total)} tokens read${found > 0 ? `, ${count(found)} of them found` : ""}`
    : `${plural(generated, "token")} so far${most > total ? `, ${count(most - total + 1)} at most` : ""}`;
  const again = prompt.preemptions > 0 ? `, put back ${plural(prompt.preemptions, "time")}` : "";
  return [holder, element("div", "bar-text", words + again)];
}

export class Prompts {
  /** `point(key or null)` is called when a prompt is pointed at. */
  constructor(holder, summary, point) {
    this.holder = holder;
    this.summary = summary;
    this.point = point;
    this.holder.addEventListener("pointerleave", () => this.point(null));
  }

  update(status) {
    const { prompts, running, waiting } = status;
    this.summary.textContent = running + waiting > 0 ? `${count(running)} running, ${count(waiting)} waiting` : "";
    if (prompts.length === 0) {
      this.holder.replaceChildren(element("p", "hint", "Nothing runs, and nobody waits."));
      return;
    }
    const head = element("tr");
    for (const [name, className] of [["Request", ""], ["State", ""], ["Progress", ""], ["Prompt", "number"], ["Answer", "number"], ["Age", "number"]])
      head.append(element("th", className, name, { scope: "col" }));
    const body = element("tbody");
    const ranked = prompts.some((p) => p.priority !== 0);
    if (ranked) head.append(element("th", "number", "Priority", { scope: "col" }));
    for (const prompt of prompts) {
      const row = element("tr");
      const id = prompt.id || `request ${prompt.request}`;
      row.append(
        element("td", "id", prompt.prompt > 0 ? `${id} · ${prompt.prompt}` : id, { title: id }),
        element("td", "", "", {}, element("span", "mark", STATES[prompt.state] ?? prompt.state, { "data-state": prompt.state })),
        element("td", "progress", "", {}, ...bar(prompt)),
        element("td", "number", count(prompt.prompt_tokens), { "data-name": "prompt" }),
        element("td", "number", count(prompt.generated), { "data-name": "answer" }),
        element("td", "number", duration(prompt.age_s), { "data-name": "age" }),
      );
      if (ranked) row.append(element("td", "number", String(prompt.priority), { "data-name": "priority" }));
      row.addEventListener("pointerenter", () => this.point(promptKey(prompt)));
      body.append(row);
    }
    const left = running + waiting - prompts.length;
    this.holder.replaceChildren(element("table", "", "", {}, element("thead", "", "", {}, head), body));
    if (left > 0) this.holder.append(element("p", "hint", `and ${plural(left, "more prompt")}`));
  }
}
