"""One sweep: some steps of ordinary training while the learning rate rises, and their losses."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic.telemetry import COLUMNS
from tfrecipes.callbacks.step import StepCallback
from tfrecipes.step import keras_seams
from tfrecipes.step.installed import InstalledStep
from tfrecipes.step.keras_seams import Fit

_COLUMNS = tuple(c for c in COLUMNS if c.__name__ in ("loss", "overflow", "loss_scale"))

# A sweep has diverged when so many steps in a row are far above its start, or above it at all
# after a clear fall.
_ROSE_FOR, _LOST_FOR = 2, 3
# The first steps, at rates at which nothing moves: what the loss is and how much it scatters.
_AT_START = 5


class RisingRate(keras.optimizers.schedules.LearningRateSchedule):
    """The learning rates of one sweep after another, one a step; a sweep's last from there on.

    A variable and not constants, so that another sweep traces nothing anew.

    Args:
        most: Rates of the longest sweep.

    Example:
        >>> rate = RisingRate(5)
        >>> rate.set([1.0, 2.0, 4.0])
        >>> [float(rate(step)) for step in (0, 1, 2, 3, 99)]
        [1.0, 2.0, 4.0, 4.0, 4.0]
    """

    def __init__(self, most: int) -> None:
        self._rates = tf.Variable(tf.zeros(most), trainable=False)

    def set(self, learning_rates: Any) -> None:
        """The rates of the coming sweep, at most as many as `most`."""
        rates = np.asarray(learning_rates, np.float32)
        most = int(self._rates.shape[0])
        self._rates.assign(np.pad(rates, (0, most - len(rates)), mode="edge"))

    def __call__(self, step: Any) -> tf.Tensor:
        place = tf.minimum(tf.cast(step, tf.int64), int(self._rates.shape[0]) - 1)
        return tf.gather(self._rates, place)

    def get_config(self) -> dict[str, Any]:
        return {"most": int(self._rates.shape[0])}


def rising_rates(low: float, high: float, count: int, scale: str) -> np.ndarray:
    """Rates from `low` to `high`: each a constant factor ("log") or step ("linear") from the last.

    Example:
        >>> rising_rates(1e-4, 1.0, 5, "log").round(4).tolist()
        [0.0001, 0.001, 0.01, 0.1, 1.0]
        >>> rising_rates(0.2, 1.0, 5, "linear").round(4).tolist()
        [0.2, 0.4, 0.6, 0.8, 1.0]
    """
    return np.geomspace(low, high, count) if scale == "log" else np.linspace(low, high, count)


class SweepCallback(StepCallback):
    """Notes the loss of every batch at its rate, and ends the fit when the loss has run away.

    The loss is the batch's own, before the update at that rate: Keras's running mean over the
    epoch lags behind and moves the answer to higher rates. A step that float16 skips, because its
    scaled gradients overflow, is no step: the rate waits for the next one.

    Args:
        count: Updates to make.
        tell: Called after each with (updates so far, loss).
    """

    def __init__(self, count: int, tell: Callable[[int, float], None] | None = None) -> None:
        super().__init__()
        self.count = count
        self.losses: list[float] = []
        self._tell = tell
        self._limit = math.inf
        self._own_step = False

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        self._own_step = keras_seams.has_own_train_step(model)

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        return {"columns": _COLUMNS, "on_nonfinite": "skip", "max_bad_steps": 10**6}

    def sealed(self, step: InstalledStep) -> None:
        if not self._own_step:
            step.after_call.append(self._look)

    def on_train_batch_begin(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if self._own_step:
            # The running mean of one batch is that batch's.
            self.model.reset_metrics()

    def on_train_batch_end(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        if not self._own_step:
            return
        if "loss" not in (logs or {}):
            raise ValueError(
                f"find_learning_rate: the train_step of {type(self.model).__name__} must return "
                f"its loss as 'loss'. Received: {sorted(logs or {})}. Add it to what it returns."
            )
        self._note(float((logs or {})["loss"]))

    def _look(self) -> None:
        row = self.step.last_row
        if row["overflow"] and row["loss_scale"] > 1 and math.isfinite(row["loss"]):
            return
        self._note(row["loss"] if not row["overflow"] else math.nan)

    def _note(self, loss: float) -> None:
        self.losses.append(loss)
        if self._tell is not None:
            self._tell(len(self.losses), loss)
        if len(self.losses) >= self.count or self._has_diverged():
            self.model.stop_training = True

    def _has_diverged(self) -> bool:
        losses = np.array(self.losses)
        if not math.isfinite(losses[-1]):
            return True
        if len(losses) < _AT_START + _ROSE_FOR:
            return False
        quiet = losses[:_AT_START]
        start, scatter = float(np.median(quiet)), float(np.abs(np.diff(quiet)).mean())
        fell = max(start - float(losses.min()), 0.0)
        far = start + max(2 * fell, 0.5 * abs(start), 3 * scatter)
        # What it has learnt is lost again: higher rates tell nothing more.
        lost = fell > 5 * scatter and bool((losses[-_LOST_FOR:] > start).all())
        return lost or bool((losses[-_ROSE_FOR:] > far).all())


def run_sweep(
    model: keras.Model, source: Any, count: int, tell: Callable[[int, float], None] | None = None
) -> np.ndarray:
    """Train a model that is compiled with a `RisingRate` once through its rates.

    Args:
        model: A compiled model, whose optimizer has made no update.
        source: What `fit` takes as x: endless batches.
        count: How many rates.
        tell: Called after each update with (updates so far, loss).

    Returns:
        The loss at each rate (count,), NaN after a divergence.
    """
    sweep = SweepCallback(count, tell)
    # More steps than rates: those that float16 skips come on top.
    arguments: dict[str, Any] = {
        "steps_per_epoch": 2 * count + 32,
        "verbose": 0,
        "shuffle": False,
    }
    model.fit(source, callbacks=[sweep], **arguments)
    _refuse_another_optimizer(model, sweep)
    losses = np.full(count, np.nan)
    losses[: len(sweep.losses)] = sweep.losses
    return losses


def _refuse_another_optimizer(model: keras.Model, sweep: SweepCallback) -> None:
    """A train_step that trains by optimizers of its own was swept at rates that nobody raised."""
    finite = sum(map(math.isfinite, sweep.losses))
    if keras_seams.has_own_train_step(model) and finite and not int(model.optimizer.iterations):
        raise ValueError(
            f"find_learning_rate: the train_step of {type(model).__name__} must train by "
            "`self.optimizer`, whose rate a sweep raises. Received: a step that left it unused "
            f"{len(sweep.losses)} times. Where it has several optimizers, try rates by hand."
        )
