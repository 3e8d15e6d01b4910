// One lane a candidate: its segments by who wrote them, what the gate said, and when it worked.

import { h, say, unit } from "./dom.js";
import { answerOf, typeset } from "./latex.js";

const ENDINGS = {
  answered: "answered", eos: "ended", stop: "at a stop string", turns: "out of turns",
  tokens: "out of tokens", context: "context full", stopped: "given up", cancelled: "cancelled",
  failed: "failed",
};

export class Lanes {
  element = h("ol", { class: "lanes", "aria-label": "Candidates" });
  #lanes = [];

  /** Bring all lanes to what `story` says, `cut`: and it goes no further; only what differs is touched. */
  show(story, cut) {
    const speaker = story.answer?.candidate ?? null;
    this.element.style.setProperty("--total", Math.max(story.at, 0.001));
    story.candidates.forEach((candidate, at) => {
      if (!this.#lanes[at]) {
        this.#lanes[at] = new Lane(at);
        this.element.append(this.#lanes[at].element);
      }
      this.#lanes[at].show(candidate, speaker === at, story.answer !== null, cut);
    });
    while (this.#lanes.length > story.candidates.length) this.#lanes.pop().element.remove();
  }
}

class Lane {
  #chain = h("div", { class: "chain" });
  #doing = h("span", { class: "doing" });
  #end = h("div", { class: "end" });
  #clock = h("div", { class: "clock", "aria-hidden": "true" });
  #details = h("div", { class: "details", hidden: true });
  #chips = [];
  #spans = 0;
  #shown = null;
  #open = false;

  constructor(index) {
    this.button = h(
      "button",
      { type: "button", class: "who", "aria-expanded": "false", click: () => this.#toggle() },
      h("span", { class: "sr" }, "Candidate "), h("b", {}, String(index)), this.#doing,
    );
    this.element = h(
      "li", { class: "lane" }, this.button, this.#chain, this.#end, this.#clock, this.#details,
    );
  }

  show(candidate, speaks, over, cut) {
    const version = `${candidate.version} ${speaks} ${over} ${cut}`;
    if (this.#shown?.candidate === candidate && this.#shown.version === version) return;
    this.#shown = { candidate, version };
    const { ending } = candidate;
    const unneeded = over && candidate.doing === "waiting";
    const doing = unneeded ? "not needed" : cut ? "cut off" : candidate.doing;
    this.element.dataset.state = ending ?? doing;
    this.element.classList.toggle("speaks", speaks);
    say(this.#doing, ending === null ? doing : ENDINGS[ending]);
    this.#showChips(candidate.pieces);
    this.#showEnd(candidate, speaks);
    this.#showClock(candidate.spans);
    if (this.#open) this.#details.replaceChildren(table(candidate));
  }

  #showChips(pieces) {
    pieces.forEach((piece, at) => {
      const key = JSON.stringify(piece);
      if (this.#chips[at]?.key === key) return;
      const element = chip(piece);
      if (this.#chips[at]) {
        element.classList.add("known");
        this.#chips[at].element.replaceWith(element);
      } else this.#chain.append(element);
      this.#chips[at] = { key, element };
    });
    while (this.#chips.length > pieces.length) this.#chips.pop().element.remove();
  }

  #showEnd({ answer, ending, error }, speaks) {
    const said = [];
    if (answer !== null && answer !== undefined) said.push(h("span", { class: "vote" }, answerOf(answer)));
    else if (ending !== null && !["cancelled", "stopped"].includes(ending)) said.push(h("span", { class: "none" }, "no answer"));
    if (speaks) said.push(h("span", { class: "speaker" }, "speaks for it"));
    if (error) said.push(h("span", { class: "error" }, error));
    this.#end.replaceChildren(...said);
  }

  #showClock(spans) {
    if (spans.length < this.#spans) {
      this.#clock.replaceChildren();
      this.#spans = 0;
    }
    for (; this.#spans < spans.length; this.#spans += 1) {
      const { stage, from, to } = spans[this.#spans];
      this.#clock.append(h("i", { "data-stage": stage, "--from": from, "--to": to }));
    }
  }

  #toggle() {
    this.#open = !this.#open;
    this.button.setAttribute("aria-expanded", String(this.#open));
    this.element.classList.toggle("open", this.#open);
    this.#details.hidden = !this.#open;
    this.#details.replaceChildren(...(this.#open && this.#shown ? [table(this.#shown.candidate)] : []));
  }
}

function chip(piece) {
  // Blank lines part the steps of a chain; here the chips do.
  const text = ((piece.cue ?? "") + piece.text).trim().replace(/\n{2,}/g, "\n");
  const who = piece.peek ? "draft, looking ahead" : piece.by;
  return h(
    piece.replaced ? "del" : "span",
    {
      class: `chip ${piece.by}${piece.peek ? " peek" : ""}`,
      "data-turn": piece.turn,
    },
    h("span", { class: "sr" }, `${piece.replaced ? "replaced " : ""}${who}: `),
    h("span", { class: "text" }, text ? typeset(text) : h("em", {}, "nothing")),
    gate(piece),
  );
}

function gate(piece) {
  if (piece.decision) {
    const { p_value: p, p_smoothed: smoothed, threshold, taken_over: rejected } = piece.decision;
    const mark = rejected ? (piece.skipped ? "spent" : "rejected") : "accepted";
    return h(
      "span",
      { class: `gate ${mark}`, title: explained(piece) },
      h("span", { class: "bar", "aria-hidden": "true", "--p": smoothed, "--t": Math.min(1, Math.max(0, threshold)) }),
      h("span", { class: "p" }, h("span", { class: "sr" }, " p-value "), unit(p)),
      h("span", { class: "mark", "aria-hidden": "true" }, rejected ? "▲" : "✓"),
      h("span", { class: "sr" }, ` ${mark}.`),
    );
  }
  if (piece.grade !== undefined) {
    const mark = piece.accepted ? "accepted" : "rejected";
    return h("span", { class: `gate ${mark}` },
      h("span", { class: "p" }, `grade ${piece.grade}`),
      h("span", { class: "mark", "aria-hidden": "true" }, piece.accepted ? "✓" : "▲"),
      h("span", { class: "sr" }, ` ${mark}.`));
  }
  return null;
}

function explained({ decision, nll }) {
  const side = decision.taken_over ? "above" : "at or below";
  return (
    `nll ${nll?.toFixed(3)} · p ${decision.p_value.toFixed(3)}, smoothed ${decision.p_smoothed.toFixed(3)}, ` +
    `${side} the threshold ${decision.threshold.toFixed(3)} · ${decision.coverage}, ` +
    `${decision.bank_size} scores${decision.cold ? " (cold)" : ""}`
  );
}

/** Everything of a chain, a row a segment. */
function table({ pieces, nll }) {
  const head = ["turn", "by", "text", "tokens", "nll", "p", "smoothed", "threshold", "bank"];
  const rows = pieces.map((piece) => {
    const d = piece.decision;
    const cells = [
      piece.turn, piece.by, piece.text.trim(), piece.tokens, piece.nll?.toFixed(3), d?.p_value.toFixed(3),
      d?.p_smoothed.toFixed(3), d?.threshold.toFixed(3), d && `${d.bank_size}${d.cold ? " cold" : ""}`,
    ];
    return h("tr", { class: piece.by }, ...cells.map((cell) => h("td", {}, String(cell ?? "–"))));
  });
  return h("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": "Segments as a table" },
    h("table", {},
      h("thead", {}, h("tr", {}, ...head.map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...rows)),
    nll === null ? null : h("p", {}, `The whole chain's nll: ${nll.toFixed(3)} nats a token.`));
}
