"""Norms and clips against float64 and TensorFlow's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.arithmetic import norms

SHAPES = [(), (1,), (7,), (3, 5), (2, 3, 4)]
# A float32 sum of 50 squares: a few ulp.
ULPS = 1e-6


def draw(seed=0, scale=1.0):
    rng = np.random.default_rng(seed)
    return [np.asarray(scale * rng.standard_normal(shape), "float32") for shape in SHAPES]


def norm64(tensors):
    return np.sqrt(sum(np.sum(np.float64(t) ** 2) for t in tensors))


@pytest.mark.parametrize("scale", [1e-12, 1e-4, 1.0, 1e4, 1e15])
def test_the_global_norm_is_that_of_all_tensors_together(scale):
    tensors = draw(scale=scale)
    have = norms.global_norm([tf.constant(t) for t in tensors])
    np.testing.assert_allclose(have, norm64(tensors), rtol=ULPS)
    np.testing.assert_allclose(have, tf.linalg.global_norm(tensors), rtol=ULPS)
    assert have.dtype == tf.float32


def test_a_missing_gradient_counts_nothing_and_no_gradient_at_all_has_norm_0():
    tensors = draw()
    assert float(norms.global_norm([None, *tensors, None])) == float(norms.global_norm(tensors))
    assert float(norms.global_norm([])) == float(norms.global_norm([None])) == 0.0
    assert norms.scaled([None, tf.ones(2)], tf.constant(2.0))[0] is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_one_bad_element_anywhere_makes_the_norm_not_finite(bad):
    for place in range(len(SHAPES)):
        tensors = draw()
        tensors[place].reshape(-1)[-1] = bad
        assert not np.isfinite(norms.global_norm(tensors))


def test_a_norm_whose_square_leaves_float32_counts_as_not_finite():
    assert np.isfinite(norms.global_norm([tf.constant([1.8e19])]))
    assert np.isinf(norms.global_norm([tf.constant([2e19])]))


@settings(deadline=None, max_examples=30)
@given(
    rows=st.integers(1, 6),
    indices=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    dtype=st.sampled_from(["float32", "float16"]),
    seed=st.integers(0, 99),
)
def test_duplicate_rows_are_summed_as_by_a_dense_gradient(rows, indices, dtype, seed):
    indices = [i % rows for i in indices]
    values = np.random.default_rng(seed).standard_normal((len(indices), 3)).astype(dtype)
    want = np.zeros((rows, 3))
    np.add.at(want, indices, values.astype("float64"))
    slices = tf.IndexedSlices(
        tf.constant(values), tf.constant(indices, tf.int64), tf.constant([rows, 3], tf.int64)
    )
    have = norms.dense(slices)
    assert have.dtype == tf.float32
    np.testing.assert_allclose(have, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(norms.global_norm([have]), norm64([want]), rtol=1e-5, atol=1e-6)


def test_a_dense_gradient_is_only_cast_and_a_missing_one_stays_missing():
    assert norms.dense(None) is None
    half = norms.dense(tf.constant([1.5, 2.5], tf.float16))
    assert half.dtype == tf.float32
    assert half.numpy().tolist() == [1.5, 2.5]


@pytest.mark.parametrize("limit", [0.1, 1.0, 1e3])
def test_the_clip_is_tensorflows(limit):
    tensors = draw()
    norm = norms.global_norm(tensors)
    have = norms.scaled([tf.constant(t) for t in tensors], norms.clip_factor(norm, limit))
    want, _ = tf.clip_by_global_norm(tensors, limit)
    for h, w in zip(have, want, strict=True):
        np.testing.assert_allclose(h, w, rtol=ULPS)
    np.testing.assert_allclose(norms.global_norm(have), min(limit, norm64(tensors)), rtol=ULPS)


@settings(deadline=None, max_examples=50)
@given(norm=st.floats(0, 2.0**64, width=32), limit=st.floats(1e-3, 1e6))
def test_the_clip_factor_is_exactly_1_up_to_the_limit_and_never_more(norm, limit):
    factor = float(norms.clip_factor(tf.constant(norm, tf.float32), limit))
    if norm <= np.float32(limit):
        assert factor == 1.0
    else:
        assert factor <= 1.0
        np.testing.assert_allclose(factor, np.float32(limit) / np.float64(norm), rtol=ULPS)


def test_clips_of_each_tensor_are_keras_own():
    tensors = draw(scale=3.0)
    for arguments in ({"clipnorm": 0.5}, {"clipvalue": 0.5}, {}):
        stock = keras.optimizers.SGD(0.1, **arguments)._clip_gradients(tensors)
        ours = norms.clipped_each(
            [None, *tensors], arguments.get("clipnorm"), arguments.get("clipvalue")
        )
        assert ours[0] is None
        for o, s in zip(ours[1:], stock, strict=True):
            np.testing.assert_allclose(o, s, rtol=ULPS)
