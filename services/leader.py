"""The chain that would speak if the run ended now: what a reader sees before the end."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from atts_core import events
from atts_core.answers import boxed
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
        self._counted: set[int] = set()
        """Candidates whose answer is in the vote."""
        self._favoured: set[int] = set()
        """Those of the class that would win now."""
        self._speaker: int | None = None
        """The one of them whose text would be the answer's."""
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
                if event.answer is None or event.ending in events.CUT_SHORT:
                    self._out.add(event.candidate)
            case events.Voted():
                self._counted.add(event.candidate)
                if event.standings:
                    winning = event.standings[0]
                    self._favoured, self._speaker = set(winning.candidates), winning.speaker
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
        now, speaker = self.candidate, self._speaker
        if speaker is not None and now in self._counted and now not in self._favoured:
            return speaker
        if now is not None and now not in self._out:
            return now
        if speaker is not None:
            return speaker
        running = {c: len(text) for c, text in self._texts.items() if text and c not in self._out}
        return max(running, key=running.__getitem__, default=now)
