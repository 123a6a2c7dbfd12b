"""The noise scale against gradients whose covariance is known, and its interval's honesty."""

import numpy as np
import pytest

from tfrecipes.tuning.noise_scale import noise_scale


class Regression:
    """y = x . w* + e with x ~ N(0, 1): at w = w* + delta a sample's gradient is x (x . delta - e).

    Its mean is delta, and the trace of its covariance (d + 1) |delta|^2 + d sigma^2.
    """

    def __init__(self, features, sigma):
        self.features, self.sigma = features, sigma
        self.truth = features + 1 + features * sigma**2

    def products(self, rng, micro_batches, size):
        x = rng.standard_normal((micro_batches, size, self.features))
        residual = x[..., 0] - self.sigma * rng.standard_normal((micro_batches, size))
        gradients = (x * residual[..., None]).mean(1)
        return gradients @ gradients.T


def test_it_is_the_papers_formula_at_two_batch_sizes():
    rng = np.random.default_rng(0)
    gradients = rng.standard_normal((12, 7)) + 0.5
    small, big = 8, 8 * 12
    squares = (gradients**2).sum(1).mean()
    square_of_mean = (gradients.mean(0) ** 2).sum()
    norm = (big * square_of_mean - small * squares) / (big - small)
    trace = (squares - square_of_mean) / (1 / small - 1 / big)
    found = noise_scale(gradients @ gradients.T, small)
    assert found.squared_norm == pytest.approx(norm, rel=1e-12)
    assert found.trace == pytest.approx(trace, rel=1e-12)
    assert found.value == pytest.approx(trace / norm, rel=1e-12)


# Well resolved, at the limit of what so many samples tell, and beyond it.
@pytest.mark.parametrize(
    ("features", "sigma", "size", "least"),
    [(5, 1.0, 8, 0.92), (20, 0.3, 16, 0.92), (20, 3.0, 16, 0.92), (20, 10.0, 16, 0.92)],
)
def test_the_interval_holds_the_truth_as_often_as_it_says(features, sigma, size, least):
    problem, rng = Regression(features, sigma), np.random.default_rng(1)
    repeats = 300
    found = [noise_scale(problem.products(rng, 64, size), size) for _ in range(repeats)]
    held = sum(one.low <= problem.truth <= one.high for one in found)
    # Two standard errors below 95 % of 300.
    assert held / repeats > least
    if sigma < 1:
        assert all(one.is_resolved for one in found)
        assert held / repeats < 0.99, "no wider than it must be"
        assert np.mean([one.value for one in found]) == pytest.approx(problem.truth, rel=0.03)


def test_numerator_and_denominator_are_without_bias():
    problem, rng = Regression(10, 1.0), np.random.default_rng(2)
    found = [noise_scale(problem.products(rng, 16, 4), 4) for _ in range(2000)]
    norms = np.array([one.squared_norm for one in found])
    traces = np.array([one.trace for one in found])
    for values, truth in ((norms, 1.0), (traces, problem.truth)):
        assert abs(values.mean() - truth) < 4 * values.std() / np.sqrt(len(values))


def test_noise_alone_has_no_upper_end():
    rng = np.random.default_rng(3)
    open_ended = 0
    for _ in range(100):
        gradients = rng.standard_normal((32, 30))  # the true gradient is 0
        found = noise_scale(gradients @ gradients.T, 16)
        open_ended += found.high == np.inf
        assert 0 <= found.low <= found.high
        assert found.low > 16, "it is known not to be small"
    assert open_ended > 90


def test_no_noise_is_a_scale_of_0():
    gradients = np.ones((10, 3))
    found = noise_scale(gradients @ gradients.T, 4)
    assert (found.value, found.low, found.high) == pytest.approx((0, 0, 0), abs=1e-12)


def test_more_samples_make_the_interval_narrower():
    problem, rng = Regression(20, 1.0), np.random.default_rng(4)
    few = noise_scale(problem.products(rng, 16, 8), 8)
    many = noise_scale(problem.products(rng, 128, 64), 64)
    assert many.high / many.low < few.high / few.low


@pytest.mark.parametrize("shape", [(7, 7), (8, 9), (8,)])
def test_too_few_products_are_refused(shape):
    with pytest.raises(ValueError, match=r"noise_scale: `products` must be \(m, m\)"):
        noise_scale(np.ones(shape), 4)


def test_products_that_are_not_finite_are_refused():
    bad = np.ones((8, 8))
    bad[2, 3] = np.nan
    with pytest.raises(ValueError, match="must be finite"):
        noise_scale(bad, 4)
