"""From an outcome to OpenAI's response, with our `atts` object."""

from __future__ import annotations

import time
from typing import Any

from atts_core.answers import split_reasoning
from atts_core.events import CUT_SHORT
from atts_core.usage import ModelUsage
from services.service import Outcome

CalibrationState = dict[str, Any]


def completion(
    outcome: Outcome, model: str, calibration: CalibrationState, *, n: int = 1
) -> dict[str, Any]:
    """`chat.completion`: the best answers' final statements, their reasoning, what it all cost."""
    return {
        "id": outcome.id,
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [
            {
                "index": index,
                "message": {
                    "role": "assistant",
                    "content": statement,
                    "reasoning_content": reasoning,
                    "refusal": None,
                },
                "logprobs": None,
                "finish_reason": finish_reason(outcome),
            }
            for index, (reasoning, statement) in enumerate(spoken(outcome, n))
        ],
        "usage": usage(outcome),
        "atts": details(outcome, calibration),
    }


def spoken(outcome: Outcome, n: int) -> list[tuple[str, str]]:
    """(reasoning, statement) of the best `n` distinct answers, fewer where the chains agreed.

    Without any answer, of the most plausible chain.
    """
    answer = outcome.answer
    if not answer.votes:
        return [split_reasoning(answer.text, answer.handed_over)]
    return [split_reasoning(vote.text, vote.handed_over) for vote in answer.votes[:n]]


def finish_reason(outcome: Outcome) -> str:
    """`stop` where there is an answer, or the chain that speaks ended by itself, else `length`."""
    answer, ended = outcome.answer, outcome.usage.ended
    if answer.answer is not None:
        return "stop"
    by_itself = answer.candidate is not None and ended[answer.candidate] in ("eos", "stop")
    return "stop" if by_itself else "length"


def usage(outcome: Outcome) -> dict[str, Any]:
    """OpenAI's usage: the question once, and what both models wrote for all candidates."""
    spent = outcome.usage
    return {
        "prompt_tokens": spent.prompt_tokens,
        "completion_tokens": spent.generated,
        "total_tokens": spent.prompt_tokens + spent.generated,
        "prompt_tokens_details": {"cached_tokens": spent.cached_tokens},
        # Nobody can give us a prediction (the field is refused); what is reasoning, and what is
        # answer, is known of texts, not of tokens.
        "completion_tokens_details": {
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def details(outcome: Outcome, calibration: CalibrationState) -> dict[str, Any]:
    """Everything that is special about the answer: votes, rates, calibration, tokens, seconds."""
    answer, spent, method = outcome.answer, outcome.usage, outcome.method
    last = spent.last_decision
    ended = spent.endings
    return {
        "policy": method.policy,
        "seed": outcome.seed,
        "answer": answer.answer,
        "agreement": answer.agreement,
        "aggregation": method.aggregation,
        "comparison": {"as": answer.comparison, "undecided": answer.undecided},
        "stopped": answer.stopped,
        "votes": [
            {"answer": v.answer, "candidates": list(v.candidates), "weight": v.weight}
            for v in answer.votes
        ],
        "candidates": {
            "started": len(spent.ended),
            "finished": sum(n for how, n in ended.items() if how not in CUT_SHORT),
            "cancelled": ended.get("cancelled", 0) + ended.get("stopped", 0),
            "failed": ended.get("failed", 0),
            "endings": dict(ended),
            "errors": spent.errors,
        },
        "takeover_rate": {
            "nominal": method.rate,
            "realised": spent.realised_rate,
            "decisions": spent.decisions,
            "rejected": spent.rejected,
            "takeovers": spent.takeovers,
            "skipped": spent.skipped,
        },
        "calibration": calibration
        | (
            {}
            if last is None
            else {
                "coverage": last.coverage,
                "bank": last.bank,
                "bank_size": last.bank_size,
                "cold": last.cold,
            }
        ),
        "tokens": {
            "draft": _tokens(spent.draft),
            "target": _tokens(spent.target),
            "target_share": spent.target_share,
        },
        "seconds": {
            "total": outcome.seconds,
            "candidates": {k: round(v, 6) for k, v in sorted(spent.seconds.items())},
        },
    }


def _tokens(model: ModelUsage) -> dict[str, Any]:
    return {
        "generated": model.generated,
        "scored": model.scored,
        "prompt": model.prompt,
        "cached": model.cached,
        "wasted": dict(model.wasted),
    }
