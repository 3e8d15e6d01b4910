// Light or dark: the system's choice until the user's own, which stays.

const NAME = "atts.theme";
const button = document.getElementById("theme");
const system = matchMedia("(prefers-color-scheme: dark)");

const current = () => localStorage.getItem(NAME) ?? (system.matches ? "dark" : "light");

function show() {
  document.documentElement.dataset.theme = current();
  button.setAttribute("aria-pressed", String(current() === "dark"));
}

button.addEventListener("click", () => {
  localStorage.setItem(NAME, current() === "dark" ? "light" : "dark");
  show();
});
system.addEventListener("change", show);
show();
