import numpy as np
import pytest
from scipy.stats import qmc

from tfrecipes.searching import points

SEQUENCES = ("sobol", "halton")


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_a_point_is_a_function_of_seed_and_number_alone(sequence):
    forwards = [points.point(sequence, 3, i, 4) for i in range(40)]
    points._points.cache_clear()
    backwards = [points.point(sequence, 3, i, 4) for i in reversed(range(40))]
    np.testing.assert_array_equal(forwards, backwards[::-1])
    assert ((np.array(forwards) >= 0) & (np.array(forwards) < 1)).all()


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_another_seed_is_another_sequence_and_other_points_differ(sequence):
    many = np.array([points.point(sequence, seed, i, 2) for seed in range(3) for i in range(16)])
    assert len(np.unique(many, axis=0)) == 48


@pytest.mark.parametrize("sequence", SEQUENCES)
@pytest.mark.parametrize("wide", [3, 17, 40])
def test_dimensions_that_come_later_leave_the_first_as_they_were(sequence, wide):
    for i in (0, 5, 70):
        narrow = points.point(sequence, 0, i, 2)
        np.testing.assert_array_equal(narrow, points.point(sequence, 0, i, wide)[:2])


@pytest.mark.parametrize("sequence", SEQUENCES)
def test_sixteen_points_lie_more_evenly_than_random_ones(sequence):
    def unevenness(draw):
        return np.mean([qmc.discrepancy(draw(seed)) for seed in range(20)])

    ours = unevenness(lambda s: [points.point(sequence, s, i, 3) for i in range(16)])
    random = unevenness(lambda s: np.random.default_rng(s).random((16, 3)))
    assert ours < 0.6 * random
