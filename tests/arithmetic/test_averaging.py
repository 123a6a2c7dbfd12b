"""The averages' recursion against float64 and TensorFlow's ExponentialMovingAverage."""

import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.arithmetic.averaging import averaged, ema_coefficient, mean_coefficient

STEPS = 60


def path(scale=1.0):
    rng = np.random.default_rng(1)
    return (scale * rng.standard_normal((STEPS, 5)).cumsum(0)).astype("float32")


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64])
@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999, 0.9999])
def test_the_ramp_is_its_formula_and_never_passes_decay(dtype, decay):
    n = np.array([0, 1, 8, 80, 8989, 89989, 10**7])
    have = [float(ema_coefficient(tf.constant(k, dtype), decay, True)) for k in n]
    np.testing.assert_allclose(have, np.minimum(decay, (1 + n) / (10 + n)), rtol=2e-7)
    assert max(have) <= np.float32(decay)
    assert float(ema_coefficient(tf.constant(0, dtype), decay, False)) == np.float32(decay)


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_is_the_recursion_in_float64_and_tensorflows_own(warmup):
    points = path()
    start = np.ones(5, "float32")
    ours, want = [tf.constant(start)], start.astype("float64")
    variable = tf.Variable(start)
    twin_step = tf.Variable(0)
    twin = tf.train.ExponentialMovingAverage(0.9, num_updates=twin_step if warmup else None)
    twin.apply([variable])  # makes the shadow, of the weights before the first update
    for n, w in enumerate(points):
        c = ema_coefficient(tf.constant(n), 0.9, warmup)
        ours = averaged(ours, [tf.constant(w)], c)
        d = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
        want = d * want + (1 - d) * w
        variable.assign(w)
        twin_step.assign(n)
        twin.apply([variable])
    np.testing.assert_allclose(ours[0], want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[0], twin.average(variable), rtol=1e-5, atol=1e-6)


def test_the_mean_is_the_mean_and_its_first_point_replaces_what_was_there():
    points = path()
    a = [tf.fill((5,), 1e30)]
    for n, w in enumerate(points):
        a = averaged(a, [tf.constant(w)], mean_coefficient(tf.constant(n, tf.int64)))
        np.testing.assert_allclose(a[0], points[: n + 1].mean(0, np.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("value", [2e-38, 1e-8, 0.1, 1 / 3, 1e30])
@pytest.mark.parametrize("c", [0.0, 0.1, 0.9, 0.9999, 1.0])
def test_an_average_that_equals_the_weights_stays_equal_to_the_bit(value, c):
    w = tf.constant([value, -value], tf.float32)
    (moved,) = averaged([w], [w], tf.constant(c))
    assert np.array_equal(moved, w)


def test_c_0_gives_the_weights_and_c_1_keeps_the_average():
    a, w = tf.constant([1.0, -2.0]), tf.constant([0.1, 0.3])
    assert np.array_equal(averaged([a], [w], tf.constant(0.0))[0], w)
    np.testing.assert_allclose(averaged([a], [w], tf.constant(1.0))[0], a, rtol=1e-6)


def test_16_bit_values_are_averaged_in_float32():
    a = tf.ones((3,))
    w = tf.fill((3,), tf.constant(1 + 2**-7, tf.bfloat16))
    (moved,) = averaged([a], [w], tf.constant(0.999))
    assert moved.dtype == tf.float32
    np.testing.assert_allclose(moved, 1 + 2**-7 * 1e-3, rtol=1e-7)


def test_lists_of_unequal_length_are_an_error():
    with pytest.raises(ValueError, match="zip"):
        averaged([tf.ones(1)], [], tf.constant(0.5))
