"""A run as OpenAI's chat completion chunks: the leader's chain while it grows, then the answer."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from atts_core.events import Event, RunStarted, as_json
from services import reply
from services.leader import Leader
from services.reply import CalibrationState
from services.service import Outcome
from services.streaming import Chunk


@dataclass
class ChatStream:
    """The chunks of one run.

    While candidates run, the leader's chain comes as `reasoning_content`; a change of leader is a
    line of its own in it and an `atts` object on the chunk. With `every`, each event is a chunk
    that OpenAI's clients read past: no choices, the event under `atts`.
    """

    model: str
    n: int
    every: bool
    include_usage: bool
    stop: tuple[str, ...] = ()
    run_id: str = ""
    """Known once the run has been found or begun, before its first event."""
    leader: Leader = field(init=False)

    def __post_init__(self) -> None:
        self.leader = Leader(self.stop)

    def event(self, event: Event) -> list[Chunk]:
        """What a stream says of an event; the run's start opens the assistant's message."""
        made = []
        if isinstance(event, RunStarted):
            made.append(self._chunk(_choices({"role": "assistant", "content": ""})))
        if self.every:
            made.append(self._chunk([]) | {"atts": as_json(event)})
        said = self.leader.follow(event)
        if said is not None:
            made += self._reasoning(said.candidate, said.text, changed=said.changed)
        return made

    def end(self, outcome: Outcome, calibration: CalibrationState) -> list[Chunk]:
        """The chunks that end a stream: what is left of the winner's reasoning, each answer's
        statement and finish, the run's details, and usage where it is asked for."""
        spoken = reply.spoken(outcome, self.n)
        made = self._last_reasoning(outcome, spoken[0][1])
        for index, (reasoning, statement) in enumerate(spoken):
            if index and reasoning:
                made.append(self._chunk(_choices({"reasoning_content": reasoning}, index=index)))
            made.append(self._chunk(_choices({"content": statement}, index=index)))
            finish = reply.finish_reason(outcome)
            made.append(self._chunk(_choices({}, finish, index=index)))
        made[-1] |= {"atts": reply.details(outcome, calibration)}
        if self.include_usage:
            made.append(self._chunk([]) | {"usage": reply.usage(outcome)})
        return made

    def _last_reasoning(self, outcome: Outcome, statement: str) -> list[Chunk]:
        candidate = outcome.answer.candidate
        if candidate is None:
            return []
        changed = self.leader.lead(candidate)
        text = outcome.answer.text
        left = self.leader.rest(text[: text.rstrip().rfind(statement)]).rstrip()
        return self._reasoning(candidate, left, changed=changed)

    def _reasoning(self, candidate: int, text: str, *, changed: bool) -> list[Chunk]:
        if not changed:
            return [self._chunk(_choices({"reasoning_content": text}))] if text else []
        # Readers that know `reasoning_content` only must see the seam in the text itself.
        shown = f"\n\n[candidate {candidate} leads now]\n\n{text}"
        chunk = self._chunk(_choices({"reasoning_content": shown}))
        return [chunk | {"atts": {"event": "LeaderChanged", "candidate": candidate}}]

    def _chunk(self, choices: list[dict[str, Any]]) -> Chunk:
        return {
            "id": self.run_id,
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": self.model,
            "choices": choices,
        } | ({"usage": None} if self.include_usage else {})


def _choices(
    delta: dict[str, str], finish: str | None = None, *, index: int = 0
) -> list[dict[str, Any]]:
    return [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]
