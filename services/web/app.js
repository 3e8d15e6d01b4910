// The page: a question is asked here, or a run opened by its link; both become runs on the stage.

import * as api from "./api.js";
import { Compose } from "./compose.js";
import { eachFrame, h } from "./dom.js";
import { ask, reopen } from "./follow.js";
import { askForKey } from "./key.js";
import { Run } from "./run.js";
import { showHealth, Side } from "./side.js";
import { recall, remember, recent } from "./memory.js";
import "./theme.js";

const WATCH_MS = 5000;
const byId = (id) => document.getElementById(id);
const stage = byId("stage");
const side = new Side();
byId("beside").replaceWith(side.element);

let runs = [];
let ending = new AbortController();
const beside = eachFrame(() => side.runs(runs));

api.keysFrom(askForKey);
const compose = new Compose(() => start(compose.bodies()));

/** Clear the stage for new runs; what was under way there is hung up on, which ends it. */
function clear() {
  ending.abort();
  ending = new AbortController();
  runs = [];
  stage.replaceChildren();
  byId("welcome").hidden = true;
  document.body.classList.add("busy");
}

function put(title, question) {
  const run = new Run(title, question, beside);
  run.onstop = () => api.cancel(run.id).catch((error) => run.warn(error.message));
  runs.push(run);
  stage.append(run.element);
  stage.dataset.runs = runs.length;
  return run;
}

async function start(bodies) {
  clear();
  const { signal } = ending;
  const question = bodies[0].messages[0].content;
  const asked = bodies.map((body) => [put(body.model.split(":").at(-1), question), body]);
  const going = asked.map(([run, body]) => ask(run, body, signal));
  address(asked.map(([run]) => run), question, signal);
  await Promise.all(going);
  if (signal.aborted) return;
  document.body.classList.remove("busy");
  watch();
}

/** Put the runs' ids into the address, as soon as all have one. */
function address(asked, question, signal) {
  const timer = setInterval(() => {
    const waiting = asked.some((run) => run.id === null && run.status === "starting");
    if (waiting && !signal.aborted) return;
    clearInterval(timer);
    const ids = asked.map((run) => run.id).filter(Boolean);
    if (signal.aborted || !ids.length) return;
    ids.forEach((id) => remember(id, question));
    history.pushState(null, "", `?${ids.map((id) => `run=${encodeURIComponent(id)}`).join("&")}`);
    showRecent();
  }, 50);
}

/** The ids that the address names: `?run=ID`, several of them, or `#run=ID`. */
const named = () => [
  ...new URLSearchParams(location.search).getAll("run"),
  ...new URLSearchParams(location.hash.slice(1)).getAll("run"),
].slice(0, 2);

async function open(ids) {
  clear();
  const { signal } = ending;
  const question = recall(ids[0]);
  const opened = ids.map((id) => [put("run", question), id]);
  await Promise.all(opened.map(([run, id]) => reopen(run, id, signal)));
  if (!signal.aborted) document.body.classList.remove("busy");
}

function route() {
  const ids = named();
  if (ids.length) return open(ids);
  clear();
  document.body.classList.remove("busy");
  byId("welcome").hidden = false;
  side.runs(runs);
}

function showRecent() {
  const known = recent();
  byId("recent").hidden = known.length === 0;
  byId("recent-list").replaceChildren(
    ...known.map(({ id, question }) =>
      h("li", {}, h("a", { href: `?run=${encodeURIComponent(id)}` }, question.slice(0, 80)))),
  );
}

// ---------------------------------------------------------------- the server's own state

let quietUntil = 0;

async function watch() {
  if (document.hidden || Date.now() < quietUntil) return;
  const health = byId("health");
  try {
    const [ready, calibration] = await Promise.all([api.ready(), api.calibration()]);
    showHealth(health, ready, null);
    side.server(calibration, ready);
    beside();
  } catch (error) {
    if (!(error instanceof api.Trouble)) throw error;
    if (error.wait) quietUntil = Date.now() + error.wait * 1000;
    const words = { 0: "server not reachable", 401: "key needed", 429: "key is at its limit" };
    showHealth(health, null, words[error.status] ?? error.message);
    if (error.status === 0 || error.status === 404) {
      side.away("The server does not answer.");
      beside();
    }
  }
}

async function begin() {
  addEventListener("popstate", route);
  addEventListener("hashchange", route);
  document.addEventListener("visibilitychange", watch);
  setInterval(watch, WATCH_MS);
  showRecent();
  await offer();
  watch();
  route();
}

/** Offer the policies that the server names; where it does not answer, what it always has. */
async function offer() {
  try {
    compose.offer(await api.models());
  } catch (error) {
    if (!(error instanceof api.Trouble)) throw error;
    compose.offer(["atts"]);
    showHealth(byId("health"), null, error.message);
  }
}

byId("key").addEventListener("click", async () => {
  const key = await askForKey("The key that this tab shows to the server; none: leave it empty.");
  if (key === null) return;
  api.setKey(key);
  await offer();
  watch();
});

begin();
