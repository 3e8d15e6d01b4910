"""The state of one candidate chain: its text, and the ids each model knows it by."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from atts_core.answers import OPENING, boxed
from atts_core.stop_strings import cut
from atts_core.types import History, Ids, Score, Scored, Segment


class Reading:
    """A chain as one model reads it: append-only ids, then text it has not tokenised yet."""

    def __init__(self, prompt: Ids) -> None:
        self._ids = prompt
        self._prompt = len(prompt)
        self._tail = ""

    @property
    def history(self) -> History:
        return History(self._ids, self._tail, self._prompt)

    @property
    def tokens(self) -> int:
        """Tokens so far; the tail's bytes stand for its tokens, which are never more."""
        return len(self._ids) + len(self._tail.encode())

    def read(self, tail_ids: Ids, ids: Ids) -> None:
        """A model has tokenised the tail, and read or written `ids` after it."""
        self._ids = np.concatenate([self._ids, tail_ids, ids])
        self._tail = ""

    def told(self, text: str) -> None:
        self._tail += text


@dataclass
class Chain:
    """One candidate: what it says so far, in text and in both models' ids.

    `by_draft` and `by_target` differ in their prompts (templates) and, where the vocabularies
    differ, in their ids; `shared_vocabulary` says that ids written by one are read by the other.
    """

    by_draft: Reading
    by_target: Reading
    shared_vocabulary: bool
    text: str = ""
    tokens: int = 0
    turn: int = 0
    takeovers: int = 0
    handed_over: int = 0
    """Where in the text the target took over last."""
    scores: list[Score] = field(default_factory=list)

    @property
    def answer(self) -> str | None:
        return boxed(self.text)

    @property
    def nll(self) -> float:
        """Mean nll of all rated tokens (nats a token); infinite where none was rated."""
        tokens = sum(s.tokens for s in self.scores)
        return sum(s.nll_sum for s in self.scores) / tokens if tokens else float("inf")

    def accepted(self, segment: Segment) -> None:
        """The draft's segment stays as it is, and the target reads it when it next looks."""
        self._share(self.by_draft, self.by_target, segment)
        self._append(segment)

    def drafted(self, segment: Segment, scored: Scored) -> None:
        """The draft's segment stays; the target knows it by the ids it scored."""
        self.by_draft.read(segment.tail_ids, segment.ids)
        self.by_target.read(scored.tail_ids, scored.ids)
        self._append(segment)

    def taken_over(self, segment: Segment) -> None:
        """The target's segment follows."""
        self.takeovers += 1
        self.handed_over = len(self.text)
        self._share(self.by_target, self.by_draft, segment)
        self._append(segment)

    def cued(self, text: str) -> None:
        """Words that neither model wrote stand between two segments."""
        self.text += text
        self.by_draft.told(text)
        self.by_target.told(text)

    def written(self, reading: Reading, segment: Segment) -> None:
        """A segment of a chain that one model writes alone."""
        reading.read(segment.tail_ids, segment.ids)
        self._append(segment)

    def stopped(self, stop: tuple[str, ...], since: int) -> bool:
        """Whether a stop string is complete after position `since`; the text then ends before it.

        The ids stay: a chain that was cut is not continued.
        """
        end = cut(self.text, stop, since)
        if end is None:
            return False
        self.text = self.text[:end]
        self.handed_over = min(self.handed_over, end)
        return True

    def _share(self, writer: Reading, reader: Reading, segment: Segment) -> None:
        """What one model wrote, the other reads.

        Its ids serve the reader only where both have read the same so far, and not where the reader
        must look at the text: the `<think>` that begins it may stand in the reader's prompt.
        """
        read, written = reader.history, writer.history
        opens = read.begins and segment.text.lstrip().startswith(OPENING)
        writer.read(segment.tail_ids, segment.ids)
        if self.shared_vocabulary and read.tail == written.tail and not opens:
            reader.read(segment.tail_ids, segment.ids)
        else:
            reader.told(segment.text)

    def _append(self, segment: Segment) -> None:
        self.text += segment.text
        self.tokens += segment.tokens
