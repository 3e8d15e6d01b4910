// Beside the runs: how the rate holds, what the banks hold, where the time went, what is up.

import { h, say, seconds, share, svg } from "./dom.js";
import { Seen } from "./seen.js";
import { STAGES } from "./story.js";

const MAX_TURNS = 24;

export class Side {
  #rate = h("div", {});
  #banks = h("div", {});
  #latency = h("div", {});
  #replicas = h("div", {});

  constructor() {
    this.element = h(
      "aside", { class: "side", "aria-label": "Live state" },
      panel("Takeover rate by turn", this.#rate),
      panel("Where the time went", this.#latency),
      panel("Calibration banks", this.#banks),
      panel("Replicas", this.#replicas),
    );
    this.#banks.replaceChildren(...banks(null));
    this.runs([]);
  }

  #seen = new Seen();

  /** What the server says of itself. */
  server(calibration, ready) {
    this.#away = null;
    this.#seen.add(calibration, ready, Date.now());
    this.#banks.replaceChildren(...banks(this.#seen.calibration));
  }

  /** It does not answer: `words` say why. */
  away(words) {
    this.#seen = new Seen();
    this.#away = words;
  }

  #away = null;

  runs(shown) {
    this.#rate.replaceChildren(...rates(shown, this.#seen.calibration));
    this.#latency.replaceChildren(...latencies(shown));
    this.#replicas.replaceChildren(...replicas(this.#seen.ready, shown, this.#away));
  }
}

const panel = (title, body) => h("section", { class: "panel" }, h("h3", {}, title), body);
const empty = (text) => [h("p", { class: "empty" }, text)];

// ---------------------------------------------------------------- takeover rate by turn

function rates(runs, calibration) {
  const gated = runs.filter((run) => run.story.decided > 0);
  const overall = calibration?.rates.overall;
  const nominal = gated[0]?.nominal ?? (overall?.n ? overall.nominal : null);
  const all = (calibration?.rates.by_turn ?? []).slice(0, MAX_TURNS);
  const lines = gated.map(({ title, story }) => `${title}: ${share(story.rejected / story.decided)} of ${story.decided}`);
  const whose = calibration?.routers > 1 ? `${calibration.routers} routers` : "this router";
  if (overall?.n) lines.push(`all runs of ${whose}: ${share(overall.rate)} of ${overall.n}`);
  if (!lines.length) return empty("No segment has been decided yet.");
  const summary = `${nominal === null ? "" : `nominal ${share(nominal)}; `}${lines.join("; ")}`;
  return [
    chart(gated, all, nominal, summary),
    h("ul", { class: "key" },
      nominal === null ? null : h("li", { class: "nominal" }, `nominal ${share(nominal)}`),
      ...gated.map(({ title, story }, at) =>
        h("li", { class: `series-${at}` }, `${title} ${share(story.rejected / story.decided)}`,
          h("small", {}, ` of ${story.decided}`))),
      overall?.n ? h("li", { class: "everything" }, `${whose} ${share(overall.rate)}`, h("small", {}, ` of ${overall.n}`)) : null),
  ];
}

function chart(runs, all, nominal, summary) {
  const turns = Math.min(MAX_TURNS, Math.max(4, all.length, ...runs.map((run) => run.story.turns.length)));
  const [width, height, left, base] = [300, 118, 22, 100];
  const x = (turn) => left + ((turn + 0.5) / turns) * (width - left);
  const y = (rate) => base - rate * (base - 6);
  const bar = ((width - left) / turns) * 0.62;
  return svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `Takeover rate by turn: ${summary}` },
    ...[0, 0.5, 1].map((rate) => svg("g", { class: "grid" },
      svg("line", { x1: left, x2: width, y1: y(rate), y2: y(rate) }),
      svg("text", { x: left - 4, y: y(rate) + 3, "text-anchor": "end" }, rate === 0.5 ? ".5" : String(rate)))),
    ...all.map(({ turn, rate, n }) => svg("rect", {
      class: "all", x: x(turn) - bar / 2, width: bar, y: y(rate), height: Math.max(0.5, base - y(rate)),
      opacity: Math.min(1, 0.35 + n / 60) })),
    nominal === null ? null : svg("line", { class: "nominal", x1: left, x2: width, y1: y(nominal), y2: y(nominal) }),
    ...runs.flatMap(({ story }, at) => story.turns.slice(0, turns).map((counted, turn) =>
      counted && svg("circle", { class: `series-${at}`, cx: x(turn) + (runs.length > 1 ? (at - 0.5) * 4 : 0), cy: y(counted.rejected / counted.n), r: 2.6 },
        svg("title", {}, `turn ${turn}: ${counted.rejected} of ${counted.n}`)))),
    ...Array.from({ length: turns }, (_, turn) => (turns <= 12 || turn % 4 === 0) &&
      svg("text", { x: x(turn), y: height - 6, "text-anchor": "middle" }, String(turn))).filter(Boolean));
}

// ---------------------------------------------------------------- latency

function latencies(runs) {
  const begun = runs.filter((run) => Object.keys(run.story.stages).length);
  if (!begun.length) return empty("No run yet.");
  return begun.map(({ title, story, details }) => {
    const atEnd = story.answer !== null && details !== null;
    const spent = atEnd ? details.seconds.candidates : story.stages;
    const stages = STAGES.filter((stage) => spent[stage] > 0);
    const sum = stages.reduce((all, stage) => all + spent[stage], 0);
    return h("figure", { class: "split" },
      h("figcaption", {}, title, h("small", {}, ` ${seconds(atEnd ? details.seconds.total : story.at)}; of all candidates together ${seconds(sum)}`)),
      h("div", { class: "stack", "aria-hidden": "true" }, ...stages.map((stage) => h("i", { "data-stage": stage, "--share": spent[stage] / sum }))),
      h("ul", { class: "stages" }, ...stages.map((stage) =>
        h("li", { "data-stage": stage }, h("span", {}, stage.replace("_", " ")), h("b", {}, share(spent[stage] / sum)), h("small", {}, seconds(spent[stage]))))));
  });
}

// ---------------------------------------------------------------- banks

function banks(calibration) {
  if (!calibration) return empty("The server has not said yet.");
  const filled = calibration.banks.filter((bank) => bank.size > 0);
  const { store, drift } = calibration;
  const facts = [
    `${calibration.decisions} decisions of ${calibration.routers > 1 ? `${calibration.routers} routers` : "this router"} · ${calibration.questions} questions remembered`,
    drift.alarms ? `${drift.alarms} drift alarms` : "no drift alarm",
    store.store_error ? `store: ${store.store_error}` : null,
  ];
  const widest = Math.max(1, ...filled.map((bank) => bank.size));
  const table = filled.length === 0 ? empty("No score is kept yet.") : [
    h("table", { class: "banks" },
      h("thead", {}, h("tr", {}, ...["bank", "scores", "median nll"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...filled.slice(0, 14).map((bank) => h("tr", {},
        h("th", { scope: "row" }, bank.bank.split(">").at(-1)),
        h("td", { class: "size", "--share": bank.size / widest }, String(bank.size)),
        h("td", {}, bank.quantiles["0.5"] === undefined ? "–" : (-bank.quantiles["0.5"]).toFixed(3)))))),
  ];
  return [...table, ...facts.filter(Boolean).map((fact) => h("p", { class: "fact" }, fact))];
}

// ---------------------------------------------------------------- replicas

function replicas(ready, runs, away) {
  if (!ready) return empty(away ?? "The server has not said yet.");
  const used = new Map();
  for (const { title, story } of runs)
    for (const [name, spent] of story.replicas) used.set(name, [...(used.get(name) ?? []), { title, ...spent }]);
  const worked = (all) => all.map(({ title, requests, busy }) =>
    h("small", { class: "used" }, `${title}: ${requests} requests, busy ${seconds(busy)}`));
  const pools = ready.replicas.map(({ role, model, error, asleep, replica, running, waiting, kv_used: held, kv_tokens: room }) => {
    const mine = used.get(replica) ?? [];
    used.delete(replica);
    const facts = [
      asleep ? "asleep until a question comes" : null,
      running === undefined ? null : `${running} running`,
      waiting === undefined ? null : `${waiting} waiting`,
      held !== undefined && room ? `KV ${share(held / room)}` : null,
    ].filter(Boolean);
    return h("li", { class: `${role}${error ? " down" : ""}` },
      h("b", {}, role), h("span", { class: "model" }, String(model ?? "").split("/").slice(-2).join("/")),
      h("small", {}, error ?? facts.join(" · "), replica ? ` · ${replica}` : ""), ...worked(mine));
  });
  // Of a run that is opened again, replicas may have gone since.
  const others = [...used].map(([name, all]) =>
    h("li", { class: all[0].role }, h("b", {}, all[0].role), h("span", { class: "model" }, name), ...worked(all)));
  return [
    h("p", { class: "fact" }, `${ready.ready ? "ready" : "not ready"} · ${ready.running} ${ready.running === 1 ? "question" : "questions"} running`),
    h("ul", { class: "pools" }, ...pools, ...others),
  ];
}

/** The dot in the header: whether the server is there. */
export function showHealth(element, ready, problem) {
  element.dataset.state = problem ? "down" : ready?.ready ? "up" : "unsure";
  say(element, problem ?? (ready?.ready ? "server ready" : "server not ready"));
}
