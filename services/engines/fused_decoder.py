"""A decoder in few operations a layer: for models that are built as Llama is.

transformers computes a layer in some forty operations and a dozen calls of modules; a small model
on a CPU spends as much time between them as in them. Here a layer is a dozen operations on the same
weights. Whether the result is the same is not believed: `probe` compares.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import nn
from torch.nn.functional import linear


class Attention(Protocol):
    """Where the decoder's keys and values go, and what looks at them."""

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Take in a layer's new keys and values, `[tokens, heads, dim]`."""
        ...

    def attend(self, layer: int, query: torch.Tensor, scale: float | None) -> torch.Tensor:
        """Attention of a layer's query `[tokens, heads, dim]`, in the same shape."""
        ...


class FusedDecoder:
    """The model's weights, and the pass through them. The module goes on working: it shares them.

    A model of another build than it seems gives other results, or none: see `probe`.
    """

    @classmethod
    def of(cls, module: Any) -> FusedDecoder | None:
        """None where the model's modules are not those of Llama, Mistral, Qwen2 or Qwen3."""
        inner: Any = getattr(module, "model", None)
        if (
            not _made_of(module, {"model", "lm_head"})
            or not _made_of(inner, {"embed_tokens", "layers", "norm", "rotary_emb"})
            or not all(_Layer.fits(layer) for layer in inner.layers)
        ):
            return None
        return cls(module)

    def __init__(self, module: Any) -> None:
        inner = module.model
        self._embed = inner.embed_tokens.weight
        self._turn = _turning(inner.rotary_emb)
        self._layers = [_Layer(layer) for layer in inner.layers]
        self._norm = inner.norm.forward
        self._head = module.lm_head

    def __call__(
        self,
        ids: torch.Tensor,
        places: torch.Tensor,
        attention: Attention,
        keep: torch.Tensor | None,
    ) -> torch.Tensor:
        """Logits `[tokens, vocabulary]` of the tokens `keep` of `ids`, or of all."""
        hidden = self._embed.index_select(0, ids)
        cos, sin = self._turn(hidden, places)
        for number, layer in enumerate(self._layers):
            hidden = layer(hidden, number, cos, sin, attention)
        if keep is not None:
            hidden = hidden.index_select(0, keep)
        logits: torch.Tensor = self._head(self._norm(hidden))
        return logits


