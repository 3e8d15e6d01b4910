"""`name:key=value` on the command line."""

from __future__ import annotations

import pytest

from atts_core.errors import BadInput
from services.evaluation.specs import common_options, policies, split


def test_a_bare_policy_is_its_own_label() -> None:
    (found,) = policies(["target-only"], {"candidates": 8})
    assert (found.label, found.policy, dict(found.options)) == (
        "target-only", "target-only", {"candidates": 8}
    )  # fmt: skip


def test_two_settings_of_one_policy_are_told_apart_by_spec_or_name() -> None:
    found = policies(["atts", "atts:takeover_rate=0.2", "low=atts:takeover_rate=0.1"], {})
    assert [one.label for one in found] == ["atts", "atts:takeover_rate=0.2", "low"]
    assert [one.policy for one in found] == ["atts"] * 3
    assert found[2].options["takeover_rate"] == 0.1


def test_a_policy_s_own_option_counts_more_than_the_common_one() -> None:
    common = common_options(["consensus=false", "takeover_rate=0.3"], candidates=4, turns=None)
    plain, own = policies(["atts", "b=atts:candidates=2,consensus=true"], common)
    assert dict(plain.options) == {"candidates": 4, "consensus": False, "takeover_rate": 0.3}
    assert dict(own.options) == {"candidates": 2, "consensus": True, "takeover_rate": 0.3}


def test_temperature_stands_beside_the_atts_object_and_the_rest_in_it() -> None:
    (policy,) = policies(["atts:temperature=0.3,candidates=2"], {})
    assert policy.body("served", "1+1?", 7) == {
        "model": "served",
        "messages": [{"role": "user", "content": "1+1?"}],
        "temperature": 0.3,
        "atts": {"policy": "atts", "candidates": 2, "seed": 7},
    }


def test_a_path_may_hold_a_colon() -> None:
    assert split("a:b.jsonl") == ("a:b.jsonl", {})
    assert split("a:b.jsonl:answer=gold") == ("a:b.jsonl", {"answer": "gold"})


@pytest.mark.parametrize(
    ("specs", "said"),
    [
        (["best"], "known are: atts"),
        (["atts", "atts"], "NAME=atts"),
        (["atts:rate=0.2"], "rate: unknown name"),
        (["atts:takeover_rate=2"], "takeover_rate: found 2"),
        (["atts:seed=3"], "--seeds sets it"),
        (["atts:events=true"], "the evaluation sets it"),
    ],
)
def test_what_cannot_be_is_refused_by_name(specs: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        policies(specs, {})


def test_a_common_option_needs_a_value() -> None:
    with pytest.raises(BadInput, match="KEY=VALUE"):
        common_options(["consensus"])
