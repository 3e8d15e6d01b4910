"""What an evaluation's results depend on, and are refused to mix over."""

from __future__ import annotations

from pathlib import Path

import pytest

from atts_core.errors import BadInput
from services.evaluation.configuration import kept, machine, settings_of
from services.serve_config import LOCAL


def test_both_models_all_their_settings_and_what_computes_are_kept() -> None:
    found = settings_of(LOCAL, at_once=4)
    for role in ("draft", "target"):
        assert found[role]["model"] == f"models/arithmetic/{role}"
        assert found[role]["threads"] == 1
    assert found["method"]["takeover_rate"] == 0.2
    assert {"python", "atts", "torch", "numpy"} <= found["versions"].keys()


def test_more_questions_at_once_than_there_is_room_for_are_refused() -> None:
    with pytest.raises(BadInput, match=r"--at-once: found 17; .* has room for 16 at once"):
        settings_of(LOCAL, at_once=17)


def test_the_machine_has_a_processor_and_a_number_of_cores() -> None:
    processor, cores = machine().split("; ")
    assert processor
    assert cores.endswith(" cores")


def test_a_folder_of_something_else_is_refused_and_a_new_one_is_none(tmp_path: Path) -> None:
    assert kept(tmp_path) is None
    (tmp_path / "configuration.json").write_text('{"version": 1, "asked": {}}')
    with pytest.raises(BadInput, match="is not that of an evaluation"):
        kept(tmp_path)
