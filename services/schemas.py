"""What the routes answer, for the OpenAPI document; the tests hold every reply against it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from atts_core.events import Ending
from atts_core.types import Aggregation, Stopped


class Reply(BaseModel):
    """A reply holds what its schema names, and nothing else."""

    model_config = ConfigDict(extra="forbid")


class ErrorDetail(Reply):
    message: str = Field(description="what was found, what is allowed, what to do")
    type: str
    param: str | None = Field(description="the field at fault, as a dotted path")
    code: str | None


class ErrorReply(Reply):
    """Every error, in OpenAI's shape."""

    error: ErrorDetail


class PromptDetails(Reply):
    cached_tokens: int = Field(description="of the question, cached before the run began")


class CompletionDetails(Reply):
    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class UsageReply(Reply):
    """OpenAI's usage: the question once, and what both models wrote for all candidates."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class VoteReply(Reply):
    answer: str
    candidates: list[int]
    weight: float = Field(description="sum over the chains of exp(-nll)")


class CandidatesReply(Reply):
    started: int
    finished: int
    cancelled: int
    failed: int
    endings: dict[Ending, int]
    errors: list[str]


class RateReply(Reply):
    nominal: float
    realised: float | None
    decisions: int
    rejected: int
    takeovers: int
    skipped: int


class WastedReply(Reply):
    """Written tokens that no chain with a vote holds, by reason."""

    cancelled: int = Field(description="of candidates that were cancelled")
    stopped: int = Field(description="of candidates that their policy gave up")
    failed: int = Field(description="of candidates that failed")
    replaced: int = Field(description="of rejected segments that the target wrote anew")
    peeked: int = Field(description="of looks ahead that were thrown away")
    judged: int = Field(description="of the target's verdicts on steps")
    presampled: int = Field(description="of segments that only filled the question's bank")


class ModelTokens(Reply):
    generated: int
    scored: int
    prompt: int
    cached: int
    wasted: WastedReply


class TokensReply(Reply):
    draft: ModelTokens
    target: ModelTokens
    target_share: float


class SecondsReply(Reply):
    total: float
    candidates: dict[str, float] = Field(description="of all candidates together, by stage")


class AttsReply(BaseModel):
    """What the answer rests on and what it cost."""

    model_config = ConfigDict(extra="allow")

    policy: str
    seed: int
    answer: str | None
    agreement: float
    aggregation: Aggregation
    stopped: Stopped
    comparison: dict[str, Any] = Field(description="`as` what answers were compared; `undecided`")
    votes: list[VoteReply]
    candidates: CandidatesReply
    takeover_rate: RateReply
    calibration: dict[str, Any]
    tokens: TokensReply
    seconds: SecondsReply


class ChatMessageReply(Reply):
    role: Literal["assistant"]
    content: str
    reasoning_content: str
    refusal: None


class ChatChoice(Reply):
    index: int
    message: ChatMessageReply
    logprobs: None
    finish_reason: Literal["stop", "length"]


class ChatCompletion(Reply):
    """OpenAI's chat completion, with the `atts` object."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageReply
    atts: AttsReply


class TextChoice(Reply):
    index: int
    text: str
    logprobs: None
    finish_reason: Literal["stop", "length"]


class TextCompletion(Reply):
    """OpenAI's text completion, with the `atts` object."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[TextChoice]
    usage: UsageReply
    atts: AttsReply


class ModelReply(Reply):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str


class ModelList(Reply):
    object: Literal["list"]
    data: list[ModelReply]


class Health(Reply):
    status: Literal["ok"]


class Version(Reply):
    version: str
    method: dict[str, Any] = Field(description="what a request that sets nothing is answered with")


class Readiness(BaseModel):
    """Whether questions can be answered, with both pools and the store."""

    model_config = ConfigDict(extra="allow")

    ready: bool
    router: str | None = Field(None, description="the router that answers, where there are several")
    running: int = Field(description="questions running at this router")
    tasks: int | None = Field(None, description="asyncio tasks of that router's own")
