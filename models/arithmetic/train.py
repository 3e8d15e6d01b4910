"""Train one of the pair: `python -m models.arithmetic.train --model target`.

Seeded, in float32, resumable: it continues from its checkpoint folder after a kill and then
makes the same weights. The learning rate warms up, stays, and falls to zero in the last part.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from models.arithmetic import tokenizer
from models.arithmetic.muon import Muon
from models.arithmetic.problems import draw, is_held_out
from models.arithmetic.text import Document, Noise, Slips, write

HERE = Path(__file__).parent
FOREVER = 10**9
POOL = 8
"""Batches cut from one pool of documents sorted by length, so that little is padding."""


@dataclass(frozen=True)
class Stage:
    """A part of the curriculum, up to a step of training."""

    until: int
    steps: tuple[int, int]
    batch_tokens: int
    noise: Noise


@dataclass(frozen=True)
class Recipe:
    """All that decides the weights, but for the seed."""

    layers: int
    width: int
    heads: int
    intermediate: int
    stages: tuple[Stage, ...]
    rate: tuple[tuple[int, float], ...]
    """(step, share of the full learning rate), straight lines between; the last step ends it."""
    matrix_lr: float = 0.02
    vector_lr: float = 0.004
    weight_decay: float = 0.02
    temperature: float = 0.4

    @property
    def steps(self) -> int:
        return self.rate[-1][0]


def _curriculum(short_until: int, long_tokens: int, long_until: int = FOREVER) -> tuple[Stage, ...]:
    """Short problems first; a model that finds its place in three steps finds it in thirteen."""
    return (
        Stage(400, (1, 3), 4096, Noise(clean=0.6)),
        Stage(short_until, (1, 6), 4096, Noise(clean=0.5)),
        Stage(long_until, (4, 13), long_tokens, Noise()),
    )


ASTRAY = Stage(
    6200,
    (7, 13),
    4096,
    Noise(
        clean=0.1,
        cue=(0.2, 0.6),
        slips=Slips(result=3, middle=2, left=3, operand=4, op=2, other=14, early=1, reach=(4, 4)),
    ),
)
"""Documents full of what a weak draft does most: working another instruction than is due."""

ALL = Stage(
    FOREVER,
    (6, 13),
    4096,
    Noise(
        clean=0.2,
        cue=(0.15, 0.55),
        slips=Slips(result=4, middle=3, left=3, operand=4, op=2, other=9, early=0.6, reach=(4, 4)),
    ),
)
"""Every kind of slip; three in ten work another instruction."""


RECIPES = {
    "draft": Recipe(
        layers=2,
        width=64,
        heads=2,
        intermediate=176,
        stages=_curriculum(1000, 6144),
        rate=((0, 0.0), (100, 1.0), (1280, 1.0), (1600, 0.0)),
    ),
    "target": Recipe(
        layers=8,
        width=128,
        heads=4,
        intermediate=640,
        stages=(*_curriculum(600, 4096, 5000), ASTRAY, ALL),
        rate=(
            (0, 0.0),
            (100, 1.0),
            (1600, 1.0),
            (2600, 0.58),
            (3100, 0.476),
            (5000, 0.0),
            (5060, 0.3),
            (6200, 0.0),
            (6260, 0.4),
            (7500, 0.0),
        ),
    ),
}


def build(recipe: Recipe, seed: int) -> LlamaForCausalLM:
    """An untrained model; its embedding is its head, and its blocks start as the identity."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer.IDS),
        hidden_size=recipe.width,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=tokenizer.MAX_LENGTH,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.PAD_ID,
        bos_token_id=None,
        eos_token_id=tokenizer.END_ID,
    )
    model = LlamaForCausalLM(config)
    nn.init.normal_(model.model.embed_tokens.weight, std=0.05)
    for name, matrix in model.named_parameters():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            nn.init.zeros_(matrix)
    return model


