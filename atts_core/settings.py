"""Every knob of the method, frozen, bounded and described; unknown names are refused."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic.fields import FieldInfo

from atts_core.calibration.settings import CoverageName, budget_rate
from atts_core.errors import BadInput
from atts_core.types import Aggregation, Comparison, PolicyName, Start


class Strict(BaseModel):
    """A frozen group of settings that accepts no unknown name."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Method(Strict):
    """How a question is answered: the paper's algorithm (arXiv 2509.15148) and its knobs."""

    policy: PolicyName = Field("atts", description="which policy answers: see policies.md")
    candidates: int = Field(16, ge=1, description="m, chains that run in parallel")
    turns: int = Field(15, ge=1, description="T, draft segments a chain may have")
    draft_tokens: int = Field(500, ge=1, description="K_d, tokens of a draft segment at most")
    target_tokens: int = Field(500, ge=1, description="K_t, tokens of a takeover at most")
    max_tokens: int | None = Field(
        None, ge=1, description="tokens of one chain at most, of both models; None: turns bound it"
    )
    takeover_rate: float = Field(
        0.4, gt=0, lt=1, description="expected share of segments the target takes over"
    )
    takeover_budget: int | None = Field(
        None,
        ge=1,
        description="B, takeovers to expect among the m candidates of a turn: the rate is B / m; "
        "None: takeover_rate is",
    )
    max_target_tokens: int | None = Field(
        None,
        ge=1,
        description="tokens the target writes for one question at most; when they are spent, the "
        "draft goes on alone; None: no cap",
    )
    coverage: CoverageName | None = Field(
        None, description="which scores a segment is ranked among; None: the server's own"
    )
    on_rejection: Literal["continue", "replace"] = Field(
        "continue",
        description="a rejected segment stays and the target continues it, or the target "
        "writes the turn anew in its place",
    )
    takeover_cue: str = Field(
        "", max_length=500, description="text between a rejected segment and the target's own"
    )
    segment_stop: tuple[str, ...] = Field(
        (), max_length=8, description="texts that end a segment and belong to it"
    )
    stop: tuple[Annotated[str, StringConstraints(min_length=1, max_length=500)], ...] = Field(
        (), max_length=4, description="texts that end a chain and are cut off"
    )
    temperature: float = Field(0.8, ge=0, le=2, description="0 is greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="nucleus of the sampling distribution")
    top_k: int = Field(0, ge=0, description="most likely tokens kept when sampling, 0: all")
    seed: int | None = Field(
        None, ge=0, lt=2**63, description="decides sampling and the gate's coins; None: drawn"
    )
    consensus: bool = Field(
        True, description="cancel the other chains when they can no longer change the answer"
    )
    confidence: float | None = Field(
        None,
        gt=0.5,
        lt=1,
        description="cancel the other chains when the leading answer beats the second with this "
        "probability (Beta stop); None: never for this reason",
    )
    stop_after: int | None = Field(
        None, ge=1, description="cancel the other chains when so many have answered; None: never"
    )
    start: Start = Field(
        "all",
        description="chains that run at once: all; or as many as are needed to settle the answer "
        "if they agree, and others where these do not, which spares tokens and may take longer",
    )
    deadline_ms: int | None = Field(
        None,
        ge=1,
        le=86_400_000,
        description="milliseconds from a question's start to its answer: the best one by then; "
        "None: no limit",
    )
    aggregation: Aggregation = Field(
        "majority",
        description="the answer: of most chains; the same, weighed with exp(-nll); of the chain "
        "of lowest nll; of the chain that ended first",
    )

    comparison: Comparison = Field(
        "auto",
        description="answers are the same as mathematics, numbers, text, or options of the "
        "question; auto: as options where the question lists them, else as mathematics",
    )
    tolerance: float = Field(
        0.0, ge=0, lt=1, description="numbers that differ by less, relatively, are the same"
    )

    @property
    def chain_tokens(self) -> int:
        """Tokens of a chain that knows no turns: as long as one with turns may be."""
        return self.turns * max(self.draft_tokens, self.target_tokens)

    @property
    def rate(self) -> float:
        """The nominal takeover rate: of the budget where there is one.

        Raises `BadInput` for a budget that leaves no candidate to the draft.
        """
        if self.takeover_budget is None:
            return self.takeover_rate
        return budget_rate(self.takeover_budget, self.candidates)


class Limits(Strict):
    """What one request, and all of them together, may ask for."""

    max_candidates: int = Field(64, ge=1, description="highest `candidates` of a request")
    max_turns: int = Field(64, ge=1, description="highest `turns` of a request")
    max_segment_tokens: int = Field(
        4096, ge=1, description="highest `draft_tokens` and `target_tokens` of a request"
    )
    max_body_bytes: int = Field(1_000_000, ge=1_000, description="largest request body")
    max_body_seconds: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="time in which a request's body must have arrived; beyond it: status 408",
    )
    max_running: int = Field(
        64, ge=1, description="questions one router answers at once; beyond it: status 429"
    )
    max_concurrent_takeovers: int = Field(
        1024, ge=1, description="takeovers one router runs at once; bounds the target's KV memory"
    )


