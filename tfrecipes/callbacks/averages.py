"""EMA and SWA: averages of the weights, moved inside the compiled step, once a real update."""

import math
from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.arithmetic.averaging import ema_coefficient, mean_coefficient
from tfrecipes.callbacks.step import StepCallback
from tfrecipes.recipe.durations import Duration, to_steps
from tfrecipes.step.installed import InstalledStep
from tfrecipes.step.keras_seams import Fit, local
from tfrecipes.training.batch_norm import recalibrate, refuse_one_shot


class Average(StepCallback):
    """Base of weight averages: a subclass says how much of the old average stays.

        a <- c(n) a + (1 - c(n)) w        once a real update, n = updates averaged so far

    A subclass overrides `coefficient(n)` and nothing else. BatchNorm's moving statistics and
    every other float variable of the model are averaged along.

    Inside an epoch the model holds the raw weights, and training is bit for bit what it is
    without an average. From an epoch's end to the next one's start it holds the average: what
    validation, ModelCheckpoint, EarlyStopping and the model after `fit` mean are the same
    weights. Raw weights return only if the model still holds, bit for bit, what was put in.

    Args:
        start: Updates of this fit before the first that is averaged: steps, "75%" or "10ep".

    Raises:
        ValueError: If `start` is no duration; in `fit`, if it needs a length nobody knows.

    Saved: by `tfr.Resume`; the average lives in variables of its own, never in the optimizer.

    Example:
        >>> import tfrecipes as tfr
        >>> class Polyak(tfr.Average):
        ...     def coefficient(self, n):
        ...         return 1 - 2.0 / (tf.cast(n, tf.float32) + 2.0)
        >>> Polyak(start="10%").start
        '10%'
    """

    shown_in_epochs = True

    def __init__(self, start: int | str = 0) -> None:
        super().__init__()
        Duration.parse(start, f"{type(self).__name__}: start")
        self.start = start
        self._start_step = 0
        self._every = 1

    def coefficient(self, n: tf.Tensor) -> tf.Tensor:
        """c(n), a float32 scalar in [0, 1]; n is an int64 scalar, the updates averaged so far."""
        raise TypeError(
            f"{type(self).__name__}: an average must say what of it stays. "
            "Override `coefficient(n)`."
        )

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        return {"average": self}

    def resolve(self, fit: Fit) -> None:
        """Turn durations into this fit's steps; called by the step when its length is known."""
        self._start_step = self._steps(self.start, "start", fit)

    def _steps(self, duration: int | str, name: str, fit: Fit) -> int:
        return to_steps(
            duration,
            total_steps=fit.total_steps,
            steps_per_epoch=fit.steps,
            where=f"{type(self).__name__}: {name}",
        )

    def due(self, t: tf.Tensor) -> tf.Tensor:
        """Whether the update that made it t in this fit is averaged."""
        after = t - self._start_step
        return tf.logical_and(after > 0, after % self._every == 0)

    def rate(self, t: tf.Tensor, scheduled: tf.Tensor) -> tf.Tensor:
        """The learning rate of the update after t; the schedule's own."""
        return scheduled

    def kind(self) -> tuple[Any, ...]:
        """What a further fit's average must share to go on as this one; an object of its own."""
        return (self,)

    def key(self) -> tuple[Any, ...]:
        """What two averages that need the same compiled step have in common."""
        return (*self.kind(), self._start_step, self._every)


class EMA(Average):
    """Exponential moving average of the weights; the model after `fit` holds it.

        a <- d a + (1 - d) w,   d = min(decay, (1 + n) / (10 + n))

    with n the updates averaged so far, starting from the weights before the first;
    d = decay alone with `warmup=False`. The ramp is `tf.train.ExponentialMovingAverage`'s with
    `num_updates`. Unlike Keras's `use_ema`, it moves once per real update whatever is
    accumulated or skipped, averages BatchNorm's statistics along, and never touches the raw run.

    Args:
        decay: d, in [0, 1). 0.999 averages over about the last thousand updates.
        warmup: Ramp d up from 0.1, so that the start is forgotten.

    Raises:
        ValueError: If `decay` is out of range.

    Example:
        >>> import tfrecipes as tfr
        >>> ema = tfr.EMA(decay=0.999)
        >>> [round(float(ema.coefficient(n)), 3) for n in (0, 90, 10**6)]
        [0.1, 0.91, 0.999]

    References:
        Polyak & Juditsky, Acceleration of Stochastic Approximation by Averaging, 1992;
        Szegedy et al., 2016, https://arxiv.org/abs/1512.00567 (section 8)
    """

    def __init__(self, decay: float = 0.999, warmup: bool = True) -> None:
        super().__init__()
        if isinstance(decay, bool) or not isinstance(decay, (int, float)) or not 0 <= decay < 1:
            raise ValueError(
                f"EMA: `decay` must be a number in [0, 1). Received: decay={decay!r}. "
                "0.999 suits runs of more than a few thousand steps."
            )
        self.decay = float(decay)
        self.warmup = bool(warmup)

    def coefficient(self, n: tf.Tensor) -> tf.Tensor:
        return ema_coefficient(tf.convert_to_tensor(n), self.decay, self.warmup)

    def kind(self) -> tuple[Any, ...]:
        return (EMA, self.decay, self.warmup) if type(self) is EMA else super().kind()


