"""Plain batched sampling and scoring over transformers: what the card's numbers rest on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from models.arithmetic import tokenizer

Ids = Sequence[int]


def load(folder: Path) -> LlamaForCausalLM:
    """A shipped model in float32, ready to be asked."""
    model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return model.eval()


@torch.inference_mode()
def sample(
    model: LlamaForCausalLM,
    prefixes: Sequence[Ids],
    *,
    most: int,
    temperature: float,
    seed: int,
    ends: Ids = (tokenizer.END_ID,),
    rows: int = 64,
) -> list[list[int]]:
    """At most `most` new tokens after each prefix, up to and including the first of `ends`."""
    dice = torch.Generator().manual_seed(seed)
    order = sorted(range(len(prefixes)), key=lambda index: len(prefixes[index]))
    written: list[list[int]] = [[] for _ in prefixes]
    for first in range(0, len(order), rows):
        chosen = order[first : first + rows]
        batch = [prefixes[index] for index in chosen]
        found = _batch(model, batch, most, temperature, dice, ends)
        for index, ids in zip(chosen, found, strict=True):
            written[index] = ids
    return written


def _batch(
    model: LlamaForCausalLM,
    prefixes: Sequence[Ids],
    most: int,
    temperature: float,
    dice: torch.Generator,
    ends: Ids,
) -> list[list[int]]:
    ids, mask = _left_padded(prefixes)
    written: list[list[int]] = [[] for _ in prefixes]
    open_rows = set(range(len(prefixes)))
    cache: Any = None
    for _ in range(most):
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        out = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache = out.past_key_values
        chances = torch.softmax(out.logits[:, -1] / temperature, dim=-1)
        ids = torch.multinomial(chances, 1, generator=dice)
        for row in list(open_rows):
            token = int(ids[row, 0])
            written[row].append(token)
            if token in ends:
                open_rows.discard(row)
        if not open_rows:
            break
        mask = torch.cat([mask, torch.ones_like(ids)], dim=1)
    return written


def _left_padded(prefixes: Sequence[Ids]) -> tuple[Tensor, Tensor]:
    longest = max(map(len, prefixes))
    ids = torch.full((len(prefixes), longest), tokenizer.PAD_ID)
    mask = torch.zeros_like(ids)
    for row, prefix in enumerate(prefixes):
        ids[row, longest - len(prefix) :] = torch.tensor(list(prefix))
        mask[row, longest - len(prefix) :] = 1
    return ids, mask


@torch.inference_mode()
def token_nll(model: LlamaForCausalLM, texts: Sequence[Ids], rows: int = 32) -> list[list[float]]:
    """Nats of each token given those before it; the first token's is 0."""
    found: list[list[float]] = []
    for first in range(0, len(texts), rows):
        batch = texts[first : first + rows]
        longest = max(map(len, batch))
        ids = torch.full((len(batch), longest), tokenizer.PAD_ID)
        for row, text in enumerate(batch):
            ids[row, : len(text)] = torch.tensor(list(text))
        logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
        chances = torch.log_softmax(logits, dim=-1).gather(2, ids[:, 1:, None])[..., 0]
        for row, text in enumerate(batch):
            found.append([0.0, *(-chances[row, : len(text) - 1]).tolist()])
    return found
