"""`atts bench engine`: what its report holds, of models so small that its numbers say nothing."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks import engine
from services.engines.settings import TransformersSettings
from tests.services.engines.tiny import small_model, wrapped

SPREAD = {"median", "least", "largest"}


def tiny(folder: Path, kind: str) -> TransformersSettings:
    words = wrapped("letters")
    words.save_pretrained(folder / kind)
    small_model(kind, len(words), words.eos_token_id).save_pretrained(folder / kind)
    return TransformersSettings(model=str(folder / kind), threads=1, device="cpu")


def test_the_report_holds_every_ratio_with_its_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "PROMPT", 6)
    monkeypatch.setattr(engine, "WRITTEN", 4)
    models = {"draft": tiny(tmp_path, "llama"), "target": tiny(tmp_path, "qwen2")}
    report = engine.run(models, rounds=1, seconds=0.1)
    found = json.loads(engine.as_json(report))

    assert set(found["generate"]) == {"1", "16", "64"}
    for ratios in found["generate"].values():
        assert set(ratios) == {"vs_loop", "vs_generate"}
        assert min(ratios.values()) > 0
    assert set(found["score"]) == {"growth_0_to_500", "cached_speedup_at_1500"}
    assert min(found["score"].values()) > 0
    assert found["setting"]["engines"] == ["transformers"]
    assert set(found["models"]) == {"draft", "target"}
    for model in found["models"].values():
        spreads = [
            *model["score"].values(),
            *(one for n in model["generate"].values() for one in n.values()),
        ]
        for spread in spreads:
            assert set(spread) == SPREAD
            assert 0 < spread["least"] <= spread["median"] <= spread["largest"]

    # The summary is that of the worst model.
    for rows, ratios in found["generate"].items():
        for key, value in ratios.items():
            own = [model["generate"][rows][key]["median"] for model in found["models"].values()]
            assert value == min(own)

    console = Console(file=StringIO(), width=200)
    engine.show(report, console)
    assert console.file.getvalue().count("draft") == 4  # type: ignore[attr-defined]
