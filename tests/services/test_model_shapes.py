"""Weights and KV of public models, against the sizes their publishers state."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from safetensors import safe_open

from services.model_shapes import KNOWN, from_config, shape_of

PROJECT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("model", "parameters", "kv_kib"),
    [
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B", 1_777_088_000, 28),
        ("Qwen/Qwen2.5-7B-Instruct", 7_615_616_512, 56),
        ("meta-llama/Llama-3.1-8B-Instruct", 8_030_261_248, 128),
        ("Qwen/QwQ-32B", 32_763_876_352, 256),
        ("meta-llama/Llama-3.3-70B-Instruct", 70_553_706_496, 320),
    ],
)
def test_parameters_and_kv_are_the_published_ones(model: str, parameters: int, kv_kib: int) -> None:
    shape = KNOWN[model]
    assert shape.parameters == parameters
    assert shape.kv_bytes(2) == kv_kib * 1024


@pytest.mark.parametrize("role", ["draft", "target"])
def test_the_embedded_models_have_as_many_parameters_as_their_files(role: str) -> None:
    folder = PROJECT / "models" / "arithmetic" / role
    shape = shape_of(str(folder))
    assert shape is not None
    stored = 0
    for file in folder.glob("*.safetensors"):
        with safe_open(file, framework="numpy") as weights:
            for name in weights.keys():  # noqa: SIM118, not a mapping
                stored += math.prod(weights.get_slice(name).get_shape())
    assert shape.parameters == stored


def test_gpus_share_kv_heads_until_each_has_one() -> None:
    shape = KNOWN["Qwen/Qwen2.5-7B-Instruct"]
    assert [shape.kv_bytes(2, gpus) // 1024 for gpus in (1, 2, 4, 8)] == [56, 28, 14, 14]


def test_a_model_of_experts_is_not_guessed() -> None:
    config = json.loads((PROJECT / "models" / "arithmetic" / "draft" / "config.json").read_text())
    assert from_config(config) is not None
    assert from_config(config | {"num_experts": 64}) is None
    assert from_config({"model_type": "mamba"}) is None


def test_an_unknown_hub_name_has_no_shape() -> None:
    assert shape_of("nobody/knows") is None
