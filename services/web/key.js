// The dialog that asks for an API key. The key lives as long as the tab.

const dialog = document.getElementById("key-dialog");
const field = document.getElementById("key-field");
const why = document.getElementById("key-why");

/** Comes to what was given, "" where that is no key; null where the user cancelled. */
export function askForKey(message) {
  why.textContent = message;
  field.value = "";
  dialog.returnValue = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((given) => {
    dialog.addEventListener(
      "close",
      () => given(dialog.returnValue === "given" ? field.value.trim() : null),
      { once: true },
    );
  });
}

document.getElementById("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  dialog.close("given");
});
document.getElementById("key-cancel").addEventListener("click", () => dialog.close(""));
