"""Measure the pair on held-out problems: `python -m models.arithmetic.measure`.

Prints every number of the card: how often each model alone is right, how well the target's
score tells wrong draft steps from right ones, what the target writes after its cue, what the
two reach together, and what a token costs each.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from models.arithmetic import sampling
from models.arithmetic.problems import CUE, STEP_END, Grade, Problem, final_answer, grade, held_out
from models.arithmetic.tokenizer import ASSISTANT, END_ID, IDS, USER, build, ids_of

HERE = Path(__file__).parent
STEP_IDS = (IDS[STEP_END], END_ID)
LONGEST_CHAIN = 400
LONGEST_LINE = 32
_DECODER = build()


@dataclass(frozen=True)
class Share:
    """Successes among trials."""

    right: int
    of: int

    @property
    def rate(self) -> float:
        return self.right / self.of if self.of else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval."""
        n, p, z = max(self.of, 1), self.right / max(self.of, 1), 1.96
        middle, spread = p + z * z / (2 * n), z * ((p * (1 - p) + z * z / (4 * n)) / n) ** 0.5
        return (middle - spread) / (1 + z * z / n), (middle + spread) / (1 + z * z / n)


def prompt(problem: Problem) -> list[int]:
    return list(ids_of(f"{USER}{problem.question}{ASSISTANT}"))


def text_of(ids: Sequence[int]) -> str:
    text: str = _DECODER.decode(list(ids), skip_special_tokens=True)
    return text


def solve(
    model: LlamaForCausalLM, problems: Sequence[Problem], temperature: float, seed: int
) -> list[list[int]]:
    """One whole chain a problem, by one model alone."""
    prompts = [prompt(problem) for problem in problems]
    return sampling.sample(model, prompts, most=LONGEST_CHAIN, temperature=temperature, seed=seed)


def segments(ids: Sequence[int]) -> list[list[int]]:
    """A chain cut behind every blank line."""
    cut: list[list[int]] = [[]]
    for token in ids:
        cut[-1].append(token)
        if token in STEP_IDS:
            cut.append([])
    return [segment for segment in cut if segment]


def auroc(wrong: Sequence[float], right: Sequence[float]) -> float:
    """The chance that a wrong segment's nll is above a right one's; ties count half."""
    ranked = sorted([(value, 1) for value in wrong] + [(value, 0) for value in right])
    above, below = 0.0, 0
    at = 0
    while at < len(ranked):
        same = [kind for value, kind in ranked[at:] if value == ranked[at][0]]
        ones = sum(same)
        above += ones * (below + (len(same) - ones) / 2)
        below += len(same) - ones
        at += len(same)
    return above / (len(wrong) * len(right)) if wrong and right else float("nan")


@dataclass(frozen=True)
class Chain:
    """A draft's chain with, for each segment, its verdict and its mean nll under the target."""

    problem: Problem
    segments: list[list[int]]
    grades: list[Grade]
    nll: list[float]


def score(
    target: LlamaForCausalLM, problems: Sequence[Problem], chains: Sequence[list[int]]
) -> list[Chain]:
    heads = [prompt(problem) for problem in problems]
    nats = sampling.token_nll(target, [head + ids for head, ids in zip(heads, chains, strict=True)])
    found = []
    for problem, head, ids, each in zip(problems, heads, chains, nats, strict=True):
        cut = segments(ids)
        grades = grade(problem, text_of(ids))
        at, means = len(head), []
        for segment in cut:
            means.append(sum(each[at : at + len(segment)]) / len(segment))
            at += len(segment)
        found.append(Chain(problem, cut, grades, means))
    return [chain for chain in found if len(chain.grades) == len(chain.segments)]


