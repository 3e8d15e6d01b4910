"""A process that compares formulas, one a line: the only place that runs sympy.

It may be killed at any moment. What it is asked comes out of language models, so its memory is
limited, and its processor time a question, should nobody be left to kill it.
"""

from __future__ import annotations

import json
import logging
import math
import resource
import sys
from functools import lru_cache
from typing import Any

from math_verify import LatexExtractionConfig, parse, verify

_SPELLINGS = str.maketrans({"−": "-", "–": "-", "·": r"\cdot ", "°": r"^\circ", "\n": " ", "$": ""})
_SYNONYMS = {
    r"\varnothing": r"\emptyset",
    "{,}": ",",
    r"\(": "",
    r"\)": "",
    "√": r"\sqrt",
    "∞": r"\infty",
    "≤": r"\le ",
    "≥": r"\ge ",
    "≠": r"\ne ",
    "\u222a": r"\cup ",
    "∩": r"\cap ",
    "∈": r"\in ",
    "×": r"\times ",
}
_FORMULA = (LatexExtractionConfig(),)


@lru_cache(maxsize=512)
def read(answer: str) -> tuple[Any, ...]:
    """The formula as sympy's expressions; empty where it is none."""
    text = answer.translate(_SPELLINGS)
    for spelling, standard in _SYNONYMS.items():
        text = text.replace(spelling, standard)
    return tuple(parse(f"${text}$", _FORMULA, fallback_mode="no_fallback", parsing_timeout=None))


def same(one: str, other: str) -> bool:
    """Whether either answer would pass where the other is the reference.

    math-verify takes what stands on one side as the reference, and is more lenient to the other;
    both directions together are symmetric.
    """
    forms = list(read(one)), list(read(other))
    return all(forms) and any(
        verify(gold, answer, allow_set_relation_comp=True, timeout_seconds=None)
        for gold, answer in (forms, forms[::-1])
    )


def limit_memory(megabytes: int) -> None:
    """Allocations beyond it fail with a `MemoryError` in place of filling the machine."""
    resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def limit_time(seconds: float) -> None:
    """The kernel ends this process after so many more seconds of computing."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(spent.ru_utime + spent.ru_stime + seconds) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.RLIM_INFINITY))


def main() -> None:
    """`[one, other]` in, `true` or `false` out; what exhausts the memory ends the process."""
    megabytes, seconds = int(sys.argv[1]), float(sys.argv[2])
    limit_memory(megabytes)
    logging.disable(logging.WARNING)
    same(r"\frac{x}{2}", "0.5x")  # the grammar's tables are made at the first formula
    print("ready", flush=True)
    for line in sys.stdin:
        limit_time(seconds)
        print(json.dumps(same(*json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
