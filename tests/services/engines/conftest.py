"""Folders of tiny models, and engines over them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import small_model, wrapped

from services.engines.settings import TransformersSettings
from services.engines.transformers_engine import TransformersEngine

# Threads that wait for each other at every tiny operation lose more than they win.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """A model folder, written once a session: `folder("llama", "byte_level")`."""
    made: dict[tuple[str, str], Path] = {}

    def make(kind: str = "llama", tokenizer: str = "byte_level") -> Path:
        if (kind, tokenizer) not in made:
            path = tmp_path_factory.mktemp(f"{kind}_{tokenizer}")
            words = wrapped(tokenizer)
            words.save_pretrained(path)
            small_model(kind, len(words), words.eos_token_id).save_pretrained(path)
            made[kind, tokenizer] = path
        return made[kind, tokenizer]

    return make


@pytest.fixture
def opened(folder: Callable[..., Path]) -> Iterator[Callable[..., TransformersEngine]]:
    """Engines that are closed when the test ends: `opened("llama", kv_tokens=100)`."""
    engines: list[TransformersEngine] = []

    def make(
        kind: str = "llama", tokenizer: str = "byte_level", **settings: Any
    ) -> TransformersEngine:
        given = TransformersSettings(model=str(folder(kind, tokenizer)), threads=1, **settings)
        engines.append(TransformersEngine.load(given))
        return engines[-1]

    yield make
    for engine in engines:
        engine.close()
