"""Which models are computed in fused layers, and that none is that only looks like one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import small_model, wrapped
from transformers import GraniteConfig, GraniteForCausalLM

from services.engines import checkpoint, probe
from services.engines.fused_decoder import FusedDecoder
from services.engines.jobs import ScoreJob
from services.engines.packed_forward import PackedForward
from services.engines.settings import TransformersSettings
from services.engines.step_loop import StepLoop


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_models_built_as_llama_are_fused(kind: str) -> None:
    assert FusedDecoder.of(small_model(kind, 50, 0)) is not None


@pytest.mark.parametrize("kind", ["gpt2", "stablelm"])
def test_models_of_another_build_are_not(kind: str) -> None:
    assert FusedDecoder.of(small_model(kind, 50, 0)) is None


def test_projections_some_of_which_have_a_bias_are_not() -> None:
    model = small_model("qwen2", 50, 0)
    model.model.layers[1].self_attn.k_proj.bias = None
    assert FusedDecoder.of(model) is None


def test_the_module_shares_the_fused_weights() -> None:
    model = small_model("llama", 50, 0)
    before = sum(parameter.numel() for parameter in model.parameters())
    fused = FusedDecoder.of(model)
    assert fused is not None
    layer, module = fused._layers[1], model.model.layers[1].self_attn
    assert module.k_proj.weight.data_ptr() == layer._qkv[0][module.q_proj.out_features].data_ptr()
    assert sum(parameter.numel() for parameter in model.parameters()) == before


def test_a_model_that_scales_what_llama_does_not_is_found_out(tmp_path: Path) -> None:
    """Granite has Llama's modules under Llama's names, and multipliers between them."""
    words = wrapped("byte_level")
    torch.manual_seed(3)
    config = GraniteConfig(
        vocab_size=len(words),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.eos_token_id,
        embedding_multiplier=12.0,
        residual_multiplier=0.3,
    )
    model = GraniteForCausalLM(config)
    assert FusedDecoder.of(model) is not None
    words.save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    settings = TransformersSettings(model=str(tmp_path), threads=1, dtype="float32")
    loaded = checkpoint.load(settings)
    steps = probe.working_steps(loaded, settings)
    assert isinstance(steps._forward, PackedForward)
    assert not isinstance(steps._forward._decoder, FusedDecoder)
    assert rated(steps) == pytest.approx(plain(loaded), abs=1e-4)


IDS = np.arange(5, 45, dtype=np.int32)


@torch.inference_mode()
def rated(steps: StepLoop) -> list[float]:
    job = ScoreJob(chain="c", ids=IDS, start=10)
    steps.add(job)
    while steps.busy:
        steps.step()
    found: list[float] = np.concatenate(job.logprobs).tolist()
    return found


@torch.inference_mode()
def plain(loaded: checkpoint.Checkpoint) -> list[float]:
    ids = torch.from_numpy(IDS.astype(np.int64))
    logprobs = torch.log_softmax(loaded.model.plain(ids[None])[0], -1)
    found: list[float] = logprobs[9:-1].gather(1, ids[10:, None])[:, 0].tolist()
    return found