def batches(recipe: Recipe, seed: int, start: int) -> Iterator[list[Document]]:
    """The documents of each training step from `start` on, the same for the same seed."""
    step = start
    while True:
        stage = next(stage for stage in recipe.stages if step - step % POOL < stage.until)
        yield from _pool(stage, seed, step // POOL)[step % POOL :]
        step += POOL - step % POOL


def _pool(stage: Stage, seed: int, index: int) -> list[list[Document]]:
    """`POOL` batches of about `batch_tokens` tokens each, documents of like length together."""
    rng = random.Random(f"{seed}/{index}")
    found: list[Document] = []
    total = 0
    while total < POOL * stage.batch_tokens:
        problem = draw(rng, rng.randint(*stage.steps))
        if not is_held_out(problem.question):
            found.append(write(rng, problem, stage.noise))
            total += len(found[-1].ids)
    found.sort(key=lambda document: len(document.ids))
    cut: list[list[Document]] = [[] for _ in range(POOL)]
    passed = 0
    for document in found:
        cut[passed * POOL // total].append(document)
        passed += len(document.ids)
    rng.shuffle(cut)
    return cut


def loss_of(model: LlamaForCausalLM, documents: list[Document], device: str) -> Tensor:
    """Mean nats per learned token."""
    longest = max(len(document.ids) for document in documents)
    ids = torch.full((len(documents), longest), tokenizer.PAD_ID)
    learned = torch.zeros((len(documents), longest), dtype=torch.bool)
    for row, document in enumerate(documents):
        ids[row, : len(document.ids)] = torch.tensor(document.ids)
        learned[row, : len(document.ids)] = torch.tensor(document.learned)
    ids, learned = ids.to(device), learned.to(device)
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    asked = learned[:, 1:]
    return functional.cross_entropy(model.lm_head(hidden[:, :-1][asked]), ids[:, 1:][asked])


class Run:
    """A training run: model, optimizers and the number of the next step."""

    def __init__(self, recipe: Recipe, seed: int, device: str):
        self.recipe, self.seed, self.device = recipe, seed, device
        self.model = build(recipe, seed)
        nn.Module.to(self.model, device)
        matrices = [p for n, p in self.model.named_parameters() if "proj" in n]
        vectors = [p for n, p in self.model.named_parameters() if "proj" not in n]
        self.optimizers = (
            Muon(matrices, recipe.matrix_lr, momentum=0.95, decay=recipe.weight_decay),
            torch.optim.AdamW(vectors, recipe.vector_lr, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.step = 0

    def advance(self, documents: list[Document]) -> float:
        """One step; the loss before it, in nats per learned token."""
        share = rate_share(self.recipe, self.step)
        loss = loss_of(self.model, documents, self.device)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer, lr in zip(
            self.optimizers, (self.recipe.matrix_lr, self.recipe.vector_lr), strict=True
        ):
            optimizer.param_groups[0]["lr"] = lr * share
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.step += 1
        return loss.item()

    def adopt(self, trained: LlamaForCausalLM, step: int) -> None:
        """Go on from `step` with trained weights whose feed-forward part may be narrower.

        The units that it lacks start without a voice, so that the model computes what it did.
        Raises ValueError for another shape.
        """
        own, given = self.model.config, trained.config
        same = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")
        odd = [name for name in same if getattr(own, name) != getattr(given, name)]
        if own.intermediate_size < given.intermediate_size:
            odd.append("intermediate_size")
        if odd:
            found = ", ".join(
                f"{name}: {getattr(given, name)}, not {getattr(own, name)}" for name in odd
            )
            raise ValueError(f"the trained model has another shape: {found}")
        state = self.model.state_dict()
        for name, weight in trained.state_dict().items():
            state[name][tuple(slice(size) for size in weight.shape)] = weight
        self.step = step

    def save(self, folder: Path) -> None:
        """Write the checkpoint; a kill in between leaves the one before."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        torch.save(state, folder / "checkpoint.part")
        (folder / "checkpoint.part").replace(folder / "checkpoint.pt")

    def resume(self, folder: Path) -> None:
        """Continue from the folder's checkpoint, where there is one."""
        if not (folder / "checkpoint.pt").exists():
            return
        state: dict[str, Any] = torch.load(folder / "checkpoint.pt", map_location=self.device)
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def export(self, folder: Path) -> None:
        """Write what is shipped: bfloat16 weights, configurations and the tokenizer."""
        model = build(self.recipe, self.seed)
        model.load_state_dict(self.model.state_dict())
        model.generation_config = GenerationConfig(
            do_sample=True,
            temperature=self.recipe.temperature,
            top_p=1.0,
            top_k=0,
            eos_token_id=tokenizer.END_ID,
            pad_token_id=tokenizer.PAD_ID,
        )
        nn.Module.to(model, torch.bfloat16)
        model.save_pretrained(str(folder))
        tokenizer.save(folder)


def rate_share(recipe: Recipe, step: int) -> float:
    """The share of the full learning rate at a step, which counts from 0."""
    steps, shares = zip(*recipe.rate, strict=True)
    return float(np.interp(step + 1, steps, shares))


def train(run: Run, folder: Path, save_every: int = 100) -> None:
    """Run to the recipe's last step, with checkpoints and a line of progress now and then."""
    run.resume(folder)
    began, first = time.monotonic(), run.step
    running = 0.0
    tokens = 0
    for documents in batches(run.recipe, run.seed, run.step):
        if run.step >= run.recipe.steps:
            break
        loss = run.advance(documents)
        tokens += sum(len(document.ids) for document in documents)
        running = loss if not running else 0.95 * running + 0.05 * loss
        if run.step % 20 == 0:
            spent = time.monotonic() - began
            left = (run.recipe.steps - run.step) * spent / (run.step - first)
            print(
                f"step {run.step}/{run.recipe.steps}  loss {running:.4f}  "
                f"{tokens / spent:,.0f} tokens/s  {left / 60:.1f} min left",
                flush=True,
            )
        if run.step % save_every == 0:
            run.save(folder)
    run.save(folder)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=sorted(RECIPES), required=True)
    parser.add_argument("--checkpoints", type=Path, help="default: checkpoints/<model>")
    parser.add_argument("--export", type=Path, help="default: beside this file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--steps", type=int, help="default: the recipe's")
    parser.add_argument("--threads", type=int, help="CPU threads; default: torch's")
    parser.add_argument("--adopt", type=Path, help="begin with the weights of this folder")
    parser.add_argument("--at", type=int, default=0, help="the step to go on from with these")
    options = parser.parse_args(arguments)
    if options.threads:
        torch.set_num_threads(options.threads)
    recipe = RECIPES[options.model]
    if options.steps:
        share = options.steps / recipe.steps
        recipe = replace(recipe, rate=tuple((round(at * share), lr) for at, lr in recipe.rate))
    run = Run(recipe, options.seed, options.device)
    if options.adopt:
        trained = LlamaForCausalLM.from_pretrained(options.adopt, dtype=torch.float32)
        run.adopt(trained, options.at)
    train(run, options.checkpoints or Path("checkpoints") / options.model)
    run.export(options.export or HERE / options.model)


if __name__ == "__main__":
    main(sys.argv[1:])