class SWA(Average):
    """Stochastic weight averaging: the mean of weights from a high, constant or cyclic rate.

        a <- (n a + w) / (n + 1)        at the end of every cycle, or of every epoch

    from `start` on. Before it the schedule is undisturbed; after it the rate is

        lr(t) = learning_rate                                        cycle = None
        lr(t) = (1 - p) learning_rate + p learning_rate / 100        else,
        p = ((t - start) mod C + 1) / C                              C: steps of a cycle

    Validation, ModelCheckpoint and EarlyStopping mean raw weights. At the end of `fit`
    BatchNorm's statistics are computed anew over the training data, the model holds the average,
    over any restored best, and `swa_val_<metric>` is in History once, and printed.

    Args:
        start: When averaging begins: steps, "75%" of the run or "10ep".
        learning_rate: Rate after the start, >= 0; None = the schedule goes on.
        cycle: Steps or epochs of a cycle, such as "2ep"; None = constant, one average an epoch.

    Raises:
        ValueError: If an argument is out of range; in `fit`, if the length of an epoch is not
            known, or if the data can be read only once and BatchNorm needs them again.

    Logs: `swa_val_<metric>`, one value, in History.

    Example:
        >>> import tfrecipes as tfr
        >>> swa = tfr.SWA(start="75%", learning_rate=0.05)
        >>> [round(float(swa.coefficient(n)), 3) for n in (0, 1, 3)]
        [0.0, 0.5, 0.75]

    References:
        Izmailov et al., Averaging Weights Leads to Wider Optima and Better Generalization, 2018.
        https://arxiv.org/abs/1803.05407 (algorithm 1; section 3.1 for the cyclic rate)
    """

    shown_in_epochs = False

    def __init__(
        self,
        start: int | str = "75%",
        learning_rate: float | None = None,
        cycle: int | str | None = None,
    ) -> None:
        super().__init__(start)
        if learning_rate is not None and (
            isinstance(learning_rate, bool)
            or not isinstance(learning_rate, (int, float))
            or not (math.isfinite(learning_rate) and learning_rate >= 0)
        ):
            raise ValueError(
                "SWA: `learning_rate` must be a finite number >= 0, or None for the schedule's. "
                f"Received: learning_rate={learning_rate!r}."
            )
        if cycle is not None:
            Duration.parse(cycle, "SWA: cycle")
            if learning_rate is None:
                raise ValueError(
                    "SWA: a cycle needs the rate it starts from. Received: learning_rate=None, "
                    f"cycle={cycle!r}. Give `learning_rate` too."
                )
        self.learning_rate = None if learning_rate is None else float(learning_rate)
        self.cycle = cycle
        self._fit: Fit | None = None

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        refuse_one_shot(self.model, fit)
        return super().claims(fit)

    def coefficient(self, n: tf.Tensor) -> tf.Tensor:
        return mean_coefficient(tf.convert_to_tensor(n))

    def resolve(self, fit: Fit) -> None:
        super().resolve(fit)
        if self.cycle is not None:
            self._every = max(1, self._steps(self.cycle, "cycle", fit))
        self._fit = fit

    def due(self, t: tf.Tensor) -> tf.Tensor:
        if self.cycle is not None:
            return super().due(t)
        # Ends of epochs are the host's to see: a skipped step moves their count of updates.
        return tf.constant(False)

    def rate(self, t: tf.Tensor, scheduled: tf.Tensor) -> tf.Tensor:
        if self.learning_rate is None:
            return scheduled
        high = tf.constant(self.learning_rate, tf.float32)
        swa = high
        if self.cycle is not None:
            place = (t - self._start_step) % self._every + 1
            p = tf.cast(place, tf.float32) / float(self._every)
            swa = (1.0 - p) * high + p * (high / 100.0)
        return tf.where(t >= self._start_step, swa, scheduled)

    def kind(self) -> tuple[Any, ...]:
        # A further fit has a start of its own, so its average is another one each time.
        return (object(),)

    def key(self) -> tuple[Any, ...]:
        if type(self) is not SWA:
            return super().key()
        return (SWA, self.learning_rate, self.cycle, self._start_step, self._every)

    def sealed(self, step: InstalledStep) -> None:
        if self.cycle is None:
            step.at_epoch_end.append(lambda: step.average_now(after=self._start_step))
        # Last of all: what EarlyStopping restores at the end is over when the average comes in.
        if self._fit is not None:
            self._fit.call_last(self)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        step, fit = self.step, self._fit
        super().on_train_end(logs)
        self._fit = None
        if fit is None or step.stopped:
            return
        if not int(local(step.state.averaged)):
            return
        step.swap.show()
        recalibrate(self.model, fit)
        if fit.validation_data is None:
            return
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(fit.validation_data)
        scores = self.model.evaluate(
            x,
            y,
            sample_weight=sample_weight,
            batch_size=fit.validation_batch_size,
            steps=fit.validation_steps,
            verbose=0,
            return_dict=True,
        )
        named = {f"swa_val_{name}": float(value) for name, value in scores.items()}
        for name, value in named.items():
            self.model.history.history[name] = [value]
        print("SWA: " + ", ".join(f"{name} {value:.4f}" for name, value in named.items()))