S = TypeVar("S", bound=BaseModel)


def validated(kind: type[S], values: Any, *, where: str = "") -> S:
    """`values` as settings of `kind`, or `BadInput` that names field, value and what is allowed."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise bad_input(error.errors(include_url=False)[0], kind, where=where) from None


def bad_input(error: Mapping[str, Any], kind: type[BaseModel], *, where: str = "") -> BadInput:
    """One complaint of pydantic, as a sentence for the person who wrote the value."""
    path = [str(part) for part in error["loc"]]
    # The name at fault: in the path of an unknown or missing name, beyond it otherwise.
    named = path[-1:] if error["type"] in ("extra_forbidden", "missing") else []
    shown, fields, last = _reach(kind, path[: len(path) - len(named)])
    name = ".".join(([where] if where else []) + shown + named)
    if error["type"] == "extra_forbidden":
        near = difflib.get_close_matches(path[-1], fields, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are: {', '.join(sorted(fields))}"
        return BadInput(f"{name}: unknown name; {hint}", field=name)
    if error["type"] == "missing":
        return BadInput(f"{name}: missing; it is required", field=name)
    limits = [] if last is None else bounds(last)
    allowed = f" (allowed: {' and '.join(limits)})" if limits else ""
    return BadInput(
        f"{name}: found {_shown(error['input'])}; {_lower(error['msg'])}{allowed}", field=name
    )


def _reach(
    kind: type[BaseModel], path: list[str]
) -> tuple[list[str], dict[str, FieldInfo], FieldInfo | None]:
    """`path` as a person would write it, the fields known where it ends, and the last field on it.

    Pydantic puts the tried member of a union into the path ("list[Part]", "str"): left out.
    """
    shown: list[str] = []
    fields = dict(kind.model_fields)
    members: list[type[BaseModel]] = []
    last = None
    for part in path:
        if part in fields:
            last = fields[part]
            members = models_in(last.annotation)
            fields = dict(members[0].model_fields) if members else {}
        elif not part.isdigit():
            fields = next((dict(m.model_fields) for m in members if m.__name__ == part), fields)
            continue
        shown.append(part)
    return shown, fields, last


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes that a field's annotation names, members of a union in their order."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for arg in get_args(annotation) for model in models_in(arg)]


def bounds(field: FieldInfo) -> list[str]:
    """`> 0`, `< 1`: the field's own constraints."""
    signs = {"gt": ">", "ge": "≥", "lt": "<", "le": "≤"}
    return [
        f"{sign} {getattr(constraint, name)}"
        for name, sign in signs.items()
        for constraint in field.metadata
        if getattr(constraint, name, None) is not None
    ]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
