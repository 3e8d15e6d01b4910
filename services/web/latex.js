// Common LaTeX as MathML. What is not understood stays text; nothing is ever parsed as markup.

import { h, mathml as m } from "./dom.js";
import { ACCENTS, FUNCTIONS, SPACES, STRETCHY, SYMBOLS, TEXTUAL } from "./symbols.js";

class NotUnderstood extends Error {}

const TOKEN = /\\[a-zA-Z]+|\\[^a-zA-Z]|\d+(?:[.,]\d+)*|\s+|[^\\\s]/gu;
const MAX_LENGTH = 2000;
const MAX_DEPTH = 60;
const FENCES = {
  pmatrix: "()", bmatrix: "[]", vmatrix: "||", cases: "{ ", matrix: "  ", aligned: "  ", align: "  ",
  array: "  ",
};

class Parser {
  at = 0;
  depth = 0;

  constructor(source) {
    this.tokens = source.match(TOKEN) ?? [];
  }

  get next() {
    return this.tokens[this.at];
  }

  skipSpace() {
    while (this.at < this.tokens.length && /^\s/.test(this.next)) this.at += 1;
  }

  expect(token) {
    this.skipSpace();
    if (this.next !== token) throw new NotUnderstood(token);
    this.at += 1;
  }

  /** Everything up to one of the tokens `ends`, which is left to the caller. */
  row(ends = []) {
    if ((this.depth += 1) > MAX_DEPTH) throw new NotUnderstood("too deep");
    const made = [];
    for (this.skipSpace(); this.at < this.tokens.length && !ends.includes(this.next); this.skipSpace())
      made.push(this.scripted());
    this.depth -= 1;
    return made.length === 1 ? made[0] : m("mrow", {}, ...made);
  }

  scripted() {
    const base = this.next === "^" || this.next === "_" ? m("mrow") : this.atom();
    let under = null;
    let over = null;
    for (this.skipSpace(); ["^", "_", "'"].includes(this.next); this.skipSpace()) {
      const mark = this.tokens[this.at++];
      if (mark === "'") over = m("mrow", {}, ...(over ? [over] : []), m("mo", {}, "′"));
      else if (mark === "^") over = m("mrow", {}, ...(over ? [over] : []), this.argument());
      else under = this.argument();
    }
    const limits = base.getAttribute("data-limits") !== null;
    if (under && over) return m(limits ? "munderover" : "msubsup", {}, base, under, over);
    if (under) return m(limits ? "munder" : "msub", {}, base, under);
    if (over) return m(limits ? "mover" : "msup", {}, base, over);
    return base;
  }

  argument() {
    this.skipSpace();
    if (this.next === undefined || this.next === "}") throw new NotUnderstood("argument");
    return this.atom();
  }

  atom() {
    const token = this.tokens[this.at++];
    if (token === "{") {
      const inside = this.row(["}"]);
      this.expect("}");
      return inside;
    }
    if (token.startsWith("\\")) return this.command(token.slice(1));
    if (/^\d/.test(token)) return m("mn", {}, token);
    if (/^\p{L}/u.test(token)) return m("mi", {}, token);
    if ("}&^_#$".includes(token)) throw new NotUnderstood(token);
    const stretchy = "()[]|".includes(token) ? { stretchy: "false" } : {};
    return m("mo", stretchy, token === "-" ? "−" : token === "*" ? "⋅" : token);
  }

  command(name) {
    if (/^[dtc]?frac$/.test(name)) return m("mfrac", {}, this.argument(), this.argument());
    if (/^[dt]?binom$/.test(name))
      return m("mrow", {}, m("mo", {}, "("),
        m("mfrac", { linethickness: "0" }, this.argument(), this.argument()), m("mo", {}, ")"));
    if (name === "sqrt") return this.root();
    if (name === "boxed" || name === "fbox") return m("mrow", { class: "boxed" }, this.argument());
    if (name === "left") return this.fenced();
    if (name === "begin") return this.environment();
    if (TEXTUAL.has(name)) return m("mtext", {}, this.words());
    if (Object.hasOwn(ACCENTS, name)) return m("mover", { accent: "true" }, this.argument(), m("mo", {}, ACCENTS[name]));
    if (Object.hasOwn(SPACES, name)) return m("mspace", { width: SPACES[name] });
    if (name === "pmod")
      return m("mrow", {}, m("mo", {}, "("), m("mi", {}, "mod"), m("mspace", { width: "0.3em" }), this.argument(), m("mo", {}, ")"));
    if (FUNCTIONS.has(name))
      return m("mi", ["lim", "max", "min", "sup", "inf"].includes(name) ? { "data-limits": "" } : {}, name);
    if (Object.hasOwn(SYMBOLS, name)) {
      const [tag, text] = SYMBOLS[name];
      return m(tag, "∑∏⋃⋂".includes(text) ? { "data-limits": "" } : {}, text);
    }
    if (/^(big|Big|bigg|Bigg)[lrm]?$/.test(name)) return this.argument();
    if (["displaystyle", "textstyle", "limits", "nolimits"].includes(name)) return m("mrow");
    throw new NotUnderstood(name);
  }

