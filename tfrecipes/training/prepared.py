"""Data as `fit` gets them from a recipe: arrays in our own order, batched data as they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.training.data import Understood, batches
from tfrecipes.training.labels import class_weights


@dataclass(frozen=True)
class Prepared:
    """What `fit` is called with, and what is known about it.

    Attributes:
        source: x of `fit`: a dataset or stream of batches.
        steps_per_epoch: Optimizer steps an epoch.
        is_endless: Whether `fit` must be told `steps_per_epoch`.
        starts_where_told: Whether the source begins at the step that it was asked for; otherwise
            a resumed epoch reads past what was done.
        class_weight: What is left for Keras to apply.
        batch_size: Samples a step, where known.
        shapes_vary: Whether batches may differ beyond the first axis.
    """

    source: Any
    steps_per_epoch: int
    is_endless: bool
    starts_where_told: bool
    class_weight: Mapping[int, float] | None
    batch_size: int | None
    shapes_vary: bool


def prepared(
    given: Understood,
    *,
    batch_size: int,
    seed: int,
    steps_per_epoch: int | None,
    class_weight: Mapping[int, float] | None,
    start: Callable[[int], int],
) -> Prepared:
    """Make the training data of a run.

    Args:
        given: What the caller gave.
        batch_size: Samples a step, for arrays.
        seed: Of the order, for arrays.
        steps_per_epoch: The caller's word on it, for streams that do not tell their length.
        class_weight: Multiplies sample weights.
        start: From steps an epoch to the global step at which the run goes on.

    Raises:
        ValueError: If the length of an epoch is not known and not given.
    """
    if given.kind == "arrays":
        weight = given.sample_weight
        if class_weight is not None:
            weight = class_weights(given.y, class_weight, weight)
        whole = -(-given.samples // batch_size) if given.samples else 0
        steps = whole if steps_per_epoch is None else steps_per_epoch
        ours = batches(
            given.x,
            given.y,
            weight,
            batch_size=batch_size,
            seed=seed,
            start_step=start(steps),
        )
        return Prepared(ours.dataset, steps, True, True, None, batch_size, False)
    steps = steps_per_epoch if steps_per_epoch is not None else given.steps
    if not steps:
        raise ValueError(
            f"recipe.fit: the {given.kind} does not tell how long an epoch is, and the schedule "
            "needs the total of steps. Received: steps_per_epoch=None. Pass `steps_per_epoch`."
        )
    source = given.x
    if class_weight is not None and isinstance(source, tf.data.Dataset):
        source, class_weight = source.map(_weighting(class_weight)), None
    spec = source.element_spec if isinstance(source, tf.data.Dataset) else None
    from_spec = spec is None or _varies(spec)
    endless = given.endless or steps_per_epoch is not None
    return Prepared(source, steps, endless, False, class_weight, None, from_spec)


def _varies(spec: Any) -> bool:
    return any(
        one.shape.rank is None or None in one.shape.as_list()[1:]
        for one in tf.nest.flatten(spec)
        if isinstance(one, tf.TensorSpec)
    )


def _weighting(class_weight: Mapping[int, float]) -> Callable[..., tuple[Any, Any, Any]]:
    """Class weights as sample weights, inside a tf.data pipeline."""
    if not class_weight:
        raise ValueError("recipe.fit: `class_weight` must name a class. Received: {}.")
    table = tf.constant([float(class_weight.get(i, 1.0)) for i in range(max(class_weight) + 1)])

    def weigh(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        if y is None or keras.tree.is_nested(y):
            raise ValueError(
                "recipe.fit: `class_weight` is for integer or one-hot labels of one output. "
                "Received: data without such labels. Put weights into the data instead."
            )
        if len(y.shape) == 2 and y.shape[1] not in (None, 1):
            # A soft label's largest entry is not its class.
            check = tf.debugging.assert_equal(
                tf.reduce_max(tf.cast(y, tf.float32), 1),
                1.0,
                message="class_weight is for integer or one-hot labels; these are soft.",
            )
            with tf.control_dependencies([check]):
                classes = tf.argmax(y, 1)
        elif len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[1] == 1):
            classes = tf.cast(tf.reshape(y, [-1]), tf.int64)
        else:
            raise ValueError(
                "recipe.fit: `class_weight` is for integer or one-hot labels. Received: labels of "
                f"shape {tuple(y.shape)}. Put weights into the data instead."
            )
        inside = classes < tf.cast(tf.size(table), tf.int64)
        weights = tf.where(inside, tf.gather(table, tf.where(inside, classes, 0)), 1.0)
        if sample_weight is not None:
            weights = weights * tf.cast(tf.reshape(sample_weight, [-1]), weights.dtype)
        return x, y, weights

    return weigh
