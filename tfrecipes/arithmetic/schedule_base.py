"""What every schedule shares: the step as a number, shares of a span, argument checks."""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

LARGEST_RATE = float(np.finfo(np.float32).max)
# float64, in which references and pictures are computed, counts exactly to here.
LARGEST_STEP = 2**53


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate as a pure function of the optimizer step.

    A subclass keeps each argument of its constructor in an attribute of the
    same name and defines `_rate_at(t)`.  Rates come out in float32, whatever
    `keras.config.floatx()` is: bfloat16 holds three digits, too few for a rate.

    Steps stay integers until a difference such as `T - t` has been taken.
    float32 counts exactly to 2**24 only; an exact difference of integers,
    rounded once, keeps every rate within 1e-6 of the peak for any step.

    Attributes:
        takes_arrays: Calls may pass an array of steps; Keras's own schedules
            need not understand one.
    """

    takes_arrays = True

    def __call__(self, step: Any) -> tf.Tensor:
        """The rate at `step`.

        Args:
            step: Integer or float step, or array of steps: a Python or NumPy
                number, a tensor, a variable.  Below 0 counts as 0.

        Returns:
            float32 tensor of the shape of `step`.
        """
        return self._rate_at(as_step(step))

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        raise TypeError(
            f"{type(self).__name__}: a schedule must define `_rate_at(t)`. "
            f"Received: class={type(self).__name__!r}. Write it, or use a class that has it."
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as JSON values."""
        values = {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    def __repr__(self) -> str:
        arguments = ", ".join(f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({arguments})"

    def _rate(self, name: str, value: Any) -> float:
        return self._number(
            name, value, "a finite number >= 0", lambda x: x >= 0, "Give a rate such as 1e-3."
        )

    def _number(
        self, name: str, value: Any, rule: str, holds: Callable[[float], bool], advice: str
    ) -> float:
        is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if is_number:
            number = float(value)
            if math.isfinite(number) and abs(number) <= LARGEST_RATE and holds(number):
                return number
        self._refuse(f"`{name}` must be {rule}", {name: value}, advice)

    def _steps(self, name: str, value: Any, least: int = 0) -> int:
        is_integer = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if is_integer and least <= int(value) <= LARGEST_STEP:
            return int(value)
        self._refuse(
            f"`{name}` must be an int from {least} to 2**53",
            {name: value},
            "Count whole optimizer steps.",
        )

    def _warmup_before(self, end_name: str, end: int, warmup_steps: Any) -> int:
        warmup_steps = self._steps("warmup_steps", warmup_steps)
        if warmup_steps >= end:
            self._refuse(
                f"`warmup_steps` must be below `{end_name}`",
                {"warmup_steps": warmup_steps, end_name: end},
                "Shorten the warmup: the total includes it.",
            )
        return warmup_steps

    def _refuse(self, rule: str, received: dict[str, Any], advice: str) -> NoReturn:
        shown = ", ".join(f"{name}={value!r}" for name, value in received.items())
        raise ValueError(f"{type(self).__name__}: {rule}. Received: {shown}. {advice}")


def as_step(step: Any) -> tf.Tensor:
    """`step` as an int64 tensor, or as float32 or float64 where it is a float; at least 0."""
    if isinstance(step, (int, float, list, tuple, range)):
        step = np.asarray(step)  # TensorFlow alone would make int32 of it, which ends at 2**31
    t = tf.convert_to_tensor(step)
    if t.dtype.is_integer:
        t = tf.cast(t, tf.int64)
    elif t.dtype.is_floating and t.dtype.size < 4:
        t = tf.cast(t, tf.float32)
    return tf.maximum(t, tf.zeros((), t.dtype))


def plus(t: tf.Tensor, steps: int) -> tf.Tensor:
    """`t + steps` in the type of `t`, exact where `t` is an integer."""
    return t + tf.constant(steps, t.dtype)


def share(elapsed: tf.Tensor, span: int) -> tf.Tensor:
    """`elapsed / span` in float32, kept within [0, 1]; a span of 0 is over at once.

    Exactly 0 at the start and 1 at the end, as both round to the same float32.
    """
    ratio = tf.cast(elapsed, tf.float32) / np.float32(max(span, 1))
    return tf.clip_by_value(ratio, 0.0, 1.0)


def warmup(t: tf.Tensor, warmup_steps: int) -> tf.Tensor:
    """The factor min(1, t / W) of a linear warmup; 1 where W is 0."""
    if warmup_steps == 0:
        return tf.ones_like(t, tf.float32)
    return share(t, warmup_steps)


def between(low: Any, high: Any, part: tf.Tensor) -> tf.Tensor:
    """`low` at part 0, `high` at part 1, both exactly; a straight line between."""
    return low * (1.0 - part) + high * part


def half_cosine(part: tf.Tensor) -> tf.Tensor:
    """(1 - cos(pi * part)) / 2, from 0 at 0 to 1 at 1.

    As a squared sine: near 0 the difference would lose all digits of a small rate.
    """
    return tf.square(tf.sin(np.float32(math.pi / 2) * part))
