"""Progress: what training does at this moment, without slowing it."""

import math
from collections import deque
from collections.abc import Callable, Mapping
from time import monotonic
from typing import Any

import keras

from tfrecipes.callbacks.step import Configured
from tfrecipes.runs.steps import TELEMETRY
from tfrecipes.step.installed import newest_row
from tfrecipes.views.live import Display, Moment, choose_display

# The speed is that of the last few seconds: so many samples, so far apart [s].
_SAMPLES, _SAMPLE_EVERY = 50, 0.1

# Telemetry that is a log key too and would make an epoch's line unreadable; it stands in the run folder.
_NOT_SHOWN = TELEMETRY - {"learning_rate", "loss", "grad_norm"}

Numbers = Mapping[str, float]


class Progress(Configured, keras.callbacks.Callback):
    """Shows epoch, step, loss, learning rate, gradient norm, speed and time left.

    In a terminal a bar that is redrawn at most ten times a second; in a pipe or a file a line every
    five seconds; in a notebook a bar. Each epoch's end leaves a line. Validation has its own.

    Unlike Keras's own bar it costs a step nothing but a look at the clock, and is drawn from the
    thread that trains. Keras prints its bar too unless `fit(..., verbose=0)` says otherwise.

    Alone on a stock model the loss is Keras's running mean over the epoch and speed is in steps.
    Beside `tfr.Monitor` the loss is the last step's, and gradient norm and samples a second join.

    Args:
        source: `f(model)` -> the newest step's telemetry by column name, or None where there is
            none; None reads what `tfr.Monitor` records. Called when something is drawn.
        display: Where to show it. None looks where the program runs when training begins.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> x = np.zeros((4, 1))
        >>> history = model.fit(x, x[:, 0], verbose=0, callbacks=[Progress()]) # doctest: +ELLIPSIS
        epoch 1/1  step 1/1  loss 0  lr 0.01  ...
    """

    def __init__(
        self,
        source: Callable[[keras.Model], Numbers | None] | None = None,
        display: Display | None = None,
    ) -> None:
        super().__init__()
        # Batch-end hooks store one tuple, so that Keras may call them from its threads, as it does
        # on thread-safe backends (in 3.15 TensorFlow is not among them); all drawing is done in
        # batch-begin hooks, which Keras calls from the training thread.
        self.async_safe = True
        self._source = source or newest_row
        self._given = display
        self._display: Display | None = None
        self._training = False
        self._restart()

    def _restart(self) -> None:
        self._epoch = 0
        self._steps: int | None = None  # of an epoch
        self._steps_before = 0  # in this fit's finished epochs
        self._newest: tuple[int, Numbers] = (-1, {})
        self._epoch_began = 0.0
        self._speeds: deque[tuple[float, int]] = deque(maxlen=_SAMPLES)
        self._next_sample = self._next_draw = 0.0
        self._not_training = 0.0  # seconds spent in validation
        self._validation_began = 0.0
        self._validation_took = 0.0
        self._validation_steps: int | None = None
        self._validation_step = 0
        self._validation_logs: Numbers = {}

    # -- Keras's hooks -------------------------------------------------------------------------

    def on_train_begin(self, logs: Numbers | None = None) -> None:
        self._restart()
        self._training = True
        self._open()

    def on_epoch_begin(self, epoch: int, logs: Numbers | None = None) -> None:
        self._epoch = epoch
        self._newest = (-1, {})
        self._epoch_began = monotonic()
        known = self._param("steps")
        # Of data of unknown length, the epoch before tells.
        self._steps = known if known is not None else self._steps

    def on_train_batch_begin(self, batch: int, logs: Numbers | None = None) -> None:
        now = monotonic()
        if batch == 0 or now < self._next_sample:  # before step 1 there is tracing and no speed
            return
        self._next_sample = now + _SAMPLE_EVERY
        self._speeds.append((now - self._not_training, self._steps_before + batch))
        if now >= self._next_draw:
            self._draw(self._moment(batch), now)

    def on_train_batch_end(self, batch: int, logs: Numbers | None = None) -> None:
        if batch >= self._newest[0]:  # threads may come in another order
            self._newest = (batch, logs or {})

    def on_epoch_end(self, epoch: int, logs: Numbers | None = None) -> None:
        steps = self._newest[0] + 1
        self._steps = self._steps if self._param("steps") is not None else steps
        self._steps_before += steps
        took = monotonic() - self._epoch_began
        moment = Moment(
            self._title(), steps, self._steps, (*self._numbers(logs or {}), _seconds(took))
        )
        if self._display is not None:
            self._display.line(str(moment))

    def on_train_end(self, logs: Numbers | None = None) -> None:
        self._training = False
        self.close()

    def on_test_begin(self, logs: Numbers | None = None) -> None:
        self._validation_began = monotonic()
        self._validation_step, self._validation_logs = 0, {}
        if not self._training:
            self._restart()
            self._validation_began = monotonic()
            self._open()

    def on_test_batch_begin(self, batch: int, logs: Numbers | None = None) -> None:
        now = monotonic()
        if now >= self._next_draw:
            self._draw(self._validation_moment(batch), now)

    def on_test_batch_end(self, batch: int, logs: Numbers | None = None) -> None:
        self._validation_step = max(self._validation_step, batch + 1)
        self._validation_logs = logs or {}

    def on_test_end(self, logs: Numbers | None = None) -> None:
        took = monotonic() - self._validation_began
        if self._training:
            self._validation_took, self._validation_steps = took, self._validation_step
            self._not_training += took
            return
        self._validation_logs = logs or self._validation_logs
        if self._display is not None:
            moment = self._validation_moment(self._validation_step)
            self._display.line(f"{moment}  {_seconds(took)}")
        self.close()

    def close(self) -> None:
        """Ends the display, as the end of training does: for whoever catches its exceptions."""
        if self._display is not None:
            self._display.close()
            self._display = None

    # -- what is shown -------------------------------------------------------------------------

    def _open(self) -> None:
        self.close()  # of a fit that ended by an exception
        self._display = self._given or choose_display()
        self._next_draw = monotonic() + self._display.interval

    def _draw(self, moment: Moment, now: float) -> None:
        if self._display is not None:
            self._next_draw = now + self._display.interval
            self._display.show(moment)

    def _param(self, name: str) -> int | None:
        return (self.params or {}).get(name)

    def _title(self) -> str:
        epochs = self._param("epochs")
        return f"epoch {self._epoch + 1}/{epochs}" if epochs else f"epoch {self._epoch + 1}"

    def _moment(self, step: int) -> Moment:
        telemetry = self._telemetry()
        speed = self._steps_per_second()
        parts = [*self._numbers({**self._newest[1], **telemetry})]
        if speed:
            samples = telemetry.get("samples")
            parts.append(_rate(speed * samples, "samples") if samples else _rate(speed, "steps"))
            if (left := self._seconds_left(step, speed)) is not None:
                parts.append(f"eta {_clock(left)}")
        return Moment(self._title(), step, self._steps, tuple(parts))

    def _validation_moment(self, step: int) -> Moment:
        # Inside fit, Keras's params are those of training: the pass before tells the length.
        steps = self._validation_steps if self._training else self._param("steps")
        title = f"{self._title()}  validation" if self._training else "evaluation"
        logs = self._validation_logs
        parts = (f"{key} {_short(value)}" for key, value in logs.items() if _is_number(value))
        return Moment(title, step, steps, tuple(parts))

    def _telemetry(self) -> Numbers:
        if self.model is None:
            return {}
        return self._source(self.model) or {}

    def _numbers(self, logs: Numbers) -> list[str]:
        """Loss first, then metrics, then the rate and the gradient norm."""
        shown = {k: v for k, v in logs.items() if k not in _NOT_SHOWN and _is_number(v)}
        rate = shown.pop("learning_rate", None)
        norm = shown.pop("grad_norm", None)
        loss = {"loss": shown.pop("loss")} if "loss" in shown else {}
        parts = [f"{key} {_short(value)}" for key, value in {**loss, **shown}.items()]
        rate = self._learning_rate() if rate is None else rate
        if rate is not None:
            parts.append(f"lr {_short(rate)}")
        if norm is not None:
            parts.append(f"grad_norm {_short(norm)}")
        return parts

    def _learning_rate(self) -> float | None:
        rate = getattr(getattr(self.model, "optimizer", None), "learning_rate", None)
        return None if rate is None else float(rate)

    def _steps_per_second(self) -> float | None:
        if len(self._speeds) < 2:
            return None
        (then, before), (now, after) = self._speeds[0], self._speeds[-1]
        return (after - before) / (now - then) if now > then and after > before else None

    def _seconds_left(self, step: int, speed: float) -> float | None:
        epochs = self._param("epochs")
        if self._steps is None or not epochs:
            return None
        whole_epochs = epochs - self._epoch - 1
        steps = self._steps - step + whole_epochs * self._steps
        return max(0, steps) / speed + (whole_epochs + 1) * self._validation_took


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) or getattr(value, "shape", None) == ()


def _short(value: float) -> str:
    return f"{float(value):.4g}"


def _rate(value: float, thing: str) -> str:
    return f"{value:,.0f} {thing}/s" if value >= 10 else f"{value:.2g} {thing}/s"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 60 else _clock(value)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
