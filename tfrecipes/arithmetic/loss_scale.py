"""Dynamic loss scaling for float16, as a pure function of (scale, good steps, verdict)."""

import tensorflow as tf

# Below 1 a scale only makes gradients smaller than the model's own, and on the way to 0 the
# unscaling divides 0 by 0 (KERAS_FACTS 3). Above 2**24 a float16 loss overflows at any value.
FLOOR = 1.0
CEILING = 2.0**24


def next_scale(
    scale: tf.Tensor, good_steps: tf.Tensor, finite: tf.Tensor, growth_steps: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """The loss scale and the count of good steps after one more step.

        finite, g + 1 <  G:  s' = s                      g' = g + 1
        finite, g + 1 == G:  s' = min(2 s, CEILING)      g' = 0
        not finite:          s' = max(s / 2, FLOOR)      g' = 0

    The decisions are those of torch's GradScaler with growth 2 and backoff 0.5, plus the floor
    and the ceiling, which neither it nor Keras has.

    Args:
        scale: s, a float32 scalar.
        good_steps: g, finite steps since the scale last changed, an integer scalar.
        finite: Whether this step's gradients were finite, a boolean scalar.
        growth_steps: G.

    Returns:
        s', g'.
    """
    grows = good_steps + 1 >= tf.cast(growth_steps, good_steps.dtype)
    after_good = tf.where(grows, tf.minimum(scale * 2.0, CEILING), scale)
    after_bad = tf.maximum(scale * 0.5, FLOOR)
    zero = tf.zeros_like(good_steps)
    return (
        tf.where(finite, after_good, after_bad),
        tf.where(tf.logical_and(finite, tf.logical_not(grows)), good_steps + 1, zero),
    )
