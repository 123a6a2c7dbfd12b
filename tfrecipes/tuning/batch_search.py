"""The largest size that fits, by doubling and bisection over tries that are measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

MOST_TRIES = 24
# A prediction is trusted to jump this far at once.
_FARTHEST = 8


@dataclass(frozen=True)
class Tried:
    """One try.

    Attributes:
        size: Samples of a micro-batch.
        fits: The answer.
        peak: Memory at its peak [bytes], as far as it was seen; None where it was not.
        seconds: How long the try took.
        why: What a try that did not fit ended by; empty for one that fits.
    """

    size: int
    fits: bool
    peak: int | None
    seconds: float
    why: str = ""


def grid(size: int) -> int:
    """The size, rounded down to a sixteenth of its power of two; below 32 as it is.

    Example:
        >>> [grid(n) for n in (7, 31, 33, 100, 1000)]
        [7, 31, 32, 100, 992]
    """
    return size - size % _step(size)


def above(size: int) -> int:
    """The next size on the grid.

    Example:
        >>> above(15), above(32), above(1000)
        (16, 34, 1024)
    """
    return grid(size) + _step(size)


def largest_that_fits(
    attempt: Callable[[int], Tried],
    *,
    start: int = 1,
    largest: int | None = None,
    limit: int | None = None,
    most: int = MOST_TRIES,
) -> list[Tried]:
    """Try sizes until one fits and the next on the grid does not.

    From `start` the size is doubled while it fits, or halved while it does not; then the gap is
    halved. Where two tries fit and their peaks are known, the line through them says where to look
    next, if that is nearer; the answer is always a try, never a prediction.

    Args:
        attempt: Tries a size.
        start: The first size, >= 1.
        largest: No size above it is tried; None = no bound.
        limit: Bytes that a peak must stay below, for the line; None = do without it.
        most: Tries, at most.

    Returns:
        The tries in their order. The largest of those that fit is the answer; there is none where
        nothing fits.

    Example:
        >>> tries = largest_that_fits(lambda n: Tried(n, n <= 100, None, 0.0), start=8)
        >>> [(one.size, one.fits) for one in tries]
        [(8, True), (16, True), (32, True), (64, True), (128, False), (96, True), (112, False), (104, False), (100, True)]
    """
    tries: list[Tried] = []
    size: int | None = start if largest is None else min(start, largest)
    while size is not None and len(tries) < most:
        tries.append(attempt(size))
        size = _next(tries, largest, limit)
    return tries


def found(tries: Sequence[Tried]) -> tuple[Tried | None, Tried | None]:
    """The largest try that fits, and the smallest that does not, or None."""
    fitting = [one for one in tries if one.fits]
    too_big = [one for one in tries if not one.fits]
    return (
        max(fitting, key=lambda one: one.size, default=None),
        min(too_big, key=lambda one: one.size, default=None),
    )


def _next(tries: list[Tried], largest: int | None, limit: int | None) -> int | None:
    fits, fails = found(tries)
    if fits is None:
        return None if fails is None or fails.size == 1 else grid(fails.size // 2)
    low = fits.size
    if fails is None:
        if largest is not None and low >= largest:
            return None
        guess = _predicted(tries, limit)
        wanted = 2 * low if guess is None else min(max(guess, above(low)), _FARTHEST * low)
        return wanted if largest is None else min(wanted, largest)
    high = fails.size
    if above(low) >= high:
        return None
    guess = _predicted(tries, limit)
    if guess is None or not low < guess < high or not _halved_the_gap(tries):
        guess = grid((low + high) // 2)
    return min(max(guess, above(low)), grid(high - 1))


def _predicted(tries: Sequence[Tried], limit: int | None) -> int | None:
    """The size at which the line through the two largest tries that fit meets the limit."""
    known = sorted(
        {one.size: one.peak for one in tries if one.fits and one.peak is not None}.items()
    )
    if limit is None or len(known) < 2:
        return None
    (small, before), (large, after) = known[-2:]
    if after <= before:
        return None
    return max(1, grid(int(large + (limit - after) * (large - small) / (after - before))))


def _halved_the_gap(tries: Sequence[Tried]) -> bool:
    """Whether the last two tries left at most half of the gap: else prediction only creeps."""
    gaps = []
    for end in (len(tries), len(tries) - 2):
        fits, fails = found(tries[: max(end, 0)])
        if fits is None or fails is None:
            return True
        gaps.append(fails.size - fits.size)
    return gaps[0] <= gaps[1] / 2


def _step(size: int) -> int:
    return max(1, 1 << max(0, size.bit_length() - 5))
