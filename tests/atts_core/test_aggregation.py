from hypothesis import given
from hypothesis import strategies as st

from atts_core.aggregation import Ballot, count, decided, majority


def ballot(candidate: int, answer: str | None, nll: float = 1.0) -> Ballot:
    return Ballot(candidate, answer, f"chain {candidate}", nll)


def test_equivalent_answers_vote_together() -> None:
    votes = count([ballot(0, "0.5"), ballot(1, "3"), ballot(2, r"\frac{1}{2}")])
    assert [vote.candidates for vote in votes] == [(0, 2), (1,)]


def test_a_tie_goes_to_the_chain_the_target_finds_most_plausible() -> None:
    assert majority([ballot(0, "1", nll=2.0), ballot(1, "2", nll=0.5)]).answer == "2"


def test_the_winner_speaks_through_its_most_plausible_chain() -> None:
    answer = majority([ballot(0, "1", 2.0), ballot(1, "1", 0.5), ballot(2, "2", 0.1)])
    assert (answer.text, answer.candidate, answer.agreement) == ("chain 1", 1, 2 / 3)


def test_chains_without_an_answer_lower_the_agreement() -> None:
    assert majority([ballot(0, "1"), ballot(1, None)]).agreement == 0.5


def test_without_any_answer_a_text_is_still_given() -> None:
    answer = majority([ballot(0, None, 2.0), ballot(1, None, 1.0)])
    assert (answer.answer, answer.agreement, answer.text) == (None, 0.0, "chain 1")


def test_a_lead_that_open_chains_could_only_tie_is_not_decided() -> None:
    ballots = [ballot(0, "1"), ballot(1, "1")]
    assert not decided(ballots, still_open=2)
    assert decided(ballots, still_open=1)


@given(
    st.lists(st.sampled_from(["1", "2", "3", None]), max_size=8),
    st.lists(st.sampled_from(["1", "2", "3", "4", None]), max_size=5),
)
def test_what_is_decided_no_further_votes_can_change(
    given_votes: list[str | None], further: list[str | None]
) -> None:
    ballots = [ballot(i, a) for i, a in enumerate(given_votes)]
    if decided(ballots, len(further)):
        later = [ballot(100 + i, a, nll=0.0) for i, a in enumerate(further)]
        assert majority(ballots + later).answer == majority(ballots).answer
