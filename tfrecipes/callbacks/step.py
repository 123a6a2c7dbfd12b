"""TrainStep, MicroBatch, GradientAccumulation: how a step's batch is made and watched.

Every callback of ours brings the train step; these three bring little else.
"""

import inspect
import os
from collections.abc import Mapping
from typing import Any, Literal, Self

import keras

from tfrecipes.step.installed import InstalledStep, step_of
from tfrecipes.step.keras_seams import Fit

NONFINITE = ("skip", "stop")


def positive(where: str, name: str, value: Any) -> int:
    """An integer of at least 1, or one sentence."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{where}: `{name}` must be an integer >= 1. Received: {name}={value!r}.")
    return value


class Configured:
    """Keeps what an object was made with, so that it round-trips as Keras's objects do.

    A subclass's own argument is in the config too, without a line of its own.
    """

    _arguments: dict[str, Any]

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(self, *args, **kwargs)
        except TypeError:
            return self  # `__init__` is called next, and says what is wrong with them
        bound.apply_defaults()
        self._arguments = dict(list(bound.arguments.items())[1:])
        return self

    def get_config(self) -> dict[str, Any]:
        """The arguments that make another like this one."""
        return {
            name: os.fspath(value) if isinstance(value, os.PathLike) else value
            for name, value in self._arguments.items()
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Another one of the same arguments."""
        return cls(**config)


class StepCallback(Configured, keras.callbacks.Callback):
    """A callback that works inside the compiled step: it claims fields of the plan.

    Subclasses say in `claims` what the step must do, and in `sealed` they hook what runs on the
    host. None of ours overrides a batch hook: those run in Python at every step.
    """

    # Keras says Optional; between `set_model` and `on_train_end`, where we read it, it is there.
    model: keras.Model  # pyright: ignore[reportIncompatibleMethodOverride]

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        step_of(model).register(self)

    @property
    def step(self) -> InstalledStep:
        """The model's installed step."""
        return step_of(self.model)

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        """Fields of the plan that this callback wants, for one `fit`."""
        return {}

    def sealed(self, step: InstalledStep) -> None:
        """The plan is sealed and the train function is there; the first step has not run."""

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.step.finished()


class TrainStep(StepCallback):
    """Train by our step and nothing else: one verdict, one clip, exact skips.

    A step whose gradients or loss are not finite is skipped: weights, optimizer, BatchNorm,
    seed generators, stateful layers, metrics and averages stay as they were, bit for bit. After
    `max_bad_steps` of them in a row the run stops: `model.stop_training`, with the reason said.

    Unlike stock Keras, `global_clipnorm` clips the gradient of the whole step, after the sum
    over replicas and with duplicate embedding rows merged, and one bad step writes nothing.

    Args:
        on_nonfinite: "skip": skip, and stop after `max_bad_steps` in a row. "stop": stop at the
            first, which is skipped too (with loss scaling: at the first at the smallest scale).
        max_bad_steps: Skipped steps in a row that end the run [steps], >= 1.

    Raises:
        ValueError: If an argument is out of range, or in `fit` if the plan cannot be had there.

    Example:
        >>> import keras, numpy as np, tfrecipes as tfr
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
        >>> model.compile(keras.optimizers.Adam(global_clipnorm=1.0), loss="mse")
        >>> x = np.ones((8, 4), "float32")
        >>> history = model.fit(x, x[:, :1], verbose=0, callbacks=[tfr.TrainStep()])
        >>> sorted(history.history)
        ['loss']
    """

    def __init__(
        self, on_nonfinite: Literal["skip", "stop"] = "skip", max_bad_steps: int = 25
    ) -> None:
        super().__init__()
        if on_nonfinite not in NONFINITE:
            raise ValueError(
                f"TrainStep: `on_nonfinite` must be one of {', '.join(NONFINITE)}. "
                f"Received: on_nonfinite={on_nonfinite!r}."
            )
        self.on_nonfinite = on_nonfinite
        self.max_bad_steps = positive("TrainStep", "max_bad_steps", max_bad_steps)

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        return {"on_nonfinite": self.on_nonfinite, "max_bad_steps": self.max_bad_steps}


class MicroBatch(StepCallback):
    """Split each of fit's batches on the device, so that it needs the memory of one part.

        g = sum_i grad( sum_j N_ij / D_j )      i: micro-batches, j: loss terms

    with each term's denominator D_j counted over the whole batch before the first backward pass:
    the result is the whole batch's gradient also for a smaller last part, masks, sample weights
    and several outputs. One reduce, one clip, one update, one move of the average a step.

    BatchNorm sees micro-batches, as everywhere; Keras metrics are updated part by part.

    Args:
        size: Samples of one forward and backward pass on one replica, >= 1. A batch that is not
            larger is not split.

    Raises:
        ValueError: If `size` is not an integer >= 1; in `fit`, if a loss returns one number for
            a batch and does not say `mean_over_samples = True`.

    Example:
        >>> import tfrecipes as tfr
        >>> tfr.MicroBatch(32).size
        32
    """

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = positive("MicroBatch", "size", size)

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        return {"micro_batch": self.size}


class GradientAccumulation(StepCallback):
    """Make one step of `steps` of fit's batches; fit's batches are the micro-batches.

    The batches are joined and cut again as `MicroBatch` does, so unequal ones are exact, and the
    last, partial window of an epoch is applied. Keras's step is then the update: progress, batch
    hooks, `steps_per_epoch`, `steps_per_execution` and telemetry count updates.

    Unlike `gradient_accumulation_steps` of a Keras optimizer, batches weigh what they hold, the
    schedule counts updates, and nothing is carried over or lost.

    Args:
        steps: Batches a step, >= 1; 1 = off.

    Raises:
        ValueError: If `steps` is not an integer >= 1; in `fit`, if `steps_per_epoch` is given
            with data that have an end.

    Example:
        >>> import tfrecipes as tfr
        >>> tfr.GradientAccumulation(4).steps
        4
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = positive("GradientAccumulation", "steps", steps)

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        return {"accumulate": self.steps}
