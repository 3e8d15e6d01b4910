// A run's events one by one: a slider, its keys, and a player.

import { h, say } from "./dom.js";
import { inWords } from "./story.js";

const PLAY_MS = 60;

export class Stepper {
  #slider = h("input", {
    type: "range", min: "0", max: "0", value: "0", step: "1", "aria-label": "Event of the run",
    input: () => this.#go(Number(this.#slider.value)),
  });
  #play = h("button", { type: "button", class: "small", click: () => this.#toggle() }, "Play");
  #words = h("output", { class: "words" });
  #timer = null;
  #count = 0;

  /** `shown(n)`: the first n events are to be shown; null: all there are, also later ones. */
  constructor(shown) {
    this.shown = shown;
    this.element = h(
      "div", { class: "stepper", role: "group", "aria-label": "Step through the run" },
      h("button", { type: "button", class: "small", "aria-label": "One event back", click: () => this.#by(-1) }, "‹"),
      this.#play,
      h("button", { type: "button", class: "small", "aria-label": "One event on", click: () => this.#by(1) }, "›"),
      this.#slider, this.#words,
    );
  }

  /** There are `count` events, of which `at` are shown, the last of them `event` at `seconds`. */
  show(count, at, event, seconds) {
    this.#count = count;
    this.#slider.max = String(count);
    this.#slider.value = String(at);
    const words = `${seconds.toFixed(2)} s · ${inWords(event)}`;
    this.#slider.setAttribute("aria-valuetext", `event ${at} of ${count}: ${words}`);
    say(this.#words, `${at}/${count} · ${words}`);
  }

  #go(at) {
    this.#pause();
    this.shown(at >= this.#count ? null : at);
  }

  #by(step) {
    this.#go(Math.min(this.#count, Math.max(0, Number(this.#slider.value) + step)));
  }

  #toggle() {
    if (this.#timer !== null) return this.#pause();
    if (Number(this.#slider.value) >= this.#count) this.shown(0);
    this.#play.textContent = "Pause";
    this.#timer = setInterval(() => {
      const next = Number(this.#slider.value) + 1;
      this.shown(next >= this.#count ? null : next);
      if (next >= this.#count) this.#pause();
    }, PLAY_MS);
  }

  #pause() {
    clearInterval(this.#timer);
    this.#timer = null;
    this.#play.textContent = "Play";
  }
}
