// What the routers and replicas say of themselves, put together: each answer is of one of them.

const FORGET_MS = 60_000;

export class Seen {
  #routers = new Map();
  #replicas = new Map();

  /** An answer of `/v1/atts/calibration` and one of `/ready`; `now` in milliseconds. */
  add(calibration, ready, now) {
    this.#put(this.#routers, calibration.router, { calibration }, now);
    this.#put(this.#routers, ready.router ?? calibration.router, { ready }, now);
    for (const role of ["draft", "target"]) {
      const state = ready[role];
      if (!state) continue;
      // One without a name is down or alone: it stands for its pool until another answers.
      if (state.replica) this.#replicas.delete(role);
      this.#put(this.#replicas, state.replica ?? role, { role, ...state }, now);
    }
    for (const all of [this.#routers, this.#replicas])
      for (const [name, { at }] of all) if (now - at > FORGET_MS) all.delete(name);
  }

  #put(all, name, what, at) {
    all.set(name, { ...all.get(name), ...what, at });
  }

  /** The calibration of all routers together: banks are shared, decisions are each one's own. */
  get calibration() {
    const all = [...this.#routers.values()].filter((one) => one.calibration);
    if (!all.length) return null;
    const newest = all.reduce((a, b) => (b.at >= a.at ? b : a)).calibration;
    const states = all.map((one) => one.calibration);
    const turns = new Map();
    for (const { rates } of states)
      for (const one of rates.by_turn) turns.set(one.turn, [...(turns.get(one.turn) ?? []), one]);
    return {
      ...newest,
      routers: states.length,
      decisions: sum(states, (one) => one.decisions),
      questions: sum(states, (one) => one.questions),
      drift: { ...newest.drift, alarms: sum(states, (one) => one.drift.alarms) },
      rates: {
        overall: together(states.map((one) => one.rates.overall)),
        by_turn: [...turns].sort(([a], [b]) => a - b).map(([turn, rates]) => ({ turn, ...together(rates) })),
      },
    };
  }

  /** Readiness: of the router that answered last, with all questions and replicas. */
  get ready() {
    const all = [...this.#routers.values()].filter((one) => one.ready);
    if (!all.length) return null;
    const newest = all.reduce((a, b) => (b.at >= a.at ? b : a)).ready;
    const replicas = [...this.#replicas.values()].sort((a, b) => a.role.localeCompare(b.role));
    return { ready: newest.ready, running: sum(all, (one) => one.ready.running), replicas };
  }
}

const sum = (all, of) => all.reduce((so, one) => so + of(one), 0);

/** Rates of several counts as the rate of all: weighed by their numbers. */
function together(rates) {
  const n = sum(rates, (one) => one.n);
  const mean = (of) => (n ? sum(rates, (one) => one.n * of(one)) / n : 0);
  return { n, rate: mean((one) => one.rate), nominal: mean((one) => one.nominal) };
}
