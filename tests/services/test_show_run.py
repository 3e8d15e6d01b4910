"""A run in the terminal."""

from __future__ import annotations

from typing import Any

import pytest

from services.commands.show_run import RunView


@pytest.mark.parametrize(
    ("replaces", "shown"), [(True, "1 + 1 = 2"), (False, "1 + 1 = 3Check. 1 + 1 = 2")]
)
def test_a_replaced_draft_leaves_its_lane(replaces: bool, shown: str) -> None:
    view = RunView(enabled=False)
    taken: dict[str, Any] = {"cue": "" if replaces else "Check. ", "replaces": replaces}
    view.show({"event": "SegmentDrafted", "candidate": 0, "text": "1 + 1 = 3"})
    view.show({"event": "TakenOver", "candidate": 0, "text": "1 + 1 = 2"} | taken)
    assert view.lanes[0].text.plain == shown
