from hypothesis import given
from hypothesis import strategies as st

from atts_core.allowance import Allowance


def test_without_a_cap_everything_is_granted() -> None:
    with Allowance(None).of(500) as grant:
        assert grant.tokens == 500


def test_what_is_not_used_comes_back() -> None:
    allowance = Allowance(10)
    with allowance.of(8) as grant:
        grant.used = 3
    with allowance.of(100) as grant:
        assert grant.tokens == 7


def test_a_request_that_ends_without_a_word_has_used_all_it_was_granted() -> None:
    allowance = Allowance(10)
    with allowance.of(10):
        pass
    assert allowance.spent


@given(st.integers(1, 50), st.lists(st.tuples(st.integers(0, 20), st.floats(0, 1)), max_size=20))
def test_requests_never_use_more_than_the_cap_together(
    cap: int, requests: list[tuple[int, float]]
) -> None:
    allowance, used = Allowance(cap), 0
    for wanted, share in requests:
        with allowance.of(wanted) as grant:
            grant.used = int(grant.tokens * share)
            used += grant.used
    assert used <= cap
