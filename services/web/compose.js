// The form: what is asked, of which policies, with what knobs.

const byId = (id) => document.getElementById(id);

export class Compose {
  form = byId("ask");
  question = byId("question");
  #counter = byId("counter");
  #policies = [byId("policy"), byId("other")];

  constructor(asked) {
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.question.value.trim()) asked();
      else this.question.focus();
    });
    this.question.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
      event.preventDefault();
      this.form.requestSubmit();
    });
    this.question.addEventListener("input", () => this.#count());
    for (const button of this.form.querySelectorAll("[data-example]"))
      button.addEventListener("click", () => {
        this.question.value = button.textContent;
        this.#count();
        this.question.focus();
      });
  }

  /** The served names; what was chosen stays chosen. */
  offer(names) {
    const [first, second] = this.#policies;
    for (const [select, options] of [[first, names], [second, ["", ...names]]]) {
      const chosen = select.value;
      select.replaceChildren(...options.map((name) => new Option(name.split(":").at(-1) || "nothing", name)));
      if (options.includes(chosen)) select.value = chosen;
    }
  }

  /** One request body a policy, on the same seed, so that they differ in nothing else. */
  bodies() {
    const [one, other] = this.#policies.map((select) => select.value);
    const atts = { events: true };
    for (const [name, id] of [["candidates", "candidates"], ["takeover_rate", "rate"]])
      if (byId(id).value !== "") atts[name] = byId(id).valueAsNumber;
    const given = byId("seed").value;
    const seed = given === "" ? crypto.getRandomValues(new Uint32Array(1))[0] >>> 1 : Number(given);
    const messages = [{ role: "user", content: this.question.value }];
    return [one || "atts", ...(other ? [other] : [])].map((model) => ({ model, messages, seed, atts }));
  }

  #count() {
    const { length } = this.question.value;
    this.#counter.textContent = length < 500 ? "" : `${length.toLocaleString("en")} characters`;
  }
}
