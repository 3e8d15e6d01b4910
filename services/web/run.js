// One run on the page: its answer, its votes, its lanes, and the way through its events.

import { eachFrame, h, say, seconds, share } from "./dom.js";
import { Lanes } from "./lanes.js";
import { answerOf, typeset } from "./latex.js";
import { Stepper } from "./stepper.js";
import { Story, told } from "./story.js";

const STOPPED = {
  all: "all chains ended", consensus: "the others could no longer change it",
  confidence: "the lead was sure enough", count: "enough chains answered", deadline: "time was up",
};
const BROKEN = ["failed", "cancelled", "lost", "refused", "not kept"];

export class Run {
  id = null;
  events = [];
  story = new Story();
  details = null;
  status = "starting";
  nominal = null;
  #count = 0;
  #following = true;
  #lanes = new Lanes();
  #stepper = new Stepper((count) => this.#step(count));
  #badge = h("span", { class: "badge" });
  #meta = h("p", { class: "meta" });
  #answer = h("div", { class: "answer" });
  #votes = h("ol", { class: "votes", "aria-label": "Votes" });
  #trouble = h("p", { class: "trouble", role: "alert", hidden: true });
  #spoken = h("p", { class: "sr", role: "status", "aria-live": "polite" });
  #stop = h("button", { type: "button", class: "small", hidden: true, click: () => this.onstop?.() }, "Stop");
  #link = h("a", { class: "link", hidden: true }, "link to this run");
  #render = eachFrame(() => this.#show());

  /** `changed` is called when there is something new for the panels beside the run. */
  constructor(title, question, changed) {
    this.title = title;
    this.changed = changed;
    this.#heading = h("h2", {}, title);
    this.element = h(
      "article", { class: "run", "aria-label": `Run with ${title}` },
      h("header", {}, this.#heading, this.#badge, this.#stop, this.#link),
      question === null ? null : h("blockquote", { class: "question", tabindex: "0" }, ...typeset(question)),
      this.#meta, this.#trouble,
      h("div", { class: "result" }, this.#answer, this.#votes),
      this.#stepper.element, this.#lanes.element, this.#spoken,
    );
    this.#setStatus("starting");
    this.#show();
  }

  #heading;

  /** The run has an id, so it has a link and can be stopped. */
  known(id) {
    this.id = id;
    this.#link.href = `?run=${encodeURIComponent(id)}`;
    this.#link.hidden = false;
    if (this.status === "starting") this.#setStatus("running");
  }

  /** What `GET /v1/atts/runs/ID` says beside events. */
  describe({ model, seed, method }) {
    const rate = method.takeover_budget ? method.takeover_budget / method.candidates : method.takeover_rate;
    this.nominal = rate;
    this.title = method.policy === undefined ? model : method.policy;
    say(this.#heading, this.title);
    this.element.setAttribute("aria-label", `Run with ${this.title}`);
    say(this.#meta, `${method.candidates} candidates · takeover rate ${rate} · ${method.coverage ?? "the server's"} coverage · seed ${seed}`);
  }

  add(events) {
    this.events.push(...events);
    this.#render();
  }

  /** The reply's `atts` object: how it came out, in the server's own numbers. */
  finish(details) {
    this.details = details;
    this.nominal = details.takeover_rate.nominal;
    this.#setStatus("finished");
    this.#render();
  }

  fail(message, status = "failed") {
    this.#setStatus(status);
    this.warn(message);
    this.#render();
  }

  /** Say what keeps the run from going on; null: nothing any more. */
  warn(message) {
    this.#trouble.hidden = message === null;
    say(this.#trouble, message ?? "");
  }

  #setStatus(status) {
    this.status = status;
    this.element.dataset.status = status;
    say(this.#badge, status);
    this.#stop.hidden = status !== "running";
  }

  #step(count) {
    this.#following = count === null;
    if (count !== null) {
      if (count < this.#count) {
        this.story = told(this.events, count);
        this.#count = count;
      } else this.#advance(count);
    }
    this.#show();
  }

  #advance(count) {
    for (; this.#count < count; this.#count += 1) this.story.add(this.events[this.#count]);
  }

  #show() {
    if (this.#following) this.#advance(this.events.length);
    const { story } = this;
    this.#lanes.show(story, BROKEN.includes(this.status) && this.#count === this.events.length);
    this.#stepper.element.hidden = this.events.length === 0;
    this.#stepper.show(this.events.length, this.#count, story.last, story.at);
    this.#showAnswer(story);
    this.#showVotes(story);
    this.changed();
  }

  #showAnswer(story) {
    const [lead] = story.votes();
    const { answer } = story;
    const done = story.finished;
    const of = `${done} of ${story.candidates.length} candidates have ended`;
    let shown = [];
    if (answer) {
      const time = this.details?.seconds.total ?? story.at;
      shown = [
        h("div", { class: "value" }, answer.answer === null ? "no answer" : answerOf(answer.answer)),
        h("p", {}, `agreement ${share(answer.agreement)} · ${STOPPED[answer.stopped] ?? answer.stopped} · ${seconds(time)}`),
      ];
    } else if (lead) {
      shown = [h("div", { class: "value forming" }, answerOf(lead.answer)), h("p", {}, `leads · ${of}`)];
    } else if (this.status === "not kept") shown = [];
    else if (BROKEN.includes(this.status)) shown = [h("p", {}, "no answer")];
    else shown = [h("div", { class: "value waiting", "aria-hidden": "true" }, "…"), h("p", {}, story.candidates.length ? of : "waiting")];
    this.#answer.replaceChildren(...shown);
    if (!this.#following) return;
    if (answer) say(this.#spoken, `${this.title}: the answer is ${answer.answer ?? "none"}, agreement ${share(answer.agreement)}.`);
    else if (done) say(this.#spoken, `${this.title}: ${of}${lead ? `, ${lead.answer} leads` : ""}.`);
  }

  #showVotes(story) {
    const all = Math.max(1, story.candidates.length);
    this.#votes.replaceChildren(
      ...story.votes().slice(0, 8).map(({ answer, candidates }) =>
        h("li", {},
          h("span", { class: "of" }, answerOf(answer)),
          h("span", { class: "count", "--share": candidates.length / all, "aria-hidden": "true" }),
          h("span", { class: "n", title: `candidates ${candidates.join(", ")}` }, String(candidates.length),
            h("span", { class: "sr" }, ` votes, of candidates ${candidates.join(", ")}`)))),
    );
  }
}
