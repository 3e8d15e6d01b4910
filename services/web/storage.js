// What the browser keeps for us. Where it is told to keep nothing, the page keeps it until it is left.

function kept(name) {
  const here = new Map();
  const asked = (act, otherwise) => {
    try {
      return act(window[name]);
    } catch {
      return otherwise(); // blocked, or full
    }
  };
  return {
    get: (key) => asked((storage) => storage.getItem(key), () => here.get(key) ?? null),
    set: (key, value) => asked((storage) => storage.setItem(key, value), () => here.set(key, value)),
    remove: (key) => asked((storage) => storage.removeItem(key), () => here.delete(key)),
  };
}

/** With the tab. */
export const session = kept("sessionStorage");
/** With the browser. */
export const local = kept("localStorage");
