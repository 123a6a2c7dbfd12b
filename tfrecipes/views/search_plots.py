"""The picture of a search: a panel for each searched field, a dot for each trial."""

from __future__ import annotations

import math
import os
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrecipes.views.canvas import BLUE, GREEN, GREY, INK, ORANGE, RED, elided, write_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NOT_FIELDS = ("trial", "score", "error", "finding", "seconds")
_COLUMNS = 2
# Bins of a range whose best scores are joined: what the field can do at its best there.
_BINS = 5
# So many different numbers, which return, are a list of choices.
_FEW = 5


def plot_search(
    table: Sequence[Mapping[str, Any]],
    objective: str,
    direction: str = "min",
    best: int | None = None,
    start: Mapping[str, Any] | None = None,
    logarithmic: Sequence[str] = (),
    subtitle: str = "",
    path: str | os.PathLike[str] | None = None,
) -> Figure:
    """Draws isolation plots: the score of every trial over each field.

    The line joins the best of each fifth of a range: if it has its best in the middle, the range
    is wide enough; if it falls towards an end, it is not.

    Args:
        table: As `SearchResult.table`.
        objective: The score's name.
        direction: "min" or "max".
        best: The trial to mark.
        start: The starting recipe's values, by field.
        logarithmic: Fields on a log scale.
        subtitle: A line below the title.
        path: Where to write the picture; its suffix decides the format. None writes nothing.

    Returns:
        The matplotlib figure. Trials without a score are crosses at the bad end; scores far worse
        than the rest stand there too, as triangles.

    Raises:
        ValueError: If there is no score or no field, or the picture cannot be written.

    Example:
        >>> rows = [{"trial": i, "lr": 10.0**-i, "score": float(i), "error": ""} for i in range(4)]
        >>> [axes.get_xlabel() for axes in plot_search(rows, "val_loss", logarithmic=["lr"]).axes]
        ['lr']
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    fields = [key for key in (table[0] if table else ()) if key not in _NOT_FIELDS]
    scores = np.array([_number(row["score"]) for row in table])
    if not fields or not np.isfinite(scores).any():
        raise ValueError(
            "plot_search: a search must have a field and a score. "
            f"Received: {len(table)} trials with {len(fields)} fields."
        )
    rows = -(-len(fields) // _COLUMNS)
    columns = min(_COLUMNS, len(fields))
    figure = Figure(figsize=(4.6 * columns, 0.9 + 2.7 * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_label(f"plot_search: {objective} over {', '.join(fields)}")
    lines = [f"{objective} of {len(table)} trials", *textwrap.wrap(subtitle, 62 * columns)]
    head = "\n".join(lines)
    figure.suptitle(head, x=0.01, ha="left", color=INK, fontsize=10, parse_math=False)
    spec = figure.add_gridspec(rows, columns)
    grid: list[Axes] = []
    for i in range(len(fields)):
        shared = grid[0] if grid else None
        grid.append(figure.add_subplot(spec[i // columns, i % columns], sharey=shared))
    limits = _limits(scores, direction)
    for axes, field in zip(grid, fields, strict=False):
        values = [row.get(field) for row in table]
        places, words = _places(values)
        if field in logarithmic:
            axes.set_xscale("log")
        _draw(axes, places, scores, limits, direction, joined=words is None)
        marked = [i for i, row in enumerate(table) if row["trial"] == best]
        axes.plot(places[marked], scores[marked], "o", ms=11, mfc="none", mec=ORANGE, mew=2)
        began = _place_of((start or {}).get(field), values, words)
        if began is not None:
            axes.axvline(began, color=GREY, lw=1, ls=(0, (4, 3)), zorder=0)
        if words is not None:
            axes.set_xticks(range(len(words)), [elided(word, 14) for word in words])
            axes.set_xlim(-0.5, len(words) - 0.5)
        _dress(axes, field, limits)
    for axes in grid[: len(fields) : columns]:
        axes.set_ylabel(elided(objective, 24), color=INK, parse_math=False)
    if path is not None:
        write_figure("plot_search", figure, path)
    return figure


def _draw(
    axes: Axes,
    places: np.ndarray,
    scores: np.ndarray,
    limits: tuple[float, float],
    direction: str,
    joined: bool,
) -> None:
    inwards = 0.03 * (limits[1] - limits[0])
    bad = limits[1] - inwards if direction == "min" else limits[0] + inwards
    here = np.isfinite(scores)
    inside = here & (scores >= limits[0]) & (scores <= limits[1])
    there = np.isfinite(places)
    axes.plot(places[inside & there], scores[inside & there], "o", color=BLUE, ms=5, alpha=0.75)
    for which, marker, colour in ((here & ~inside, "^", BLUE), (~here, "x", RED)):
        at = places[which & there]
        axes.plot(at, np.full(len(at), bad), marker, color=colour, ms=6, zorder=4)
    if joined:
        line = _envelope(places[inside & there], scores[inside & there], axes, direction)
        axes.plot(*line, color=GREEN, lw=1.6, alpha=0.8)


def _envelope(
    places: np.ndarray, scores: np.ndarray, axes: Axes, direction: str
) -> tuple[np.ndarray, np.ndarray]:
    """The best trial of each fifth of the range."""
    if not len(places):
        return places, scores
    scale = np.log(places) if axes.get_xscale() == "log" else places
    width = max(float(np.ptp(scale)), 1e-12)
    bins = np.minimum((_BINS * (scale - scale.min()) / width).astype(int), _BINS - 1)
    pick = np.argmin if direction == "min" else np.argmax
    best = [np.flatnonzero(bins == b)[pick(scores[bins == b])] for b in np.unique(bins)]
    return places[best], scores[best]


def _limits(scores: np.ndarray, direction: str) -> tuple[float, float]:
    """From the best to somewhat past the worst but for what lies far outside of the rest."""
    good = np.sort(scores[np.isfinite(scores)])
    good = good if direction == "min" else good[::-1]
    middle = good[len(good) // 2]
    far = middle + 3 * (middle - good[0])
    near = good[good <= far] if direction == "min" else good[good >= far]
    low, high = sorted((float(good[0]), float(near[-1])))
    room = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - room, high + room


def _places(values: Sequence[Any]) -> tuple[np.ndarray, list[str] | None]:
    """Where the values stand on the x axis, and the words there where they are no numbers."""
    numbers = [_number(value) for value in values]
    are_numbers = all(v is None or not math.isnan(n) for v, n in zip(values, numbers, strict=True))
    distinct = sorted({n for n in numbers if not math.isnan(n)})
    if are_numbers and (len(distinct) > _FEW or len(distinct) == len(values)):
        return np.array(numbers), None
    words = list(dict.fromkeys(map(_word, values)))
    if are_numbers:
        words.sort(key=_number)
    return np.array([float(words.index(_word(value))) for value in values]), words


def _place_of(value: Any, values: Sequence[Any], words: list[str] | None) -> float | None:
    if words is not None:
        return float(words.index(_word(value))) if _word(value) in words else None
    number = _number(value)
    return None if math.isnan(number) or (number <= 0 and min(map(_number, values)) > 0) else number


def _number(value: Any) -> float:
    """A number, the number of a share or of epochs ("5%"), or NaN."""
    if isinstance(value, str):
        value = value.removesuffix("%").removesuffix("ep")
    try:
        return math.nan if value is None or isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _word(value: Any) -> str:
    return "off" if value is None else str(value)


def _dress(axes: Axes, field: str, limits: tuple[float, float]) -> None:
    axes.set_ylim(*limits)
    axes.set_xlabel(elided(field, 40), color=INK, fontsize=9, parse_math=False)
    axes.grid(True, color="#e4e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, labelcolor=INK, length=3, color=GREY)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
