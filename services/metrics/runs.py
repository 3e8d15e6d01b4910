"""What a run counts: a consumer of its events."""

from __future__ import annotations

from dataclasses import dataclass, field

from atts_core import events
from atts_core.calibration.selectivity import SMALLEST_GROUP, overlap
from atts_core.types import EngineCost
from services.metrics import catalogue as c
from services.metrics.board import Board
from services.watching import SeenRun


@dataclass
class RunMetrics:
    """One run on the board; `run` has seen each event already."""

    board: Board
    model: str
    run: SeenRun
    open: int = 0
    """Candidates under way."""
    _cancelled: int = 0
    _seen_text: bool = False
    _nlls: dict[tuple[int, int], float] = field(default_factory=dict)
    _judged: dict[int, list[tuple[float, bool]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._of = self.model, self.run.method.policy

    def __call__(self, event: events.Event) -> None:
        board, of = self.board, self._of
        match event:
            case events.Presampled():
                self._wrote("draft", event.tokens, event.draft_cost)
                self._scored(event.scored, event.target_cost)
            case events.CandidateStarted():
                self.open += 1
            case events.SegmentDrafted():
                self._text(event.at)
                board.count(c.SEGMENTS, *of, "draft")
                self._wrote("draft", event.tokens, event.cost)
            case events.Peeked():
                self._wrote("draft", event.tokens, event.cost)
            case events.SegmentScored():
                self._nlls[event.candidate, event.turn] = event.nll
                self._scored(event.tokens, event.cost)
            case events.ChainScored():
                self._scored(event.tokens, event.cost)
            case events.Decided():
                self._decided(event)
            case events.TakenOver():
                self._text(event.at)
                board.count(c.TAKEOVERS, *of)
                board.count(c.SEGMENTS, *of, "target")
                self._wrote("target", event.tokens, event.cost)
            case events.SegmentWritten():
                self._text(event.at)
                board.count(c.SEGMENTS, *of, event.model)
                self._wrote(event.model, event.tokens, event.cost)
            case events.StepJudged():
                self._wrote("target", event.tokens, event.cost)
            case events.Aborted():
                self._wrote("draft", 0, event.draft_cost)
                self._wrote("target", 0, event.target_cost)
                board.count(c.TOKENS, *of, "target", "scored", by=event.target_cost.rated_tokens)
            case events.CandidateFinished():
                self.open -= 1
                board.count(c.CANDIDATES, *of, event.ending)
                self._cancelled += event.ending == "cancelled"
            case events.DriftAlarm():
                board.count(c.ALARMS, event.kind)
            case _:
                pass

    def end(self) -> None:
        """The run has ended; only one with an answer has a latency."""
        board, of, usage = self.board, self._of, self.run.usage
        board.count(c.REQUESTS, *of, self.run.reason)
        if self._cancelled:
            # Only now is it known why: candidates are cancelled before their run has ended.
            board.count(c.CANCELLED, *of, self.run.reason, by=self._cancelled)
        for role, model in (("draft", usage.draft), ("target", usage.target)):
            for why, tokens in model.wasted.items():
                if tokens:
                    board.count(c.WASTED, *of, role, why, by=tokens)
        if not self.run.answered:
            return
        seconds = self.run.seconds
        board.observe(c.LATENCY, *of, value=seconds)
        label = c.latency_label(seconds)
        board.count(c.ANSWERED, *of, label)
        for stage, spent in self.run.stages.items():
            board.observe(c.STAGE, *of, stage, value=spent)
            board.count(c.STAGE_TOTAL, *of, stage, label, by=spent)
        self._selectivity()

    def _text(self, at: float) -> None:
        if not self._seen_text:
            self._seen_text = True
            self.board.observe(c.FIRST_TEXT, *self._of, value=at)

    def _wrote(self, role: str, tokens: int, cost: EngineCost) -> None:
        self._spent(role, "generated", max(tokens, cost.written_tokens), cost)

    def _scored(self, tokens: int, cost: EngineCost) -> None:
        self._spent("target", "scored", tokens, cost)

    def _spent(self, role: str, kind: str, tokens: int, cost: EngineCost) -> None:
        board, of = self.board, self._of
        board.count(c.TOKENS, *of, role, kind, by=tokens)
        board.count(c.TOKENS, *of, role, "prompt", by=cost.prompt_tokens)
        board.count(c.TOKENS, *of, role, "cached", by=cost.cached_tokens)
        board.count(c.BUSY, *of, role, kind, by=cost.busy)

    def _decided(self, event: events.Decided) -> None:
        board, of, decision = self.board, self._of, event.decision
        turn = c.turn_label(event.turn)
        board.count(c.DECISIONS, *of, turn)
        board.count(c.REJECTED, *of, turn, by=float(decision.taken_over))
        board.count(c.NOMINAL, *of, turn, by=self.run.method.rate)
        board.observe(c.P_VALUES, *of, value=decision.p_smoothed)
        line = self.run.split.waited(event.candidate)
        board.count(c.SYNC, *of, by=line)
        nll = self._nlls.pop((event.candidate, event.turn), None)
        if nll is not None:
            self._judged.setdefault(event.turn, []).append((nll, decision.taken_over))

    def _selectivity(self) -> None:
        """Of the segments that a barrier would have picked, those taken over."""
        for group in self._judged.values():
            if len(group) < SMALLEST_GROUP:
                continue
            picks = max(1, round(self.run.method.rate * len(group)))
            share = overlap([group], self.run.method.rate) or 0.0
            self.board.count(c.PICKS, *self._of, by=picks)
            self.board.count(c.HITS, *self._of, by=round(share * picks))
