"""What a run cost: a fold over its events. Cancelled candidates' segments are counted too."""

from __future__ import annotations

from dataclasses import dataclass, field

from atts_core import events
from atts_core.acceptance import Decision
from atts_core.types import EngineCost


@dataclass(slots=True)
class ModelUsage:
    """Tokens of one model: written, scored, and read before that (of which from its cache)."""

    generated: int = 0
    scored: int = 0
    prompt: int = 0
    cached: int = 0

    def read(self, cost: EngineCost) -> None:
        self.prompt += cost.prompt_tokens
        self.cached += cost.cached_tokens


@dataclass(slots=True)
class Usage:
    """Tokens by model, decisions, and candidates' seconds by stage, summed over candidates.

    `prompt_tokens` is the length of the question in the target's template, once.
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
    errors: list[str] = field(default_factory=list)
    last_decision: Decision | None = None

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
                self.draft.generated += event.tokens
                self.draft.read(event.draft_cost)
                self.target.scored += event.scored
                self.target.read(event.target_cost)
                self._add("presample", event.seconds)
            case events.SegmentDrafted():
                self.draft.generated += event.tokens
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
                self.target.generated += event.tokens
                self.target.read(event.cost)
                self._add("takeover_slot", event.waited)
                self._spend("takeover_queue", "takeover", event.seconds, event.cost)
            case events.SegmentWritten():
                model = self.draft if event.model == "draft" else self.target
                model.generated += event.tokens
                model.read(event.cost)
                self._spend(f"{event.model}_queue", event.model, event.seconds, event.cost)
            case events.Peeked():
                self.draft.generated += event.tokens
                self.draft.read(event.cost)
                self._spend("draft_queue", "draft", event.seconds, event.cost)
            case events.StepJudged():
                self.target.generated += event.tokens
                self.target.read(event.cost)
                self._spend("judge_queue", "judge", event.seconds, event.cost)
            case events.ChainScored():
                self.target.scored += event.tokens
                self.target.read(event.cost)
                self._spend("score_queue", "score", event.seconds, event.cost)
            case events.CandidateFinished():
                self.endings[event.ending] = self.endings.get(event.ending, 0) + 1
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
