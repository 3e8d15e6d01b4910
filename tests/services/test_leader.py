"""Who speaks while the candidates run, and what of it readers have seen."""

from __future__ import annotations

from atts_core import events
from atts_core.acceptance import Decision
from atts_core.types import EngineCost
from services.leader import Leader, Said

NOTHING = EngineCost()


def written(candidate: int, text: str) -> events.SegmentWritten:
    return events.SegmentWritten(0.0, candidate, 0, "target", text, len(text), "stop", 0.0, NOTHING)


def drafted(candidate: int, text: str) -> events.SegmentDrafted:
    return events.SegmentDrafted(0.0, candidate, 0, text, len(text), "stop", 0.0, NOTHING)


def decided(candidate: int, *, taken_over: bool) -> events.Decided:
    decision = Decision(
        taken_over=taken_over,
        p_value=0.5,
        p_smoothed=0.5,
        bank="b",
        bank_size=1,
        coverage="marginal",
        cold=False,
        threshold=0.5,
        coin=0.5,
    )
    return events.Decided(0.0, candidate, 0, decision)


def judged(candidate: int, *, accepted: bool) -> events.StepJudged:
    grade = 9 if accepted else 1
    return events.StepJudged(0.0, candidate, 0, str(grade), grade, accepted, 1, 0.0, NOTHING)


def ended(candidate: int, answer: str | None, how: events.Ending = "answered") -> events.Event:
    return events.CandidateFinished(0.0, candidate, how, answer, 1, 0, 1)


def voted(candidate: int, *classes: tuple[str, tuple[int, ...]]) -> events.Voted:
    standings = (events.Standing(answer, of, len(of), of[0]) for answer, of in classes)
    return events.Voted(0.0, candidate, tuple(standings))


def test_the_first_with_something_to_say_leads_and_the_others_are_not_shown() -> None:
    leader = Leader()
    assert leader.follow(written(2, "a ")) == Said(2, "a ", changed=False)
    assert leader.follow(written(0, "other ")) is None
    assert leader.follow(written(2, "b ")) == Said(2, "b ", changed=False)


def test_a_draft_is_shown_when_it_is_accepted_or_taken_over() -> None:
    leader = Leader()
    assert leader.follow(drafted(0, "one ")) is None
    assert leader.follow(decided(0, taken_over=False)) == Said(0, "one ", changed=False)
    leader.follow(drafted(0, "bad "))
    assert leader.follow(decided(0, taken_over=True)) is None
    taken = events.TakenOver(0.0, 0, 1, "Check. ", "good ", 1, False, 0.0, 0.0, NOTHING)
    assert leader.follow(taken) == Said(0, "bad Check. good ", changed=False)


def test_a_replaced_segment_is_never_shown() -> None:
    leader = Leader()
    leader.follow(drafted(0, "bad "))
    leader.follow(decided(0, taken_over=True))
    taken = events.TakenOver(0.0, 0, 1, "", "good ", 1, True, 0.0, 0.0, NOTHING)
    assert leader.follow(taken) == Said(0, "good ", changed=False)


def test_a_chain_that_fails_hands_over_to_the_longest_that_runs() -> None:
    leader = Leader()
    leader.follow(written(0, "a "))
    leader.follow(written(1, "b "))
    leader.follow(written(2, "longer "))
    assert leader.follow(ended(0, None, "failed")) == Said(2, "longer ", changed=True)


def test_a_leader_the_vote_does_not_favour_hands_over() -> None:
    leader = Leader()
    for candidate, text in ((0, "wrong "), (1, "right "), (2, "right too ")):
        leader.follow(written(candidate, text))
    assert leader.follow(ended(0, "1")) is None
    assert leader.follow(voted(0, ("1", (0,)))) is None
    assert leader.follow(ended(1, "2")) is None
    assert leader.follow(voted(1, ("1", (0,)), ("2", (1,)))) is None
    assert leader.follow(ended(2, "2.0")) is None
    assert leader.follow(voted(2, ("2", (1, 2)), ("1", (0,)))) == Said(1, "right ", changed=True)


def test_a_leader_whose_answer_is_not_counted_yet_stays() -> None:
    leader = Leader()
    leader.follow(written(0, "so "))
    leader.follow(written(1, "right "))
    leader.follow(ended(1, "2"))
    leader.follow(voted(1, ("2", (1,))))
    assert leader.follow(ended(0, r"\frac{4}{2}")) is None
    assert leader.follow(voted(0, ("2", (1, 0)))) is None


def test_an_answer_is_kept_for_the_end() -> None:
    leader = Leader()
    leader.follow(written(0, "so "))
    assert leader.follow(written(0, r"\boxed{2}")) is None
    assert leader.rest(r"so \boxed{2}") == r"\boxed{2}"


def test_a_step_is_shown_when_it_was_found_good() -> None:
    leader = Leader()
    leader.follow(drafted(0, "poor "))
    assert leader.follow(judged(0, accepted=False)) is None
    taken_over = events.TakenOver(0.0, 0, 0, "", "good ", 5, True, 0.0, 0.0, NOTHING)
    assert leader.follow(taken_over) == Said(0, "good ", changed=False)
    leader.follow(drafted(0, "fine "))
    assert leader.follow(judged(0, accepted=True)) == Said(0, "fine ", changed=False)


def test_a_chain_that_its_policy_stopped_hands_over() -> None:
    leader = Leader()
    leader.follow(written(0, "one "))
    leader.follow(written(1, "two "))
    assert leader.follow(ended(0, None, "stopped")) == Said(1, "two ", changed=True)


def test_of_a_stop_string_nothing_is_shown_even_where_two_segments_share_it() -> None:
    leader = Leader(("END",))
    said = [leader.follow(written(0, text)) for text in ("one E", "ven EN", "D two")]
    assert "".join(one.text for one in said if one is not None) == "one Even "
