"""A Hugging Face checkpoint, loaded: the model, its tokenizer, and what must be known of them."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from safetensors import SafetensorError

from atts_core.errors import BadInput
from services.engines import norms
from services.engines import tokenizer as tokenizer_files
from services.engines.kv_store import KvShape
from services.engines.settings import TransformersSettings

_SMALL = 100_000_000
"""Parameters below which one CPU thread is faster than several: the operations are too short."""

_BROKEN = (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError, SafetensorError)
"""What transformers raises for a folder or a name that is no model."""


class CausalModel:
    """Any causal language model of transformers, with the few arguments the engine uses."""

    def __init__(self, model: Any) -> None:
        self.module = model
        self._own_attention = self.attention

    def logits(
        self,
        ids: torch.Tensor,
        positions: torch.Tensor,
        mask: torch.Tensor | None,
        cache: Any,
        keep: int | torch.Tensor,
        **attention: Any,
    ) -> torch.Tensor:
        """Logits of `ids` `[rows, tokens]`: of all, of the last `keep`, or of those at `keep`.

        `mask` is added to the attention scores, `[rows, 1, tokens, keys]`; `attention` is handed
        to a replaced attention.
        """
        out: torch.Tensor = self.module(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=keep,
            **attention,
        ).logits
        return out

    def plain(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits `[rows, tokens, vocabulary]` without any of the engine's arrangements."""
        replaced = self.attention
        self.use_attention(self._own_attention)
        out: torch.Tensor = self.module(input_ids=ids).logits
        self.use_attention(replaced)
        return out

    @property
    def attention(self) -> str:
        """The name of the attention in use."""
        return str(self.module.config._attn_implementation)

    def use_attention(self, name: str | None) -> bool:
        """Use the attention registered as `name`, or the model's own.

        False where the model cannot.
        """
        name = name or self._own_attention
        if name != self.attention:
            self.module.set_attn_implementation(name)
        return self.attention == name


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A model ready to run. `end` are the ids that end a text."""

    name: str
    model: CausalModel
    tokenizer: Any
    kv: KvShape
    vocabulary_size: int
    max_len: int
    end: frozenset[int]
    threads: int


def load(settings: TransformersSettings) -> Checkpoint:
    """Load what `settings.model` names.

    Raises BadInput, in one line, for a folder that is missing or broken and for models whose
    layers keep anything but keys and values.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    device = _device(settings.device)
    where = tokenizer_files.where(settings.model)
    dtype = settings.dtype
    if dtype == "auto" and device.type == "cpu":
        dtype = "float32"
    try:
        tokenizer = tokenizer_files.load(settings.model, where)
        model, report = AutoModelForCausalLM.from_pretrained(
            settings.model,
            dtype=dtype if dtype == "auto" else getattr(torch, dtype),
            output_loading_info=True,
            **where,
        )
    except _BROKEN as error:
        raise _unusable(settings.model, str(error) or type(error).__name__) from None
    if report["missing_keys"]:
        raise _unusable(settings.model, f"no weights for {sorted(report['missing_keys'])[0]}")
    model.to(device).eval().requires_grad_(False)
    norms.fuse(model)
    return _examine(settings, model, tokenizer, device)


def _examine(
    settings: TransformersSettings, model: Any, tokenizer: Any, device: torch.device
) -> Checkpoint:
    accepted = inspect.signature(model.forward).parameters
    lacks = [a for a in ("position_ids", "past_key_values", "logits_to_keep") if a not in accepted]
    if lacks:
        raise _unusable(settings.model, f"{type(model).__name__} takes no {lacks[0]}")
    with torch.inference_mode():
        kv, window = _kv_shape(settings.model, model, device)
    parameters = sum(p.numel() for p in model.parameters())
    small = device.type == "cpu" and parameters < _SMALL
    return Checkpoint(
        name=settings.model,
        model=CausalModel(model),
        tokenizer=tokenizer,
        kv=kv,
        vocabulary_size=int(model.get_input_embeddings().weight.shape[0]),
        max_len=_max_len(settings, model.config, tokenizer, window),
        end=frozenset(_end_ids(model, tokenizer)),
        threads=settings.threads or (1 if small else torch.get_num_threads()),
    )


def _kv_shape(name: str, model: Any, device: torch.device) -> tuple[KvShape, int | None]:
    """What one token leaves in each layer, and the length up to which all tokens are seen."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    cache = DynamicCache(config=model.config)
    model(input_ids=torch.zeros(1, 2, dtype=torch.long, device=device), past_key_values=cache)
    kinds = {type(layer) for layer in cache.layers}
    if not kinds <= {DynamicLayer, DynamicSlidingWindowLayer}:
        odd = next(iter(kinds - {DynamicLayer, DynamicSlidingWindowLayer}))
        raise _unusable(name, f"its layers keep their state in a {odd.__name__}")
    shapes = {(tuple(layer.keys.shape), tuple(layer.values.shape)) for layer in cache.layers}
    if len(shapes) != 1:
        raise _unusable(name, "the keys and values of its layers differ in shape")
    keys, values = shapes.pop()
    shape = KvShape(
        layers=len(cache.layers),
        heads=keys[1],
        key_dim=keys[3],
        value_dim=values[3],
        dtype=cache.layers[0].keys.dtype,
        device=device,
    )
    windows = [
        la.sliding_window for la in cache.layers if isinstance(la, DynamicSlidingWindowLayer)
    ]
    return shape, min(windows, default=None)


def _max_len(
    settings: TransformersSettings, config: Any, tokenizer: Any, window: int | None
) -> int:
    """The context: within a sliding window, attention is the same with and without it."""
    text = config.get_text_config(decoder=True)
    known = [n for n in (getattr(text, "max_position_embeddings", None), window) if n]
    if not known and tokenizer.model_max_length < 10**9:
        known = [tokenizer.model_max_length]
    if settings.max_len is None:
        if not known:
            raise BadInput(
                f"{settings.model} names no context length: set max_len", field="max_len"
            )
        return int(min(known))
    if known and settings.max_len > min(known):
        raise BadInput(
            f"max_len is {settings.max_len}, {settings.model} reads at most {min(known)} tokens",
            field="max_len",
        )
    return settings.max_len


def _end_ids(model: Any, tokenizer: Any) -> Iterable[int]:
    found = [tokenizer.eos_token_id, model.config.get_text_config(decoder=True).eos_token_id]
    if model.generation_config is not None:
        found.append(model.generation_config.eos_token_id)
    for ids in found:
        if isinstance(ids, int):
            yield ids
        elif ids is not None:
            yield from ids


def _device(device: str) -> torch.device:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("device is cuda, but torch sees no GPU", field="device")
    return torch.device(device)


def _unusable(model: str, reason: str) -> BadInput:
    return BadInput(
        f"cannot use the model {model}: {reason.strip().splitlines()[0]}", field="model"
    )
