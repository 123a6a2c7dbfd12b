"""The running `fit`: its epoch iterator, its callbacks, its end."""

import inspect
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer
from keras.src.callbacks.monitor_callback import MonitorCallback
from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter
from keras.src.trainers.data_adapters.generator_data_adapter import GeneratorDataAdapter

from tfrecipes.step.keras_seams.models import is_built
from tfrecipes.step.keras_seams.optimizers import rehomed


@dataclass(frozen=True)
class Fit:
    """What the running `fit` holds, read from the frame that called `make_train_function`."""

    iterator: Any
    callbacks: keras.callbacks.CallbackList
    epochs: int
    initial_epoch: int
    validation_data: Any
    validation_steps: int | None
    validation_batch_size: int | None
    x: Any = None
    y: Any = None
    batch_size: int | None = None
    weighted: bool = False  # by class or sample

    @property
    def steps(self) -> int | None:
        """Calls of the train function an epoch, or None where Keras does not know."""
        return self.iterator.num_batches

    @property
    def steps_were_given(self) -> bool:
        return bool(self.iterator.steps_per_epoch)

    @property
    def data_are_finite(self) -> bool:
        count = self.iterator.data_adapter.num_batches
        return count is not None and count > 0

    @property
    def data_end_with_the_epoch(self) -> bool:
        return self.iterator.data_adapter.num_batches == self.iterator.num_batches

    @property
    def reads_arrays(self) -> bool:
        """Whether `fit` was given arrays, which it cuts into batches itself."""
        return isinstance(self.iterator.data_adapter, ArrayDataAdapter)

    @property
    def total_steps(self) -> int | None:
        """Calls of the train function in this fit, or None where Keras does not know."""
        return None if self.steps is None else self.steps * (self.epochs - self.initial_epoch)

    def is_reading(self, iterator: Any) -> bool:
        """Whether this is the iterator that the running epoch reads."""
        return iterator is self.iterator._current_iterator

    def give_back(self, batches: int) -> None:
        """Tell Keras that a call took fewer batches than it counts for one."""
        self.iterator._steps_seen -= batches

    def count_updates(self, group: int) -> None:
        """Let this fit count groups of batches: bars, `steps` and the epoch's end."""
        if self.iterator._num_batches is not None:
            self.iterator._num_batches = -(-self.iterator._num_batches // group)
            self.callbacks.set_params({**self.callbacks.params, "steps": self.steps})
        # The end of a source of unknown length is no "ran out of data": the last, partial
        # window was applied.
        self.iterator._interrupted_warning = lambda: None

    @property
    def data_are_one_shot(self) -> bool:
        """Whether a second pass over the training data would find none."""
        return isinstance(self.iterator.data_adapter, GeneratorDataAdapter)

    @property
    def batches_an_epoch(self) -> int | None:
        """Batches of one pass, not updates; None = to the end of the data."""
        return self.iterator.steps_per_epoch or self.iterator.data_adapter.num_batches

    def batches(self) -> Iterator[Any]:
        """The training batches once more, from their start."""
        return iter(self.iterator._get_iterator())

    def forget_best_of_nothing(self) -> None:
        """Let callbacks that keep the best of a value forget one that is no number.

        Nothing compares as better than NaN: Keras would keep it for ever (KERAS_FACTS 33).
        """
        for callback in self.callbacks.callbacks:
            if isinstance(callback, MonitorCallback) and callback.best is not None:
                best: Any = keras.ops.convert_to_numpy(callback.best)
                callback.best = None if math.isnan(float(best)) else callback.best

    def call_last(self, callback: keras.callbacks.Callback) -> None:
        """Move a callback to the end of this fit's list."""
        listed = self.callbacks.callbacks
        if any(one is callback for one in listed):
            listed[:] = [*(one for one in listed if one is not callback), callback]


def fit_iterator(model: keras.Model) -> Any | None:
    """The epoch iterator of the `fit` of this model that is calling us, or None."""
    held = _fit_locals(model)
    return None if held is None else held["epoch_iterator"]


def fits_running(model: keras.Model) -> int:
    """How many `fit` of this model are on the stack."""
    count, frame = 0, sys._getframe(1)
    while frame is not None:
        count += frame.f_code is _FIT_CODE and frame.f_locals.get("self") is model
        frame = frame.f_back
    return count


def running_fit(model: keras.Model) -> Fit | None:
    """The `fit` of this model that is calling us, its callbacks listed, or None."""
    held = _fit_locals(model)
    if held is None:
        return None
    return Fit(
        iterator=held["epoch_iterator"],
        callbacks=held["callbacks"],
        epochs=held["epochs"],
        initial_epoch=held["initial_epoch"],
        validation_data=held["validation_data"],
        validation_steps=held["validation_steps"],
        validation_batch_size=held["validation_batch_size"] or held["batch_size"],
        x=held["x"],
        y=held["y"],
        batch_size=held["batch_size"],
        weighted=held["class_weight"] is not None or held["sample_weight"] is not None,
    )


def _fit_locals(model: keras.Model) -> dict[str, Any] | None:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code is _FIT_CODE and frame.f_locals.get("self") is model:
            held = frame.f_locals
            return held if "epoch_iterator" in held else None
        frame = frame.f_back
    return None


# The body of Keras's `fit`, inside the decorator that shortens tracebacks.
_FIT_CODE = inspect.unwrap(TensorFlowTrainer.fit).__code__


def begin_at(model: keras.Model, epoch: int | None) -> None:
    """The epoch at which the running `fit` begins, before its first; None = where it was told."""
    model._initial_epoch = epoch


def set_method(model: keras.Model, name: str, method: Callable[..., Any]) -> None:
    """Shadow a method on one model. Keras neither tracks nor saves it."""
    object.__setattr__(model, name, method)


def clear_method(model: keras.Model, name: str) -> None:
    if name in model.__dict__:
        object.__delattr__(model, name)


def holder_of(model: keras.Model, name: str = "_tfrecipes") -> Any:
    return model.__dict__.get(name)


def set_holder(model: keras.Model, holder: Any, name: str = "_tfrecipes") -> None:
    object.__setattr__(model, name, holder)


EPOCH_END = "_get_metrics_result_or_logs"


def metrics_or_logs(model: keras.Model, logs: Any) -> Any:
    return type(model)._get_metrics_result_or_logs(model, logs)


def _maybe_symbolic_build(self: keras.Model, iterator: Any = None, data_batch: Any = None) -> None:
    """Keras's own, without the reduce of a first batch that replicas share unevenly.

    Only shapes beyond the first axis are looked at, so any replica's part will do. Keras takes
    the mean over replicas, which fails for unequal parts (KERAS_FACTS 25) and on several workers
    (27). Under no strategy Keras does nothing here, nor do we.
    """
    strategy = self._distribute_strategy
    if strategy is None or is_built(self):
        return
    if self.optimizer is not None:
        self.optimizer = rehomed(self.optimizer, strategy)
    for _, _, batches in iterator or ():
        data_batch = keras.tree.map_structure(
            lambda part: strategy.experimental_local_results(part)[0], next(batches)
        )
        break
    with strategy.scope():
        self._symbolic_build(data_batch=data_batch)


def mend_symbolic_build() -> None:
    """Put our version in Keras's place, where Keras still has the fault."""
    if '"MEAN"' in inspect.getsource(TensorFlowTrainer._maybe_symbolic_build):
        setattr(TensorFlowTrainer, "_maybe_symbolic_build", _maybe_symbolic_build)  # noqa: B010
