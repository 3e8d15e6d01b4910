"""OpenAI's request and response bodies, and our one extra object, `atts`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints

from atts_core.calibration.settings import CoverageName
from atts_core.errors import BadInput, UnknownModel
from atts_core.policies import POLICIES, settle
from atts_core.settings import Limits, Method
from atts_core.types import Aggregation, Comparison, Message, PolicyName, Start
from services.openai_fields import CHAT, IGNORED, MESSAGE, MESSAGE_IGNORED, Refused, refuse
from services.settings import Effort, Settings

EffortName: TypeAlias = Literal["low", "medium", "high"]

Stop = Annotated[
    list[Annotated[str, StringConstraints(min_length=1, max_length=500)]],
    BeforeValidator(
        lambda given: [given] if isinstance(given, str) else given,
        json_schema_input_type=str | list[str],
    ),
    Field(max_length=4),
]


class Part(BaseModel):
    """One part of a message; only text is understood."""

    model_config = ConfigDict(extra="forbid", strict=True)

    type: Literal["text"]
    text: str


class ChatMessage(BaseModel):
    """One message of the conversation."""

    model_config = ConfigDict(extra="allow", strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]

    def plain(self) -> Message:
        text = (
            self.content
            if isinstance(self.content, str)
            else "".join(part.text for part in self.content)
        )
        return Message("system" if self.role == "developer" else self.role, text)


class AttsOptions(BaseModel):
    """What is special about this server, one optional object away."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, strict=True)

    policy: PolicyName | None = Field(None, description="which policy answers, e.g. target-only")
    candidates: int | None = Field(None, ge=1, description="chains that run in parallel")
    turns: int | None = Field(None, ge=1, description="draft segments a chain may have")
    draft_tokens: int | None = Field(None, ge=1, description="tokens of a draft segment at most")
    target_tokens: int | None = Field(None, ge=1, description="tokens of a takeover at most")
    takeover_rate: float | None = Field(
        None, gt=0, lt=1, description="expected share of segments the target takes over"
    )
    takeover_budget: int | None = Field(
        None, ge=1, description="takeovers to expect among the candidates of a turn"
    )
    max_target_tokens: int | None = Field(
        None, ge=1, description="tokens the target writes for the question at most"
    )
    coverage: CoverageName | None = Field(
        None, description="which scores a segment is ranked among"
    )
    on_rejection: Literal["continue", "replace"] | None = None
    consensus: bool | None = Field(
        None, description="cancel the other chains when they can no longer change the answer"
    )
    confidence: float | None = Field(
        None, gt=0.5, lt=1, description="cancel them when the leader beats the second this surely"
    )
    start: Start | None = Field(
        None, description="chains that run at once: all, or as many as settle it if they agree"
    )
    stop_after: int | None = Field(None, ge=1, description="cancel them when so many have answered")
    deadline_ms: int | None = Field(
        None, ge=1, le=86_400_000, description="milliseconds until the best answer there is by then"
    )
    aggregation: Aggregation | None = Field(None, description="how chains become one answer")
    comparison: Comparison | None = Field(None, description="as what answers are compared")
    tolerance: float | None = Field(
        None, ge=0, lt=1, description="numbers that differ by less, relatively, are the same"
    )
    seed: int | None = Field(None, ge=0, lt=2**63, description="decides everything drawn")
    events: bool = Field(False, description="with `stream`: every event of the run as a chunk")


class StreamOptions(BaseModel):
    """What a stream holds beside its chunks."""

    model_config = ConfigDict(extra="forbid", strict=True)

    include_usage: bool | None = Field(None, description="a last chunk with the run's usage")
    include_obfuscation: Literal[False] | None = Field(None, description="padding is never sent")


