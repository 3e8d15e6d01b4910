"""What fits is served, what cannot fit is refused with the arithmetic shown."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from atts_core.engine import Capabilities, ScriptedEngine
from atts_core.errors import BadInput
from atts_core.settings import Method
from services import capacity, serve_config
from services.capacity import GIB
from services.cli import app

PROJECT = Path(__file__).resolve().parents[2]
PAIRS = sorted((PROJECT / "deployment" / "pairs").glob("*.yaml"))
ONE = PROJECT / "deployment" / "pairs" / "r1-qwen-1.5b-qwq-32b.yaml"


def changed(tmp_path: Path, **target: Any) -> serve_config.ServeConfig:
    """The first pair with its target on one replica of `gpus` GPUs, and settings changed."""
    document = yaml.safe_load(ONE.read_text())
    application = document["applications"][0]
    gpus = target.pop("gpus", target.get("tensor_parallel", 2))
    (deployment,) = [d for d in application["deployments"] if d["name"] == "Target"]
    deployment["placement_group_bundles"] = [{"CPU": 4, "GPU": 1}] + [{"GPU": 1}] * (gpus - 1)
    application["args"]["method"] |= target.pop("method", {})
    application["args"]["target"] |= target
    file = tmp_path / "pair.yaml"
    file.write_text(yaml.safe_dump(document))
    return serve_config.load(file)


@pytest.mark.parametrize("path", PAIRS, ids=lambda path: path.stem)
def test_every_shipped_pair_fits_its_gpus(path: Path) -> None:
    config = serve_config.load(path)
    capacity.require_fit(config)
    draft, target = capacity.placements(config)
    assert (draft.role, target.role) == ("draft", "target")


def test_the_arithmetic_by_hand() -> None:
    _, target = capacity.placements(serve_config.load(ONE))
    # 32.76 G parameters of two bytes between two GPUs; 2 · 64 · 4 · 128 · 2 bytes a token on each;
    # 16 chains of 1024 + 15 · (500 + 500) tokens; nine tenths of 79.65 GiB.
    assert target.weights == 32_763_876_352
    assert target.kv == 16 * 16_024 * 131_072
    assert target.usable == int(int(79.65 * GIB) * 0.9)
    assert target.runtime == int(1.5 * GIB) + 2 * 4 * 2048 * 152_064
    assert target.tokens == (target.usable - target.weights - target.runtime) // 131_072


def test_a_32b_on_one_h100_is_refused_with_its_arithmetic(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as raised:
        capacity.require_fit(changed(tmp_path, tensor_parallel=1, gpus=1))
    assert raised.value.field == "target.model"
    said = raised.value.message
    assert "weights 61.0 + runtime 3.8 + KV 62.6 (16 candidates × 16024 tokens × 256 KiB)" in said
    assert "= 127.4 GiB of 71.7 usable" in said
    assert "chains of 1" in said


def test_shorter_chains_make_it_fit(tmp_path: Path) -> None:
    config = changed(tmp_path, tensor_parallel=1, gpus=1, method={"candidates": 4}, max_len=4096)
    capacity.require_fit(config)


def test_weights_alone_too_large_ask_for_more_gpus(tmp_path: Path) -> None:
    config = changed(tmp_path, model="meta-llama/Llama-3.3-70B-Instruct", tensor_parallel=1, gpus=1)
    with pytest.raises(BadInput, match="share the weights between more GPUs"):
        capacity.require_fit(config)


def test_fp8_halves_the_weights_but_not_the_embeddings(tmp_path: Path) -> None:
    _, full = capacity.placements(changed(tmp_path))
    _, half = capacity.placements(changed(tmp_path, quantization="fp8"))
    embeddings = 2 * 152_064 * 5120
    assert half.weights * 2 == full.weights * 2 - (32_763_876_352 - embeddings)


def test_an_unknown_quantisation_is_not_guessed(tmp_path: Path) -> None:
    (draft,) = capacity.placements(changed(tmp_path, quantization="awq"))
    assert draft.role == "draft"


def test_kv_gib_is_what_holds_the_chains(tmp_path: Path) -> None:
    _, target = capacity.placements(changed(tmp_path, kv_gib=35))
    assert target.tokens == 35 * GIB // 131_072
    with pytest.raises(BadInput, match="does not fit"):
        capacity.require_fit(changed(tmp_path, kv_gib=20))


@pytest.mark.parametrize("gpus", [1, 4])
def test_more_or_fewer_gpus_than_share_the_model_are_refused(tmp_path: Path, gpus: int) -> None:
    with pytest.raises(BadInput, match=f"2 GPUs share the model, but a replica .* holds {gpus}"):
        capacity.require_fit(changed(tmp_path, gpus=gpus))


def test_heads_that_gpus_cannot_share_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="40 attention heads, which 3 GPUs cannot share"):
        capacity.require_fit(changed(tmp_path, tensor_parallel=3))


def test_what_runs_on_a_cpu_or_an_unknown_gpu_is_left_out() -> None:
    assert list(capacity.placements(serve_config.load(serve_config.LOCAL))) == []
    config = serve_config.load(ONE)
    bare = {name: dict(options) for name, options in config.options.items()}
    bare["Draft"]["ray_actor_options"] = {"num_gpus": 1, "accelerator_type": "B300"}
    (target,) = capacity.placements(replace(config, options=bare))
    assert target.role == "target"


def engine(kv_tokens: int, max_len: int = 100_000) -> Capabilities:
    return replace(ScriptedEngine(lambda *_: "", max_len=max_len).capabilities, kv_tokens=kv_tokens)


def test_an_engine_that_holds_no_single_chain_is_refused_with_the_arithmetic() -> None:
    method = Method(candidates=4, turns=10, draft_tokens=50, target_tokens=30)
    with pytest.raises(BadInput) as raised:
        capacity.require_chain("draft", engine(1_823), method)
    said = raised.value.message
    assert "KV of 1823 tokens, one chain at its longest has 1824" in said
    assert "1024 of the question and 10 turns of 50 + 30" in said
    assert "lower method.turns" in said


def test_a_chain_that_fits_starts_and_a_question_that_does_not_is_told() -> None:
    method = Method(candidates=4, turns=10, draft_tokens=50, target_tokens=30)
    tight = capacity.require_chain("draft", engine(1_824), method)
    assert tight is not None
    assert "4 candidates × 1824" in tight
    assert capacity.require_chain("draft", engine(4 * 1_824), method) is None
    assert capacity.require_chain("draft", engine(400, max_len=100), method) is None


def test_plan_prints_the_table_and_its_json() -> None:
    shown = CliRunner().invoke(app, ["plan", *map(str, PAIRS)])
    assert shown.exit_code == 0, shown.output
    assert len(shown.output.strip().splitlines()) == 2 + 2 * len(PAIRS)
    found = json.loads(CliRunner().invoke(app, ["plan", "--json", str(ONE)]).output)
    assert [(one["role"], one["fits"]) for one in found] == [("draft", True), ("target", True)]


def test_plan_says_what_does_not_fit_and_fails(tmp_path: Path) -> None:
    changed(tmp_path, tensor_parallel=1, gpus=1)
    shown = CliRunner().invoke(app, ["plan", str(tmp_path / "pair.yaml")])
    assert shown.exit_code == 1
    assert "target Qwen/QwQ-32B does not fit on each of 1 × H100" in shown.output
    larger = ["plan", str(tmp_path / "pair.yaml"), "--gpu", "H100=180"]
    assert CliRunner().invoke(app, larger).exit_code == 0


def test_a_gpu_s_memory_must_be_a_number() -> None:
    found = CliRunner().invoke(app, ["plan", str(ONE), "--gpu", "B200"])
    assert isinstance(found.exception, BadInput)
    assert "NAME" not in found.exception.message
    assert "B200=178" in found.exception.message
