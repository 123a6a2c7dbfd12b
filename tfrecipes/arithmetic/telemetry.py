"""Columns of a step's row: numbers of a compiled step, named by their functions.

A column is a function `f(step) -> scalar`, named by its `__name__`. A user's own column is one
more function in the tuple that `tfr.Monitor(columns=...)` takes; it is given a `StepView` and
computed in the step. Ours are arithmetic on a few numbers, the *measured* ones: the step writes
those alone, and whoever reads them gives a whole block of rows to the same functions.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic import norms

# What a step writes for our columns, in this order.
MEASURED = (
    "learning_rate",
    "loss",
    "gradient_norm",
    "weight_halves",
    "update_halves",
    "finite",
    "clip_limit",
    "loss_scale",
    "samples",
)


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
        clip_limit: The global clip's limit; infinite without one.
        gradient_norm: |g| over all weights.
    """

    number: tf.Tensor
    loss: tf.Tensor
    learning_rate: tf.Tensor
    gradients: Sequence[tf.Tensor | None]
    finite: tf.Tensor
    loss_scale: tf.Tensor
    samples: tf.Tensor
    clip_limit: float
    gradient_norm: tf.Tensor
    weights: Sequence[tf.Tensor] = ()
    update_source: Callable[[], Sequence[tf.Tensor]] = tuple

    @cached_property
    def updates(self) -> Sequence[tf.Tensor]:
        return self.update_source()

    @cached_property
    def weight_norm(self) -> tf.Tensor:
        return norms.global_norm(self.weights)

    @cached_property
    def change_norm(self) -> tf.Tensor:
        return norms.global_norm(self.updates)


class MeasuredRows:
    """What our columns may look at, for many steps at once: arrays (rows,).

    Args:
        numbers: The steps' numbers.
        measured: Their measured numbers, (rows, MEASURED) float32.
    """

    def __init__(self, numbers: np.ndarray, measured: np.ndarray) -> None:
        self.number = numbers
        self.learning_rate, self.loss, self.gradient_norm, weights, updates, *rest = measured.T
        finite, self.clip_limit, self.loss_scale, self.samples = rest
        self.finite = finite > 0
        # A half of each square: its double is exact, and so the root is that of the whole.
        with np.errstate(over="ignore", invalid="ignore"):
            self.weight_norm, self.change_norm = np.sqrt(2 * weights), np.sqrt(2 * updates)


Column = Callable[[Any], Any]


def step(step: Any) -> Any:
    """Attempted steps before this one, counted from 0; a skipped step has its number."""
    return step.number


def learning_rate(step: Any) -> Any:
    """Rate of this update."""
    return step.learning_rate


def loss(step: Any) -> Any:
    """The step's own objective, not Keras's running mean over the epoch."""
    return step.loss


def grad_norm(step: Any) -> Any:
    """|g| over all weights, before clipping."""
    return step.gradient_norm


def param_norm(step: Any) -> Any:
    """|w| over all trainable weights, before the update."""
    return step.weight_norm


def update_norm(step: Any) -> Any:
    """|w_new - w_old|, decay included; 0 where the step was skipped."""
    return step.change_norm


def update_ratio(step: Any) -> Any:
    """|w_new - w_old| / |w|: about 1e-3 in a healthy run."""
    return _ratio(step.change_norm, step.weight_norm)


def grad_param_ratio(step: Any) -> Any:
    """|g| / |w|."""
    return _ratio(step.gradient_norm, step.weight_norm)


def clipped(step: Any) -> Any:
    """1 where the global clip bound this step, else 0; a skipped step was not clipped."""
    return _one_where(step.finite & (step.gradient_norm > step.clip_limit))


def overflow(step: Any) -> Any:
    """1 where gradients or loss were not finite and the step was skipped, else 0."""
    return 1.0 - _one_where(step.finite)


def loss_scale(step: Any) -> Any:
    """What the loss was multiplied by before the backward pass; 1 when off."""
    return step.loss_scale


def samples(step: Any) -> Any:
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


def _ratio(part: Any, whole: Any) -> Any:
    """part / whole, 0 where whole is 0."""
    if tf.is_tensor(part):
        return tf.math.divide_no_nan(part, whole)
    with np.errstate(all="ignore"):
        return np.where(whole == 0, np.float32(0), part / whole)


def _one_where(condition: Any) -> Any:
    """1 where it holds, else 0."""
    if tf.is_tensor(condition):
        return tf.cast(condition, tf.float32)
    return condition.astype(np.float32)


def own(columns: Sequence[Column]) -> tuple[Column, ...]:
    """The columns that are not ours."""
    return tuple(column for column in columns if column not in COLUMNS)


def look_at(columns: Sequence[Column]) -> tuple[bool, bool]:
    """Whether our columns among these want the norm of the weights, and that of the updates."""
    updates = any(column in (update_norm, update_ratio) for column in columns)
    weights = any(column in (param_norm, update_ratio, grad_param_ratio) for column in columns)
    return weights, updates


def width(columns: Sequence[Column]) -> int:
    """Numbers in a row of the ring buffer."""
    return len(MEASURED) + len(own(columns))


def measured(view: StepView, weights: tf.Tensor, updates: tf.Tensor) -> tf.Tensor:
    """The numbers named in MEASURED, float32.

    Args:
        view: The step.
        weights: `norms.halves` of the weights, or none where no column looks at them.
        updates: The same of the updates.
    """
    numbers = {
        "weight_halves": tf.reduce_sum(weights),
        "update_halves": tf.reduce_sum(updates),
    }
    return tf.stack(
        [
            tf.cast(numbers[name] if name in numbers else getattr(view, name), tf.float32)
            for name in MEASURED
        ]
    )


def own_values(columns: Sequence[Column], view: StepView) -> tf.Tensor:
    """The scalars of the columns that are not ours, float32.

    Raises:
        ValueError: If one of them is no scalar.
    """
    values = []
    for column in own(columns):
        value = tf.cast(column(view), tf.float32)
        if tuple(value.shape) != ():
            raise ValueError(
                f"Monitor: column {column.__name__!r} must return a scalar. "
                f"Received: shape={tuple(value.shape)}. Reduce it to one number."
            )
        values.append(value)
    return tf.stack(values) if values else tf.zeros((0,))


def table(columns: Sequence[Column], numbers: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The columns of steps, float64 (rows, columns).

    Args:
        columns: As the step was given them.
        numbers: The steps' numbers, whole: float32 counts exactly to 2**24 only.
        rows: Their rows of the ring buffer, float32 (rows, width).
    """
    measured = MeasuredRows(numbers, rows[:, : len(MEASURED)])
    values = iter(rows[:, len(MEASURED) :].T)
    made = [column(measured) if column in COLUMNS else next(values) for column in columns]
    return np.column_stack([np.asarray(one, np.float64) for one in made])