def rework(
    target: LlamaForCausalLM, chains: Sequence[Chain], right: bool, temperature: float, seed: int
) -> tuple[Share, Share]:
    """After a draft's segment and the cue: the reworked line is right; the next one is too.

    The segment is the chain's first wrong one, or a random one before that.
    """
    rng = random.Random(seed)
    problems, prefixes, kept = [], [], []
    for chain in chains:
        verdicts = [each.right for each in chain.grades]
        first = verdicts.index(False) if False in verdicts else len(verdicts)
        if first == (0 if right else len(verdicts)):
            continue
        at = rng.randrange(first) if right else first
        ids = [token for segment in chain.segments[: at + 1] for token in segment]
        problems.append(chain.problem)
        kept.append(ids)
        prefixes.append(prompt(chain.problem) + ids + list(ids_of(CUE)))
    lines = sampling.sample(
        target, prefixes, most=LONGEST_LINE, temperature=temperature, seed=seed, ends=STEP_IDS
    )
    following = sampling.sample(
        target,
        [prefix + line for prefix, line in zip(prefixes, lines, strict=True)],
        most=LONGEST_LINE,
        temperature=temperature,
        seed=seed + 1,
        ends=STEP_IDS,
    )
    once = twice = 0
    for problem, ids, line, after in zip(problems, kept, lines, following, strict=True):
        text = text_of(ids) + CUE + text_of(line)
        reworked = grade(problem, text)[-1]
        once += reworked.right
        ended = reworked.after.finished
        twice += reworked.right and (ended or grade(problem, text + text_of(after))[-1].right)
    return Share(once, len(problems)), Share(twice, len(problems))


@dataclass(frozen=True)
class Together:
    """What draft and target reach together, one segment a turn."""

    solved: Share
    taken_over: float
    target_tokens: float


def together(
    draft: LlamaForCausalLM,
    target: LlamaForCausalLM,
    problems: Sequence[Problem],
    *,
    threshold: float | None,
    rate: float,
    temperature: float,
    seed: int,
    turns: int = 20,
) -> Together:
    """Draft a line; where its nll is above `threshold` (None: by coin), cue the target."""
    rng = random.Random(seed)
    chains: list[list[int]] = [[] for _ in problems]
    heads = [prompt(problem) for problem in problems]
    open_rows = list(range(len(problems)))
    decided = taken = by_target = 0
    for turn in range(turns):
        drafted = sampling.sample(
            draft,
            [heads[row] + chains[row] for row in open_rows],
            most=LONGEST_LINE,
            temperature=temperature,
            seed=seed + 2 * turn,
            ends=STEP_IDS,
        )
        before = {row: len(heads[row]) + len(chains[row]) for row in open_rows}
        for row, ids in zip(open_rows, drafted, strict=True):
            chains[row] += ids
        nats = sampling.token_nll(target, [heads[row] + chains[row] for row in open_rows])
        means = [
            sum(each[before[r] :]) / len(each[before[r] :])
            for r, each in zip(open_rows, nats, strict=True)
        ]
        coin = [rng.random() < rate for _ in means]
        over = coin if threshold is None else [mean > threshold for mean in means]
        rejected = [row for row, yes in zip(open_rows, over, strict=True) if yes]
        decided, taken = decided + len(over), taken + len(rejected)
        for row in rejected:
            chains[row] += ids_of(CUE)
        lines = sampling.sample(
            target,
            [heads[row] + chains[row] for row in rejected],
            most=LONGEST_LINE,
            temperature=temperature,
            seed=seed + 2 * turn + 1,
            ends=STEP_IDS,
        )
        for row, ids in zip(rejected, lines, strict=True):
            chains[row] += ids
            by_target += len(ids)
        open_rows = [row for row in open_rows if final_answer(text_of(chains[row])) is None]
        if not open_rows:
            break
    answers = [final_answer(text_of(ids)) for ids in chains]
    right = sum(a == problem.answer for a, problem in zip(answers, problems, strict=True))
    tokens = sum(map(len, chains))
    return Together(Share(right, len(problems)), taken / decided, by_target / tokens)


