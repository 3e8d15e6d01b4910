// What a run's events add up to: chains, votes, rates and seconds. No document, no network.

/** Seconds of the candidates go to these stages; the names are those of `atts.seconds`. */
export const STAGES = [
  "presample", "draft_queue", "draft", "score_queue", "score", "takeover_slot", "takeover_queue",
  "takeover", "judge_queue", "judge", "target_queue", "target",
];

/** Endings that are not a chain's own: what it said so far is no vote. */
const CUT_SHORT = new Set(["cancelled", "stopped", "failed"]);

export class Story {
  at = 0;
  candidates = [];
  turns = [];
  stages = {};
  replicas = new Map();
  tokens = { draft: 0, target: 0 };
  decided = 0;
  rejected = 0;
  alarms = [];
  standings = [];
  answer = null;
  last = null;

  /** Take in one event as `GET /v1/atts/runs/ID` and streams tell it. */
  add(event) {
    this.at = Math.max(this.at, event.at ?? 0);
    this.last = event;
    const candidate = event.candidate === undefined ? null : this.#candidate(event.candidate);
    this.#on[event.event]?.(event, candidate);
    if (candidate) candidate.version += 1;
  }

  #candidate(index) {
    while (this.candidates.length <= index)
      this.candidates.push({
        index: this.candidates.length, version: 0, doing: "waiting", pieces: [], spans: [],
        ending: null, answer: null, error: null, takeovers: 0, tokens: 0, nll: null,
      });
    return this.candidates[index];
  }

  #on = {
    RunStarted: (event) => {
      if (event.candidates) this.#candidate(event.candidates - 1);
    },
    Presampled: (event, one) => {
      one.doing = "presampled";
      this.tokens.draft += event.tokens;
      this.#spend(one, "presample", event, event.draft_cost, null);
    },
    CandidateStarted: (event, one) => {
      one.doing = "drafting";
    },
    SegmentDrafted: (event, one) => {
      one.doing = "scoring";
      one.pieces.push({ by: "draft", turn: event.turn, text: event.text, tokens: event.tokens });
      this.tokens.draft += event.tokens;
      this.#spend(one, "draft", event, event.cost, "draft_queue");
    },
    SegmentScored: (event, one) => {
      Object.assign(this.#drafted(one, event.turn), { nll: event.nll });
      this.#spend(one, "score", event, event.cost, "score_queue");
    },
    Decided: (event, one) => {
      const { decision, turn } = event;
      Object.assign(this.#drafted(one, turn), { decision });
      one.doing = decision.taken_over ? "taking over" : "drafting";
      const counted = (this.turns[turn] ??= { n: 0, rejected: 0 });
      counted.n += 1;
      this.decided += 1;
      if (decision.taken_over) {
        counted.rejected += 1;
        this.rejected += 1;
      }
    },
    TakenOver: (event, one) => {
      one.doing = "drafting";
      one.takeovers += 1;
      if (event.replaces) this.#drafted(one, event.turn).replaced = true;
      one.pieces.push({
        by: "target", turn: event.turn, cue: event.cue, text: event.text, tokens: event.tokens,
      });
      this.tokens.target += event.tokens;
      if (event.waited > 0) {
        const began = event.at - event.seconds;
        this.#span(one, "takeover_slot", began - event.waited, began);
      }
      this.#spend(one, "takeover", event, event.cost, "takeover_queue");
    },
    TakeoverSkipped: (event, one) => {
      one.doing = "drafting";
      Object.assign(this.#drafted(one, event.turn), { skipped: true });
    },
    SegmentWritten: (event, one) => {
      one.doing = "writing";
      one.pieces.push({
        by: event.model, turn: event.turn, text: event.text, tokens: event.tokens,
      });
      this.tokens[event.model] += event.tokens;
      this.#spend(one, event.model, event, event.cost, `${event.model}_queue`);
    },
    Peeked: (event, one) => {
      one.pieces.push({ by: "draft", peek: true, turn: event.turn, text: event.text, tokens: event.tokens });
      this.tokens.draft += event.tokens;
      this.#spend(one, "draft", event, event.cost, "draft_queue");
    },
    StepJudged: (event, one) => {
      Object.assign(this.#drafted(one, event.turn), { grade: event.grade, accepted: event.accepted });
      one.doing = event.accepted ? "drafting" : "taking over";
      this.tokens.target += event.tokens;
      this.#spend(one, "judge", event, event.cost, "judge_queue");
    },
    ChainScored: (event, one) => {
      one.nll = event.nll;
      this.#spend(one, "score", event, event.cost, "score_queue");
    },
    CandidateFinished: (event, one) => {
      one.doing = null;
      one.ending = event.ending;
      one.answer = CUT_SHORT.has(event.ending) ? null : event.answer;
      one.error = event.error;
      one.tokens = event.tokens;
      one.ended = event.at;
    },
    Voted: (event) => {
      this.standings = event.standings;
    },
    DriftAlarm: (event) => {
      this.alarms.push(event);
    },
    AnswerReady: (event) => {
      this.answer = event.answer;
    },
  };

  #drafted(one, turn) {
    const found = one.pieces.findLast((piece) => piece.by === "draft" && piece.turn === turn && !piece.peek);
    return found ?? {};
  }

  /** What a caller waited is the engine's queue, by its own account, and work. */
  #spend(one, stage, event, cost, queue) {
    const began = event.at - event.seconds;
    const queued = queue === null ? 0 : Math.min(cost?.queued ?? 0, event.seconds);
    if (queued > 0) this.#span(one, queue, began, began + queued);
    this.#span(one, stage, began + queued, event.at);
    if (cost?.replica) {
      const role = stage === "draft" ? "draft" : "target";
      const seen = this.replicas.get(cost.replica) ?? { role, requests: 0, busy: 0 };
      this.replicas.set(cost.replica, { role, requests: seen.requests + 1, busy: seen.busy + cost.busy });
    }
  }

  #span(one, stage, from, to) {
    one.spans.push({ stage, from: Math.max(0, from), to });
    this.stages[stage] = (this.stages[stage] ?? 0) + to - from;
  }

  /** Classes of equivalent answers, the one that wins first. */
  votes() {
    const classes = this.answer ? this.answer.votes : this.standings;
    return classes.map(({ answer, candidates }) => ({ answer, candidates }));
  }

  get finished() {
    return this.candidates.filter((one) => one.ending !== null).length;
  }
}

