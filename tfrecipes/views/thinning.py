"""Fewer points for the same picture."""

import itertools

import numpy as np


def thinned(x: np.ndarray, y: np.ndarray, most: int = 2000) -> tuple[np.ndarray, np.ndarray]:
    """At most `most` of the points, with every stretch's least and greatest value kept.

    A picture is about a thousand pixels wide, so the curve looks the same, spikes included.
    Infinities become NaN, which is a gap in a line.

    Args:
        x: Positions (n,).
        y: Values (n,); NaN is a gap.
        most: >= 4.

    Returns:
        x and y of the points kept, in their order.

    Example:
        >>> x, y = thinned(np.arange(9000), np.where(np.arange(9000) == 4321, 7.0, 0.0))
        >>> len(y) <= 2000, y.max()
        (True, np.float64(7.0))
    """
    rows = min(len(x), len(y))
    x, y = np.asarray(x[:rows], np.float64), np.asarray(y[:rows], np.float64)
    y = np.where(np.isfinite(y), y, np.nan)
    if rows <= most:
        return x, y
    kept = [0, rows - 1]
    edges = np.linspace(0, rows, (most - 2) // 2 + 1).astype(np.int64)
    for start, stop in itertools.pairwise(edges):
        stretch = y[start:stop]
        # All NaN: one point of it, so that the gap stays a gap.
        all_nan = np.isnan(stretch).all()
        kept += (
            [start] if all_nan else [start + np.nanargmin(stretch), start + np.nanargmax(stretch)]
        )
    at = np.unique(kept)
    return x[at], y[at]
