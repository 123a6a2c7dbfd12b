"""What a sweep's losses say: where learning begins, where it is steepest, where it tips over."""

import math
from dataclasses import dataclass

import numpy as np

# Losses are smoothed over this much of the rates' span on a log scale [decades].
_WIDTH = 0.15
# The share of the rates, from the lowest, that shows what the loss is, and how much it scatters,
# where nothing moves.
_QUIET = 0.25
# What counts as a rise after the lowest loss: this share of the fall, or so many deviations.
_RISE, _DEVIATIONS = 0.1, 3.0


@dataclass(frozen=True)
class Reading:
    """One sweep, read.

    Attributes:
        steepest: The rate at which the loss falls fastest over the rate's logarithm.
        valley: The rate two thirds along the longest fall.
        lowest: The rate at which the loss is lowest.
        rise: The rate at which the loss begins to rise fast; the last rate where it never did.
        rose: Whether it rose.
        fall: How far the smoothed loss fell.
    """

    steepest: float
    valley: float
    lowest: float
    rise: float
    rose: bool
    fall: float


def read_sweep(
    rates: np.ndarray, losses: np.ndarray, scale: str = "log", scatter: float | None = None
) -> Reading:
    """Read one sweep.

    Args:
        rates: Rising (n,).
        losses: NaN from the divergence on (n,).
        scale: "log" or "linear": over what the loss is smoothed, and its slope taken.
        scatter: Of a batch's loss about the loss; None = as this sweep shows it.

    Example:
        >>> rates = np.geomspace(1e-5, 10, 61)
        >>> losses = 2 - np.clip(np.log10(rates / 1e-3), 0, 1) + np.maximum(rates - 0.1, 0) * 10
        >>> reading = read_sweep(rates, losses)
        >>> reading.rose, 0.05 < reading.rise < 0.2, 1e-3 < reading.steepest < 1e-2
        (True, True, True)
    """
    known = np.isfinite(losses)
    last = int(np.argmin(known)) if not known.all() else len(losses)
    y = np.asarray(losses[:last], np.float64)
    if last < 3:
        return Reading(*[float(rates[0])] * 4, rose=last < len(losses), fall=0.0)
    x = np.log10(rates[:last]) if scale == "log" else rates[:last] / rates[-1]
    # On a linear scale the very first rate moves much: only its loss is from before.
    start = float(np.median(_quiet(y)) if scale == "log" else y[0])
    scatter = scatter_of(losses[None]) if scatter is None else scatter
    # A loss that runs away is cut: smoothing would carry it to the rates before.
    smooth = smoothed(x, np.minimum(y, start + max(abs(start), 10 * scatter)))
    slopes = np.gradient(smooth, x)
    lowest = int(np.argmin(smooth))
    fell = max(start - float(smooth[lowest]), 0.0)
    limit = smooth[lowest] + max(_RISE * fell, _DEVIATIONS * scatter)
    above = np.flatnonzero(smooth[lowest:] > limit)
    place = lowest + int(above[0]) if len(above) else last - 1
    return Reading(
        steepest=float(rates[int(np.argmin(slopes[: lowest + 1]))]),
        valley=float(rates[_valley(smooth)]),
        lowest=float(rates[lowest]),
        rise=float(rates[place]),
        rose=bool(len(above)) or last < len(losses),
        fall=fell,
    )


def smoothed(x: np.ndarray, y: np.ndarray, width: float = _WIDTH) -> np.ndarray:
    """A Gaussian mean of `y` over `x`, which need not be even; a line stays a line inside."""
    weights = np.exp(-0.5 * ((x[:, None] - x[None, :]) / width) ** 2)
    return (weights @ y) / weights.sum(1)


def scatter_of(losses: np.ndarray) -> float:
    """The standard deviation of a batch's loss where nothing moves, robustly, of (sweeps, n)."""
    quiet = np.stack([_quiet(one) for one in losses])
    differences = np.abs(np.diff(quiet, axis=1))
    known = differences[np.isfinite(differences)]
    return float(np.median(known)) / (math.sqrt(2) * 0.6745) if len(known) else 0.0


def _quiet(losses: np.ndarray) -> np.ndarray:
    return losses[: max(4, round(_QUIET * len(losses)))]


