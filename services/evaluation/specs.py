"""`name:key=value,key=value`: how policies and datasets are asked for on the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import Field

from atts_core.errors import BadInput
from atts_core.policies import POLICIES
from atts_core.settings import validated
from services.wire import AttsOptions

_SPEC = re.compile(r"(?P<name>.*?)(?::(?P<options>\w+=[^,]*(?:,\w+=[^,]*)*))?", re.DOTALL)
_LABEL = re.compile(r"(?P<label>[^=:]+)=(?P<spec>.+)", re.DOTALL)

OF_THE_REQUEST = ("temperature", "top_p", "max_tokens")
"""Options that OpenAI's request has a field for; all others are of its `atts` object."""
OURS = ("policy", "seed", "events")
"""Fields of the `atts` object that an evaluation sets itself."""


class Options(AttsOptions):
    """What a policy may be given: the `atts` object, and what a request says beside it."""

    temperature: float | None = Field(None, ge=0, le=2)
    top_p: float | None = Field(None, gt=0, le=1)
    max_tokens: int | None = Field(None, ge=1)


@dataclass(frozen=True, slots=True)
class PolicySpec:
    """One policy with its options, under the label that tables and plots show."""

    label: str
    policy: str
    options: Mapping[str, Any]

    def body(self, model: str, question: str, seed: int) -> dict[str, Any]:
        """The chat request that asks `question` of the served `model` in this way."""
        beside = {k: v for k, v in self.options.items() if k in OF_THE_REQUEST}
        inside = {k: v for k, v in self.options.items() if k not in OF_THE_REQUEST}
        return {
            "model": model,
            "messages": [{"role": "user", "content": question}],
            **beside,
            "atts": {"policy": self.policy, **inside, "seed": seed},
        }


def split(spec: str) -> tuple[str, dict[str, Any]]:
    """The name and the options of `name:key=value,…`; values read as YAML reads them."""
    found = _SPEC.fullmatch(spec)
    assert found is not None
    pairs = (pair.partition("=") for pair in (found["options"] or "").split(",") if pair)
    return found["name"], {key: _value(text) for key, _, text in pairs}


def _value(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text


def policies(specs: Sequence[str], common: Mapping[str, Any]) -> list[PolicySpec]:
    """The policies asked for, in their order; each policy's own options count more than `common`.

    Raises `BadInput` for a policy or an option that is not known, and for a label used twice.
    """
    found = [_policy(spec, common) for spec in specs]
    labels = [one.label for one in found]
    for label in labels:
        if labels.count(label) > 1:
            raise BadInput(
                f"--policy: {label!r} is there twice; give one of them a name of its own: "
                f"NAME={label}",
                field="policy",
            )
    return found


def _policy(spec: str, common: Mapping[str, Any]) -> PolicySpec:
    named = _LABEL.fullmatch(spec)
    # `atts:consensus=false` has its first `=` behind the colon, and is its own label.
    label, rest = (named["label"], named["spec"]) if named else (spec, spec)
    policy, own = split(rest)
    if policy not in POLICIES:
        raise BadInput(
            f"--policy: found {policy!r}; known are: {', '.join(POLICIES)}, each also as "
            "NAME=POLICY:option=value,option=value",
            field="policy",
        )
    return PolicySpec(label, policy, checked({**common, **own}, policy))


def checked(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options as a request may have them, or `BadInput` that names the one at fault."""
    for name in OURS:
        if name in options:
            raise BadInput(
                f"{where}: {name} is not an option of a policy; "
                + ("--seeds sets it" if name == "seed" else "the evaluation sets it"),
                field=name,
            )
    return validated(Options, dict(options), where=where).model_dump(
        exclude_none=True, exclude=set(OURS)
    )


def common_options(pairs: Sequence[str], **named: Any) -> dict[str, Any]:
    """`key=value` options for all policies, and those that have a name on the command line."""
    options: dict[str, Any] = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals:
            raise BadInput(f"--option: found {pair!r}; KEY=VALUE is needed", field="option")
        options[key] = _value(text)
    return {**options, **{k: v for k, v in named.items() if v is not None}}
