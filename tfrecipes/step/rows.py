"""The host's end of the telemetry's ring: what is new in it, and who is told."""

import time
from collections.abc import Callable, Mapping

import numpy as np

from tfrecipes.arithmetic import telemetry
from tfrecipes.arithmetic.telemetry import Column
from tfrecipes.step.keras_seams import local
from tfrecipes.step.state import RING_ROWS, StepState

# The host looks at the ring at least this often [s]: steps.csv may be 5 s behind.
READ_EVERY = 1.0

# Columns' names, and rows (steps, columns) float64.
Sink = Callable[[tuple[str, ...], np.ndarray], None]


class Rows:
    """Reads a step's ring in blocks, for one fit after the other.

    Attributes:
        sinks: Called with the names and the new rows.
        last: The newest row by column name; empty before the first.
    """

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.last: dict[str, float] = {}
        self._read = 0
        self._when = 0.0
        self._calls = 0

    def begin(self, state: StepState, last: Mapping[str, float] | None = None) -> None:
        """Leave what the ring holds to earlier fits; `last` is the row that a resume knows."""
        if last is None:
            self.sinks = []
        self.last = dict(last or {})
        self._read = int(local(state.attempts))

    def are_due(self, steps: int) -> bool:
        """Whether to read after one more call of so many steps."""
        if not self.sinks:
            return False
        self._calls += 1
        return self._calls * steps >= RING_ROWS // 2 or time.monotonic() - self._when >= READ_EVERY

    def read(self, state: StepState, columns: tuple[Column, ...]) -> None:
        """Fetch the rows that are new and hand them on."""
        self._when, self._calls = time.monotonic(), 0
        ring = state.rings.get(columns)
        if ring is None:
            return
        attempts = int(local(state.attempts))
        first = max(self._read, attempts - RING_ROWS)
        if first >= attempts:
            return
        names = telemetry.names(columns)
        numbers = np.arange(first, attempts)
        rows = local(ring).numpy()[numbers % RING_ROWS].astype(np.float64)
        if "step" in names:
            # From the integer counter: float32 counts exactly to 2**24 only.
            rows[:, names.index("step")] = numbers
        self._read = attempts
        self.last = dict(zip(names, map(float, rows[-1]), strict=True))
        for sink in self.sinks:
            sink(names, rows)
