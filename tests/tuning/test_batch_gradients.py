"""Gradients of micro-batches: as NumPy has them, folded without bias, unscaled under float16."""

import keras
import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny
from tfrecipes.step.plan import StepPlan
from tfrecipes.tuning import batch_gradients
from tfrecipes.tuning.batch_gradients import products
from tfrecipes.tuning.noise_scale import noise_scale

FEATURES = 6


def regression(rng, samples=512, sigma=0.5):
    """x, y of a linear model whose weights are all 0.5 off, and the gradients of its samples."""
    x = rng.standard_normal((samples, FEATURES)).astype("float32")
    error = sigma * rng.standard_normal(samples)
    y = (x @ np.full(FEATURES, 0.5) + error).astype("float32")[:, None]
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros"),
        ]
    )
    model.compile(tfr.SGD(0.0), "mse")
    residual = (0.0 - y[:, 0]).astype(np.float64)
    return model, x, y, 2 * x.astype(np.float64) * residual[:, None]


def parts(size, *arrays):
    count = len(arrays[0]) // size
    for i in range(count):
        cut = [None if a is None else a[i * size : (i + 1) * size] for a in arrays]
        yield tuple(cut + [None] * (3 - len(cut)))


def means(samples, size):
    return samples.reshape(-1, size, samples.shape[-1]).mean(1)


def test_products_are_those_of_numpy():
    model, x, y, samples = regression(np.random.default_rng(0))
    found = products(model, parts(16, x, y), StepPlan())
    g = means(samples, 16)
    np.testing.assert_allclose(found, g @ g.T, rtol=1e-5, atol=1e-5)


def test_the_scale_of_a_model_is_the_one_that_its_data_have():
    # E g = 2 delta, Cov g = 4 ((d + 1) |delta|^2 + d sigma^2): y = x . w* + e as in the scale's test.
    model, x, y, _ = regression(np.random.default_rng(1), samples=4096)
    truth = FEATURES + 1 + FEATURES * 0.25 / (FEATURES * 0.25)
    found = noise_scale(products(model, parts(64, x, y), StepPlan()), 64)
    assert found.low < truth < found.high
    assert found.is_resolved


def test_weights_are_those_of_the_step():
    model, x, y, samples = regression(np.random.default_rng(2))
    weight = np.random.default_rng(3).uniform(0, 2, len(x)).astype("float32")
    found = products(model, parts(16, x, y, weight), StepPlan())
    # Keras divides a weighted loss by the number of samples, and not by the weights' sum.
    g = means(samples * weight[:, None], 16)
    np.testing.assert_allclose(found, g @ g.T, rtol=1e-5, atol=1e-5)


def test_folded_gradients_have_the_same_products_but_for_chance(monkeypatch):
    keras.utils.set_random_seed(0)
    x, y = tiny.data(256)
    model = tiny.dense_model()
    model.compile(tfr.SGD(0.1), tiny.loss())
    exact = products(model, parts(16, x, y), StepPlan())
    monkeypatch.setattr(batch_gradients, "FOLDED", 64)
    folded = [products(model, parts(16, x, y), StepPlan(), seed) for seed in range(24)]
    spread = np.std(folded, axis=0) / np.sqrt(len(folded))
    assert (np.abs(np.mean(folded, axis=0) - exact) < 5 * spread + 1e-6).all()
    size = np.sqrt(2 / 64) * exact.diagonal().mean()
    assert 0.3 * size < np.std(folded, axis=0).mean() < 3 * size


def test_smoothing_is_in_the_gradients():
    x, y = tiny.data(128)
    model = tiny.dense_model()
    model.compile(tfr.SGD(0.1), tiny.loss())
    plain = products(model, parts(16, x, y), StepPlan())
    smooth = products(model, parts(16, x, y), StepPlan(label_smoothing=0.4))
    assert np.abs(plain - smooth).max() > 0.01 * np.abs(plain).max()


def test_under_float16_gradients_are_unscaled_and_an_overflow_halves_the_scale():
    keras.config.set_dtype_policy("mixed_float16")
    x, y = tiny.data(128)
    model = tiny.dense_model()
    keras.config.set_dtype_policy("float32")
    other = tiny.dense_model()
    other.set_weights(model.get_weights())
    other.compile(tfr.SGD(0.1), tiny.loss())
    plain = products(other, parts(16, x, y), StepPlan())
    for initial in (2.0**10, 2.0**24):  # the second overflows
        model.compile(tfr.LossScaleOptimizer(tfr.SGD(0.1), initial_scale=initial), tiny.loss())
        half = products(model, parts(16, x, y), StepPlan())
        np.testing.assert_allclose(half, plain, atol=0.02 * plain.max())


def test_gradients_that_are_not_finite_are_a_sentence():
    model, x, y, _ = regression(np.random.default_rng(4))
    x[20, 0] = np.nan
    with pytest.raises(ValueError, match=r"gradients must be finite.* micro-batch 2"):
        products(model, parts(16, x, y), StepPlan())
