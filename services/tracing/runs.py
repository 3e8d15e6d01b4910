"""A run's spans, made of its events: run, candidates, and their stages.

POST /v1/chat/completions          the request (server)
  chat atts                        the run
    admission                      both prompts rendered
    candidate 0
      draft                        what the caller waited for; below it the model server's
        text_completion MODEL        own span
      score
        score MODEL
      takeover_wait, takeover
        text_completion MODEL
"""

from __future__ import annotations

from typing import TypeAlias

from opentelemetry.trace import Span

from atts_core import events
from services.tracing import attributes as a
from services.tracing.spans import Attributes, Spans, end, header, now, traceparent
from services.watching import SeenRun

PRESAMPLE = "presample-"
"""How the name of a chain begins that only fills the question's bank."""
Call: TypeAlias = (
    events.SegmentDrafted
    | events.Peeked
    | events.SegmentScored
    | events.ChainScored
    | events.TakenOver
    | events.SegmentWritten
    | events.StepJudged
)
"""What says that a call to an engine has ended, and how long the caller waited for it."""
SHORT = 0.001
"""Seconds; a wait for a takeover slot that is shorter is no span."""


class RunSpans:
    """A consumer of one run's events; `parent` is the span that the run works for."""

    def __init__(self, spans: Spans, run: SeenRun, model: str, parent: str) -> None:
        self._spans = spans
        self._run = run
        self._began = now()
        self._span = spans.start(
            f"chat {model}",
            {"traceparent": parent},
            a.of_method(run.method, model, run.id, run.seed),
            start=self._began,
        )
        self._trace_id = self._span.get_span_context().trace_id
        self._candidates: dict[int, Span] = {}
        self._calls: dict[tuple[str, str], tuple[int, int]] = {}

    def call(self, chain: str, role: str) -> str:
        """The `traceparent` for a call of `chain` (without the run's id) in the role it plays."""
        reserved = self._spans.new_id()
        self._calls[chain, role] = reserved, now()
        return header(self._trace_id, reserved)

    def __call__(self, event: events.Event) -> None:
        match event:
            case events.RunStarted():
                self._stage("admission", None, event.at)
            case events.Presampled():
                self._close(f"{PRESAMPLE}{event.candidate}")
            case events.CandidateStarted():
                self._candidates[event.candidate] = self._spans.start(
                    f"candidate {event.candidate}",
                    self._under(None),
                    {"atts.candidate": event.candidate},
                )
            case events.SegmentDrafted():
                finish: Attributes = {a.FINISH: (event.finish,)}
                self._called("draft", "draft", event, a.of_cost(event.cost, event.tokens) | finish)
            case events.Peeked():
                self._called("peek", "draft", event, a.of_cost(event.cost, event.tokens))
            case events.SegmentScored():
                scored: Attributes = {"atts.nll": event.nll, "atts.scored_tokens": event.tokens}
                self._called("score", "score", event, a.of_cost(event.cost, 0) | scored)
            case events.ChainScored():
                self._called("score", "score", event, a.of_cost(event.cost, 0))
            case events.Decided():
                self._decided(event)
            case events.TakenOver():
                if event.waited > SHORT:
                    self._stage("takeover_wait", event.candidate, event.waited, event.seconds)
                self._called("takeover", "write", event, a.of_cost(event.cost, event.tokens))
            case events.SegmentWritten():
                name, role = ("draft",) * 2 if event.model == "draft" else ("takeover", "write")
                self._called(name, role, event, a.of_cost(event.cost, event.tokens))
            case events.StepJudged():
                judged: Attributes = {"atts.grade": event.grade, "atts.accepted": event.accepted}
                self._called("judge", "write", event, a.of_cost(event.cost, event.tokens) | judged)
            case events.CandidateFinished():
                self._finished(event)
            case events.AnswerReady():
                self._span.set_attribute("atts.agreement", event.answer.agreement)
                self._span.set_attribute("atts.stopped", event.answer.stopped)
            case _:
                pass

    def end(self) -> None:
        """The run has ended, and with it everything that belongs to it."""
        run, usage = self._run, self._run.usage
        for chain, _ in list(self._calls):
            self._close(chain, "cancelled")
        for span in self._candidates.values():
            end(span, "cancelled")
        self._span.set_attributes(
            {
                a.INPUT: usage.prompt_tokens,
                a.OUTPUT: usage.generated,
                "atts.reason": run.reason,
                "atts.decisions": usage.decisions,
                "atts.rejected": usage.rejected,
            }
        )
        end(self._span, None if run.answered or run.reason == "cancelled" else run.reason)

    # ------------------------------------------------------------------------------- its parts

    def _under(self, candidate: int | None) -> dict[str, str]:
        span = self._span if candidate is None else self._candidates[candidate]
        return {"traceparent": traceparent(span) or ""}

    def _stage(self, name: str, candidate: int | None, seconds: float, ago: float = 0.0) -> None:
        """A span without a call: `seconds` long, ended so many seconds `ago`."""
        at = now() - round(ago * 1e9)
        begun = at - round(seconds * 1e9)
        end(self._spans.start(name, self._under(candidate), {}, start=begun), at=at)

    def _called(self, name: str, role: str, event: Call, attributes: Attributes) -> None:
        """A stage that was a call: its span gets the id which the call was made under."""
        reserved, _ = self._calls.pop((str(event.candidate), role), (None, 0))
        at = now()
        turn: Attributes = {"atts.turn": getattr(event, "turn", None)}
        span = self._spans.start(
            name,
            self._under(event.candidate),
            {**turn, **attributes},
            start=at - round(event.seconds * 1e9),
            reserved=reserved,
        )
        end(span, at=at)

    def _decided(self, event: events.Decided) -> None:
        decision = event.decision
        self._candidates[event.candidate].add_event(
            "decided",
            {
                "atts.turn": event.turn,
                "atts.p_value": decision.p_smoothed,
                "atts.taken_over": decision.taken_over,
            },
        )

    def _finished(self, event: events.CandidateFinished) -> None:
        self._close(str(event.candidate), event.ending)
        span = self._candidates.pop(event.candidate)
        span.set_attributes(
            {
                "atts.ending": event.ending,
                "atts.turns": event.turns,
                "atts.takeovers": event.takeovers,
                a.OUTPUT: event.tokens,
            }
        )
        end(span, event.error)

    def _close(self, chain: str, why: str | None = None) -> None:
        """Give the calls of a chain that no event told of their spans; `why` they came to none."""
        candidate = None if chain.startswith(PRESAMPLE) else int(chain)
        for role in ("draft", "score", "write"):
            call = self._calls.pop((chain, role), None)
            if call is None:
                continue
            reserved, begun = call
            span = self._spans.start(
                role if candidate is not None else f"presample {role}",
                self._under(candidate if candidate in self._candidates else None),
                {"atts.ending": why},
                start=begun,
                reserved=reserved,
            )
            end(span, why if why == "failed" else None)
