"""What stopping early saves on the embedded pair (`atts bench stopping`)."""

from __future__ import annotations

import pytest

from benchmarks.stopping import NEEDED, as_table, run

pytestmark = [pytest.mark.serve, pytest.mark.slow, pytest.mark.timeout(900)]


def test_consensus_saves_a_quarter_of_the_tokens_at_equal_majority_accuracy() -> None:
    """Where no chain starts that need not: the pair's chains end nearly together, so that of chains
    that run there is little left to save."""
    found = run(problems=40, seed=1, at_once=4, server=None)
    print("\n" + as_table(found))
    whole, stopped = (found["rules"][name] for name in ("all chains", NEEDED))
    assert stopped["saved"] >= 0.25
    # The same chains vote until the winner is sure: the answers are the same, but for ties.
    assert abs(stopped["majority_accuracy"] - whole["majority_accuracy"]) <= 1 / 40
