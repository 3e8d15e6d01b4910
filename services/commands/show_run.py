"""A run in the terminal: a lane a candidate, coloured by who wrote it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

DRAFT, TARGET, CUE = "cyan", "magenta", "dim"


@dataclass
class Lane:
    """One candidate as it is shown."""

    text: Text
    state: str = "…"
    taken_over: int = 0
    decided: int = 0
    accepted: int = 0
    """Characters before the last draft, which a takeover may replace."""


class RunView:
    """A live table of the candidates; shows nothing unless `enabled`."""

    def __init__(self, *, enabled: bool) -> None:
        self._enabled = enabled
        self._console = Console()
        self.lanes: dict[int, Lane] = {}
        self._live = Live(console=self._console, auto_refresh=False, transient=False)

    def __enter__(self) -> RunView:
        if self._enabled:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._enabled:
            self._live.stop()

    def show(self, event: dict[str, Any]) -> None:
        """Take in one event of the run."""
        if "candidate" not in event:
            return
        lane = self.lanes.setdefault(event["candidate"], Lane(Text()))
        match event["event"]:
            case "SegmentDrafted":
                lane.accepted = len(lane.text)
                lane.text.append(_flat(event["text"]), DRAFT)
            case "Decided" | "StepJudged":
                lane.decided += 1
            case "TakenOver":
                lane.taken_over += 1
                if event["replaces"]:
                    lane.text = lane.text[: lane.accepted]
                lane.text.append(_flat(event["cue"]), CUE)
                lane.text.append(_flat(event["text"]), TARGET)
            case "SegmentWritten":
                lane.text.append(
                    _flat(event["text"]), DRAFT if event["model"] == "draft" else TARGET
                )
            case "CandidateFinished":
                lane.state = event["answer"] if event["answer"] is not None else event["ending"]
                if event["ending"] in ("cancelled", "stopped"):
                    lane.state = f"({event['ending']})"
        if self._enabled:
            self._live.update(self._table(), refresh=True)

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 1), expand=True)
        table.add_column("#", justify="right", style="dim", no_wrap=True)
        table.add_column("chain (draft in cyan, target in magenta)", no_wrap=True, ratio=1)
        table.add_column("taken over", justify="right", no_wrap=True)
        table.add_column("answer", justify="right", no_wrap=True)
        width = max(20, self._console.width - 36)
        for index, lane in sorted(self.lanes.items()):
            table.add_row(
                str(index),
                lane.text[-width:],
                f"{lane.taken_over}/{lane.decided}",
                Text(
                    lane.state,
                    "bold" if lane.state not in ("…", "(cancelled)", "(stopped)") else "dim",
                ),
            )
        return table

    def finish(self, completion: dict[str, Any]) -> None:
        """The answer, and in one line what it rests on and cost."""
        if not self._enabled or not completion:
            return
        atts = completion["atts"]
        rate, tokens = atts["takeover_rate"], atts["tokens"]
        self._console.print()
        self._console.print(Text(completion["message"]["content"], "bold"))
        realised = "–" if rate["realised"] is None else f"{rate['realised']:.2f}"
        self._console.print(
            f"agreement {atts['agreement']:.2f} · {atts['candidates']['finished']} finished, "
            f"{atts['candidates']['cancelled']} cancelled, {atts['candidates']['failed']} failed · "
            f"takeover rate {realised} of {rate['nominal']} · target wrote "
            f"{tokens['target_share']:.0%} of the tokens · {atts['seconds']['total']:.2f} s · "
            f"seed {atts['seed']}",
            style="dim",
            highlight=False,
        )


def _flat(text: str) -> str:
    return text.replace("\n\n", " ¶ ").replace("\n", " ")