/** The story of the first `count` events. */
export function told(events, count = events.length) {
  const story = new Story();
  for (let at = 0; at < count; at += 1) story.add(events[at]);
  return story;
}

/** One event in a few words. */
export function inWords(event) {
  if (!event) return "before the first event";
  const who = event.candidate === undefined ? "" : `candidate ${event.candidate}`;
  const turn = event.turn === undefined ? "" : `, turn ${event.turn}`;
  const words = {
    RunStarted: () => `${event.candidates} candidates start`,
    Presampled: () => `${who}: a first segment for the bank`,
    CandidateStarted: () => `${who} starts`,
    SegmentDrafted: () => `${who}${turn}: drafted, ${event.tokens} tokens`,
    SegmentScored: () => `${who}${turn}: scored, nll ${event.nll.toFixed(2)}`,
    Decided: () =>
      `${who}${turn}: p ${event.decision.p_value.toFixed(2)}, ` +
      (event.decision.taken_over ? "rejected" : "accepted"),
    TakenOver: () => `${who}${turn}: the target ${event.replaces ? "wrote it anew" : "continued it"}`,
    TakeoverSkipped: () => `${who}${turn}: the target's tokens are spent`,
    SegmentWritten: () => `${who}${turn}: the ${event.model} wrote ${event.tokens} tokens`,
    Peeked: () => `${who}${turn}: the draft looked ahead`,
    StepJudged: () => `${who}${turn}: graded ${event.grade}`,
    ChainScored: () => `${who}: the chain's nll is ${event.nll.toFixed(2)}`,
    Voted: () => {
      const [lead] = event.standings;
      return `${who} votes` + (lead ? `: ${lead.answer} leads with ${lead.candidates.length}` : "");
    },
    CandidateFinished: () => `${who}: ${event.ending}${event.answer === null ? "" : `, ${event.answer}`}`,
    DriftAlarm: () => `drift alarm: ${event.kind}`,
    AnswerReady: () => `the answer: ${event.answer.answer ?? "none"}`,
    RunFailed: () => "the run failed",
  };
  return words[event.event]?.() ?? event.event;
}
