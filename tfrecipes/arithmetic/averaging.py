"""Weight averages: one recursion, two coefficients.

    a <- c(n) a + (1 - c(n)) w        n: updates averaged so far

EMA and SWA differ in c(n) and in when the recursion runs, in nothing else.
"""

from collections.abc import Sequence

import tensorflow as tf


def ema_coefficient(n: tf.Tensor, decay: float, warmup: bool) -> tf.Tensor:
    """c(n) = min(decay, (1 + n) / (10 + n)), or `decay` alone without warmup.

    The ramp is `tf.train.ExponentialMovingAverage`'s with `num_updates`: without it an average
    of 0.999 is for its first thousand updates mostly the random initial weights.
    """
    if not warmup:
        return tf.constant(decay, tf.float32)
    n = tf.cast(n, tf.float32)
    return tf.minimum(tf.constant(decay, tf.float32), (1.0 + n) / (10.0 + n))


def mean_coefficient(n: tf.Tensor) -> tf.Tensor:
    """c(n) = n / (n + 1): the plain running mean, the first point replacing what was there."""
    n = tf.cast(n, tf.float32)
    return n / (n + 1.0)


def averaged(
    averages: Sequence[tf.Tensor], values: Sequence[tf.Tensor], coefficient: tf.Tensor
) -> list[tf.Tensor]:
    """One move of the recursion on every tensor: w + c (a - w), in the averages' type.

    Args:
        averages: a, float32 or float64.
        values: w, of any float type, shapes as in `averages`.
        coefficient: c, a float32 scalar in [0, 1].
    """
    # In this form an average that equals the weights stays equal to the bit, and c = 0 gives w.
    moved = []
    for a, w in zip(averages, values, strict=True):
        w = tf.cast(w, a.dtype)
        moved.append(w + tf.cast(coefficient, a.dtype) * (a - w))
    return moved
