"""The compiled loss, taken apart into terms."""

from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras.src.losses.loss import unscale_loss_for_distribution


@dataclass(frozen=True)
class LossTerm:
    """One of the compiled losses with what it is given."""

    loss: keras.losses.Loss
    y_true: Any
    y_pred: Any
    sample_weight: Any
    weight: float | None
    tracker: keras.metrics.Metric | None


def has_compiled_loss(model: keras.Model) -> bool:
    return model._compile_loss is not None


def loss_terms(model: keras.Model, y: Any, y_pred: Any, sample_weight: Any) -> list[LossTerm]:
    """The compiled loss taken apart: Keras sorts outputs, labels and weights; nothing is computed.

    Its per-output losses are replaced for one call by recorders, and its trackers are hidden:
    the step updates them once, with the whole step's value.
    """
    compiled = model._compile_loss
    if not compiled.built:
        compiled.build(y, y_pred)
    flat, trackers = compiled._flat_losses, compiled._metrics
    found: list[LossTerm] = []

    def recorder(index: int, original: Any) -> Any:
        def record(y_true: Any, predicted: Any, weights: Any = None) -> tf.Tensor:
            tracker = trackers[index] if trackers else None
            found.append(
                LossTerm(original.loss, y_true, predicted, weights, original.loss_weights, tracker)
            )
            return tf.zeros(())

        return original._replace(loss=record)

    try:
        object.__setattr__(
            compiled, "_flat_losses", [recorder(i, one) for i, one in enumerate(flat)]
        )
        object.__setattr__(compiled, "_metrics", [None] * len(flat))
        compiled(y, y_pred, sample_weight)
    finally:
        object.__setattr__(compiled, "_flat_losses", flat)
        object.__setattr__(compiled, "_metrics", trackers)
    # With one flat output and a list of losses Keras computes all and uses the first.
    single = not keras.tree.is_nested(y) and not keras.tree.is_nested(y_pred)
    return found[:1] if single else found


def term_count(model: keras.Model, y: Any) -> int:
    """How many terms `loss_terms` will find, once the loss is built."""
    compiled = model._compile_loss
    if compiled is None:
        return 0
    single = not keras.tree.is_nested(y) and not keras.tree.is_nested(
        compiled._y_pred_build_structure
    )
    return min(len(compiled._flat_losses), 1) if single else len(compiled._flat_losses)


def loss_value(term: LossTerm, loss: keras.losses.Loss | None = None) -> tf.Tensor:
    """The term's value as on one replica, unweighted, float32."""
    value = (loss or term.loss)(term.y_true, term.y_pred, term.sample_weight)
    return tf.cast(value, tf.float32)


def undistributed(value: tf.Tensor) -> tf.Tensor:
    """Undo Keras's division by the number of replicas, which it does in some reductions."""
    return unscale_loss_for_distribution(value)


def elementwise(term: LossTerm) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The loss of each element before reduction, and the mask that Keras applies to it."""
    loss = term.loss
    mask = getattr(term.y_pred, "_keras_mask", None)

    def converted(x: Any) -> tf.Tensor:
        return keras.ops.convert_to_tensor(x, dtype=loss.dtype)

    values = loss.call(
        keras.tree.map_structure(converted, term.y_true),
        keras.tree.map_structure(converted, term.y_pred),
    )
    out_mask = getattr(values, "_keras_mask", None)
    if mask is not None and out_mask is not None:
        mask = tf.logical_and(tf.cast(mask, tf.bool), tf.cast(out_mask, tf.bool))
    return values, mask if mask is not None else out_mask


def added_losses(model: keras.Model) -> list[tf.Tensor]:
    """What `add_loss` and activity regularisers left in this forward pass."""
    losses = model._get_own_losses()
    for layer in model._flatten_layers(include_self=False):
        losses.extend(layer._get_own_losses())
    return [tf.reduce_sum(tf.cast(one, tf.float32)) for one in losses]


def weight_penalties(model: keras.Model) -> list[tf.Tensor]:
    """What the weights' regularisers say of the weights as they are."""
    return [tf.reduce_sum(tf.cast(one, tf.float32)) for one in model._get_regularization_losses()]


def whole_loss(model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """The loss as the model's own `compute_loss` has it."""
    return model._compute_loss(x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True)
