"""Data as `fit` gets them from a recipe: arrays in our own order, batched data as they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfrecipes.training.data import Understood, batches
from tfrecipes.training.labels import class_weights
from tfrecipes.training.weighing import weighed


@dataclass(frozen=True)
class Prepared:
    """What `fit` is called with, and what is known about it.

    Attributes:
        source: x of `fit`: a dataset or stream of batches.
        steps_per_epoch: Optimizer steps an epoch.
        is_endless: Whether `fit` must be told `steps_per_epoch`.
        starts_where_told: Whether the source begins at the step that it was asked for; otherwise
            a resumed epoch reads past what was done.
        batch_size: Samples a step, where known.
        shapes_vary: Whether batches may differ beyond the first axis.
    """

    source: Any
    steps_per_epoch: int
    is_endless: bool
    starts_where_told: bool
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
        return Prepared(ours.dataset, steps, True, True, batch_size, False)
    steps = steps_per_epoch if steps_per_epoch is not None else given.steps
    if not steps:
        raise ValueError(
            f"recipe.fit: the {given.kind} does not tell how long an epoch is, and the schedule "
            "needs the total of steps. Received: steps_per_epoch=None. Pass `steps_per_epoch`."
        )
    source, endless = given.x, given.endless or steps_per_epoch is not None
    if class_weight is not None:
        source, repeats = weighed(given, class_weight)
        endless = endless or repeats
    spec = source.element_spec if isinstance(source, tf.data.Dataset) else None
    from_spec = spec is None or _varies(spec)
    return Prepared(source, steps, endless, False, None, from_spec)


def _varies(spec: Any) -> bool:
    return any(
        one.shape.rank is None or None in one.shape.as_list()[1:]
        for one in tf.nest.flatten(spec)
        if isinstance(one, tf.TensorSpec)
    )