class _Layer:
    """One layer's weights: those that read the same input lie side by side."""

    @staticmethod
    def fits(layer: Any) -> bool:
        names = {"self_attn", "mlp", "input_layernorm", "post_attention_layernorm"}
        if not _made_of(layer, names):
            return False
        attention, mlp = layer.self_attn, layer.mlp
        return (
            _made_of(attention, {"q_proj", "k_proj", "v_proj", "o_proj"}, {"q_norm", "k_norm"})
            and hasattr(attention, "head_dim")
            and hasattr(attention, "scaling")
            and _made_of(mlp, {"gate_proj", "up_proj", "down_proj", "act_fn"})
            and _alike(attention.q_proj, attention.k_proj, attention.v_proj)
            and _alike(mlp.gate_proj, mlp.up_proj)
            and _alike(attention.o_proj)
            and _alike(mlp.down_proj)
        )

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._norm = layer.input_layernorm.forward
        self._qkv = _side_by_side([attention.q_proj, attention.k_proj, attention.v_proj])
        self._dim = attention.head_dim
        self._queries = attention.q_proj.out_features // self._dim
        self._turned = self._queries + attention.k_proj.out_features // self._dim
        self._scale = attention.scaling
        self._q_norm: Callable[..., Any] | None = _forward(attention, "q_norm")
        self._k_norm: Callable[..., Any] | None = _forward(attention, "k_norm")
        self._out = attention.o_proj
        self._mlp_norm = layer.post_attention_layernorm.forward
        self._gate_up = _side_by_side([mlp.gate_proj, mlp.up_proj])
        self._act = mlp.act_fn.forward
        self._down = mlp.down_proj

    def __call__(
        self,
        hidden: torch.Tensor,
        number: int,
        cos: torch.Tensor,
        sin: torch.Tensor,
        attention: Attention,
    ) -> torch.Tensor:
        """`hidden` `[tokens, size]`; `cos` and `sin` `[tokens, 1, dim]`."""
        heads = linear(self._norm(hidden), *self._qkv).view(len(hidden), -1, self._dim)
        turned, queries = heads[:, : self._turned], self._queries
        if self._q_norm is not None and self._k_norm is not None:
            normed = (self._q_norm(turned[:, :queries]), self._k_norm(turned[:, queries:]))
            turned = torch.cat(normed, 1)
        turned = torch.addcmul(turned * cos, turned.roll(self._dim // 2, -1), sin)
        attention.store(number, turned[:, queries:], heads[:, self._turned :])
        seen = attention.attend(number, turned[:, :queries], self._scale)
        hidden = _onto(hidden, seen.reshape(len(hidden), -1), self._out)
        gate, up = linear(self._mlp_norm(hidden), *self._gate_up).chunk(2, -1)
        return _onto(hidden, self._act(gate).mul_(up), self._down)


def _turning(rotary: Any) -> Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, ...]]:
    """From hidden states and places: cosine and sine of each place, `[tokens, 1, dim]`.

    Turning (a, b) to (a cos - b sin, b cos + a sin) is one roll when the sign is in the sine.
    """

    def by_module(hidden: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cos, sin = (part[0, :, None] for part in rotary(hidden[None], places[None]))
        half = sin.shape[2] // 2
        return cos, torch.cat([-sin[..., :half], sin[..., half:]], -1)

    fixed = getattr(rotary, "rope_type", None) in ("default", "linear", "llama3")
    if not fixed or getattr(rotary, "attention_scaling", None) != 1.0:
        return by_module
    signed = torch.cat([-rotary.inv_freq, rotary.inv_freq]).float()

    def by_angles(hidden: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, ...]:
        angles = (places[:, None] * signed)[:, None]
        return angles.cos().to(hidden.dtype), angles.sin().to(hidden.dtype)

    return by_angles


def _made_of(module: Any, names: set[str], besides: Iterable[str] = ()) -> bool:
    """Whether the module has these parts, and no other but `besides`."""
    if not isinstance(module, nn.Module):
        return False
    found = {name for name, _ in module.named_children()}
    return names <= found <= names | set(besides)


def _alike(*parts: Any) -> bool:
    """Whether all are plain linear maps, all with a bias or all without."""
    return all(type(part) is nn.Linear for part in parts) and (
        len({part.bias is None for part in parts}) == 1
    )


def _forward(module: Any, name: str) -> Callable[..., Any] | None:
    part = getattr(module, name, None)
    return None if part is None else part.forward


def _side_by_side(parts: list[nn.Linear]) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The weights and biases of several linear maps as one's; the parts keep views of them."""
    ends = [0]
    for part in parts:
        ends.append(ends[-1] + part.out_features)
    weight = torch.cat([part.weight.detach() for part in parts])
    biases = [part.bias.detach() for part in parts if part.bias is not None]
    bias = torch.cat(biases) if biases else None
    for part, begin, end in zip(parts, ends, ends[1:], strict=False):
        part.weight = nn.Parameter(weight[begin:end], requires_grad=False)
        if bias is not None:
            part.bias = nn.Parameter(bias[begin:end], requires_grad=False)
    return weight, bias


def _onto(hidden: torch.Tensor, given: torch.Tensor, projection: nn.Linear) -> torch.Tensor:
    """The projection of `given`, added to `hidden`."""
    out = torch.addmm(hidden, given, projection.weight.t())
    return out if projection.bias is None else out.add_(projection.bias)
