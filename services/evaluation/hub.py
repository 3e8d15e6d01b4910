"""Known datasets by name, from the Hugging Face Hub, and the subsets that were published.

`subset=published` follows the rules of the code published with arXiv 2509.15148, on the
repositories that it reads. There is one deviation: it lists GPQA's right option first always, so
that `A` is right every time; here options are shuffled by the seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from pydantic import Field

from atts_core.errors import BadInput
from atts_core.settings import Strict
from services.evaluation.items import Item

Row: TypeAlias = Mapping[str, Any]
Picked: TypeAlias = list[tuple[int, Row]]
"""Rows with their places in the repository's split: the places name them."""
Pick: TypeAlias = Callable[[Sequence[Row], random.Random], Picked]

BOX = "Please reason step by step, and put your final answer within \\boxed{}."
BOX_LETTER = "Please reason step by step, and put the letter of the right option within \\boxed{}."


class HubOptions(Strict):
    """Which part of a known dataset is asked."""

    subset: Literal["all", "published"] = Field(
        "all", description="all of it, or what the paper's code asks"
    )
    seed: int = Field(1, ge=0, description="shuffles GPQA's options, draws GSM8K's published 100")


@dataclass(frozen=True, slots=True)
class Repository:
    """A split on the Hub, and which of its rows are meant."""

    path: str
    split: str
    config: str | None = None
    pick: Pick = lambda rows, rng: list(enumerate(rows))


@dataclass(frozen=True, slots=True)
class Named:
    """A known dataset: all of it, what was published of it, and how a row becomes a question."""

    whole: Repository
    published: Repository
    read: Callable[[Row, random.Random], tuple[str, str]]
    rule: str
    instruction: str = BOX


def _first(n: int) -> Pick:
    return lambda rows, rng: list(enumerate(rows))[:n]


def _math500(rows: Sequence[Row], rng: random.Random) -> Picked:
    """The published seed is part of the rule; the evaluation's own plays no part."""
    return [(at, rows[at]) for at in random.Random(42).sample(range(len(rows)), 100)]


def _drawn(rows: Sequence[Row], rng: random.Random) -> Picked:
    return [(at, rows[at]) for at in rng.sample(range(len(rows)), min(100, len(rows)))]


def _numerical(rows: Sequence[Row], rng: random.Random) -> Picked:
    single = [
        (at, row)
        for at, row in enumerate(rows)
        if not row["is_multiple_answer"] and row["answer_type"] == "Numerical"
    ]
    return single[:50]


def _problem(row: Row, rng: random.Random) -> tuple[str, str]:
    return row["problem"], str(row["answer"])


def _question(row: Row, rng: random.Random) -> tuple[str, str]:
    return row["question"], str(row["answer"])


def _gsm8k(row: Row, rng: random.Random) -> tuple[str, str]:
    return row["question"], row["answer"].rsplit("####", 1)[-1].strip().replace(",", "")


def _olympiad(row: Row, rng: random.Random) -> tuple[str, str]:
    return row["question"], ", ".join(row["final_answer"])


def _gpqa(row: Row, rng: random.Random) -> tuple[str, str]:
    right = row["Correct Answer"].strip()
    options = [right, *(row[f"Incorrect Answer {n}"].strip() for n in (1, 2, 3))]
    rng.shuffle(options)
    # One line each: an option of several lines would end the list of options.
    listed = [f"{letter}) {' '.join(o.split())}" for letter, o in zip("ABCD", options, strict=True)]
    return "\n".join([row["Question"].strip(), "", *listed]), "ABCD"[options.index(right)]


_MATH500 = "HuggingFaceH4/MATH-500"
_OLYMPIAD = ("Hothan/OlympiadBench", "train", "OE_TO_maths_en_COMP")
_GPQA = ("Idavidrein/gpqa", "train", "gpqa_diamond")

NAMES: Mapping[str, Named] = MappingProxyType(
    {
        "math500": Named(
            Repository(_MATH500, "test"),
            Repository(_MATH500, "test", pick=_math500),
            _problem,
            "100 of the 500, drawn by Python's random.sample with seed 42",
        ),
        "aime24": Named(
            Repository("simplescaling/aime24_nofigures", "train"),
            Repository("simplescaling/aime24_nofigures", "train", pick=_first(15)),
            _problem,
            "the first 15 of the 30",
        ),
        "aime25": Named(
            Repository("simplescaling/aime25_nofigures", "train"),
            Repository("simplescaling/aime25_nofigures", "train", pick=_first(15)),
            _problem,
            "the first 15 of the 30",
        ),
        "amc23": Named(
            Repository("math-ai/amc23", "test"),
            Repository("AI-MO/aimo-validation-amc", "train", pick=_first(50)),
            lambda row, rng: _problem(row, rng) if "problem" in row else _question(row, rng),
            "the first 50 of AI-MO/aimo-validation-amc, which holds AMC 2022, too",
        ),
        "gsm8k": Named(
            Repository("openai/gsm8k", "test", "main"),
            Repository("openai/gsm8k", "train", "main", pick=_drawn),
            _gsm8k,
            "100 of the training split; published without a seed, here drawn by `seed`",
        ),
        "olympiad": Named(
            Repository(*_OLYMPIAD),
            Repository(*_OLYMPIAD, pick=_numerical),
            _olympiad,
            "the first 50 with one numerical answer",
        ),
        "gpqa": Named(
            Repository(*_GPQA),
            Repository(*_GPQA, pick=_first(60)),
            _gpqa,
            "the first 60 of the diamond set",
            BOX_LETTER,
        ),
    }
)


def load(name: str, options: HubOptions) -> list[Item]:
    """The questions of a known name; `BadInput` that says what to do where they cannot be had."""
    named = NAMES[name]
    where = named.whole if options.subset == "all" else named.published
    return items(name, fetch(name, where), options)


def items(name: str, rows: Sequence[Row], options: HubOptions) -> list[Item]:
    """A split's rows as questions."""
    named = NAMES[name]
    where = named.whole if options.subset == "all" else named.published
    found = []
    for at, row in where.pick(rows, random.Random(options.seed)):
        # Each row has a generator of its own: its options do not depend on which others are asked.
        question, answer = named.read(row, random.Random(f"{options.seed}/{at}"))
        found.append(Item(f"{name}-{at}", question, answer))
    return found


def fetch(name: str, where: Repository) -> Sequence[Row]:
    """All rows of a split, from the Hub or its cache."""
    try:
        import datasets
    except ImportError:
        raise BadInput(
            f"--dataset: {name} is loaded by `datasets`: pip install 'atts[eval]'", field="dataset"
        ) from None
    try:
        return list(datasets.load_dataset(where.path, where.config, split=where.split))
    except datasets.exceptions.DatasetNotFoundError as error:
        raise BadInput(
            f"--dataset: {name}: {error}. Where the dataset is gated, accept its terms at "
            f"https://huggingface.co/datasets/{where.path} and log in with `hf auth login`",
            field="dataset",
        ) from None
    except (OSError, ValueError) as error:
        # ValueError: in the cache is another part of the dataset than the one that is wanted.
        raise BadInput(
            f"--dataset: {name}: {where.path} cannot be loaded here ({error}). Without a network: "
            f"run `atts eval --dataset {name} --limit 1` where there is one, and bring the folder "
            "that HF_HOME names (~/.cache/huggingface by default); or give a local file: "
            "--dataset FILE.jsonl; or --dataset embedded, which needs nothing",
            field="dataset",
        ) from None
