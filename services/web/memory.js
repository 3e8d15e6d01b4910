// The questions of this tab, by run: the server keeps none. They go with the tab.

import { session } from "./storage.js";

const NAME = "atts.recent";
const KEPT = 12;
const MAX_KEPT_TEXT = 20_000;

export function recent() {
  try {
    return JSON.parse(session.get(NAME) ?? "[]");
  } catch {
    return []; // written by something else, so it is nothing of ours
  }
}

export const recall = (id) => recent().find((one) => one.id === id)?.question ?? null;

export function remember(id, question) {
  const others = recent().filter((one) => one.id !== id);
  const kept = [{ id, question: question.slice(0, MAX_KEPT_TEXT) }, ...others].slice(0, KEPT);
  session.set(NAME, JSON.stringify(kept));
}
