"""Rows that are the same: inside the training data, and in training and validation data both."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

CHUNK_VALUES = 1 << 20
# Places of a row that are compared first; only rows that agree in all of them are read whole.
_PLACES = 64
# Two numbers are the same if they agree to this share of the input's standard deviation: float32
# read as float64, or values that went through a text file, still count as one row.
_STEP = 1e-3


class Repeats(NamedTuple):
    """Rows that occur more than once.

    Args:
        rows: Rows that were compared.
        repeated: How many of them are copies of an earlier one.
        first: The first pair (earlier row, copy), or None.
        contradicting: Copies whose label is another one than that of the earlier row.
        expected: Copies that would be there if the features were independent of each other: few
            values in few features repeat by themselves.
    """

    rows: int
    repeated: int
    first: tuple[int, int] | None
    contradicting: int
    expected: float


class Shared(NamedTuple):
    """Rows of the validation data that are in the training data.

    Args:
        rows: Validation rows.
        shared: How many of them are in the training data.
        first: The first pair (training row, validation row), or None.
        expected: As in `Repeats`.
    """

    rows: int
    shared: int
    first: tuple[int, int] | None
    expected: float


def repeats(inputs: dict[str, np.ndarray], labels: np.ndarray | None = None) -> Repeats:
    """Count the rows that are copies of an earlier one, to a thousandth of the inputs' spread.

    Args:
        inputs: Arrays of numbers, one row a sample.
        labels: One label a row, to say which copies contradict each other; None = do not.

    Example:
        >>> repeats({"x": np.array([[0.1, 2.0], [3.0, 4.0], [0.1, 2.0]])}).first
        (0, 2)
    """
    keys = _keys(inputs, [inputs])[0]
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    copies = order[1:][same]
    # Each run of equal keys begins with its earliest row, for the sort is stable.
    begins = np.maximum.accumulate(np.where(np.r_[True, ~same], np.arange(len(keys)), 0))
    origins = order[begins[1:][same]]
    contradicting = 0
    if labels is not None and len(copies):
        ours = labels[copies].reshape(len(copies), -1)
        contradicting = int((ours != labels[origins].reshape(len(copies), -1)).any(1).sum())
    first = None
    if len(copies):
        at = int(np.argmin(copies))
        first = (int(origins[at]), int(copies[at]))
    chance = _chance(inputs)
    n = len(keys)
    return Repeats(n, len(copies), first, contradicting, min(n, n * (n - 1) / 2 * chance))


def shared(training: dict[str, np.ndarray], validation: dict[str, np.ndarray]) -> Shared | None:
    """Count the validation rows that are in the training data; None where the forms differ.

    Example:
        >>> rows = np.arange(12.0).reshape(6, 2)
        >>> shared({"x": rows[:4]}, {"x": rows[3:]}).first
        (3, 0)
    """
    if list(training) != list(validation) or any(
        training[name].shape[1:] != validation[name].shape[1:] for name in training
    ):
        return None
    ours, theirs = _keys(training, [training, validation])
    found = np.isin(theirs, ours)
    first = None
    if found.any():
        row = int(found.argmax())
        first = (int((ours == theirs[row]).argmax()), row)
    expected = min(len(theirs), len(theirs) * len(ours) * _chance(training))
    return Shared(len(theirs), int(found.sum()), first, expected)


def _keys(scale: dict[str, np.ndarray], tables: list[dict[str, np.ndarray]]) -> list[np.ndarray]:
    """A 64-bit key for each row of each table: equal keys, equal rows."""
    grids = {name: _grid(array) for name, array in scale.items()}
    places = {name: _telling_places(array) for name, array in scale.items()}
    quick = [_mixed(table, grids, places) for table in tables]
    everything = np.concatenate(quick)
    _, inverse, counts = np.unique(everything, return_inverse=True, return_counts=True)
    candidates = np.split(counts[inverse] > 1, np.cumsum([len(q) for q in quick])[:-1])
    if all(len(places[name]) == scale[name][:1].size for name in scale):
        return quick
    for keys, table, rows in zip(quick, tables, candidates, strict=True):
        if rows.any():
            whole = {name: array[rows] for name, array in table.items()}
            keys[rows] = _mixed(whole, grids, dict.fromkeys(whole))
    return quick


def _mixed(
    table: dict[str, np.ndarray],
    grids: dict[str, tuple[float, float] | None],
    places: Mapping[str, np.ndarray | None],
) -> np.ndarray:
    rng = np.random.default_rng(0x5A3E)
    keys = np.zeros(len(next(iter(table.values()))), np.uint64)
    for name, array in table.items():
        chosen = places[name]
        flat = array.reshape(len(array), -1)
        width = flat.shape[1] if chosen is None else len(chosen)
        factors = rng.integers(1, 2**63, size=width, dtype=np.uint64) | np.uint64(1)
        rows = max(1, CHUNK_VALUES // max(1, width))
        for start in range(0, len(flat), rows):
            part = flat[start : start + rows]
            codes = _codes(part if chosen is None else part[:, chosen], grids[name])
            keys[start : start + rows] += (_scrambled(codes) * factors).sum(1, dtype=np.uint64)
    return keys


def _scrambled(codes: np.ndarray) -> np.ndarray:
    # The finaliser of SplitMix64 (Steele, Lea & Flood 2014): sums of scrambled numbers do not
    # collide where sums of small codes would.
    z = codes.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _codes(part: np.ndarray, grid: tuple[float, float] | None) -> np.ndarray:
    if grid is None:
        return part.astype(np.int64)
    centre, step = grid
    values = (part.astype(np.float64) - centre) / step
    return np.rint(np.clip(np.nan_to_num(values, nan=2.0**40), -(2.0**41), 2.0**41)).astype(
        np.int64
    )


def _grid(array: np.ndarray) -> tuple[float, float] | None:
    """(centre, step) of the grid on which floats are compared; None for whole numbers."""
    if array.dtype.kind != "f":
        return None
    some = array[: max(2, CHUNK_VALUES // max(1, array[:1].size))].astype(np.float64)
    some = some[np.isfinite(some)]
    spread = float(some.std()) if some.size else 0.0
    # A little off zero, so that whole numbers do not lie on the edge between two steps.
    return (0.3217 * spread * _STEP, spread * _STEP) if spread > 0 else (0.0, 1.0)


def _telling_places(array: np.ndarray) -> np.ndarray:
    """The places of a row in which rows differ most."""
    flat = array[:256].reshape(min(256, len(array)), -1)
    if flat.shape[1] <= _PLACES:
        return np.arange(flat.shape[1])
    spread = np.nan_to_num(flat.astype(np.float64), posinf=0, neginf=0).std(0)
    return np.sort(np.argsort(-spread, kind="stable")[:_PLACES])


def _chance(inputs: dict[str, np.ndarray]) -> float:
    """The chance that two rows agree, if their features were independent."""
    chance = 1.0
    for array in inputs.values():
        flat = array[:2000].reshape(min(2000, len(array)), -1)
        flat = flat[:, _telling_places(array)]
        for column in flat.T:
            counts = np.unique(column, return_counts=True)[1] / len(column)
            # Of values that are all different, 1 / n says only that there were n of them: of a normal
            # distribution two lie within one step of the grid by 1 / (2 sqrt pi) of it.
            several = counts.max() * len(column) > 1
            chance *= float((counts**2).sum()) if several else 0.28 * _STEP
    return chance
