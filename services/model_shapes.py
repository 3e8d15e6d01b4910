"""The shape of a dense decoder, from its config.json: what its weights and its KV take."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A decoder of attention and gated MLP layers (Llama, Qwen2 and their descendants)."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocab: int
    tied: bool = False
    bias: bool = False
    """Whether queries, keys and values have biases (Qwen2)."""

    @property
    def parameters(self) -> int:
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        attention = 2 * self.hidden * queries + 2 * self.hidden * keys
        biases = queries + 2 * keys if self.bias else 0
        layer = attention + biases + 3 * self.hidden * self.mlp + 2 * self.hidden
        return self.layers * layer + self.hidden + self.embeddings

    @property
    def embeddings(self) -> int:
        return self.vocab * self.hidden * (1 if self.tied else 2)

    def kv_bytes(self, bytes_each: int, gpus: int = 1) -> int:
        """Of one token on each of `gpus`: keys and values; a head is never split, so it repeats."""
        return 2 * self.layers * max(1, -(-self.kv_heads // gpus)) * self.head_dim * bytes_each


_QWEN_32B = Shape(64, 5120, 40, 8, 128, 27_648, 152_064, bias=True)
_LLAMA_8B = Shape(32, 4096, 32, 8, 128, 14_336, 128_256)
_LLAMA_70B = Shape(80, 8192, 64, 8, 128, 28_672, 128_256)

KNOWN: Mapping[str, Shape] = {
    "deepseek-ai/DeepSeek-R1-Distill-Qwen-1.5B": Shape(
        28, 1536, 12, 2, 128, 8960, 151_936, bias=True
    ),
    "Qwen/Qwen2.5-7B-Instruct": Shape(28, 3584, 28, 4, 128, 18_944, 152_064, bias=True),
    "deepseek-ai/DeepSeek-R1-Distill-Llama-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "Qwen/QwQ-32B": _QWEN_32B,
    "simplescaling/s1.1-32B": _QWEN_32B,
    "deepseek-ai/DeepSeek-R1-Distill-Llama-70B": _LLAMA_70B,
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_70B,
}
"""The models of `deployment/pairs`, as their config.json says; others: from their folder."""

NEEDED = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")


def shape_of(model: str) -> Shape | None:
    """The shape of a model folder or of a known hub name; None where it cannot be known here."""
    file = Path(model) / "config.json"
    if not file.is_file():
        return KNOWN.get(model)
    return from_config(json.loads(file.read_text()))


def from_config(config: Mapping[str, Any]) -> Shape | None:
    """None for what is no dense decoder: experts and latent attention follow other arithmetic."""
    if any(name.startswith(("num_experts", "n_routed", "kv_lora")) for name in config):
        return None
    if any(not isinstance(config.get(name), int) for name in (*NEEDED, "vocab_size")):
        return None
    heads = config["num_attention_heads"]
    return Shape(
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        mlp=config["intermediate_size"],
        vocab=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        bias=bool(config.get("attention_bias", config.get("model_type") == "qwen2")),
    )
