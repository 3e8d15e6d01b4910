"""The figures as Markdown tables that can be put into a document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Figures = Mapping[str, Any]

NOTES = (
    "pass@1: right chains among those that ended by themselves{cut}. majority@m: the policy's own "
    "answer. pass@m: questions with a right chain among these. In brackets: 95 % interval (Wilson, "
    "over questions). Times are a question's, from sending to the last byte; *set*: seconds in "
    "which questions were in flight. Tokens are thousands; *wasted* ones are in no chain that "
    "ended by itself. Engine s: seconds in which the model's engines had a request; *busy*: share "
    "of the set's seconds in which they computed, by their own clocks. *AAI*: asynchronous "
    "arithmetic intensity."
)
CUT = " (†: others were cancelled, and the slowest are cancelled first)"


def _asked(policies: Mapping[str, Figures]) -> dict[str, Figures]:
    """The policies that were not left out."""
    return {label: found for label, found in policies.items() if "skipped" not in found}


def markdown(policies: Mapping[str, Figures]) -> str:
    """Three tables (what is right, how long it took, what it cost), and what was skipped."""
    asked = _asked(policies)
    cut = any(_cut(found) for found in asked.values())
    parts = [
        _table(("policy", "pass@1", "majority@m", "pass@m", "takeover rate"), asked, _right),
        _table(("policy", "p50 s", "p95 s", "set s", "draft engine s", "target engine s",
                "draft busy", "target busy", "AAI"), asked, _time),
        _table(("policy", "draft", "target", "target share", "scored by target", "wasted"),
               asked, _cost),
        NOTES.format(cut=CUT if cut else ""),
        *_remarks(policies),
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"


def _table(head: Sequence[str], policies: Mapping[str, Figures], row: Any) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    lines += [[label, *row(found)] for label, found in policies.items()]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _right(found: Figures) -> list[str]:
    mark = " †" if _cut(found) else ""
    return [
        _share(found, "pass_at_1") + mark,
        _share(found, "majority"),
        _share(found, "pass_at_m") + mark,
        _number(found["realised_takeover_rate"], 3),
    ]


def _time(found: Figures) -> list[str]:
    return [
        _number(found["latency_p50"], 2),
        _number(found["latency_p95"], 2),
        _number(found["seconds"], 1),
        _number(found["draft_engine_seconds"], 1),
        _number(found["target_engine_seconds"], 1),
        _number(found["draft_busy"], 2),
        _number(found["target_busy"], 2),
        _number(found["arithmetic_intensity"], 2),
    ]


def _cost(found: Figures) -> list[str]:
    return [
        _number(found["draft_tokens"] / 1000, 1),
        _number(found["target_tokens"] / 1000, 1),
        _number(found["target_token_share"], 3),
        _number(found["target_scored_tokens"] / 1000, 1),
        _number(found["wasted_tokens"] / 1000, 1),
    ]


def _remarks(policies: Mapping[str, Figures]) -> list[str]:
    """What a reader of the tables must know beside them: nothing is left out silently."""
    said = [
        f"- {label} is not in the tables: {found['skipped']}"
        for label, found in policies.items()
        if "skipped" in found
    ]
    for label, found in policies.items():
        for count, what in (
            ("failed", "questions failed and count as wrong"),
            ("unasked", "questions have not been asked yet"),
            ("undecided", "comparisons of answers came to no verdict and count as different"),
        ):
            if found.get(count):
                said.append(f"- {label}: {found[count]} {what}")
    return ["\n".join(said)] if said else []


def _cut(found: Figures) -> bool:
    return any(found["endings"].get(how) for how in ("cancelled", "stopped"))


def _share(found: Figures, name: str) -> str:
    if found[name] is None:
        return "–"
    low, high = found[f"{name}_interval"]
    return f"{found[name]:.3f} ({low:.3f}–{high:.3f})"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def by_seed(policies: Mapping[str, Figures]) -> str:
    """How much the figures vary from seed to seed."""
    head = ("policy", "seed", "pass@1", "majority@m", "p50 s", "p95 s", "set s")
    lines = [head, ["---"] + ["---:"] * (len(head) - 1)]
    for label, found in policies.items():
        lines += [
            [
                label,
                str(one["seed"]),
                _number(one["pass_at_1"], 3),
                _number(one["majority"], 3),
                _number(one["latency_p50"], 2),
                _number(one["latency_p95"], 2),
                _number(one["seconds"], 1),
            ]
            for one in found.get("by_seed", [])
        ]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


BOUND = (
    "*busy*: share of the set's seconds that the engine was in its own steps (step seconds over "
    "set seconds); a step serves all requests in it, *sequences* of them in the mean. *cores*: CPU "
    "seconds of all processes over the set's seconds."
)
UNTOLD = "The engines' own step times are known only where they run in the evaluation's process."


def bounds(policies: Mapping[str, Figures]) -> str:
    """What each engine did while questions were in flight, and so which of them is the ceiling."""
    asked = _asked(policies)
    head = ("policy", "set s", "draft busy", "target busy", "draft steps", "ms", "sequences",
            "target steps", "ms", "sequences", "cores")  # fmt: skip
    told = any(found.get("target_busy") is not None for found in asked.values())
    return "\n\n".join([_table(head, asked, _bound), BOUND if told else UNTOLD])


def _bound(found: Figures) -> list[str]:
    cells = [_number(found["seconds"], 1)]
    cells += [_number(found[f"{model}_busy"], 2) for model in ("draft", "target")]
    for model in ("draft", "target"):
        cells += [
            _number(found[f"{model}_steps"], 0),
            _number(found[f"{model}_step_ms"], 2),
            _number(found[f"{model}_step_sequences"], 1),
        ]
    return [*cells, _number(found["cores"], 2)]
