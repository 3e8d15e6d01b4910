"""What an evaluation was, in a paragraph: what was asked of whom, how, on what machine, when."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from atts_core.policies import settle
from atts_core.settings import Method

ORDER = (
    "one policy after the other, seed by seed, each seed beginning with the next policy; one "
    "question before each that does not count"
)
RATED = ("atts", "atts-sync", "random-takeover")
"""Policies that a takeover rate is asked of."""


def about(found: Mapping[str, Any]) -> str:
    """A paragraph, and a line for each policy that has a name or options of its own.

    `found` is a summary: the configuration, `asked` by label, and the days of its rows.
    """
    asked = found["asked"]
    common = common_options(asked.values())
    day = found["from"] if found["from"] == found["to"] else f"{found['from']} to {found['to']}"
    facts = [
        f"{found['questions']} questions of `{found['dataset']}`",
        *_method(found["host"], common),
        f"seeds {', '.join(map(str, found['seeds']))}",
        f"{found['at_once']} at once",
        *_who(found["host"]),
        found["machine"],
        f"{day}",
        found["order"],
    ]
    said = "; ".join(facts) + "."
    own = [
        _named(label, one, common) for label, one in asked.items() if _is_own(label, one, common)
    ]
    return "\n\n".join([said, *(["\n".join(own)] if own else [])])


def common_options(asked: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Options that all policies were given alike."""
    first, *others = asked
    return {
        name: value
        for name, value in first.items()
        if name != "policy" and all(name in one and one[name] == value for one in others)
    }


def nominal_rates(
    asked: Mapping[str, Mapping[str, Any]], host: Mapping[str, Any]
) -> dict[str, float]:
    """By label, the takeover rate that was asked for: the request's, else the host's.

    Only of policies that such a rate is asked of; empty where neither says one.
    """
    found: dict[str, float] = {}
    for label, one in asked.items():
        if one["policy"] not in RATED or not ("method" in host or "takeover_rate" in one):
            continue
        base = Method.model_validate(host.get("method", {}))
        wishes = {k: v for k, v in one.items() if k in Method.model_fields}
        if "takeover_rate" in one:
            wishes["takeover_budget"] = None
        found[label] = settle(base, wishes).rate
    return found


def _method(host: Mapping[str, Any], common: Mapping[str, Any]) -> list[str]:
    """m and the takeover rate, where it is known, and what else all were given."""
    method = {**host.get("method", {}), **common}
    said = []
    if "candidates" in method:
        said.append(f"m = {method['candidates']}")
    rate = nominal_rates({"atts": {"policy": "atts", **common}}, host).get("atts")
    if rate is not None:
        said.append(f"nominal takeover rate {rate:g}")
    rest = {k: v for k, v in common.items() if k not in ("candidates", "takeover_rate")}
    return [*said, *([f"all with {_options(rest)}"] if rest else [])]


def _who(host: Mapping[str, Any]) -> list[str]:
    """Whoever answered, and by which versions of what."""
    if "server" in host:
        version = [f"atts {host['version']}"] if "version" in host else []
        return [f"{host['server']}, {host['pair']}", *version]
    models = f"{host['draft']['model']} and {host['target']['model']}, a process each"
    versions = ", ".join(f"{name} {version}" for name, version in host["versions"].items())
    return [models, versions]


def _is_own(label: str, one: Mapping[str, Any], common: Mapping[str, Any]) -> bool:
    return label != one["policy"] or one.keys() - common.keys() > {"policy"}


def _named(label: str, one: Mapping[str, Any], common: Mapping[str, Any]) -> str:
    own = {k: v for k, v in one.items() if k not in ("policy", *common)}
    return f"- `{label}`: `{one['policy']}`" + (f" with {_options(own)}" if own else "")


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} = {_value(value)}" for name, value in options.items())


def _value(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