  root() {
    this.skipSpace();
    if (this.next !== "[") return m("msqrt", {}, this.argument());
    this.at += 1;
    const degree = this.row(["]"]);
    this.expect("]");
    return m("mroot", {}, this.argument(), degree);
  }

  /** The words in braces, as they stand. */
  words() {
    this.expect("{");
    let text = "";
    for (let open = 1; ; ) {
      const token = this.tokens[this.at++];
      if (token === undefined) throw new NotUnderstood("}");
      if (token === "{") open += 1;
      if (token === "}" && (open -= 1) === 0) return text;
      text += token.replace(/^\\([%$#&_{} ])$/, "$1").replace(/^\s+$/, " ");
    }
  }

  delimiter() {
    this.skipSpace();
    const token = this.tokens[this.at++];
    if (token === undefined) throw new NotUnderstood("delimiter");
    if (token === ".") return "";
    const name = token.slice(1);
    if (token.startsWith("\\")) {
      if (Object.hasOwn(STRETCHY, name)) return STRETCHY[name];
      throw new NotUnderstood(token);
    }
    return token;
  }

  fenced() {
    const open = this.delimiter();
    const inside = this.row(["\\right"]);
    this.expect("\\right");
    return m("mrow", {}, m("mo", { fence: "true" }, open), inside, m("mo", { fence: "true" }, this.delimiter()));
  }

  environment() {
    const name = this.words().replace("*", "");
    if (!Object.hasOwn(FENCES, name)) throw new NotUnderstood(name);
    if (name === "array") this.words();
    const rows = [];
    let cells = [];
    for (;;) {
      cells.push(m("mtd", {}, this.row(["&", "\\\\", "\\end"])));
      const token = this.tokens[this.at++];
      if (token === "&") continue;
      rows.push(m("mtr", {}, ...cells));
      cells = [];
      if (token === "\\end") break;
      if (token === undefined) throw new NotUnderstood("end");
    }
    this.words();
    const [open, close] = FENCES[name];
    return m("mrow", {}, m("mo", { fence: "true" }, open.trim()), m("mtable", {}, ...rows), m("mo", { fence: "true" }, close.trim()));
  }
}

/** A formula as a <math> element, or as its source where it is not understood. */
export function formula(source, { block = false } = {}) {
  try {
    if (source.length > MAX_LENGTH) throw new NotUnderstood("too long");
    const parser = new Parser(source);
    const row = parser.row();
    if (parser.at < parser.tokens.length) throw new NotUnderstood(parser.next);
    return m("math", { display: block ? "block" : "inline", alttext: source }, row);
  } catch (error) {
    if (!(error instanceof NotUnderstood)) throw error;
    return h("span", { class: "source" }, source);
  }
}

/** Whether an answer reads as a formula; words are left alone. */
const formal = (answer) => /[\\^_=+*/<>-]|^[\d.,\s%]+$|^[a-zA-Z]$|^[([{]/.test(answer);

export const answerOf = (answer) => (formal(answer) ? formula(answer) : h("span", {}, answer));

const OPENINGS = /\\boxed\s*\{|\$\$|\$(?=[^\s$])|\\\(|\\\[/g;

/** Text as nodes, with the formulas in it that are whole. */
export function typeset(text) {
  const made = [];
  let done = 0;
  for (const opening of text.matchAll(OPENINGS)) {
    if (opening.index < done) continue;
    const found = closed(text, opening);
    if (!found) continue;
    if (opening.index > done) made.push(text.slice(done, opening.index));
    made.push(formula(found.source));
    done = found.end;
  }
  return done < text.length ? [...made, text.slice(done)] : made;
}

function closed(text, { 0: mark, index }) {
  const begins = index + mark.length;
  if (mark.startsWith("\\boxed")) {
    const ends = closing(text, begins);
    return ends < 0 ? null : { source: text.slice(index, ends + 1), end: ends + 1 };
  }
  const close = { $$: "$$", $: "$", "\\(": "\\)", "\\[": "\\]" }[mark];
  const ends = text.indexOf(close, begins);
  const source = text.slice(begins, ends);
  // Between two prices stands no formula.
  if (ends < 0 || (mark === "$" && (/\s$/.test(source) || /\n/.test(source)))) return null;
  return { source, end: ends + close.length };
}

function closing(text, begins) {
  let open = 1;
  for (let at = begins; at < text.length; at += 1) {
    if (text[at] === "\\") at += 1;
    else if (text[at] === "{") open += 1;
    else if (text[at] === "}" && (open -= 1) === 0) return at;
  }
  return -1;
}
