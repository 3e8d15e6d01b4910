"""Rows as an evaluation keeps them, for tests of what is made of them."""

from __future__ import annotations

from typing import Any


def counts(**readings: list[float]) -> dict[str, list[float]]:
    """An engine's clocks when a question was asked and when it was answered."""
    return readings


def row(policy: str = "atts", question: str = "q", seed: int = 1, **fields: Any) -> dict[str, Any]:
    """A finished question, right unless `fields` say otherwise."""
    chain = {"candidate": 0, "answer": "2", "ending": "answered", "turns": 2, "takeovers": 1}
    return {
        "policy": policy,
        "seed": seed,
        "question": question,
        "error": None,
        "session": "s",
        "asked_at": 1_700_000_000.0,
        "began": 0.0,
        "latency": 1.0,
        "readings": {
            "processes": {"cpu_seconds": [10.0, 11.5]},
            "draft": counts(steps=[0, 100], step_seconds=[4.0, 4.4], batched_sequences=[0, 300]),
            "target": counts(steps=[50, 90], step_seconds=[7.0, 7.8], batched_sequences=[20, 60]),
        },
        "chains": [
            {**chain, "tokens": 10, "timeline": [[0.0, 0.5, "draft"], [0.5, 1, "takeover"]]}
        ],
        "by_turn": {"0": [2, 1]},
        "wasted_tokens": 3,
        "busy": {"draft": [[0.0, 0.5]], "target": [[0.5, 1.0]]},
        "request_seconds": {"draft": 0.5, "target": 0.5, "scoring": 0.2, "waiting": 0.2},
        "truth": "2",
        "answer": "2",
        "right": True,
        "chains_ended": 2,
        "chains_right": 1,
        "undecided": 0,
        "stopped": "all",
        "tokens": {
            "draft": {"generated": 8, "scored": 0, "prompt": 5, "cached": 0},
            "target": {"generated": 4, "scored": 8, "prompt": 5, "cached": 0},
            "target_share": 1 / 3,
        },
        "decisions": 2,
        "rejected": 1,
        **fields,
    }
