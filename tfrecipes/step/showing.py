"""A fit's average on the host: when it begins, moves between steps, and gives way to raw weights."""

from typing import Any

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import Fit
from tfrecipes.step.plan import Averaging
from tfrecipes.step.state import StepState
from tfrecipes.step.swap import AverageSwap
from tfrecipes.step.update import move, split_scaler


class FitAverage:
    """The average of one model from fit to fit, while its optimizer stays.

    Attributes:
        swap: Which weights the model holds.

    Args:
        model: The model.
        state: The step's variables, the average among them.
    """

    def __init__(self, model: keras.Model, state: StepState) -> None:
        self._model = model
        self._state = state
        self._kind: Any = None
        self._restart = False
        self.swap = AverageSwap(state)

    def _updates(self) -> tf.Variable:
        inner, _ = split_scaler(self._model.optimizer)
        return keras_seams.local(keras_seams.iterations(inner))

    def begin(self, average: Averaging | None, fit: Fit | None) -> None:
        """A fit begins with this average, or without one."""
        kind = None if average is None else average.kind()
        if kind != self._kind:
            # The model keeps what it holds; what was put aside belongs to no run any more.
            self.swap = AverageSwap(self._state)
        self._kind = kind
        if fit is None or average is None:
            return
        self._state.average_start.assign(tf.cast(self._updates(), tf.int64))
        average.resolve(fit)
        # Not before the first step: callbacks may load weights when training begins.
        self._restart = not self.swap.shown

    def go_on(self) -> None:
        """The average was put back by a resume: it does not start anew."""
        self._restart = False

    def move(self, average: Averaging, after: int) -> None:
        """Move it once from the host, if more than `after` updates of this fit are done."""
        if int(self._updates()) - int(keras_seams.local(self._state.average_start)) > after:
            self._model.distribute_strategy.run(lambda: move(average, self._state))

    def show_raw(self) -> None:
        """Before a step: the model holds raw weights, and the average has begun."""
        if self._restart:
            self._restart = False
            self._state.restart_average()
        if self.swap.shown and not self.swap.hide():
            print(
                "Average: the model's weights were changed since the average was put in; "
                "training goes on from them, and the average starts anew."
            )
