"""Numbers that noise and single bad steps do not move: medians, spreads, trends."""

import math
from dataclasses import dataclass

import numpy as np

_MAD_TO_SIGMA = 1.4826  # of a normal distribution
_MEDIAN_TO_MEAN = 1.2533  # a median's standard error beside a mean's, sqrt(pi / 2)

Array = np.ndarray


def finite(values: Array) -> Array:
    """The finite ones."""
    return values[np.isfinite(values)]


def median(values: Array) -> float:
    """Of the finite values; NaN where there are none."""
    values = finite(values)
    return float(np.median(values)) if values.size else math.nan


def highest(values: Array) -> float:
    """The largest finite value; NaN where there is none."""
    values = finite(values)
    return float(values.max()) if values.size else math.nan


def parts(values: Array, count: int) -> list[Array]:
    """Consecutive parts of nearly equal length, none empty."""
    return [part for part in np.array_split(values, min(count, max(1, values.size))) if part.size]


def medians(values: Array, count: int) -> Array:
    """The median of each of `count` consecutive parts; NaN where a part has no finite value."""
    return np.array([median(part) for part in parts(values, count)])


def noise(values: Array) -> float:
    """The deviation from one value to the next, a trend left out: sigma of the differences / sqrt 2."""
    values = finite(values)
    if values.size < 3:
        return 0.0
    steps = np.abs(np.diff(values))
    return float(_MAD_TO_SIGMA * np.median(steps) / math.sqrt(2))


def median_error(values: Array) -> float:
    """The standard error of a part's median, from its step-to-step noise."""
    values = finite(values)
    return _MEDIAN_TO_MEAN * noise(values) / math.sqrt(max(1, values.size))


def longest_run(bad: Array) -> int:
    """Most True in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def rank_correlation(values: Array) -> float:
    """Spearman's, of the values with their order; 0 where all are equal."""
    if values.size < 3 or np.ptp(values) == 0:
        return 0.0
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(values.size))[0, 1])


def entropy(shares: Array) -> float:
    """-sum p log p, in nats: the cross-entropy of who guesses these shares."""
    shares = shares[shares > 0]
    return float(-(shares * np.log(shares)).sum())


@dataclass(frozen=True)
class Trend:
    """The training loss as a few robust points in time.

    Attributes:
        points: Medians of equal parts of the run, or the epochs' means.
        errors: Standard error of each point, 0 where it is not known.
        basis: What they are made of, in words.
        start: The first steps' loss, before training moved it; the first point where only epochs
            are known.
        of_steps: Whether the points come from single steps.
    """

    points: Array
    errors: Array
    basis: str
    start: float
    of_steps: bool

    @property
    def best(self) -> float:
        """The lowest point."""
        return float(self.points.min())

    @property
    def end(self) -> float:
        """The last point."""
        return float(self.points[-1])

    @property
    def error(self) -> float:
        """A typical point's standard error."""
        return float(np.median(self.errors))


def plural(count: int, thing: str) -> str:
    """1 step, 2 steps."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def short(value: float) -> str:
    """A number for a sentence."""
    return f"{value:.3g}"


def rate(value: float) -> str:
    """A learning rate to be typed: two digits are all that a rate is known to."""
    return f"{value:.2g}"
