// Where a run's events come from: the stream of a question just asked, or the run's own address.

import * as api from "./api.js";

const POLL_MS = 300;
const TRIES = 8;

const WHY = {
  client_left:
    "The run was ended before it had an answer: nobody waited for it any more. The page that asked " +
    "was closed, or its connection was lost. Ask again.",
  server_stopped: "The server was stopped or restarted in the middle of the run. Ask again.",
};

/** Comes after `ms`, or as soon as the signal says that nobody waits any more. */
const pause = (ms, signal) =>
  new Promise((go) => {
    const timer = setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      go();
    }
    signal.addEventListener("abort", done);
  });

/** Ask, and show what happens until the answer; a stream that is lost goes on at the run's address. */
export async function ask(run, body, signal) {
  try {
    for await (const chunk of api.ask(body, signal)) {
      if (!("choices" in chunk)) begun(run, chunk.id, signal);
      else if (chunk.choices.length === 0 && chunk.atts?.event) run.add([chunk.atts]);
      else if (chunk.atts && !chunk.atts.event) run.finish(chunk.atts);
    }
  } catch (error) {
    if (!(error instanceof api.Trouble)) {
      if (error.name !== "AbortError") throw error;
      run.fail("Stopped: the page went on to something else.", "cancelled");
    } else if (error.status === 0 && run.id !== null) {
      run.warn(`${error.message} Looking for the run …`);
      await reopen(run, run.id, signal, run.events.length);
    } else run.fail(WHY[error.code] ?? error.message, statusOf(error, run));
  }
}

function begun(run, id, signal) {
  run.known(id);
  api.runState(id, 0, 0).then((state) => run.describe(state)).catch((error) => {
    if (!signal.aborted && !(error instanceof api.Trouble)) throw error;
  });
}

function statusOf(error, run) {
  if (error.code === "run_cancelled" || error.code in WHY) return "cancelled";
  return run.id === null ? "refused" : "failed";
}

/** Show the run `id` from its events `after` on, and follow it to its end. */
export async function reopen(run, id, signal, after = 0) {
  run.known(id);
  for (let misses = 0; !signal.aborted; ) {
    let page;
    try {
      page = await api.runState(id, after);
    } catch (error) {
      if (!(error instanceof api.Trouble)) throw error;
      // Where the application is not there (yet), what stands before it says 404 in its own way.
      const away = error.status === 404 && error.code === null;
      const passing = away || error.status === 0 || error.status === 429 || error.status >= 500;
      misses += 1;
      if (!passing || misses > TRIES) return gone(run, error);
      run.warn(`${error.message} Trying again (${misses} of ${TRIES}) …`);
      await pause((error.wait ?? Math.min(4, 0.25 * 2 ** misses)) * 1000, signal);
      continue;
    }
    misses = 0;
    run.warn(null);
    run.describe(page);
    run.add(page.events);
    after = page.next;
    if (page.more) continue;
    if (page.status === "running") await pause(POLL_MS, signal);
    else return ended(run, page);
  }
}

function ended(run, { status, reply, error }) {
  if (reply !== null) run.finish(reply.atts);
  else if (status === "finished")
    run.fail("The run has finished, but the server keeps no history of runs: only who asked got its answer.", "not kept");
  else run.fail(WHY[error?.code] ?? error?.message ?? `The run ended without an answer (${status}).`, status);
}

function gone(run, error) {
  const known = run.events.length > 0;
  if (error.code === "run_not_found")
    run.fail(
      known
        ? "The connection was lost, and the server does not know the run any more: it was restarted. Ask again."
        : `${error.message}. It may be too old, of another key, or of before a restart.`,
      "lost",
    );
  else run.fail(error.message, "lost");
}
