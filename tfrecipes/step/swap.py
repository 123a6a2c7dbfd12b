"""Which weights the model holds: the raw ones while it trains, the average while it is looked at.

Exact copies in both directions; stock Keras swaps by adding and subtracting, and changed 112 of
321 weights in one swap (KERAS_FACTS 11).
"""

import keras
import tensorflow as tf

from tfrecipes.step.keras_seams import local
from tfrecipes.step.state import StepState, host_value


class AverageSwap:
    """Shows the average of one model in its variables, and takes it away again.

    Attributes:
        shown: Whether the model's variables hold the average.
    """

    def __init__(self, state: StepState) -> None:
        self._state = state
        self._raw: list[tf.Tensor] = []
        self._left: list[tf.Tensor] = []
        self.shown = False

    def show(self) -> None:
        """Put the average into the model, keeping the raw weights; nothing where it is shown."""
        if self.shown or not int(host_value(self._state.averaged)):
            return
        variables = self._state.averaged_variables
        self._raw = [tf.identity(host_value(v)) for v in variables]
        for variable, average in zip(variables, self._state.averages, strict=True):
            _assign(variable, host_value(average))
        self._left = [tf.identity(host_value(v)) for v in variables]
        self.shown = True

    def hide(self) -> bool:
        """Put the raw weights back, if the model still holds what `show` left.

        Returns:
            False where somebody changed the model meanwhile: then its weights are kept as they
            are, the average starts anew from them, and the caller says so.
        """
        if not self.shown:
            return True
        self.shown = False
        if not self._is_untouched():
            self._forget()
            self._state.restart_average()
            return False
        for variable, raw in zip(self._state.averaged_variables, self._raw, strict=True):
            _assign(variable, raw)
        self._forget()
        return True

    def _is_untouched(self) -> bool:
        return all(
            same_bits(host_value(variable), left)
            for variable, left in zip(self._state.averaged_variables, self._left, strict=True)
        )

    def _forget(self) -> None:
        self._raw, self._left = [], []

    def raw_values(self) -> list[tf.Tensor]:
        """The raw weights, wherever they are now."""
        if self.shown:
            return list(self._raw)
        return [host_value(v) for v in self._state.averaged_variables]


def same_bits(a: tf.Tensor, b: tf.Tensor) -> bool:
    """Whether two tensors hold the same bits, NaNs included."""
    integer = {2: tf.uint16, 4: tf.uint32, 8: tf.uint64}[a.dtype.size]
    return bool(tf.reduce_all(tf.equal(tf.bitcast(a, integer), tf.bitcast(b, integer))))


def _assign(variable: keras.Variable, value: tf.Tensor) -> None:
    variable.value.assign(tf.cast(value, local(variable).dtype))
