"""A loss term as numerator over denominator, so that parts of a batch add up exactly.

Keras reduces a batch's values v, weights s and mask m to one number. Whatever it divides by is
D below; the big batch's loss is then sum_i L_i D_i / sum_i D_i over its parts, for any split.
"""

import keras
import tensorflow as tf

# Reductions under which a sum over parts is already the big batch's sum.
SUMS = ("sum", "none", None)


def _count(tensor: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.size(tensor), tf.float32)


def denominator(
    values: tf.Tensor,
    sample_weight: tf.Tensor | None,
    mask: tf.Tensor | None,
    reduction: str | None,
) -> tf.Tensor:
    """What Keras divides the sum of weighted values by.

        sum_over_batch_size, mean   D = |v|                without a mask
                                    D = |v| sum(m) / |m|   with one: the valid share
        mean_with_sample_weight     D = sum(s m), or |v| where neither is given
        sum, none                   D = 1

    Keras's default does not divide by the sum of the weights: two samples of weight 10 weigh
    ten times as much as two of weight 1.

    Args:
        values: v, the loss of each element, before weighting, (batch, ...).
        sample_weight: s, or None.
        mask: m, the mask of the predictions, or None.
        reduction: Keras's word for it.

    Returns:
        D, a float32 scalar; 0 where everything is masked.
    """
    if reduction in SUMS:
        return tf.ones(())
    if reduction == "mean_with_sample_weight" and not (sample_weight is None and mask is None):
        weights = tf.cast(mask if sample_weight is None else sample_weight, tf.float32)
        if sample_weight is not None and mask is not None:
            mask, weights = _same_rank(tf.cast(mask, tf.float32), weights)
            weights = weights * mask
        _, weights = _same_rank(values, weights)
        return tf.reduce_sum(weights)
    if mask is None:
        return _count(values)
    valid = tf.reduce_sum(tf.cast(mask, tf.float32))
    # The ratio is 1 unless a mask of another shape is broadcast over the values.
    return valid * (_count(values) / _count(mask))


def _same_rank(a: tf.Tensor, b: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Keras's rule: where ranks differ by one and the last axis is 1, squeeze or expand it."""
    if len(a.shape) == len(b.shape) + 1 and a.shape[-1] == 1:
        return (a, b[..., None]) if len(b.shape) == 1 else (tf.squeeze(a, -1), b)
    if len(b.shape) == len(a.shape) + 1 and b.shape[-1] == 1:
        return (a[..., None], b) if len(a.shape) == 1 else (a, tf.squeeze(b, -1))
    return a, b


def is_scalar_loss(values: tf.Tensor) -> bool:
    """Whether a loss gave one number for the batch, whose denominator nobody can know."""
    return tuple(values.shape) == ()


def declared_mean(loss: keras.losses.Loss) -> bool:
    """Whether the author of a scalar loss declared it a mean over samples.

    He does so by an attribute on the function or the object: `my_loss.mean_over_samples = True`.
    """
    return bool(
        getattr(loss, "mean_over_samples", False)
        or getattr(getattr(loss, "fn", None), "mean_over_samples", False)
    )
