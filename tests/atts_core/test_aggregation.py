import math

import pytest

from atts_core.aggregation import Ballot, aggregate, count
from atts_core.types import Aggregation


def ballot(candidate: int, answer: str | None, nll: float = 1.0) -> Ballot:
    return Ballot(candidate, answer, f"chain {candidate}", nll)


def test_equivalent_answers_vote_together() -> None:
    votes = count([ballot(0, "0.5"), ballot(1, "3"), ballot(2, r"\frac{1}{2}")])
    assert [vote.candidates for vote in votes] == [(0, 2), (1,)]


def test_a_tie_goes_to_the_chain_the_target_finds_most_plausible() -> None:
    assert aggregate([ballot(0, "1", nll=2.0), ballot(1, "2", nll=0.5)]).answer == "2"


def test_the_winner_speaks_through_its_most_plausible_chain() -> None:
    answer = aggregate([ballot(0, "1", 2.0), ballot(1, "1", 0.5), ballot(2, "2", 0.1)])
    assert (answer.text, answer.candidate, answer.agreement) == ("chain 1", 1, 2 / 3)


def test_chains_without_an_answer_lower_the_agreement() -> None:
    assert aggregate([ballot(0, "1"), ballot(1, None)]).agreement == 0.5


def test_without_any_answer_a_text_is_still_given() -> None:
    answer = aggregate([ballot(0, None, 2.0), ballot(1, None, 1.0)])
    assert (answer.answer, answer.agreement, answer.text) == (None, 0.0, "chain 1")


@pytest.mark.parametrize(
    ("how", "winner"), [("majority", "1"), ("weighted", "2"), ("best", "3"), ("first", "4")]
)
def test_each_aggregation_ranks_by_its_own_rule(how: Aggregation, winner: str) -> None:
    ballots = [
        ballot(0, "4", nll=9.0),
        *(ballot(i, "1", nll=2.0) for i in (1, 2, 3)),
        *(ballot(i, "2", nll=0.2) for i in (4, 5)),
        ballot(6, "3", nll=0.1),
    ]
    assert aggregate(ballots, how).answer == winner
    assert {vote.answer for vote in count(ballots, how)} == {"1", "2", "3", "4"}


def test_an_unscored_chain_weighs_nothing() -> None:
    assert aggregate([ballot(0, "1", math.inf), ballot(1, "2", 5.0)], "weighted").answer == "2"
