"""The chain that would speak if the run ended now: what a reader sees before the end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from atts_core import events
from atts_core.answers import boxed, normal_form
from atts_core.events import Event
from atts_core.stop_strings import certain


@dataclass(frozen=True, slots=True)
class Said:
    """What there is to show of the leader: its further text, and whether it has just changed."""

    candidate: int
    text: str
    changed: bool


class Leader:
    """Follows a run's events. The leader stays until another chain has better reason to speak.

    The first chain that has something to say leads; a chain that fails, is cancelled, or whose
    answer the vote does not favour hands over to one that gave the favoured answer, else to the
    longest that still runs. A segment that holds an answer is kept for the end; of a `stop` string,
    or what may become one, nothing is shown.
    """

    def __init__(self, stop: tuple[str, ...] = ()) -> None:
        self._stop = stop
        self.candidate: int | None = None
        self.shown = 0
        """Characters of the leader's chain that were shown."""
        self._texts: dict[int, str] = defaultdict(str)
        self._pending: dict[int, str] = {}
        self._answers: dict[int, object] = {}
        self._favoured: list[int] = []
        """Candidates of the answer with most votes; of answers as frequent, the first given."""
        self._out: set[int] = set()

    def follow(self, event: Event) -> Said | None:
        """Take in an event; what a reader should see of it."""
        match event:
            case events.SegmentDrafted():
                self._pending[event.candidate] = event.text
            case events.Decided() if not event.decision.taken_over:
                self._grow(event.candidate, self._pending.pop(event.candidate, ""))
            case events.StepJudged() if event.accepted:
                self._grow(event.candidate, self._pending.pop(event.candidate, ""))
            case events.TakeoverSkipped():
                self._grow(event.candidate, self._pending.pop(event.candidate, ""))
            case events.TakenOver():
                drafted = self._pending.pop(event.candidate, "")
                kept = "" if event.replaces else drafted + event.cue
                self._grow(event.candidate, kept + event.text)
            case events.SegmentWritten():
                self._grow(event.candidate, event.text)
            case events.CandidateFinished():
                self._finished(event)
            case _:
                return None
        return self._said()

    def rest(self, text: str) -> str:
        """Of a text the leader's chain begins with, what was not shown yet."""
        return text[self.shown :]

    def lead(self, candidate: int) -> bool:
        """Make a candidate the leader; whether readers have seen something of another one."""
        if candidate == self.candidate:
            return False
        replaces = self.shown > 0
        self.candidate, self.shown = candidate, 0
        return replaces

    def _grow(self, candidate: int, text: str) -> None:
        self._texts[candidate] += text

    def _finished(self, event: events.CandidateFinished) -> None:
        if event.answer is None or event.ending in events.CUT_SHORT:
            self._out.add(event.candidate)
        else:
            self._answers[event.candidate] = normal_form(event.answer)
            classes: dict[object, list[int]] = {}
            for candidate, answer in self._answers.items():
                classes.setdefault(answer, []).append(candidate)
            self._favoured = max(classes.values(), key=len)

    def _said(self) -> Said | None:
        best = self._best()
        if best is None:
            return None
        changed = self.lead(best)
        whole = self._texts[best]
        text = whole[self.shown : certain(whole, self._stop)]
        if boxed(text) is not None:
            text = ""
        if not text and not changed:
            return None
        self.shown += len(text)
        return Said(best, text, changed)

    def _best(self) -> int | None:
        now, favoured = self.candidate, self._favoured
        if favoured and now is not None and now in self._answers and now not in favoured:
            return favoured[0]
        if now is not None and now not in self._out:
            return now
        if favoured:
            return favoured[0]
        running = {c: len(text) for c, text in self._texts.items() if text and c not in self._out}
        return max(running, key=running.__getitem__, default=now)
