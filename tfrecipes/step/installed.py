"""Our step on one model: callbacks register, `fit` seals the plan, the train function runs it.

`fit` calls every callback's `set_model`, then `make_train_function`. A registered callback says
in `claims(fit)` what the step must do; the shadowing `make_train_function` seals the plan from
all of them at once and builds or finds the function. Where no callback of ours is in a `fit`,
and no recipe compiled the model, the shadow removes itself and stock Keras runs.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol, runtime_checkable

import keras

from tfrecipes.step import keras_seams, stopping
from tfrecipes.step.accept import accepted
from tfrecipes.step.calls import Calls
from tfrecipes.step.keras_seams import Fit
from tfrecipes.step.plan import Claims, StepPlan
from tfrecipes.step.rows import Lap, Rows, Sink
from tfrecipes.step.showing import FitAverage
from tfrecipes.step.state import StepState
from tfrecipes.step.swap import AverageSwap
from tfrecipes.step.traced import TracedFunctions

# How often the host looks whether the device stopped the run [s].
WATCH_EVERY = 0.05


@runtime_checkable
class Claimant(Protocol):
    """A callback of ours, as the step sees it."""

    def claims(self, fit: Fit) -> Mapping[str, Any]: ...
    def sealed(self, step: "InstalledStep") -> None: ...


class InstalledStep:
    """The step of one model, between its fits.

    Attributes:
        plan: The plan of the running or last fit.
        state: The step's variables; new with a new optimizer.
        base: What holds without any callback, set by `recipe.compile`; None = nothing does.
        stopped: Why the run stopped for good, or None.
        after_call: Called on the host after each call of the train function.
        at_epoch_end: Called after an epoch's loop, before validation.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._registered: list[Claimant] = []
        self._for_fit: Any = None
        self._functions = TracedFunctions(model)
        self._in_epoch = False
        self._evaluating = 0
        self._rows = Rows()
        self._optimizer: Any = None
        self._compiled: Any = None
        self._sealed_for: Any = None
        self.base: StepPlan | None = None
        self.plan = StepPlan()
        self.stopped: str | None = None
        self._skip_calls, self._pull_skipped = 0, False
        self._watched = 0.0
        self._calls = Calls()
        self.after_call: list[Callable[[], None]] = []
        self.at_epoch_end: list[Callable[[], None]] = []
        self._new_state()

    # -- registering and sealing ---------------------------------------------------------------

    def register(self, callback: Claimant) -> None:
        """A callback's `set_model` in a running `fit`."""
        self.shadow()
        iterator = keras_seams.fit_iterator(self._model)
        if iterator is None:
            return  # `evaluate`, `predict` and a CallbackList made before `fit` call it too
        if iterator is not self._for_fit:
            self._for_fit, self._registered = iterator, []
        if not any(one is callback for one in self._registered):
            self._registered.append(callback)

    def shadow(self) -> None:
        keras_seams.set_method(self._model, "make_train_function", self._make_train_function)

    def _make_train_function(self, force: bool = False) -> Any:
        fit = keras_seams.running_fit(self._model)
        self._refuse_nested()
        if fit is not None and fit.iterator is self._sealed_for:
            return self._model.train_function  # a `train_on_batch` inside the fit
        callbacks = self._take_registered(fit)
        if self.base is not None and keras_seams.compile_token(self._model) is not self._compiled:
            self.base = None  # somebody compiled the model anew
        if not callbacks and self.base is None:
            self.remove()
            self._model.make_train_function(force)
            return self._model.train_function
        self._adopt_optimizer()
        plan = self._seal(callbacks, fit)
        self.stopped, self._in_epoch = None, False
        self.after_call, self.at_epoch_end, self._skip_calls = [], [], 0
        self.plan = plan
        self._sealed_for = None if fit is None else fit.iterator
        self._rows.begin(self.state)
        self.state.begin(plan)
        if fit is not None:
            self.at_epoch_end.append(fit.forget_best_of_nothing)
            if plan.accumulate > 1:
                fit.count_updates(plan.accumulate)
        self._calls = Calls(fit, self._model.steps_per_execution)
        self._average.begin(plan.average, fit)
        compiled = self._functions.function(plan, self.state, force)
        self._set_train_function(self._host_function(compiled))
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
        listed = [] if fit is None else fit.callbacks.callbacks
        for callback in listed:
            claims = isinstance(callback, Claimant)
            if claims and not any(one is callback for one in ours):
                ours.append(callback)
        return ours

    def _refuse_nested(self) -> None:
        if keras_seams.fits_running(self._model) > 1:
            raise ValueError(
                "TrainStep: `model.fit` was called inside a `fit` of the same model, whose step "
                "and average are in use. Fit a clone, or after the outer one."
            )

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
        self._average = FitAverage(self._model, self.state)

    def remove(self) -> None:
        """Give the model its own methods back. The state stays for a further fit."""
        for name in ("make_train_function", keras_seams.EPOCH_END, "evaluate"):
            keras_seams.clear_method(self._model, name)
        self._set_train_function(None)

    def finished(self) -> None:
        """The fit is over: without a recipe's compile the model is stock again."""
        if self._sealed_for is None:
            return
        self.read_rows()
        # What holds the fit's data goes with it.
        self._sealed_for, self._calls = None, Calls()
        self.after_call, self.at_epoch_end = [], []
        average = self.plan.average
        if average is not None and not int(keras_seams.local(self.state.averaged)):
            print(f"{type(average).__name__}: training ended before the first average.")
        if self.base is None:
            self.remove()
        else:
            keras_seams.clear_method(self._model, keras_seams.EPOCH_END)
            keras_seams.clear_method(self._model, "evaluate")

    # -- the train function --------------------------------------------------------------------

    def _host_function(self, compiled: Callable[[Any], Any]) -> Callable[[Any], Any]:
        def train_function(iterator: Any) -> Any:
            begins, self._in_epoch = not self._in_epoch, True
            steps = self._calls.next(iterator)
            if self._skip_calls:
                return self._skipped_call(iterator, steps)
            self._average.show_raw()
            if begins:
                self._rows.begin_lap(self.state)
            function = compiled
            if steps != whole:
                function = self._functions.shorter(self.plan, self.state, steps)
            logs = function(iterator)
            self._after_call(steps)
            return logs

        whole = self._calls.group
        return train_function

    def skip(self, calls: int, pull: bool) -> None:
        """Let the next calls do nothing: a resumed epoch's steps that were done before.

        Args:
            calls: How many calls of the train function.
            pull: Whether each reads its batches away, where the data begin at the epoch's start.
        """
        self._skip_calls, self._pull_skipped = calls, pull

    def _skipped_call(self, iterator: Any, steps: int) -> dict[str, Any]:
        self._skip_calls -= 1
        if self._pull_skipped:
            for _ in range(steps * self.plan.accumulate):
                next(iterator, None)
        return keras_seams.metrics_result(self._model)

    def _after_call(self, steps: int) -> None:
        self._rows.called(self.state, steps)
        if time.monotonic() - self._watched >= WATCH_EVERY:
            self._watch_bad_steps()
        if self._rows.are_due(steps):
            self.read_rows()
        for hook in tuple(self.after_call):  # one may take itself away
            hook()

    def _watch_bad_steps(self) -> None:
        # Reading a device's variable waits for the step, which a good one need not pay each time.
        # Until it is seen a stopped run's steps do nothing: the device knows at once.
        self._watched = time.monotonic()
        if not self.stopped and (reason := stopping.reason(self._model, self.state)):
            self.stop(reason)

    def stop(self, reason: str) -> None:
        """End the fit after this step, for good."""
        self.stopped = reason
        self._model.stop_training = True
        print(reason)

    # -- an epoch's end ------------------------------------------------------------------------

    @property
    def swap(self) -> AverageSwap:
        """Which weights the model holds."""
        return self._average.swap

    def average_now(self, after: int) -> None:
        """Move the average once from the host, if more than `after` updates of this fit are done."""
        if self.plan.average is not None:
            self._average.move(self.plan.average, after)

    def _metrics_or_logs(self, logs: Any) -> Any:
        """After every epoch's loop, and in every `evaluate`, where there is nothing to do."""
        result = keras_seams.metrics_or_logs(self._model, logs)
        if self._evaluating or not self._in_epoch:
            return result
        self._in_epoch = False
        self._calls.end_epoch()
        self._watch_bad_steps()
        self.read_rows()
        if isinstance(result, dict) and keras_seams.saw_nothing(self._model):
            # Every step was skipped. Keras's 0.0 would be the best loss there ever was.
            result = dict.fromkeys(result, float("nan"))
        if self.plan.average is not None and self.plan.average.shown_in_epochs:
            self.swap.show()
        for hook in self.at_epoch_end:
            hook()
        own = {name: value for name, value in self._rows.last.items() if name != "loss"}
        return {**result, **own} if isinstance(result, dict) else result

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        self._evaluating += 1
        try:
            return type(self._model).evaluate(self._model, *args, **kwargs)
        except BaseException:
            if keras_seams.fit_iterator(self._model) is not None:
                self._average.show_raw()
            raise
        finally:
            self._evaluating -= 1

    # -- telemetry -----------------------------------------------------------------------------

    def add_sink(self, sink: Sink) -> None:
        """Have new rows sent, about once a second, at an epoch's end and at the fit's."""
        self._rows.sinks.append(sink)

    def add_layer_sink(self, sink: Sink) -> None:
        """Have new rows of the layer groups sent, when the steps' rows are."""
        self._rows.layer_sinks.append(sink)

    @property
    def lap(self) -> Lap:
        """How long the steps that were read last took."""
        return self._rows.lap

    def read_rows(self) -> None:
        """Fetch the rows that are new in the ring and hand them on."""
        self._rows.read(self.state, self.plan)

    @property
    def last_row(self) -> dict[str, float]:
        """The newest step's columns, read now; empty without telemetry or before the first."""
        self.read_rows()
        return self._rows.last

    def resumed(self, last_row: Mapping[str, float]) -> None:
        """After a resume: rows so far are on disk, the last one was this; the average goes on."""
        self._rows.begin(self.state, last_row)
        self._average.go_on()


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
    step._compiled = keras_seams.compile_token(model)
    step.shadow()
    return step
