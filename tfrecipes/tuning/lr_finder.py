"""The learning-rate range test: several short sweeps, and the rate that they agree on."""

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import keras
import numpy as np

from tfrecipes.tuning.keeping import Snapshot, kept, variables_of
from tfrecipes.tuning.sweep import RisingRate, rising_rates, run_sweep
from tfrecipes.tuning.sweep_rules import Verdict, is_flat, read_sweep, scatter_of, verdict
from tfrecipes.views.live import Display, Moment
from tfrecipes.views.sweeps import plot_sweep

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# f(schedule): compiles the model with it.
Compile = Callable[[keras.optimizers.schedules.LearningRateSchedule], None]
# f(seed): batches for one sweep, in an order of its own.
Source = Callable[[int], Any]

# Where sweeps look when nobody says where, and how far they move if the loss rises elsewhere.
LOWEST, HIGHEST, SHIFT, SHIFTS = 1e-6, 10.0, 1e3, 2
# So far from the ends of the range a rise tells what it is about [factors].
_FROM_LOW, _FROM_HIGH = 100.0, 2.0
# A lowest rate that is given alone has at least this range above it [factor].
_RANGE = 1e4
# A linear sweep goes so far past the rate at which the loss of a logarithmic one rises.
_PAST_RISE = 2.0


@dataclass(frozen=True)
class FoundRate:
    """What the sweeps of a range test found.

    Attributes:
        suggestion: The peak learning rate to take.
        interval: (low, high) around it: any rate in it should do.
        learning_rates: Rising (rates,).
        losses: The batch's loss at each rate, NaN after a divergence (sweeps, rates).
        scale: "log" or "linear".
        rules: Where each rule points, the median over sweeps: `steepest` (the loss falls fastest),
            `valley` (two thirds along its longest fall), `lowest`, `rise` (it begins to rise fast).
        agreement: How far single sweeps would have answered apart [decades].
        warning: Why the answer is not to be trusted, one sentence; empty where it is.
        steps: Updates that were made.
        seconds: How long it took.
    """

    suggestion: float
    interval: tuple[float, float]
    learning_rates: np.ndarray
    losses: np.ndarray
    scale: str = "log"
    rules: dict[str, float] = field(default_factory=dict)
    agreement: float = 0.0
    warning: str = ""
    steps: int = 0
    seconds: float = 0.0

    def plot(self, path: str | os.PathLike[str] | None = None) -> "Figure":
        """Draws the sweeps, the suggestion, its interval and where each rule points.

        Args:
            path: Where to write the picture; None = nowhere.

        Returns:
            The matplotlib figure.
        """
        return plot_sweep(
            self.learning_rates,
            self.losses,
            self.suggestion,
            self.interval,
            path,
            rules=self.rules,
            scale=self.scale,
            warning=self.warning,
        )

    def as_dict(self) -> dict[str, Any]:
        """All of it as JSON values; None for NaN."""
        return {
            "suggestion": self.suggestion,
            "interval": list(self.interval),
            "scale": self.scale,
            "rules": self.rules,
            "agreement": self.agreement,
            "warning": self.warning,
            "steps": self.steps,
            "seconds": round(self.seconds, 3),
            "learning_rates": self.learning_rates.tolist(),
            "losses": [[x if math.isfinite(x) else None for x in row] for row in self.losses],
        }

    @property
    def reason(self) -> str:
        """Where the rate comes from, in a clause."""
        low, high = self.interval
        return f"found by {len(self.losses)} sweeps: from {low:.2g} to {high:.2g} will do"

    def __str__(self) -> str:
        low, high = self.interval
        rules = ", ".join(f"{name} {rate:.2g}" for name, rate in self.rules.items())
        lines = [
            f"Learning rate: {self.suggestion:.2g} (from {low:.2g} to {high:.2g} will do)",
            f"Rules: {rules}; single sweeps lie {self.agreement:.1f} decades apart",
            f"{len(self.losses)} sweeps, {self.steps} steps, {self.seconds:.1f} s",
        ]
        return "\n".join([*lines, f"Warning: {self.warning}"] if self.warning else lines)


