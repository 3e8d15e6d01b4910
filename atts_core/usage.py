"""What a run cost: a fold over its events. Cancelled candidates' segments are counted too."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from atts_core import events
from atts_core.acceptance import Decision
from atts_core.types import EngineCost

Waste: TypeAlias = Literal[
    "cancelled", "stopped", "failed", "replaced", "peeked", "judged", "presampled"
]
"""Why written tokens stand in no chain that has a vote: the chain was cancelled, given up by its
policy, or failed; the target wrote the turn anew; the draft only looked ahead; the target said what
it thinks of a step; the segment only filled the question's calibration bank."""


@dataclass(slots=True)
class ModelUsage:
    """Tokens of one model: written, scored, and read before that (of which from its cache).

    `wasted` are those of the written that no ballot holds, by reason.
    """

    generated: int = 0
    scored: int = 0
    prompt: int = 0
    cached: int = 0
    question_cached: int | None = None
    """Fewest tokens that one of the requests found cached: what was there before the run."""
    wasted: dict[Waste, int] = field(
        default_factory=lambda: {reason: 0 for reason in get_args(Waste)}
    )
    by_candidate: dict[int, int] = field(default_factory=dict)
    """Tokens in the chain of each open candidate."""

    def read(self, cost: EngineCost) -> None:
        self.prompt += cost.prompt_tokens
        self.cached += cost.cached_tokens
        if cost.prompt_tokens:
            known = self.question_cached
            found = cost.cached_tokens
            self.question_cached = found if known is None else min(known, found)

    def wrote(self, tokens: int, cost: EngineCost, candidate: int | None = None) -> int:
        """Count a segment, and as part of `candidate`'s chain; how many tokens it cost."""
        spent = max(tokens, cost.written_tokens)
        self.generated += spent
        if candidate is not None:
            self.by_candidate[candidate] = self.by_candidate.get(candidate, 0) + spent
        return spent


@dataclass(slots=True)
class Usage:
    """Tokens by model, decisions, and candidates' seconds by stage, summed over candidates.

    `prompt_tokens` is the length of the question in the target's template, once. Counted is what
    the engines report: of a request whose chain is cancelled, when the others have ended.
    """

    prompt_tokens: int = 0
    draft: ModelUsage = field(default_factory=ModelUsage)
    target: ModelUsage = field(default_factory=ModelUsage)
    seconds: dict[str, float] = field(default_factory=dict)
    decisions: int = 0
    rejected: int = 0
    takeovers: int = 0
    skipped: int = 0
    endings: dict[str, int] = field(default_factory=dict)
    ended: dict[int, events.Ending] = field(default_factory=dict)
    """How each candidate ended."""
    errors: list[str] = field(default_factory=list)
    last_decision: Decision | None = None
    _drafted: dict[int, int] = field(default_factory=dict)
    """Tokens of each candidate's newest draft segment."""

    @property
    def cached_tokens(self) -> int:
        """Of `prompt_tokens`, those that the first model to read them had cached already."""
        found = self.target.question_cached
        if found is None:
            found = self.draft.question_cached or 0
        return min(found, self.prompt_tokens)

    @property
    def generated(self) -> int:
        return self.draft.generated + self.target.generated

    @property
    def target_share(self) -> float:
        """The target's share of all generated tokens, 0 where nothing was generated."""
        return self.target.generated / self.generated if self.generated else 0.0

    @property
    def realised_rate(self) -> float | None:
        """Share of decided segments that the gate gave to the target; None before the first."""
        return self.rejected / self.decisions if self.decisions else None

    def add(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self.prompt_tokens = event.target_prompt_tokens
            case events.Presampled():
                spent = self.draft.wrote(event.tokens, event.draft_cost)
                self.draft.wasted["presampled"] += spent
                self.draft.read(event.draft_cost)
                self.target.scored += event.scored
                self.target.read(event.target_cost)
                self._add("presample", event.seconds)
            case events.SegmentDrafted():
                spent = self.draft.wrote(event.tokens, event.cost, event.candidate)
                self._drafted[event.candidate] = spent
                self.draft.read(event.cost)
                self._spend("draft_queue", "draft", event.seconds, event.cost)
            case events.SegmentScored():
                self.target.scored += event.tokens
                self.target.read(event.cost)
                self._spend("score_queue", "score", event.seconds, event.cost)
            case events.Decided():
                self.decisions += 1
                self.rejected += event.decision.taken_over
                self.last_decision = event.decision
            case events.TakeoverSkipped():
                self.skipped += 1
            case events.TakenOver():
                self.takeovers += 1
                self.target.wrote(event.tokens, event.cost, event.candidate)
                if event.replaces:
                    replaced = self._drafted[event.candidate]
                    self.draft.wasted["replaced"] += replaced
                    self.draft.by_candidate[event.candidate] -= replaced
                self.target.read(event.cost)
                self._add("takeover_slot", event.waited)
                self._spend("takeover_queue", "takeover", event.seconds, event.cost)
            case events.SegmentWritten():
                model = self.draft if event.model == "draft" else self.target
                model.wrote(event.tokens, event.cost, event.candidate)
                model.read(event.cost)
                self._spend(f"{event.model}_queue", event.model, event.seconds, event.cost)
            case events.Peeked():
                self.draft.wasted["peeked"] += self.draft.wrote(event.tokens, event.cost)
                self.draft.read(event.cost)
                self._spend("draft_queue", "draft", event.seconds, event.cost)
            case events.StepJudged():
                self.target.wasted["judged"] += self.target.wrote(event.tokens, event.cost)
                self.target.read(event.cost)
                self._spend("judge_queue", "judge", event.seconds, event.cost)
            case events.ChainScored():
                self.target.scored += event.tokens
                self.target.read(event.cost)
                self._spend("score_queue", "score", event.seconds, event.cost)
            case events.Aborted():
                for model, cost in (
                    (self.draft, event.draft_cost),
                    (self.target, event.target_cost),
                ):
                    model.wasted["cancelled"] += model.wrote(0, cost)
                    model.scored += cost.rated_tokens
                    model.prompt += cost.prompt_tokens
                    model.cached += cost.cached_tokens
            case events.CandidateFinished():
                self.endings[event.ending] = self.endings.get(event.ending, 0) + 1
                self.ended[event.candidate] = event.ending
                for model in (self.draft, self.target):
                    left = model.by_candidate.pop(event.candidate, 0)
                    match event.ending:
                        case "cancelled" | "stopped" | "failed":
                            model.wasted[event.ending] += left
                if event.error is not None:
                    self.errors.append(event.error)
            case _:
                pass

    def _spend(self, queue: str, stage: str, seconds: float, cost: EngineCost) -> None:
        """The engine's queue is its own account; the rest of what the caller waited is work."""
        queued = min(cost.queued, seconds)
        self._add(queue, queued)
        self._add(stage, seconds - queued)

    def _add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
