from itertools import product

from atts_core.randomness import coin, fresh_seed, sampling_seed


def test_every_request_of_a_run_draws_from_its_own_stream() -> None:
    seeds = [
        sampling_seed(seed, candidate, turn, purpose)
        for seed, candidate, turn, purpose in product(
            (0, 1), range(8), range(8), ("draft", "takeover")
        )
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_coin_is_the_seed_s_and_nothing_else_s() -> None:
    assert coin(7, 3, 2) == coin(7, 3, 2)
    assert coin(7, 3, 2) != coin(8, 3, 2)
    coins = [coin(7, c, t) for c in range(100) for t in range(100)]
    assert 0.48 < sum(coins) / len(coins) < 0.52


def test_a_fresh_seed_is_small_enough_to_copy() -> None:
    assert 0 <= fresh_seed() < 2**32
