// Elements without markup: whatever is shown goes in as text, so nothing in it can be executed.

export function h(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

const SVG = "http://www.w3.org/2000/svg";

export function svg(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

const MATH = "http://www.w3.org/1998/Math/MathML";

export function mathml(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(MATH, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name, value);
    // The style attribute is refused by our Content-Security-Policy; its properties are not.
    else if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((child) => child !== null && child !== undefined));
  return element;
}

/** Replace an element's text only where it differs: readers of live regions hear each change. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** `f` at most once a frame, with the newest arguments; a hidden page has no frames, so a timer. */
export function eachFrame(f) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    const now = () => {
      waiting = false;
      f();
    };
    if (document.hidden) setTimeout(now, 100);
    else requestAnimationFrame(now);
  };
}

export const seconds = (value) =>
  value >= 100 ? `${Math.round(value)}\u00a0s` : value >= 1 ? `${value.toFixed(1)}\u00a0s` : `${Math.round(value * 1000)}\u00a0ms`;

export const share = (value) => `${Math.round(value * 100)} %`;

/** A number between 0 and 1 in three characters: .42 */
export const unit = (value) => (value >= 0.995 ? "1.0" : value.toFixed(2).replace(/^0/, ""));
