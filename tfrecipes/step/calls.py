"""How many steps each call of the train function runs: an epoch's last call may run fewer."""

from typing import Any

from tfrecipes.step.keras_seams import Fit


class Calls:
    """The calls of one `fit`, counted within its epochs.

    Keras's function runs `steps_per_execution` steps a call, the last one of an epoch too: over
    data that go on after the epoch it would run more steps than were asked for.

    Attributes:
        group: Steps of a whole call.

    Args:
        fit: The running `fit`; None outside one.
        group: Steps of a whole call.
    """

    def __init__(self, fit: Fit | None = None, group: int = 1) -> None:
        self.group = group
        self._fit, self._done = fit, 0
        # Where the data end with the epoch, the last call is cut by their end.
        bounded = fit is not None and fit.steps_were_given and not fit.data_end_with_the_epoch
        self._steps = (fit.steps or 0) if fit is not None and bounded else 0

    def next(self, iterator: Any) -> int:
        """The number of steps that this call on the iterator runs."""
        if not self._steps or self._fit is None or not self._fit.is_reading(iterator):
            return self.group  # a `train_on_batch` inside the fit is no call of it
        steps = min(self.group, self._steps - self._done)
        self._done += steps
        if steps < self.group:
            self._fit.give_back(self.group - steps)
        return steps

    def end_epoch(self) -> None:
        self._done = 0