class Asked(BaseModel):
    """What a request for an answer holds, whatever the question's form."""

    model_config = ConfigDict(extra="allow", allow_inf_nan=False, strict=True)

    model: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    seed: int | None = Field(None, ge=0, lt=2**63)
    max_tokens: int | None = Field(None, ge=1, description="tokens of one chain at most")
    stop: Stop | None = Field(
        None, description="a text, or up to four, before the first of which every chain ends"
    )
    n: int | None = Field(None, ge=1, le=128, description="best distinct answers, a choice each")
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    atts: AttsOptions | None = None

    refused: ClassVar[Mapping[str, Refused]]

    def refuse_unsupported(self) -> None:
        """Every field is honoured or refused by name."""
        refuse(self.model_extra or {}, self.refused, IGNORED, type(self).model_fields)
        if self.stream_options is not None and not self.stream:
            raise BadInput("stream_options: found without stream: true", field="stream_options")

    def effort(self) -> EffortName:
        return "medium"

    def tokens(self) -> int | None:
        return self.max_tokens

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def events(self) -> bool:
        return self.atts is not None and self.atts.events

    def method(self, settings: Settings) -> Method:
        """The server's method with the request's own wishes, within the server's limits."""
        limits = settings.limits
        effort: Effort = getattr(settings.efforts, self.effort())
        wishes: dict[str, Any] = {
            "candidates": effort.candidates and min(effort.candidates, limits.max_candidates),
            "turns": effort.turns and min(effort.turns, limits.max_turns),
            "policy": policy_of(self.model, settings.served_model),
            "temperature": self.temperature,
            "top_p": self.top_p,
            "seed": self.seed,
            "max_tokens": self.tokens(),
            "stop": None if self.stop is None else tuple(self.stop),
        }
        if self.atts is not None:
            asked = self.atts.model_dump(exclude={"events"}, exclude_none=True)
            within(asked, limits)
            wishes |= asked
        method = settle(settings.method, {k: v for k, v in wishes.items() if v is not None})
        if self.atts is not None and self.atts.takeover_rate and self.atts.takeover_budget:
            raise BadInput(
                "atts.takeover_budget: found beside atts.takeover_rate; one of them sets the rate",
                field="atts.takeover_budget",
            )
        if self.atts is not None and self.atts.takeover_rate:
            method = method.model_copy(update={"takeover_budget": None})
        _ = method.rate  # a budget beyond the candidates is refused here
        if self.n is not None and self.n > method.candidates:
            raise BadInput(
                f"n: found {self.n}; distinct answers are at most as many as the "
                f"{method.candidates} candidates: ask for more with atts.candidates",
                field="n",
            )
        return method


class ChatRequest(Asked):
    """`POST /v1/chat/completions`."""

    refused = CHAT

    messages: list[ChatMessage] = Field(min_length=1)
    max_completion_tokens: int | None = Field(None, ge=1, description="the same as max_tokens")
    reasoning_effort: EffortName | None = Field(
        None, description="how many candidates and turns, by the server's `efforts`"
    )

    def effort(self) -> EffortName:
        return self.reasoning_effort or "medium"

    def tokens(self) -> int | None:
        both = {self.max_completion_tokens, self.max_tokens} - {None}
        if len(both) > 1:
            raise BadInput(
                f"max_tokens: found {self.max_tokens} beside max_completion_tokens: "
                f"{self.max_completion_tokens}; they mean the same, send one of them",
                field="max_tokens",
            )
        return next(iter(both), None)

    def conversation(self) -> tuple[Message, ...]:
        """The messages, of which the last is the user's and not empty."""
        messages = tuple(message.plain() for message in self.messages)
        last = len(messages) - 1
        if messages[last].role != "user":
            raise BadInput(
                f"messages.{last}.role: found {messages[last].role!r}; the last message must be "
                "the user's",
                field=f"messages.{last}.role",
            )
        for at, message in enumerate(messages):
            refuse(
                self.messages[at].model_extra or {},
                MESSAGE,
                MESSAGE_IGNORED,
                ChatMessage.model_fields,
                where=f"messages.{at}.",
            )
            if not message.content.strip():
                raise BadInput(
                    f"messages.{at}.content: empty; it must hold text",
                    field=f"messages.{at}.content",
                )
        return messages


def policy_of(model: str, served: str) -> str | None:
    """`atts` and `atts:target-only` are served; the second names its policy."""
    name, _, policy = model.partition(":")
    if name != served or (policy and policy not in POLICIES):
        raise UnknownModel(
            f"model: {model!r} is not served here; served are: {', '.join(model_names(served))}",
            field="model",
        )
    return policy or None


def model_names(served: str) -> list[str]:
    return [served, *(f"{served}:{policy}" for policy in POLICIES if policy != "atts")]


def within(asked: Mapping[str, Any], limits: Limits) -> None:
    """Refuse what is beyond the server's limits, naming the limit."""
    for name, limit, knob in (
        ("candidates", limits.max_candidates, "max_candidates"),
        ("turns", limits.max_turns, "max_turns"),
        ("draft_tokens", limits.max_segment_tokens, "max_segment_tokens"),
        ("target_tokens", limits.max_segment_tokens, "max_segment_tokens"),
    ):
        if asked.get(name, 0) > limit:
            raise BadInput(
                f"atts.{name}: found {asked[name]}; allowed are 1 to {limit} "
                f"(the server's limits.{knob})",
                field=f"atts.{name}",
            )


def error_body(
    message: str, kind: str, *, param: str | None = None, code: str | None = None
) -> dict[str, Any]:
    """OpenAI's error shape."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
