"""Model folders that cannot be used are told in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from tiny import wrapped
from transformers import BloomConfig, BloomForCausalLM, MistralConfig, MistralForCausalLM

from atts_core.errors import BadInput
from services.engines import checkpoint
from services.engines.settings import TransformersSettings
from services.engines.text_codec import TextCodec

Folder = Callable[..., Path]


def refused(path: Path, **settings: object) -> str:
    with pytest.raises(BadInput) as error:
        checkpoint.load(TransformersSettings(model=str(path), **settings))  # type: ignore[arg-type]
    assert "\n" not in error.value.message
    return error.value.message


def copied(folder: Folder, to: Path, *without: str) -> Path:
    for file in folder().iterdir():
        if file.name not in without:
            (to / file.name).write_bytes(file.read_bytes())
    return to


def test_a_missing_folder(tmp_path: Path) -> None:
    assert "there is no model folder" in refused(tmp_path / "nothing")


def test_a_folder_without_a_model(tmp_path: Path) -> None:
    assert "cannot use the model" in refused(tmp_path)


@pytest.mark.parametrize("missing", ["model.safetensors", "config.json"])
def test_a_folder_that_lacks_a_file(folder: Folder, tmp_path: Path, missing: str) -> None:
    assert "cannot use the model" in refused(copied(folder, tmp_path, missing))


def test_broken_weights(folder: Folder, tmp_path: Path) -> None:
    path = copied(folder, tmp_path)
    (path / "model.safetensors").write_bytes(b"not weights at all")
    assert "cannot use the model" in refused(path)


def test_a_broken_configuration(folder: Folder, tmp_path: Path) -> None:
    path = copied(folder, tmp_path)
    (path / "config.json").write_text("{")
    assert "cannot use the model" in refused(path)


def test_a_context_longer_than_the_models(folder: Folder) -> None:
    assert "reads at most 512" in refused(folder(), max_len=513)
    assert checkpoint.load(TransformersSettings(model=str(folder()), max_len=100)).max_len == 100


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(folder: Folder) -> None:
    assert "torch sees no GPU" in refused(folder(), device="cuda")


def test_the_tokenizer_is_what_its_file_says(folder: Folder) -> None:
    # AutoTokenizer turns this one into Qwen's byte-level kind.
    tokenizer = checkpoint.load(
        TransformersSettings(model=str(folder("qwen2", "sentence_piece")))
    ).tokenizer
    assert TextCodec(tokenizer).vocabulary == TextCodec(wrapped("sentence_piece")).vocabulary
    assert tokenizer.eos_token == "<|end|>"
    assert tokenizer.chat_template


def test_an_architecture_without_positions(tmp_path: Path) -> None:
    wrapped("letters").save_pretrained(tmp_path)
    config = BloomConfig(vocab_size=264, hidden_size=32, n_layer=1, n_head=2)
    BloomForCausalLM(config).save_pretrained(tmp_path)
    assert "takes no position_ids" in refused(tmp_path)


def test_a_sliding_window_bounds_the_context(tmp_path: Path) -> None:
    wrapped("letters").save_pretrained(tmp_path)
    config = MistralConfig(
        vocab_size=264,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        sliding_window=64,
    )
    MistralForCausalLM(config).save_pretrained(tmp_path)
    assert checkpoint.load(TransformersSettings(model=str(tmp_path))).max_len == 64


def test_unknown_and_impossible_settings() -> None:
    with pytest.raises(ValidationError):
        TransformersSettings(model="x", kv_token=5)  # type: ignore[call-arg]
    with pytest.raises(ValidationError):
        TransformersSettings(model="x", kv_tokens=0)
