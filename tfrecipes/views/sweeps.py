"""The picture of a learning-rate sweep: loss over rate, the suggestion and its interval."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from tfrecipes.views.canvas import (
    BLUE,
    GREEN,
    INK,
    ORANGE,
    dressed,
    new_figure,
    power,
    write_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def plot_sweep(
    learning_rates: np.ndarray,
    losses: np.ndarray,
    suggestion: float,
    interval: tuple[float, float],
    path: str | os.PathLike[str] | None = None,
    *,
    rules: Mapping[str, float] | None = None,
    scale: str = "log",
    warning: str = "",
) -> Figure:
    """Draws the loss of every sweep over the learning rate, and what it suggests.

    Args:
        learning_rates: Rising and positive (rates,).
        losses: NaN after a divergence (sweeps, rates).
        suggestion: The rate to take.
        interval: The lowest and the highest rate that will do.
        path: Where to write the picture; its suffix (.png, .svg, .pdf) decides the format. None
            writes nothing.
        rules: Where each rule points, by its name; marked at the foot of the picture.
        scale: "log" or "linear": of the axis of rates.
        warning: Why not to trust it, shown instead of the interval's words.

    Returns:
        The matplotlib figure. The y axis ends a little above the first loss: where a sweep diverges
        it leaves the picture.

    Raises:
        ValueError: If shapes do not fit, a rate is not positive, no loss is finite, or the picture cannot be
            written.

    Example:
        >>> rates = np.geomspace(1e-5, 1, 40)
        >>> figure = plot_sweep(rates, [2.3 - np.log10(rates / 1e-5) / 4], 1e-2, (3e-3, 3e-2))
        >>> figure.axes[0].get_xlabel()
        'learning rate'
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rates = np.asarray(learning_rates, np.float64)
    table = np.atleast_2d(np.asarray(losses, np.float64))
    if table.shape[1:] != rates.shape or not (rates > 0).all() or not np.isfinite(table).any():
        raise ValueError(
            "plot_sweep: `losses` must be (sweeps, rates), some of them finite, over positive rates. "
            f"Received: losses.shape={table.shape}, learning_rates.shape={rates.shape}."
        )
    table = np.where(np.isfinite(table), table, np.nan)
    words = f"take {suggestion:.2g}; from {interval[0]:.2g} to {interval[1]:.2g} will do"
    if warning:
        words = "\n".join(textwrap.wrap(warning, 90))
    figure, (axes,) = new_figure("plot_sweep", "Learning rate sweep", [1.6], words)
    axes.axvspan(*interval, color=GREEN, alpha=0.12, lw=0, label="interval")
    for i, sweep in enumerate(table):
        label = f"{len(table)} sweep{'s' if len(table) > 1 else ''}" if i == 0 else None
        axes.plot(rates, sweep, color=BLUE, lw=1, alpha=0.45, label=label)
    known = np.isfinite(table).any(axis=0)
    middle = np.median(table[:, known], axis=0)  # NaN as soon as one sweep has diverged
    if len(table) > 1:
        axes.plot(rates[known], middle, color=BLUE, lw=2.4, label="median")
    axes.axvline(suggestion, color=ORANGE, lw=1.8, label="suggestion")
    low, start = float(np.nanmin(table)), float(np.nanmax(table[:, :1], initial=-np.inf))
    top = start if np.isfinite(start) else float(np.nanmax(table))
    room = max(top - low, abs(top) * 0.05, 1e-12)
    axes.set_ylim(low - 0.08 * room, top + 0.35 * room)
    dressed(axes, "loss")
    axes.set_xlim(rates.min(), rates.max())
    if scale == "log":
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(numticks=10))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: power(x)))
    _mark(axes, rules or {})
    axes.set_xlabel("learning rate")
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=4,
        frameon=False,
        fontsize=8,
        labelcolor=INK,
        borderaxespad=0.3,
    )
    if path is not None:
        write_figure("plot_sweep", figure, path)
    return figure


def _mark(axes: Axes, rules: Mapping[str, float]) -> None:
    """A small triangle for each rule on the axis, its name above it; names that meet are stacked."""
    placed: list[float] = []
    across = axes.transAxes.inverted()
    for name, rate in sorted(rules.items(), key=lambda item: item[1]):
        x = float(across.transform(axes.transData.transform((rate, 0)))[0])
        height = 0.03 + 0.055 * sum(abs(x - other) < 0.1 for other in placed)
        placed.append(x)
        axes.plot([x], [0.0], marker="^", ms=6, color=INK, clip_on=False, transform=axes.transAxes)
        axes.text(
            x,
            height,
            name,
            transform=axes.transAxes,
            ha="center",
            va="bottom",
            fontsize=7.5,
            color=INK,
        )
