"""Measure the pair on held-out problems: `python -m models.arithmetic.measure`.

Prints every number of the card: how often each model alone is right, how well the target's
score tells wrong draft steps from right ones, what the target writes behind its cue, what the
two reach together, and what a token costs each.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from models.arithmetic import sampling
from models.arithmetic.chains import Scored, Writer, rework, right_lines, score, solved, together
from models.arithmetic.figures import auroc
from models.arithmetic.problems import Problem, held_out
from models.arithmetic.tokenizer import IDS

HERE = Path(__file__).parent
Table = dict[str, str]


def alone(
    draft: Writer, target: Writer, problems: Sequence[Problem], seed: int
) -> tuple[Table, list[Scored]]:
    """Each model by itself, and the draft's chains as the target scores them."""
    table: Table = {}
    chains = {name: writer.solve(problems, seed) for name, writer in _named(draft, target)}
    for name, written in chains.items():
        table[f"{name} alone, problems right"] = str(solved(problems, written))
        table[f"{name} alone, lines right"] = str(right_lines(problems, written))
    return table, score(target, problems, chains["draft"])


def discrimination(scored: Sequence[Scored]) -> Table:
    """How the target's mean nll tells wrong draft segments from right ones."""
    nll: dict[bool, list[float]] = {True: [], False: []}
    first: dict[bool, list[float]] = {True: [], False: []}
    for chain in scored:
        sound = True
        for value, each in zip(chain.nll, chain.grades, strict=True):
            nll[each.right].append(value)
            if sound:
                first[each.right].append(value)
            sound = sound and each.right
    return {
        "draft segments, wrong and right": f"{len(nll[False])} and {len(nll[True])}",
        "AUROC of the target's mean nll": f"{auroc(nll[False], nll[True]):.4f}",
        "AUROC up to a chain's first wrong segment": f"{auroc(first[False], first[True]):.4f}",
    }


def corrections(target: Writer, scored: Sequence[Scored], seed: int) -> Table:
    """What the target writes behind a segment and the cue."""
    table: Table = {}
    for right, cut, word in ((False, False, "wrong"), (True, False, "right"), (True, True, "cut")):
        line, both = rework(target, scored, seed, right=right, cut=cut)
        table[f"after a {word} segment and the cue, line right"] = str(line)
        table[f"after a {word} segment and the cue, next line right too"] = str(both)
    return table


def pairing(
    draft: Writer,
    target: Writer,
    problems: Sequence[Problem],
    scored: Sequence[Scored],
    rate: float,
    seed: int,
) -> Table:
    """The two together, one line a segment, with the score and with a coin as the judge.

    The threshold is the nll that the share `rate` of the draft's own segments exceeds.
    """
    table: Table = {}
    values = sorted(value for chain in scored for value in chain.nll)
    threshold = values[int((1 - rate) * len(values))]
    for name, cut in (("score", threshold), ("coin", None)):
        found = together(draft, target, problems, threshold=cut, rate=rate, seed=seed)
        table[f"together by {name}, problems right"] = str(found.solved)
        table[f"together by {name}, segments taken over"] = str(found.taken_over)
        table[f"together by {name}, tokens from the target"] = str(found.target_tokens)
    return table


def cost(draft: Writer, target: Writer, folders: dict[str, Path]) -> Table:
    """Size and time of each: the best of five turns on one CPU thread, taken in alternation."""
    table: Table = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    seconds = {"draft": float("inf"), "target": float("inf")}
    for _ in range(5):
        for name, writer in _named(draft, target):
            seconds[name] = min(seconds[name], step_time(writer.model))
    torch.set_num_threads(threads)
    for name, writer in _named(draft, target):
        table[f"{name}, parameters"] = str(sum(p.numel() for p in writer.model.parameters()))
        table[f"{name}, bytes"] = str(sum(f.stat().st_size for f in folders[name].iterdir()))
        table[f"{name}, ms a step of 16 chains, one thread"] = f"{1000 * seconds[name]:.2f}"
    table["time a token, target over draft"] = f"{seconds['target'] / seconds['draft']:.2f}"
    return table


@torch.inference_mode()
def step_time(
    model: LlamaForCausalLM, rows: int = 16, context: int = 200, most: int = 100
) -> float:
    """Mean seconds a decoding step of `rows` chains, sampling included."""
    out = model(torch.randint(4, len(IDS), (rows, context)), use_cache=True)
    ids = torch.randint(4, len(IDS), (rows, 1))
    began = time.perf_counter()
    for _ in range(most):
        out = model(ids, past_key_values=out.past_key_values, use_cache=True)
        ids = torch.multinomial(torch.softmax(out.logits[:, -1], dim=-1), 1)
    return (time.perf_counter() - began) / most


def _named(draft: Writer, target: Writer) -> tuple[tuple[str, Writer], tuple[str, Writer]]:
    return ("draft", draft), ("target", target)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--temperature", type=float, help="default: the shipped one")
    parser.add_argument("--together", type=int, default=200, help="problems for the two together")
    parser.add_argument("--takeover-rate", type=float, default=0.4)
    parser.add_argument("--draft", type=Path, default=HERE / "draft")
    parser.add_argument("--target", type=Path, default=HERE / "target")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    folders = {"draft": options.draft, "target": options.target}
    models = {name: sampling.load(folder) for name, folder in folders.items()}
    warmth = options.temperature or float(models["target"].generation_config.temperature)
    draft, target = (Writer(models[name], warmth) for name in ("draft", "target"))
    problems, seed = held_out(options.problems, options.seed), options.seed

    table = {"problems": str(len(problems)), "temperature": str(warmth)}
    by_itself, scored = alone(draft, target, problems, seed)
    table |= by_itself | discrimination(scored) | corrections(target, scored, seed)
    shared = problems[: options.together]
    table |= pairing(draft, target, shared, scored, options.takeover_rate, seed)
    table |= cost(draft, target, folders)
    if options.json:
        print(json.dumps(table, indent=2))
    else:
        print("\n".join(f"{name:58}{value}" for name, value in table.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
