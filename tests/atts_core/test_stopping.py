"""Why and when the chains that are still open are cancelled."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.aggregation import Ballot, aggregate, count
from atts_core.settings import Method
from atts_core.stopping import confidence, decided, stopped
from atts_core.types import Aggregation

NEVER = Method(consensus=False)
HOWS: tuple[Aggregation, ...] = ("majority", "weighted", "first")


def ballots(*answers: str | None, nll: float = 1.0) -> list[Ballot]:
    return [Ballot(i, answer, "", nll) for i, answer in enumerate(answers)]


def test_a_lead_that_open_chains_could_only_tie_is_not_decided() -> None:
    votes = count(ballots("1", "1"))
    assert not decided(votes, still_open=2)
    assert decided(votes, still_open=1)


@given(
    st.sampled_from(HOWS),
    st.lists(st.tuples(st.sampled_from(["1", "2", "3", None]), st.floats(0, 5)), max_size=8),
    st.lists(st.tuples(st.sampled_from(["1", "2", "4", None]), st.floats(0, 5)), max_size=5),
)
def test_what_is_decided_no_further_votes_can_change(
    how: Aggregation,
    before: list[tuple[str | None, float]],
    further: list[tuple[str | None, float]],
) -> None:
    cast = [Ballot(i, answer, "", nll) for i, (answer, nll) in enumerate(before)]
    later = [Ballot(100 + i, answer, "", nll) for i, (answer, nll) in enumerate(further)]
    if decided(count(cast, how), len(later), how):
        assert aggregate(cast + later, how).answer == aggregate(cast, how).answer


def test_the_most_plausible_chain_may_always_be_the_next() -> None:
    assert not decided(count(ballots("1"), "best"), 1, "best")


@pytest.mark.parametrize(
    ("answers", "expected"), [((), 0.0), (("1",), 0.75), (("1", "1"), 0.875), (("1", "2"), 0.5)]
)
def test_confidence_is_the_beta_tail(answers: tuple[str, ...], expected: float) -> None:
    assert confidence(count(ballots(*answers))) == pytest.approx(expected)


def test_confidence_agrees_with_draws_from_the_posterior() -> None:
    draw = random.Random(1)
    wins = sum(draw.betavariate(4 + 1, 2 + 1) > 0.5 for _ in range(100_000))
    assert confidence(count(ballots("1", "1", "1", "1", "2", "2"))) == pytest.approx(
        wins / 100_000, abs=0.006
    )


def test_a_leader_that_others_outnumber_is_not_sure() -> None:
    cast = [*ballots("1", "1", "1"), Ballot(3, "2", "", nll=0.1)]
    votes = count(cast, "best")
    assert votes[0].answer == "2"
    assert confidence(votes) < 0.5


def test_the_beta_stop_asks_for_its_confidence() -> None:
    method = NEVER.model_copy(update={"confidence": 0.9})
    assert stopped(ballots("1", "1"), 6, method) is None
    assert stopped(ballots("1", "1", "1"), 5, method) == "confidence"


def test_chains_without_an_answer_do_not_count_as_answered() -> None:
    method = NEVER.model_copy(update={"stop_after": 2})
    assert stopped(ballots("1", None, None), 5, method) is None
    assert stopped(ballots("1", None, "2"), 5, method) == "count"


def test_without_any_rule_all_chains_go_on() -> None:
    assert stopped(ballots("1", "1", "1", "1"), 1, NEVER) is None
