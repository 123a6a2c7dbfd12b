"""Global norms and clipping over lists of gradients.

Everything here takes dense float32 tensors; `dense` makes them so. One duplicate row of an
embedding counted twice, or left unmerged, is a wrong norm, and stock Keras leaves it unmerged.
"""

from collections.abc import Sequence

import tensorflow as tf

Gradient = tf.Tensor | tf.IndexedSlices | None


def dense(gradient: Gradient) -> tf.Tensor | None:
    """A gradient as a dense float32 tensor, duplicate rows summed; None stays None.

    AdamW's moments decay in every row at every step, so a dense gradient costs an embedding
    nothing that the update would not cost it anyway.
    """
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = tf.cast(gradient.values, tf.float32)
        shape = gradient.dense_shape
        rows = tf.cast(shape[0], gradient.indices.dtype)
        return tf.math.unsorted_segment_sum(values, gradient.indices, rows)
    return tf.cast(gradient, tf.float32)


def halves(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """|t_i|^2 / 2 of each tensor that is there, float32 (tensors,)."""
    # One kernel without a temporary for the squares. Halving and doubling are exact.
    found = [tf.cast(tf.nn.l2_loss(t), tf.float32) for t in tensors if t is not None]
    return tf.stack(found) if found else tf.zeros((0,))


def squares(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """|t_i|^2 of each tensor that is there, float32 (tensors,)."""
    return 2.0 * halves(tensors)


def sum_of_squares(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """sum_i |t_i|^2 over the tensors that are there, a float32 scalar."""
    return tf.reduce_sum(squares(tensors))


def global_norm(tensors: Sequence[tf.Tensor | None]) -> tf.Tensor:
    """sqrt(sum_i |t_i|^2) over all tensors together, a float32 scalar; 0 for none.

    Infinite from 1.85e19 on, where the square leaves float32: such a step counts as not finite.
    """
    return tf.sqrt(sum_of_squares(tensors))


def clip_factor(norm: tf.Tensor, limit: float) -> tf.Tensor:
    """min(1, limit / norm): what a gradient of that norm is multiplied by.

    Exactly 1 below the limit, so a clip that does not bind changes no bit.
    """
    return tf.minimum(1.0, tf.constant(limit, tf.float32) / norm)


def scaled(tensors: Sequence[tf.Tensor | None], factor: tf.Tensor) -> list[tf.Tensor | None]:
    """Each tensor times one scalar."""
    return [None if t is None else t * factor for t in tensors]


def clipped_each(
    tensors: Sequence[tf.Tensor | None], clipnorm: float | None, clipvalue: float | None
) -> list[tf.Tensor | None]:
    """Keras's per-tensor clips: by the tensor's own norm, or by value."""
    if clipnorm is not None:
        return [None if t is None else tf.clip_by_norm(t, clipnorm) for t in tensors]
    if clipvalue is not None:
        return [None if t is None else tf.clip_by_value(t, -clipvalue, clipvalue) for t in tensors]
    return list(tensors)
