"""One number for every layer at every time, as bands of colour."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tfrecipes.views.canvas import HEAT, elided, power

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.patches import Patch

MOST_ROWS = 24
MOST_COLUMNS = 80
LONGEST_NAME = 18


def heat_rows(names: Sequence[str]) -> int:
    """How many bands so many layers have: one each, or several layers share one."""
    return min(len(names), MOST_ROWS)


def draw_heat(
    axes: Axes, x: np.ndarray, layers: Mapping[str, np.ndarray], edges: Sequence[float]
) -> list[Patch]:
    """Draws a band a layer, the first at the top, coloured by the value's size.

    More than 24 layers share bands with their neighbours, and more than 80 rows share columns: what
    is shown is then the value that lies farthest from the usual, so that nothing bad hides behind a
    neighbour. Where a layer has no finite value its band is empty.

    Args:
        axes: Where.
        x: When (rows,), rising.
        layers: Layer to values (rows,), >= 0.
        edges: Five values, rising: below the first three is ever too small, between the third and
            the fourth is usual, above the last two is ever too large.

    Returns:
        What a legend shows.
    """
    from matplotlib.patches import Patch, PathPatch
    from matplotlib.path import Path
    from matplotlib.transforms import Affine2D

    names, table = _bands(layers, edges)
    x, table = _fewer_columns(x, table, edges)
    ends = _ends(x)
    colour = np.where(np.isfinite(table), np.digitize(table, edges), -1)
    for level in range(len(edges) + 1):
        boxes = [
            Path.unit_rectangle().transformed(
                Affine2D().scale(right - left, 1).translate(left, row)
            )
            for row, line in enumerate(colour)
            for left, right in _stretches(line == level, ends)
        ]
        if boxes:
            # One path a colour: a rectangle a cell would be a hundred times the bytes.
            axes.add_patch(
                PathPatch(Path.make_compound_path(*boxes), facecolor=HEAT[level], linewidth=0)
            )
    axes.set_xlim(ends[0], ends[-1])
    axes.set_ylim(len(names), 0)
    axes.set_yticks(np.arange(len(names)) + 0.5, names, parse_math=False)
    below, above = (
        [f"{sign} {power(e)}" for e in part] for sign, part in (("<", edges[:3]), (">", edges[3:]))
    )
    words = [*below, "usual", *above]
    return [Patch(color=HEAT[i], label=word) for i, word in enumerate(words)]


def _bands(
    layers: Mapping[str, np.ndarray], edges: Sequence[float]
) -> tuple[list[str], np.ndarray]:
    """Names and values (bands, rows)."""
    every = list(layers)
    groups = np.array_split(np.arange(len(every)), heat_rows(every))
    table = np.array([_extreme(np.array([layers[every[i]] for i in g]), edges) for g in groups])
    return [_name(every[g[0]], g.size) for g in groups], table


def _name(first: str, count: int) -> str:
    tail = f" +{count - 1}" if count > 1 else ""
    return elided(first, LONGEST_NAME - len(tail)) + tail


def _extreme(values: np.ndarray, edges: Sequence[float]) -> np.ndarray:
    """Of each column (rows, columns) the value farthest, in decades, from the usual."""
    middle = np.sqrt(edges[2] * edges[3])
    with np.errstate(divide="ignore", invalid="ignore"):
        far = np.abs(np.log10(values) - np.log10(middle))
    far = np.where(np.isfinite(values), far, -1.0)  # a zero is infinitely far, and is taken
    return np.take_along_axis(values, far.argmax(axis=0)[None], axis=0)[0]


def _fewer_columns(
    x: np.ndarray, table: np.ndarray, edges: Sequence[float]
) -> tuple[np.ndarray, np.ndarray]:
    if x.size <= MOST_COLUMNS:
        return x, table
    parts = np.array_split(np.arange(x.size), MOST_COLUMNS)
    fewer = np.array([_extreme(table[:, part].T, edges) for part in parts]).T
    return np.array([x[part].mean() for part in parts]), fewer


def _ends(x: np.ndarray) -> np.ndarray:
    """The columns' limits (columns + 1,), halfway between the times."""
    if x.size == 1:
        return np.array([x[0] - 0.5, x[0] + 0.5])
    middles = (x[1:] + x[:-1]) / 2
    return np.concatenate([[x[0]], middles, [x[-1]]])


def _stretches(where: np.ndarray, ends: np.ndarray) -> list[tuple[float, float]]:
    """Neighbouring cells of one colour as one box each: left and right."""
    change = np.flatnonzero(np.diff(np.concatenate([[0], where.astype(np.int8), [0]])))
    return [
        (float(ends[left]), float(ends[right]))
        for left, right in zip(change[::2], change[1::2], strict=True)
    ]
