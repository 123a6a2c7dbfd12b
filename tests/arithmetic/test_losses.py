"""Denominators against what Keras's own reduction divides by, over shapes, weights and masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras.src.losses.loss import reduce_weighted_values

from tfrecipes.arithmetic import losses

MEANS = ["sum_over_batch_size", "mean", "mean_with_sample_weight"]
# Shapes of a loss's values with those of weights and masks that Keras can bring together.
# fmt: off
SHAPES = [
    # values         weights      mask
    ((6,),           (6,),        (6,)),
    ((6,),           (6, 1),      (6, 1)),
    ((6, 1),         (6,),        (6,)),
    ((6, 1),         (6, 1),      (6,)),
    ((6, 1),         (6,),        (6, 1)),
    ((6, 4),         (6, 4),      (6, 4)),
    ((6, 4),         (6, 1),      (6, 4)),
    ((6, 4),         (6, 4),      (6, 1)),
    ((6, 4),         (6, 1),      (6, 1)),
    ((6, 4),         (6, 4, 1),   (6, 4)),
    ((6, 4, 1),      (6, 4),      (6, 4)),
    ((6, 4, 3),      (6, 1, 1),   (6, 4, 1)),
    ((6, 4, 3),      (6, 4, 3),   (6, 4, 3)),
]
# fmt: on
# Values that weights make larger: D is then Keras's but for a factor that all parts share.
GROWING = [((6, 1), (6, 4), (6, 4))]


@st.composite
def terms(draw, shapes=SHAPES):
    """(values, weights or None, mask or None) as NumPy, the batch first."""
    shape, weight_shape, mask_shape = draw(st.sampled_from(shapes))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    values = rng.uniform(0.1, 2.0, shape).astype("float32")
    weights = mask = None
    if draw(st.booleans()):
        weights = rng.uniform(0, 3, weight_shape).astype("float32")
        weights[: draw(st.integers(0, 3))] = 0
    if draw(st.booleans()):
        mask = rng.integers(0, 2, mask_shape).astype(bool)
        mask[: draw(st.integers(0, 6))] = draw(st.booleans())
    return values, weights, mask


def reduced(values, weights, mask, reduction):
    return float(reduce_weighted_values(values, weights, mask, reduction, "float32"))


def weighted_sum(values, weights, mask):
    """sum v s m, in Keras's own broadcast."""
    if mask is not None:
        mask = mask.astype("float32")
    return reduced(values, weights, mask, "sum")


@settings(deadline=None, max_examples=150)
@given(term=terms(), reduction=st.sampled_from(MEANS))
def test_the_denominator_is_what_keras_divides_by(term, reduction):
    values, weights, mask = term
    d = float(losses.denominator(values, weights, mask, reduction))
    total = weighted_sum(values, weights, mask)
    have = total / d if d else 0.0
    # 5e-6: sums of up to 72 float32 numbers in two orders
    np.testing.assert_allclose(have, reduced(values, weights, mask, reduction), rtol=5e-6)


@settings(deadline=None, max_examples=150)
@given(
    term=terms([*SHAPES, *GROWING]),
    reduction=st.sampled_from([*MEANS, "sum"]),
    cuts=st.lists(st.integers(1, 5), min_size=0, max_size=5, unique=True),
)
def test_parts_add_up_to_the_whole_batch_however_it_is_cut(term, reduction, cuts):
    values, weights, mask = term
    edges = [0, *sorted(cuts), 6]

    def part(array, i):
        return None if array is None else array[edges[i] : edges[i + 1]]

    whole = float(losses.denominator(values, weights, mask, reduction))
    total = 0.0
    for i in range(len(edges) - 1):
        piece = [part(array, i) for array in term]
        value = reduced(*piece, reduction)
        if reduction == "sum":
            total += value
        elif whole:
            total += value * float(losses.denominator(*piece, reduction)) / whole
    np.testing.assert_allclose(total, reduced(values, weights, mask, reduction), rtol=5e-6)


@pytest.mark.parametrize("reduction", ["sum", "none", None])
def test_sums_have_denominator_1(reduction):
    assert float(losses.denominator(tf.ones((4, 2)), tf.ones(4), None, reduction)) == 1.0


def test_two_samples_of_weight_10_weigh_ten_times_as_much_by_keras_default():
    values, weights = tf.ones(2), tf.fill((2,), 10.0)
    assert float(losses.denominator(values, weights, None, "sum_over_batch_size")) == 2.0
    assert float(losses.denominator(values, weights, None, "mean_with_sample_weight")) == 20.0


@pytest.mark.parametrize("reduction", MEANS)
def test_a_batch_that_is_all_masked_has_denominator_0(reduction):
    mask = tf.zeros((3, 4), tf.bool)
    assert float(losses.denominator(tf.ones((3, 4)), None, mask, reduction)) == 0.0


def test_a_denominator_in_16_bits_counts_exactly():
    # 4,097 is no float16; a mask that Keras made in the loss's dtype still counts in float32.
    mask = tf.ones((4097,), tf.float16)
    d = losses.denominator(tf.ones((4097,), tf.float16), None, mask, "mean_with_sample_weight")
    assert d.dtype == tf.float32
    assert float(d) == 4097.0


def test_a_mean_is_declared_on_the_function_or_on_the_loss():
    def one_number(y, p):
        return keras.ops.mean(y - p)

    wrapped = keras.src.losses.losses.LossFunctionWrapper(one_number)
    assert not losses.declared_mean(wrapped)
    one_number.mean_over_samples = True
    assert losses.declared_mean(wrapped)

    loss = keras.losses.MeanSquaredError()
    assert not losses.declared_mean(loss)
    loss.mean_over_samples = True
    assert losses.declared_mean(loss)
    assert losses.is_scalar_loss(tf.ones(()))
    assert not losses.is_scalar_loss(tf.ones((1,)))
