// Light or dark: the system's choice until the user's own, which stays.

import { local } from "./storage.js";

const NAME = "atts.theme";
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

const current = () => local.get(NAME) ?? (system.matches ? "dark" : "light");

function show() {
  document.documentElement.dataset.theme = current();
  button.setAttribute("aria-pressed", String(current() === "dark"));
}

button.addEventListener("click", () => {
  local.set(NAME, current() === "dark" ? "light" : "dark");
  show();
});
system.addEventListener("change", show);
show();
