"""Why and when the chains that are still open are cancelled."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atts_core.aggregation import Ballot, aggregate, count
from atts_core.settings import Method
from atts_core.stopping import confidence, decided, needed, stopped
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


@pytest.mark.parametrize(
    ("method", "answers", "still_open", "expected"),
    [
        (Method(), (), 8, 5),
        (Method(), ("1", "1", "1", "1", "2"), 3, 1),
        (Method(), ("1", "2"), 6, 4),
        (Method(), ("1", None), 6, 3),  # against it stand at most as many as are open
        (Method(confidence=0.9), (), 8, 3),
        (Method(stop_after=2), (), 8, 2),
        (NEVER, ("1",), 7, 7),
        (Method(aggregation="best"), ("1",), 7, 7),
    ],
)
def test_as_many_chains_are_needed_as_settle_the_answer_if_they_agree(
    method: Method, answers: tuple[str | None, ...], still_open: int, expected: int
) -> None:
    assert needed(ballots(*answers), still_open, method) == expected


@given(
    st.lists(st.sampled_from(["1", "2", "3", None]), max_size=8),
    st.integers(1, 8),
    st.booleans(),
    st.none() | st.floats(0.6, 0.99),
)
def test_fewer_chains_than_are_needed_settle_nothing(
    answers: list[str | None], still_open: int, consensus: bool, sure: float | None
) -> None:
    method = Method(consensus=consensus, confidence=sure)
    cast = ballots(*answers)
    if stopped(cast, still_open, method) is not None:
        return
    fewest = needed(cast, still_open, method)
    assert 1 <= fewest <= still_open
    for more in range(1, fewest):
        for further in ("1", "2", "3", "4"):
            after = [*cast, *[Ballot(100 + i, further, "", 1.0) for i in range(more)]]
            assert stopped(after, still_open - more, method) is None