def find(
    model: keras.Model,
    compile_model: Compile,
    source: Source,
    *,
    scale: str,
    steps: int,
    seeds: Sequence[int],
    low: float | None = None,
    high: float | None = None,
    display: Display | None = None,
) -> FoundRate:
    """Sweep a model and read the sweeps.

    Args:
        model: A built model; afterwards bitwise as before.
        compile_model: Compiles it with a schedule.
        source: Makes the batches of a sweep from its seed.
        scale: "log" or "linear".
        steps: Rates of a sweep.
        seeds: One a sweep.
        low: The lowest rate; None = 7 decades below the highest, or a part of it if linear.
        high: The highest rate; None = such that the loss rises within the range.
        display: Shows progress; None = none.
    """
    began = time.monotonic()
    with kept(model):
        sweeper = _Sweeper(model, compile_model, steps, len(seeds) + (scale == "linear"), display)
        first, scatter, may_lie_beyond = None, None, True
        if high is None or (low is None and scale == "linear"):
            around = _around(sweeper, source(seeds[0]), steps)
            first = around if scale == "log" and low is high is None else None
            if scale == "linear":
                scatter, may_lie_beyond = scatter_of(around.losses[None]), not around.rose
            at_high = around.high if scale == "log" else around.rise * _PAST_RISE
            least = (low or 0.0) * (_RANGE if scale == "log" else 2.0)
            high = high if high is not None else max(at_high, least)
        low = low if low is not None else _below(high, scale, steps)
        rates = rising_rates(low, high, steps, scale)
        losses = [] if first is None else [first.losses]
        losses += [sweeper.sweep(source(seed), rates) for seed in seeds[len(losses) :]]
        if not np.isfinite(losses).any():
            _refuse_not_finite(rates[0])
    found: Verdict = verdict(rates, np.stack(losses), scale, scatter, may_lie_beyond)
    return FoundRate(
        found.suggestion,
        found.interval,
        rates,
        np.stack(losses),
        scale,
        found.rules,
        found.agreement,
        found.warning,
        sweeper.steps,
        time.monotonic() - began,
    )


def _below(high: float, scale: str, steps: int) -> float:
    return high * LOWEST / HIGHEST if scale == "log" else high / steps


class _Around(NamedTuple):
    """A range of rates within which the loss of one sweep rose, if it did anywhere."""

    high: float
    rise: float
    rose: bool
    losses: np.ndarray


def _around(sweeper: "_Sweeper", source: Any, steps: int) -> _Around:
    high, came_from, shifts = HIGHEST, None, 0
    first = None
    while True:
        rates = rising_rates(_below(high, "log", steps), high, steps, "log")
        losses = sweeper.sweep(source, rates)
        reading = read_sweep(rates, losses)
        there = high
        if not reading.rose or reading.rise > high / _FROM_HIGH:
            there = high * SHIFT
        elif reading.rise < rates[0] * _FROM_LOW:
            there = high / SHIFT
        if there in (high, came_from) or shifts == SHIFTS:
            last = rates[min(int(np.isfinite(losses).sum()), len(rates) - 1)]
            if not np.isfinite(losses).all() and last < rates[0] * _FROM_LOW:
                _refuse_not_finite(last)
            here = _Around(high, reading.rise, reading.rose, losses)
            # Where nothing is learnt anywhere, rates from elsewhere are worth no more.
            return here if first is None or not is_flat(reading.fall, losses[None]) else first
        first = first or _Around(high, reading.rise, reading.rose, losses)
        high, came_from, shifts = there, high, shifts + 1


def _refuse_not_finite(rate: float) -> NoReturn:
    raise ValueError(
        "find_learning_rate: the loss must be finite at rates at which hardly anything moves. "
        f"Received: a loss or gradients that are NaN or infinite at a rate of {rate:.2g}. Check the "
        "data first (tfr.check(model, data)), and the loss."
    )


class _Sweeper:
    """Sweeps one model from the same start, as often as asked.

    Attributes:
        steps: Updates made so far.
    """

    def __init__(
        self,
        model: keras.Model,
        compile_model: Compile,
        most: int,
        sweeps: int,
        display: Display | None,
    ) -> None:
        self.steps = 0
        self._model, self._display = model, display
        self._sweeps, self._done, self._drawn = sweeps, 0, 0.0
        with model.distribute_strategy.scope():
            self._schedule = RisingRate(most)
        compile_model(self._schedule)
        with model.distribute_strategy.scope():
            model.optimizer.build(model.trainable_variables)
        self._begin = Snapshot([*variables_of(model), *model.optimizer.variables])

    def sweep(self, source: Any, rates: np.ndarray) -> np.ndarray:
        """One sweep from the start (n,)."""
        self._begin.restore()
        self._schedule.set(rates)
        tell = None if self._display is None else lambda step, loss: self._show(step, loss, rates)
        losses = run_sweep(self._model, source, len(rates), tell)
        self._done += 1
        self.steps += int(np.isfinite(losses).sum())
        return losses

    def _show(self, step: int, loss: float, rates: np.ndarray) -> None:
        display, now = self._display, time.monotonic()
        if display is None or now - self._drawn < display.interval:
            return
        self._drawn = now
        number = self._done + 1  # more than were asked for, where the range had to move
        title = f"learning rate sweep {number}/{max(number, self._sweeps)}"
        parts = (f"loss {loss:.4g}", f"lr {rates[step - 1]:.2g}")
        display.show(Moment(title, step, len(rates), parts))
