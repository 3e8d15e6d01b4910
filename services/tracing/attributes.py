"""Attributes by OpenTelemetry's semantic conventions for generative AI, and our own, `atts.…`.

The conventions are those of github.com/open-telemetry/semantic-conventions-genai, not stable yet;
so every name stands here. Texts are no attributes: spans hold nothing that anybody wrote.
"""

from __future__ import annotations

from atts_core.engine import Capabilities, Generate
from atts_core.settings import Method
from atts_core.types import EngineCost
from services.tracing.spans import Attributes

OPERATION = "gen_ai.operation.name"
PROVIDER = "gen_ai.provider.name"
MODEL = "gen_ai.request.model"
RESPONSE_ID = "gen_ai.response.id"
FINISH = "gen_ai.response.finish_reasons"
INPUT = "gen_ai.usage.input_tokens"
CACHED = "gen_ai.usage.cache_read.input_tokens"
OUTPUT = "gen_ai.usage.output_tokens"
ERROR = "error.type"


def of_method(method: Method, model: str, run: str, seed: int) -> Attributes:
    """How a run was asked for."""
    return {
        OPERATION: "chat",
        PROVIDER: "atts",
        MODEL: model,
        RESPONSE_ID: run,
        "gen_ai.request.seed": seed,
        "gen_ai.request.temperature": method.temperature,
        "gen_ai.request.top_p": method.top_p,
        "gen_ai.request.top_k": method.top_k or None,
        "gen_ai.request.max_tokens": method.max_tokens,
        "atts.policy": method.policy,
        "atts.candidates": method.candidates,
        "atts.takeover_rate": method.rate,
    }


def of_model(capabilities: Capabilities, operation: str) -> Attributes:
    return {
        OPERATION: operation,
        PROVIDER: capabilities.engine,
        MODEL: capabilities.model,
    }


def of_request(request: Generate) -> Attributes:
    return {
        "gen_ai.request.max_tokens": request.max_tokens,
        "gen_ai.request.temperature": request.sampling.temperature,
        "gen_ai.request.top_p": request.sampling.top_p,
        "gen_ai.request.top_k": request.sampling.top_k or None,
        "gen_ai.request.seed": request.seed,
    }


def of_cost(cost: EngineCost, tokens: int) -> Attributes:
    """What a call to an engine took, on the engine's own account."""
    return {
        INPUT: cost.prompt_tokens,
        CACHED: cost.cached_tokens,
        OUTPUT: max(tokens, cost.written_tokens),
        "atts.queued_seconds": cost.queued,
        "atts.busy_seconds": cost.busy,
        "atts.replica": cost.replica or None,
    }
