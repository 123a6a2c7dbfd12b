"""The host's end of the telemetry's rings: what is new in them, how long it took, who is told."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from tfrecipes.arithmetic import layer_groups, telemetry
from tfrecipes.step.keras_seams import local
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.state import RING_ROWS, StepState

# The host looks at the ring at least this often [s]: steps.csv may be 5 s behind.
READ_EVERY = 1.0

# Columns' names, and rows (steps, columns) float64.
Sink = Callable[[tuple[str, ...], np.ndarray], None]


@dataclass(frozen=True)
class Lap:
    """Steps of one epoch between two looks, without a fit's first call, which traces.

    Attributes:
        steps: How many.
        seconds: How long they took, from look to look.
        waited: How much of it was waiting for data [s].
    """

    steps: int = 0
    seconds: float = 0.0
    waited: float = 0.0


class Rows:
    """Reads a step's rings in blocks, for one fit after the other.

    Attributes:
        sinks: Called with the names and the new rows.
        layer_sinks: The same for the layer groups' rows; their first column is the step.
        lap: The steps that the last read was about.
        last: The newest row by column name; empty before the first.
        attempts: The steps that were read so far.
    """

    def __init__(self) -> None:
        self.sinks: list[Sink] = []
        self.layer_sinks: list[Sink] = []
        self.last: dict[str, float] = {}
        self.lap = Lap()
        self.attempts = 0
        self._when = 0.0
        self._calls = 0
        self._began = (0, 0.0, 0.0)  # of the lap: steps before it, the time, seconds waited
        self._traces = True

    def begin(self, state: StepState, last: Mapping[str, float] | None = None) -> None:
        """Leave what the ring holds to earlier fits; `last` is the row that a resume knows."""
        if last is None:
            self.sinks, self.layer_sinks = [], []
        self.last = dict(last or {})
        self.attempts = int(local(state.attempts))
        self._traces = True

    def begin_lap(self, state: StepState, steps: int = 0) -> None:
        """The clock starts: at an epoch's start, or after `steps` that it is not to count."""
        if self.sinks:
            self._began = (self.attempts + steps, time.perf_counter(), state.waits.seconds)

    def called(self, state: StepState, steps: int) -> None:
        """A call of so many steps is over."""
        if self._traces:
            self._traces = False
            self.begin_lap(state, steps)

    def are_due(self, steps: int) -> bool:
        """Whether to read after one more call of so many steps."""
        if not self.sinks:
            return False
        self._calls += 1
        return self._calls * steps >= RING_ROWS // 2 or time.monotonic() - self._when >= READ_EVERY

    def read(self, state: StepState, plan: StepPlan) -> None:
        """Fetch the rows that are new and hand them on."""
        self._when, self._calls = time.monotonic(), 0
        first, self.attempts = self.attempts, int(local(state.attempts))
        if first >= self.attempts:
            return
        self._end_lap(state)
        names, rows = self._read_rows(state, plan, first)
        if len(rows):
            self.last = dict(zip(names, map(float, rows[-1]), strict=True))
            for sink in self.sinks:
                sink(names, rows)
        if self.layer_sinks and plan.layers is not None:
            names, rows = self._read_layers(state, plan.layers, first)
            for sink in self.layer_sinks if len(rows) else ():
                sink(names, rows)

    def _end_lap(self, state: StepState) -> None:
        if not self.sinks:
            return
        before, began, waited = self._began
        self.begin_lap(state)
        _, now, waited_now = self._began
        self.lap = Lap(max(0, self.attempts - before), now - began, waited_now - waited)

    def _read_rows(
        self, state: StepState, plan: StepPlan, first: int
    ) -> tuple[tuple[str, ...], np.ndarray]:
        ring, names = state.rings.get(plan.columns), telemetry.names(plan.columns)
        if ring is None:
            return names, np.empty((0, len(names)))
        numbers = np.arange(max(first, self.attempts - RING_ROWS), self.attempts)
        rows = local(ring).numpy()[numbers % ring.shape[0]]
        return names, telemetry.table(plan.columns, numbers, rows)

    def _read_layers(
        self, state: StepState, every: int, first: int
    ) -> tuple[tuple[str, ...], np.ndarray]:
        names = ("step", *layer_groups.names(state.groups))
        ring = state.layer_rings.get((every, state.groups))
        if ring is None:
            return names, np.empty((0, len(names)))
        size = int(ring.shape[0])
        numbers = np.arange(-(-first // every), -(-self.attempts // every))[1 - size :]
        rows = layer_groups.norms_of(local(ring).numpy()[numbers % size])
        return names, np.column_stack([numbers * every, rows.astype(np.float64)])