@torch.inference_mode()
def step_time(
    model: LlamaForCausalLM, rows: int = 16, context: int = 200, most: int = 100
) -> float:
    """Seconds a decoding step with `rows` chains, sampling included; the best of five runs."""
    best = float("inf")
    for _ in range(5):
        out = model(torch.randint(4, len(IDS), (rows, context)), use_cache=True)
        ids = torch.randint(4, len(IDS), (rows, 1))
        began = time.perf_counter()
        for _ in range(most):
            out = model(ids, past_key_values=out.past_key_values, use_cache=True)
            ids = torch.multinomial(torch.softmax(out.logits[:, -1], dim=-1), 1)
        best = min(best, (time.perf_counter() - began) / most)
    return best


def _paired(chain: Chain) -> Iterator[tuple[float, Grade]]:
    return zip(chain.nll, chain.grades, strict=True)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--temperature", type=float, help="default: the shipped one")
    parser.add_argument("--draft", type=Path, default=HERE / "draft")
    parser.add_argument("--target", type=Path, default=HERE / "target")
    parser.add_argument("--takeover-rate", type=float, default=0.4)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    table = measure(options)
    if options.json:
        print(json.dumps(table, indent=1))
        return
    for name, value in table.items():
        print(f"{name:58} {value}")


def measure(options: argparse.Namespace) -> dict[str, object]:
    draft, target = sampling.load(options.draft), sampling.load(options.target)
    temperature = options.temperature or float(target.generation_config.temperature)
    problems = held_out(options.problems, options.seed)
    table: dict[str, object] = {
        "problems": len(problems),
        "temperature": temperature,
    }
    scored: list[Chain] = []
    for name, model in (("draft", draft), ("target", target)):
        chains = solve(model, problems, temperature, options.seed)
        solved = sum(
            final_answer(text_of(ids)) == problem.answer
            for ids, problem in zip(chains, problems, strict=True)
        )
        _add(table, f"{name} alone: right", Share(solved, len(problems)))
        verdicts = [
            each.right
            for ids, problem in zip(chains, problems, strict=True)
            for each in grade(problem, text_of(ids))
        ]
        _add(table, f"{name} alone: right lines", Share(sum(verdicts), len(verdicts)))
        if name == "draft":
            scored = score(target, problems, chains)
    pairs = [(nll, each.right) for chain in scored for nll, each in _paired(chain)]
    wrong, fine = [n for n, right in pairs if not right], [n for n, right in pairs if right]
    table["wrong, right draft segments"] = f"{len(wrong)}, {len(fine)}"
    table["AUROC of the target's mean nll"] = round(auroc(wrong, fine), 4)
    for right, words in ((False, "wrong"), (True, "right")):
        once, twice = rework(target, scored, right, temperature, options.seed)
        _add(table, f"after a {words} segment and the cue: line right", once)
        _add(table, f"after a {words} segment and the cue: next line right too", twice)
    rate = options.takeover_rate
    threshold = sorted(n for n, _ in pairs)[int((1 - rate) * len(pairs))]
    for coin in (False, True):
        loop = together(
            draft,
            target,
            problems,
            threshold=None if coin else threshold,
            rate=rate,
            temperature=temperature,
            seed=options.seed,
        )
        words = "coin" if coin else "score"
        _add(table, f"together, takeovers by {words}: right", loop.solved)
        table[f"together, takeovers by {words}: share of segments"] = round(loop.taken_over, 3)
        table[f"together, takeovers by {words}: target's tokens"] = round(loop.target_tokens, 3)
    torch.set_num_threads(1)
    times = {}
    for name, model in (("draft", draft), ("target", target)):
        folder: Path = getattr(options, name)
        times[name] = step_time(model)
        table[f"{name}: parameters"] = sum(p.numel() for p in model.parameters())
        table[f"{name}: bytes of weights"] = (folder / "model.safetensors").stat().st_size
        table[f"{name}: ms a step, 16 chains, one thread"] = round(1000 * times[name], 2)
    table["target's time a token over the draft's"] = round(times["target"] / times["draft"], 2)
    return table


def _add(table: dict[str, object], name: str, share: Share) -> None:
    low, high = share.interval
    table[name] = f"{share.rate:.4f} ({low:.3f} to {high:.3f}; {share.right} of {share.of})"


if __name__ == "__main__":
    main(sys.argv[1:])
