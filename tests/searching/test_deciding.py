import numpy as np
import pytest
from scipy import stats

from tfrecipes.searching.deciding import START, Contest, Interval

NOISE = np.random.default_rng(0).normal(size=(4, 20))


def played(contest, score):
    """Trains what is wanted until nothing is."""
    scores, rounds = {}, 0
    while wanted := contest.wanted(scores):
        rounds += 1
        assert rounds < 50
        # One at a time, as workers hand them in.
        scores[wanted[0]] = score(*wanted[0])
    return scores


def noisy(means, spread):
    names = [*means]
    return lambda name, n: means[name] + spread * NOISE[names.index(name), n]


def test_the_interval_is_student_s_t():
    values = [1.0, 2.0, 4.0, 3.0]
    expected = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    got = Interval.of(values)
    np.testing.assert_allclose((got.low, got.high), expected)
    assert (got.mean, got.n) == (2.5, 4)


def test_differences_above_the_noise_take_three_seeds_each():
    contest = Contest("min", ("0", "1"), 8)
    scores = played(contest, noisy({"0": 0.5, "1": 0.7, START: 1.0}, 0.001))
    assert len(scores) == 9
    assert contest.winner(scores) == "0"
    gain = contest.gain("0", START, scores)
    assert gain.n == 3
    assert 0.49 < gain.low < gain.mean < gain.high < 0.51


def test_noise_above_the_differences_takes_more_up_to_the_bound():
    contest = Contest("min", ("0", "1"), 8)
    scores = played(contest, noisy({"0": 0.5, "1": 0.5, START: 0.5}, 0.1))
    assert len(scores) == 24
    assert contest.gain("0", "1", scores).low <= 0


def test_who_is_beaten_is_trained_no_more_but_the_start_is():
    contest = Contest("max", ("0", "1", "2"), 6)
    means = {"0": 0.900, "1": 0.899, "2": 0.1, START: 0.5}
    scores = played(contest, noisy(means, 0.01))
    count = {name: sum(n == name for n, _ in scores) for name in means}
    assert count == {"0": 6, "1": 6, "2": 3, START: 6}


def test_the_luckiest_trial_need_not_win():
    contest = Contest("min", ("lucky", "good"), 4)
    scores = played(contest, noisy({"lucky": 0.9, "good": 0.5, START: 1.0}, 0.01))
    assert contest.winner(scores) == "good"


def test_the_start_is_kept_only_where_it_is_better_beyond_noise():
    contest = Contest("min", ("0",), 6)
    clear = played(contest, noisy({"0": 1.0, START: 0.5}, 0.01))
    assert contest.winner(clear) == START
    close = played(contest, noisy({"0": 0.51, START: 0.5}, 0.2))
    assert contest.winner(close) == "0"


def test_a_finalist_that_crashes_with_another_seed_cannot_win():
    contest = Contest("min", ("0", "1"), 3)
    means = noisy({"0": 0.1, "1": 0.5, START: 1.0}, 0.01)
    scores = played(contest, lambda name, n: None if (name, n) == ("0", 2) else means(name, n))
    assert ("0", 3) not in scores
    assert contest.winner(scores) == "1"


def test_a_start_that_crashes_leaves_the_improvement_open():
    contest = Contest("min", ("0", "1"), 3)
    means = noisy({"0": 0.1, "1": 0.5, START: 1.0}, 0.01)
    scores = played(contest, lambda name, n: None if name == START else means(name, n))
    assert contest.winner(scores) == "0"
    assert contest.gain("0", START, scores) is None


@pytest.mark.parametrize("repeats", [0, 2])
def test_few_or_no_repeats(repeats):
    contest = Contest("min", ("0", "1"), repeats)
    scores = played(contest, noisy({"0": 0.1, "1": 0.5, START: 1.0}, 0.0))
    assert len(scores) == 3 * repeats
    assert contest.winner(scores) == "0"
    assert (contest.gain("0", START, scores) is None) == (repeats == 0)
