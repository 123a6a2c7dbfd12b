"""Columns of a step's row: scalars computed in the compiled step, named by their functions.

A column is a function `f(step) -> scalar`, named by its `__name__`. `step` is a `StepView`. A
user's own column is one more function in the tuple that `tfr.Monitor(columns=...)` takes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import tensorflow as tf

from tfrecipes.arithmetic import norms


@dataclass(frozen=True)
class StepView:
    """What a column may look at. Tensors are those of one update, on one replica.

    Attributes:
        number: Attempted steps before this one, an int64 scalar.
        loss: The step's objective, regularisation included, a float32 scalar.
        learning_rate: Rate of this update, a float32 scalar.
        gradients: One float32 tensor a weight, summed over micro-batches and replicas, unscaled,
            before clipping; None where the loss does not depend on the weight.
        weights: The trainable weights before the update.
        updates: w_new - w_old per weight, decay included; zeros where the step was skipped.
        finite: Whether the step was taken, a boolean scalar.
        loss_scale: The scale that this step's loss was multiplied by; 1 when off.
        samples: Samples of this step over all replicas and micro-batches.
        clip_limit: The global clip's limit, or None.
        gradient_norm: |g| over all weights.
        gradient_squares: |g|^2 of each weight that has a gradient.
    """

    number: tf.Tensor
    loss: tf.Tensor
    learning_rate: tf.Tensor
    gradients: Sequence[tf.Tensor | None]
    weights: Sequence[tf.Tensor]
    update_source: Callable[[], Sequence[tf.Tensor]]
    finite: tf.Tensor
    loss_scale: tf.Tensor
    samples: tf.Tensor
    clip_limit: float | None
    gradient_norm: tf.Tensor
    gradient_squares: tf.Tensor

    @cached_property
    def updates(self) -> Sequence[tf.Tensor]:
        return self.update_source()

    @cached_property
    def weight_squares(self) -> tf.Tensor:
        return norms.squares(self.weights)

    @cached_property
    def update_squares(self) -> tf.Tensor:
        return norms.squares(self.updates)

    @cached_property
    def weight_norm(self) -> tf.Tensor:
        return tf.sqrt(tf.reduce_sum(self.weight_squares))

    @cached_property
    def change_norm(self) -> tf.Tensor:
        return tf.sqrt(tf.reduce_sum(self.update_squares))


Column = Callable[[StepView], tf.Tensor]


def step(step: StepView) -> tf.Tensor:
    """Attempted steps before this one, counted from 0; a skipped step has its number."""
    return step.number


def learning_rate(step: StepView) -> tf.Tensor:
    """Rate of this update."""
    return step.learning_rate


def loss(step: StepView) -> tf.Tensor:
    """The step's own objective, not Keras's running mean over the epoch."""
    return step.loss


def grad_norm(step: StepView) -> tf.Tensor:
    """|g| over all weights, before clipping."""
    return step.gradient_norm


def param_norm(step: StepView) -> tf.Tensor:
    """|w| over all trainable weights, before the update."""
    return step.weight_norm


def update_norm(step: StepView) -> tf.Tensor:
    """|w_new - w_old|, decay included; 0 where the step was skipped."""
    return step.change_norm


def update_ratio(step: StepView) -> tf.Tensor:
    """|w_new - w_old| / |w|: about 1e-3 in a healthy run."""
    return tf.math.divide_no_nan(step.change_norm, step.weight_norm)


def grad_param_ratio(step: StepView) -> tf.Tensor:
    """|g| / |w|."""
    return tf.math.divide_no_nan(step.gradient_norm, step.weight_norm)


def clipped(step: StepView) -> tf.Tensor:
    """1 where the global clip bound this step, else 0; a skipped step was not clipped."""
    if step.clip_limit is None:
        return tf.zeros(())
    bound = step.gradient_norm > step.clip_limit
    return tf.cast(tf.logical_and(step.finite, bound), tf.float32)


def overflow(step: StepView) -> tf.Tensor:
    """1 where gradients or loss were not finite and the step was skipped, else 0."""
    return 1.0 - tf.cast(step.finite, tf.float32)


def loss_scale(step: StepView) -> tf.Tensor:
    """What the loss was multiplied by before the backward pass; 1 when off."""
    return step.loss_scale


def samples(step: StepView) -> tf.Tensor:
    """Samples of this step."""
    return step.samples


COLUMNS: tuple[Column, ...] = (
    step,
    learning_rate,
    loss,
    grad_norm,
    param_norm,
    update_norm,
    update_ratio,
    grad_param_ratio,
    clipped,
    overflow,
    loss_scale,
    samples,
)


def names(columns: Sequence[Column]) -> tuple[str, ...]:
    """The columns' names, each once.

    Raises:
        ValueError: If a column is no function with a name, or two share one.
    """
    found: list[str] = []
    for column in columns:
        name = getattr(column, "__name__", "")
        if not callable(column) or not name.isidentifier():
            raise ValueError(
                "Monitor: `columns` must be functions f(step) -> scalar, named by their "
                f"`__name__`. Received: {column!r}. Write it with `def name(step): ...`."
            )
        if name in found:
            raise ValueError(
                f"Monitor: two columns are named {name!r}. Received: columns={[*found, name]}. "
                "Rename one function."
            )
        found.append(name)
    return tuple(found)


def row(columns: Sequence[Column], view: StepView) -> tf.Tensor:
    """One row of the ring buffer: each column's scalar, float32, (columns,).

    The step's number is kept apart as an integer, as float32 counts exactly to 2**24 only.
    """
    values = []
    for column in columns:
        value = tf.cast(column(view), tf.float32)
        if tuple(value.shape) != ():
            raise ValueError(
                f"Monitor: column {column.__name__!r} must return a scalar. "
                f"Received: shape={tuple(value.shape)}. Reduce it to one number."
            )
        values.append(value)
    return tf.stack(values)
