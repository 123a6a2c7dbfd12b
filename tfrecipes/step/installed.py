"""Our step on one model: callbacks register, `fit` seals the plan, the train function runs it.

`fit` calls every callback's `set_model`, then `make_train_function`. A registered callback says
in `claims(fit)` what the step must do; the shadowing `make_train_function` seals the plan from
all of them at once and builds or finds the function. Where no callback of ours is in a `fit`,
and no recipe compiled the model, the shadow removes itself and stock Keras runs.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic import telemetry
from tfrecipes.arithmetic.loss_scale import FLOOR
from tfrecipes.step import keras_seams
from tfrecipes.step.accept import accepted
from tfrecipes.step.keras_seams import Fit
from tfrecipes.step.plan import Claims, StepPlan
from tfrecipes.step.state import RING_ROWS, StepState
from tfrecipes.step.swap import AverageSwap
from tfrecipes.step.train_step import build_step
from tfrecipes.step.update import split_scaler

# The host looks at the ring at least this often [s]: steps.csv may be 5 s behind.
READ_EVERY = 1.0
# Train functions kept for a model that is fitted again with another plan.
FUNCTIONS_KEPT = 4

Rows = np.ndarray  # (steps, columns) float64
Sink = Callable[[tuple[str, ...], Rows], None]


class Claimant(Protocol):
    """A callback of ours, as the step sees it."""

    def claims(self, fit: Fit) -> Mapping[str, Any]: ...
    def sealed(self, step: "InstalledStep") -> None: ...


class InstalledStep:
    """The step of one model, between its fits.

    Attributes:
        plan: The plan of the running or last fit.
        state: The step's variables; new with a new optimizer.
        swap: Which weights the model holds.
        base: What holds without any callback, set by `recipe.compile`; None = nothing does.
        stopped: Why the run stopped for good, or None.
        after_call: Called on the host after each call of the train function.
        at_epoch_end: Called after an epoch's loop, before validation.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._registered: list[Claimant] = []
        self._for_fit: Any = None
        self._functions: dict[Any, tuple[Any, Callable[[Any], Any]]] = {}
        self._in_epoch = False
        self._evaluating = 0
        self._sinks: list[Sink] = []
        self._rows_read = 0
        self._last_read = 0.0
        self._calls_since_read = 0
        self._last_row: dict[str, float] = {}
        self._optimizer: Any = None
        self.base: StepPlan | None = None
        self.plan = StepPlan()
        self.stopped: str | None = None
        self._skip_calls, self._pull_skipped = 0, False
        self.after_call: list[Callable[[], None]] = []
        self.at_epoch_end: list[Callable[[], None]] = []
        self._new_state()

    # -- registering and sealing ---------------------------------------------------------------

    def register(self, callback: Claimant) -> None:
        """A callback's `set_model` in a running `fit`."""
        iterator = keras_seams.fit_iterator(self._model)
        if iterator is None:
            return  # `evaluate` and `predict` call `set_model` too
        if iterator is not self._for_fit:
            self._for_fit, self._registered = iterator, []
        if not any(one is callback for one in self._registered):
            self._registered.append(callback)
        self.shadow()

    def shadow(self) -> None:
        keras_seams.set_method(self._model, "make_train_function", self._make_train_function)

    def _make_train_function(self, force: bool = False) -> Any:
        fit = keras_seams.running_fit(self._model)
        callbacks = self._take_registered(fit)
        if not callbacks and self.base is None:
            self.remove()
            self._model.make_train_function(force)
            return self._model.train_function
        self._adopt_optimizer()
        plan = self._seal(callbacks, fit)
        self.stopped, self._in_epoch = None, False
        self._sinks, self.after_call, self.at_epoch_end, self._skip_calls = [], [], [], 0
        self.plan = plan
        if fit is not None and plan.accumulate > 1:
            fit.count_updates(plan.accumulate)
        self._begin_average(fit)
        self._set_train_function(self._host_function(self._function(force)))
        keras_seams.set_method(self._model, keras_seams.EPOCH_END, self._metrics_or_logs)
        keras_seams.set_method(self._model, "evaluate", self._evaluate)
        for callback in callbacks:
            callback.sealed(self)
        return self._model.train_function

    def _set_train_function(self, function: Any) -> None:
        self._model.train_function = function

    def _take_registered(self, fit: Fit | None) -> list[Claimant]:
        ours = self._registered if fit is not None and fit.iterator is self._for_fit else []
        self._registered, self._for_fit = [], None
        return ours

    def _seal(self, callbacks: list[Claimant], fit: Fit | None) -> StepPlan:
        claims = Claims()
        if fit is not None:
            for callback in callbacks:
                claims.claim(type(callback).__name__, callback.claims(fit))
        return accepted(self._model, claims.seal(self.base or StepPlan()), fit)

    def _adopt_optimizer(self) -> None:
        model = self._model
        model.optimizer = keras_seams.rehomed(model.optimizer, model.distribute_strategy)
        if self._model.optimizer is not self._optimizer:
            self._optimizer = self._model.optimizer
            self._functions.clear()
            self._new_state()

    def _new_state(self) -> None:
        self.state = StepState(self._model.distribute_strategy)
        self.swap = AverageSwap(self.state)
        self._rows_read = 0

    def remove(self) -> None:
        """Give the model its own methods back. The state stays for a further fit."""
        for name in ("make_train_function", keras_seams.EPOCH_END, "evaluate"):
            keras_seams.clear_method(self._model, name)
        self._set_train_function(None)

    def finished(self) -> None:
        """The fit is over: without a recipe's compile the model is stock again."""
        self.read_rows()
        if self.base is None:
            self.remove()
        else:
            keras_seams.clear_method(self._model, keras_seams.EPOCH_END)
            keras_seams.clear_method(self._model, "evaluate")

    # -- the train function --------------------------------------------------------------------

    def _function(self, force: bool) -> Callable[[Any], Any]:
        """The compiled function of this plan, traced once however often `fit` is called."""
        model = self._model
        if keras_seams.is_built_for_training(model):
            self.state.make(model, self.plan)
        key = (
            self.plan.key(),
            id(keras_seams.compiled_loss(model)),
            tuple(id(v) for v in model.trainable_variables),
            model.jit_compile,
            model.run_eagerly,
            model.steps_per_execution,
        )
        if force or key not in self._functions:
            step = build_step(model, self.plan, self.state)
            if self.plan.accumulate > 1:
                function = keras_seams.make_grouped_function(model, step, self.plan.accumulate)
            else:
                function = keras_seams.make_function(model, step)
            # The loss is kept with its function: its id must not be given to another object.
            self._functions[key] = (keras_seams.compiled_loss(model), function)
            while len(self._functions) > FUNCTIONS_KEPT:
                self._functions.pop(next(iter(self._functions)))
        return self._functions[key][1]

    def _host_function(self, compiled: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def train_function(iterator: Any) -> Any:
            self._in_epoch = True
            if self._skip_calls:
                return self._skipped_call(iterator)
            self._show_raw()
            logs = compiled(iterator)
            self._after_call()
            return logs

        return train_function

    def skip(self, calls: int, pull: bool) -> None:
        """Let the next calls do nothing: a resumed epoch's steps that were done before.

        Args:
            calls: How many calls of the train function.
            pull: Whether each reads its batches away, where the data begin at the epoch's start.
        """
        self._skip_calls, self._pull_skipped = calls, pull

    def _skipped_call(self, iterator: Any) -> dict[str, Any]:
        self._skip_calls -= 1
        if self._pull_skipped:
            for _ in range(self._model.steps_per_execution * self.plan.accumulate):
                next(iterator, None)
        return keras_seams.metrics_result(self._model)

    def _after_call(self) -> None:
        self._watch_bad_steps()
        if self._sinks:
            self._calls_since_read += 1
            rows = self._calls_since_read * self._model.steps_per_execution
            if rows >= RING_ROWS // 2 or time.monotonic() - self._last_read >= READ_EVERY:
                self.read_rows()
        for hook in self.after_call:
            hook()

    def _watch_bad_steps(self) -> None:
        bad = int(keras_seams.local(self.state.bad_in_a_row))
        if not bad or self.stopped:
            return
        _, scaler = split_scaler(self._model.optimizer)
        at_once = self.plan.on_nonfinite == "stop" and (
            scaler is None or float(keras_seams.local(scaler.dynamic_scale)) <= FLOOR
        )
        if bad >= (1 if at_once else self.plan.max_bad_steps):
            step = int(keras_seams.local(self.state.attempts)) - bad
            scale = "" if scaler is None else f" Loss scale {float(scaler.dynamic_scale):g}."
            self.stop(
                f"Training stopped: loss or gradients were not finite in {bad} steps in a row, "
                f"from step {step} on; the weights are those before it.{scale} Look for NaN or "
                "inf in the data first, then lower the learning rate."
            )

    def stop(self, reason: str) -> None:
        """End the fit after this step, for good."""
        self.stopped = reason
        self._model.stop_training = True
        print(reason)

    # -- averages ------------------------------------------------------------------------------

    def _begin_average(self, fit: Fit | None) -> None:
        if fit is None:
            return
        inner, _ = split_scaler(self._model.optimizer)
        self.state.average_start.assign(
            tf.cast(keras_seams.local(keras_seams.iterations(inner)), tf.int64)
        )
        if self.plan.average is None:
            # The model keeps what it holds; what was put aside belongs to no run any more.
            self.swap = AverageSwap(self.state)
            return
        self.plan.average.resolve(fit)
        if not self.swap.shown and self.state.averages:
            self.state.restart_average()

    def _show_raw(self) -> None:
        if self.swap.shown and not self.swap.hide():
            print(
                "Average: the model's weights were changed since the average was put in; "
                "training goes on from them, and the average starts anew."
            )

    def _metrics_or_logs(self, logs: Any) -> Any:
        """After every epoch's loop, and in every `evaluate`, where there is nothing to do."""
        result = keras_seams.metrics_or_logs(self._model, logs)
        if self._evaluating or not self._in_epoch:
            return result
        self._in_epoch = False
        self.read_rows()
        if self.plan.average is not None and self.plan.average.shown_in_epochs:
            self.swap.show()
        for hook in self.at_epoch_end:
            hook()
        own = {name: value for name, value in self._last_row.items() if name != "loss"}
        return {**result, **own} if isinstance(result, dict) else result

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self._evaluating += 1
        try:
            return type(self._model).evaluate(self._model, *args, **kwargs)
        except BaseException:
            if keras_seams.fit_iterator(self._model) is not None:
                self._show_raw()
            raise
        finally:
            self._evaluating -= 1

    # -- telemetry -----------------------------------------------------------------------------

    def add_sink(self, sink: Sink) -> None:
        """Have new rows sent, about once a second, at an epoch's end and at the fit's."""
        self._sinks.append(sink)

    @property
    def columns(self) -> tuple[str, ...]:
        return telemetry.names(self.plan.columns)

    def read_rows(self) -> None:
        """Fetch the rows that are new in the ring and hand them on."""
        self._last_read, self._calls_since_read = time.monotonic(), 0
        if not self.plan.columns or self.state.ring is None:
            return
        attempts = int(keras_seams.local(self.state.attempts))
        first = max(self._rows_read, attempts - RING_ROWS)
        if first >= attempts:
            return
        numbers = np.arange(first, attempts)
        ring = keras_seams.local(self.state.ring).numpy()
        rows = ring[numbers % RING_ROWS].astype(np.float64)
        if "step" in self.columns:
            # From the integer counter: float32 counts exactly to 2**24 only.
            rows[:, self.columns.index("step")] = numbers
        self._rows_read = attempts
        self._last_row = dict(zip(self.columns, map(float, rows[-1]), strict=True))
        for sink in self._sinks:
            sink(self.columns, rows)

    @property
    def last_row(self) -> dict[str, float]:
        """The newest step's columns, read now; empty without telemetry or before the first."""
        self.read_rows()
        return self._last_row

    def rows_restored(self, attempts: int, last_row: Mapping[str, float]) -> None:
        """After a resume: rows before this attempt are on disk already, the last one was this."""
        self._rows_read = attempts
        self._last_row = dict(last_row)


def step_of(model: keras.Model) -> InstalledStep:
    """The model's step; made on first use, neither tracked nor saved by Keras."""
    holder = keras_seams.holder_of(model)
    if holder is None:
        holder = InstalledStep(model)
        keras_seams.set_holder(model, holder)
    return holder


def newest_row(model: keras.Model) -> dict[str, float] | None:
    """The newest step's telemetry by column name, or None where there is none."""
    holder = keras_seams.holder_of(model)
    return None if holder is None else holder.last_row or None


def compile_with(model: keras.Model, base: StepPlan) -> InstalledStep:
    """Make `base` hold for every `fit` and `train_on_batch` of a model that was just compiled."""
    step = step_of(model)
    step.base = replace(base)
    step.shadow()
    return step
