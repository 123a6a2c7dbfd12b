"""Doubling, bisection and the line through two peaks: the answer is always a try."""

import numpy as np
import pytest

from tfrecipes.tuning.batch_search import Tried, above, found, grid, largest_that_fits

GB = 10**9


def linear(base, per_sample, limit, noise=0.0, seed=0):
    """A process that takes `base` and so many bytes a sample, more or less."""
    rng = np.random.default_rng(seed)

    def attempt(size):
        peak = int(base + per_sample * size + noise * rng.uniform(-1, 1))
        fits = peak <= limit
        return Tried(size, fits, peak, 1.0, "" if fits else "stopped")

    return attempt


def test_the_grid_is_a_sixteenth_and_every_step_is_on_it():
    for size in range(1, 5000):
        on_grid = grid(size)
        assert on_grid <= size < above(size) <= size + max(1, size // 16)
        assert grid(on_grid) == on_grid
        assert grid(above(size)) == above(size)
        assert size > 32 or on_grid == size


@pytest.mark.parametrize("start", [1, 7, 64, 4096])
@pytest.mark.parametrize("limit", [None, 4 * GB])
def test_it_ends_with_a_size_that_fits_and_the_next_that_does_not(start, limit):
    rng = np.random.default_rng(start)
    for case in range(100):
        per_sample = 10 ** rng.uniform(4, 9)
        attempt = linear(0.9 * GB, per_sample, 4 * GB, noise=rng.choice([0, 3e7]), seed=case)
        tries = largest_that_fits(attempt, start=start, largest=50_000, limit=limit)
        best, beyond = found(tries)
        assert len({one.size for one in tries}) == len(tries), "no size is tried twice"
        assert max(one.size for one in tries) <= 50_000
        if best is None:
            assert beyond.size == 1
        elif beyond is None:
            assert best.size == 50_000
        else:
            assert best.size < beyond.size <= above(best.size)


def test_the_line_saves_tries_and_never_answers():
    counts = {}
    for limit in (None, 4 * GB):
        attempts = [linear(0.9 * GB, 10**power, 4 * GB) for power in (5, 5.5, 6, 6.5, 7)]
        tries = [largest_that_fits(attempt, start=64, limit=limit) for attempt in attempts]
        counts[limit] = sum(map(len, tries))
        for one in tries:
            best, _ = found(one)
            assert best in one
    assert counts[4 * GB] < 0.7 * counts[None]


def test_a_line_that_misleads_costs_tries_and_not_the_answer():
    def attempt(size):  # a cliff where the line sees none
        fits = size <= 1000
        return Tried(size, fits, int(GB + 1e5 * size) if fits else None, 1.0)

    tries = largest_that_fits(attempt, start=8, limit=100 * GB)
    best, beyond = found(tries)
    assert (best.size, beyond.size) == (992, 1024)
    assert len(tries) <= 14


def test_without_a_fit_it_ends_at_1():
    tries = largest_that_fits(lambda size: Tried(size, False, None, 1.0), start=24)
    assert [one.size for one in tries] == [24, 12, 6, 3, 1]
    assert found(tries)[0] is None


def test_the_bound_is_tried_itself_and_nothing_above_it():
    tries = largest_that_fits(linear(0, 1, 10**12), start=64, largest=1797, limit=10**12)
    assert found(tries) == (tries[-1], None)
    assert tries[-1].size == 1797
    assert [one.size for one in largest_that_fits(linear(0, 1, 9), start=64, largest=3)] == [3]


def test_tries_are_bounded():
    tries = largest_that_fits(lambda size: Tried(size, True, None, 1.0), most=5)
    assert [one.size for one in tries] == [1, 2, 4, 8, 16]
