"""A model whose files find no room is refused before they are fetched."""

from __future__ import annotations

from pathlib import Path

import pytest

from atts_core.errors import BadInput
from services.engines import loading
from services.engines.settings import TransformersSettings
from services.model_cache import GIB, require

MODEL = "Qwen/QwQ-32B"


def test_a_disk_that_is_too_small_is_refused_with_the_arithmetic_and_the_fix(
    tmp_path: Path,
) -> None:
    with pytest.raises(BadInput) as raised:
        require(MODEL, tmp_path, 50 * GIB)
    said = str(raised.value)
    assert "its files take 61.0 GiB" in said
    assert "50.0 GiB free" in said
    assert "HF_HOME" in said
    assert raised.value.field == "model"


def test_a_disk_with_room_is_taken(tmp_path: Path) -> None:
    require(MODEL, tmp_path, 62 * GIB)


def test_what_is_fetched_already_needs_no_room(tmp_path: Path) -> None:
    blobs = tmp_path / "models--Qwen--QwQ-32B" / "blobs"
    blobs.mkdir(parents=True)
    with (blobs / "abc").open("wb") as file:
        file.truncate(60 * GIB)  # sparse: it takes no room here either
    require(MODEL, tmp_path, 2 * GIB)
    with pytest.raises(BadInput, match=r"60\.0 of them"):
        require(MODEL, tmp_path, GIB // 2)


def test_an_engine_with_a_model_folder_asks_for_no_room(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        loading.load(TransformersSettings(model=str(tmp_path / "nothing")))
    assert "cache" not in str(raised.value)
