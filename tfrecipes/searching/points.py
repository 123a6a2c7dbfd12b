"""Points that fill a space evenly: the i-th is a function of the seed and of i."""

import functools
from typing import Literal

import numpy as np
from scipy.stats import qmc

Sequence = Literal["sobol", "halton"]

# Columns of a sequence do not depend on how many come after them, as long as the random numbers of
# the scrambling are drawn for all of them at once. Room for dimensions that show themselves late.
_ROOM = 16


def point(sequence: Sequence, seed: int, index: int, dimensions: int) -> np.ndarray:
    """The point of a scrambled low-discrepancy sequence with that number.

    A pure function of its arguments, so that several workers and a resumed search agree. Another
    `dimensions` leaves the first columns as they are.

    Args:
        sequence: "sobol" or "halton".
        seed: Of the scrambling, >= 0.
        index: From 0.
        dimensions: How many numbers, >= 1.

    Returns:
        float64 (dimensions,) in [0, 1).

    Example:
        >>> bool((point("sobol", 0, 3, 2) == point("sobol", 0, 3, 5)[:2]).all())
        True

    References:
        Owen, Scrambling Sobol' and Niederreiter-Xing points, 1998;
        Halton, On the efficiency of certain quasi-random sequences, 1960.
    """
    room = -(-dimensions // _ROOM) * _ROOM
    return _points(sequence, seed, room, 1 << max(4, index.bit_length()))[index, :dimensions]


@functools.lru_cache(maxsize=8)
def _points(sequence: Sequence, seed: int, dimensions: int, count: int) -> np.ndarray:
    """The first `count` points, a power of 2."""
    rows = []
    for first in range(0, dimensions, _ROOM):
        # Sobol's scrambling draws its matrices for all columns together: by blocks of columns the
        # earlier ones stay what they are in a wider space.
        block = _engine(sequence, first + _ROOM, np.random.default_rng([seed, first]))
        rows.append(block.random(count)[:, first:])
    return np.concatenate(rows, axis=1)


def _engine(sequence: Sequence, dimensions: int, rng: np.random.Generator) -> qmc.QMCEngine:
    made = {"sobol": qmc.Sobol, "halton": qmc.Halton}[sequence]
    return made(dimensions, scramble=True, rng=rng)