def _valley(y: np.ndarray) -> int:
    """Two thirds along the longest falling subsequence, without the last tenth."""
    longest, previous = np.ones(len(y), int), np.full(len(y), -1)
    for i in range(1, len(y)):
        below = np.flatnonzero(y[:i] > y[i])
        if len(below):
            best = below[np.argmax(longest[below])]
            longest[i], previous[i] = longest[best] + 1, best
    place = int(np.argmax(longest))
    chain = [place]
    while previous[chain[-1]] >= 0:
        chain.append(int(previous[chain[-1]]))
    chain.reverse()
    return chain[(2 * len(chain)) // 3] if len(chain) > 2 else chain[-1]


@dataclass(frozen=True)
class Verdict:
    """What all sweeps say together.

    Attributes:
        suggestion: The rate to take.
        interval: (low, high) around it.
        rules: Where each rule points, the median over sweeps: `steepest` (the loss falls fastest),
            `valley` (two thirds along the longest fall), `lowest`, `rise` (it begins to rise fast).
        agreement: How far single sweeps would have answered apart [decades].
        warning: Why not to trust it; empty where there is no reason.
    """

    suggestion: float
    interval: tuple[float, float]
    rules: dict[str, float]
    agreement: float
    warning: str


# The suggestion is the middle (of logarithms) of the valley and of where the loss rises fast,
# divided by this: a peak is held for longer than a sweep's one step. Set on five workloads
# (benchmarks/lr_finder.py) and tried on others.
_BELOW_MIDDLE = {"log": 1.2, "linear": 6.0}
# The interval: so many times below, and above at most, where no sweep rose at half of that yet.
_LOW, _HIGH = 4.0, 2.5
# A fall of fewer deviations than this is none; a deviation is this share of the loss at least.
_FALL, _NOTHING = 2.0, 0.005
# Suggestions of single sweeps that lie further apart contradict each other [decades].
_APART = 1.5


def is_flat(fall: float, losses: np.ndarray) -> bool:
    """Whether a loss that fell so far did not fall at all, for all that (sweeps, n) losses tell."""
    return fall < _FALL * _at_least(scatter_of(losses), losses)


def _at_least(scatter: float, losses: np.ndarray) -> float:
    return max(scatter, _NOTHING * abs(float(np.nanmedian(losses[:, :4]))), 1e-12)


def verdict(
    rates: np.ndarray,
    losses: np.ndarray,
    scale: str = "log",
    scatter: float | None = None,
    may_lie_beyond: bool = True,
) -> Verdict:
    """Read all sweeps together.

    Args:
        rates: Rising (n,).
        losses: (sweeps, n), NaN after a divergence.
        scale: "log" or "linear".
        scatter: Of a batch's loss where nothing moves; None = as these sweeps show it.
        may_lie_beyond: Whether nobody knows that the loss rises beyond the highest rate.
    """
    scatter = _at_least(scatter_of(losses) if scatter is None else scatter, losses)
    readings = [read_sweep(rates, one, scale, scatter) for one in losses]

    def middle(name: str) -> float:
        return float(10 ** np.median([math.log10(getattr(one, name)) for one in readings]))

    rules = {name: middle(name) for name in ("steepest", "valley", "lowest", "rise")}
    below = _BELOW_MIDDLE[scale]
    suggestion = max(math.sqrt(rules["valley"] * rules["rise"]) / below, float(rates[0]))
    low = max(suggestion / _LOW, float(rates[0]))
    high = max(suggestion, min(suggestion * _HIGH, min(one.rise for one in readings) / 2))
    # The lowest of a smoothed curve is some deviations down by chance alone; more sweeps, fewer.
    fell = float(np.mean([one.fall for one in readings])) / scatter
    rose = np.mean([one.rose for one in readings]) > 0.5
    apart = float(np.ptp([math.log10(one.valley * one.rise) / 2 for one in readings]))
    warning = ""
    if fell < _FALL:
        low, high = float(rates[0]), float(rules["lowest"] if rose else rates[-1])
        low, high = min(low, suggestion), max(high, suggestion)
        warning = (
            f"flat: the loss fell by {fell:.1f} deviations of a batch's, and the interval spans "
            f"{math.log10(high / low):.1f} decades; check the data first (`tfrecipes check`)."
        )
    elif not rose and may_lie_beyond:
        high = float(rates[-1])
        warning = (
            f"the loss never rose up to {rates[-1]:.2g}: the best rate may lie beyond. Sweep "
            "higher (high=...)."
        )
    elif apart > _APART:
        low, high = suggestion / 10 ** (apart / 2), max(high, suggestion)
        warning = (
            f"the sweeps lie {apart:.1f} decades apart: batches differ more than rates do. Sweep "
            "more slowly or more often (steps=..., sweeps=...), or take a larger batch."
        )
    return Verdict(suggestion, (low, high), rules, apart, warning)
