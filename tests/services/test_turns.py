"""Who is refused is told when to come back: each a little later than the one before."""

from __future__ import annotations

import pytest

from services.turns import LONGEST, Turns


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_turns_are_as_far_apart_as_places_become_free(clock: Clock) -> None:
    turns = Turns(4, clock)
    for _ in range(200):
        turns.ended(8.0)
    waits = [turns.wait() for _ in range(3)]
    assert waits == pytest.approx([2.0, 4.0, 6.0], rel=1e-3)


def test_time_that_passes_brings_turns_nearer(clock: Clock) -> None:
    turns = Turns(1, clock)
    first, second = turns.wait(), turns.wait()
    assert second > first
    clock.now += second
    assert turns.wait() == pytest.approx(first)


def test_nobody_is_sent_away_for_longer_than_the_longest(clock: Clock) -> None:
    turns = Turns(1, clock)
    assert max(turns.wait() for _ in range(1000)) == LONGEST
    clock.now += 1.0
    assert turns.wait() == LONGEST


def test_questions_that_are_answered_faster_shorten_the_wait(clock: Clock) -> None:
    slow, fast = Turns(2, clock), Turns(2, clock)
    for _ in range(20):
        slow.ended(10.0)
        fast.ended(1.0)
    assert fast.wait() < slow.wait()
