// The server as the page sees it: requests with a key where one is needed, errors in words.

import { session } from "./storage.js";

const KEY = "atts.key";

/** What went wrong, in the server's words where it has any. `status` 0: it cannot be reached. */
export class Trouble extends Error {
  constructor(message, { status = 0, code = null, wait = null } = {}) {
    super(message);
    this.status = status;
    this.code = code;
    this.wait = wait;
  }
}

let askForKey = async () => null;

/** `ask(message)` comes to a key, to "" for none, or to null where the user cancelled. */
export function keysFrom(ask) {
  askForKey = ask;
}

/** Show this key from now on; "": none. */
export function setKey(key) {
  if (key) session.set(KEY, key);
  else session.remove(KEY);
}

let asking = null;

function keyFromUser(refused) {
  // Several requests may be refused at once; the user is asked once.
  asking ??= askForKey(
    refused ? "The server does not know this key." : "This server answers with an API key only.",
  ).finally(() => {
    asking = null;
  });
  return asking;
}

/** `interactive: false` is for requests in the background: they never open the dialog. */
async function request(path, { interactive = true, ...options } = {}) {
  const key = session.get(KEY);
  let response;
  try {
    const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
    response = await fetch(path, { ...options, headers, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble("The server cannot be reached. It may be restarting, or the network is down.");
  }
  if (response.status !== 401) return response;
  if (!interactive) throw await trouble(response);
  if (key !== session.get(KEY)) return request(path, options);
  const given = await keyFromUser(key !== null);
  // A key that was refused is of no use: it goes, whatever comes instead.
  setKey(given);
  if (!given) throw await trouble(response);
  return request(path, options);
}

async function trouble(response) {
  const wait = Number(response.headers.get("retry-after")) || null;
  let error = {};
  try {
    error = (await response.json()).error ?? {};
  } catch {
    // Something between us and the server answered, in a shape of its own.
  }
  const away = response.status === 404 ? "The server is starting or stopping." : null;
  const message = error.message ?? away ?? `The server answered with status ${response.status}.`;
  return new Trouble(message, { status: response.status, code: error.code ?? null, wait });
}

async function json(path, options) {
  const response = await request(path, options);
  if (!response.ok) throw await trouble(response);
  return whole(response);
}

async function whole(response) {
  try {
    return await response.json();
  } catch {
    throw new Trouble("The connection was lost in the middle of an answer.");
  }
}

export const models = async () => (await json("v1/models")).data.map((model) => model.id);
export const calibration = () => json("v1/atts/calibration", { interactive: false });
export const runState = (id, after, limit = 1000) =>
  json(`v1/atts/runs/${encodeURIComponent(id)}?after=${after}&limit=${limit}`);
export const cancel = (id) =>
  json(`v1/atts/runs/${encodeURIComponent(id)}/cancel`, { method: "POST" });

/** Readiness has a body with 503, too. */
export async function ready() {
  const response = await request("ready", { interactive: false });
  if (!response.ok && response.status !== 503) throw await trouble(response);
  return whole(response);
}

/** Ask: first `{id}`, then each chunk of the stream. Ends after [DONE]; else throws Trouble. */
export async function* ask(body, signal) {
  const response = await request("v1/chat/completions", {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ ...body, stream: true }),
    signal,
  });
  if (!response.ok) throw await trouble(response);
  yield { id: response.headers.get("x-atts-run") };
  for await (const data of lines(response.body)) {
    if (data === "[DONE]") return;
    const chunk = JSON.parse(data);
    if (chunk.error) throw new Trouble(chunk.error.message, { status: 200, code: chunk.error.code });
    yield chunk;
  }
  throw new Trouble("The connection was lost before the answer came.");
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      let read;
      try {
        read = await reader.read();
      } catch (error) {
        if (error.name === "AbortError") throw error;
        throw new Trouble("The connection was lost before the answer came.");
      }
      if (read.done) return;
      const parts = (rest + read.value).split("\n");
      rest = parts.pop();
      for (const part of parts) if (part.startsWith("data: ")) yield part.slice(6);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}
