"""Pictures of a schedule and of a run.  No pyplot: nothing global is touched, no window opens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tfrecipes.views.canvas import (
    BLUE,
    GREY,
    INK,
    ORANGE,
    PANEL_HEIGHT,
    dressed,
    figure_svg,
    new_figure,
    new_tile,
    write_figure,
)
from tfrecipes.views.curves import Curves, curves_of
from tfrecipes.views.marks import Mark, draw_marks
from tfrecipes.views.panels import Panel, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_svg", "plot_panel", "plot_run", "plot_schedule"]

MOST_POINTS = 2000


def plot_schedule(
    schedule: Callable[[Any], Any], total_steps: int, path: str | os.PathLike[str] | None = None
) -> Figure:
    """Draws a learning rate from step 0 to `total_steps`.

    Args:
        schedule: A schedule of tfrecipes or of Keras, or a function of the step.
        total_steps: The last step drawn [optimizer steps], >= 1.
        path: Where to write the picture; its suffix (.png, .svg, .pdf) decides the
            format. None writes nothing.

    Returns:
        The matplotlib figure.

    Raises:
        ValueError: If `schedule` cannot be called, `total_steps` is no int >= 1,
            or the picture cannot be written.

    Example:
        >>> import tfrecipes as tfr
        >>> figure = tfr.plot_schedule(tfr.WarmupCosine(1e-3, 1000, warmup_steps=50), 1000)
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['step [optimizer updates]']
    """
    if not callable(schedule):
        raise ValueError(
            "plot_schedule: `schedule` must be a learning-rate schedule. "
            f"Received: schedule={schedule!r}. Give one such as tfr.WarmupCosine(1e-3, 1000)."
        )
    is_integer = isinstance(total_steps, (int, np.integer)) and not isinstance(total_steps, bool)
    if not is_integer or total_steps < 1:
        raise ValueError(
            "plot_schedule: `total_steps` must be an int >= 1. "
            f"Received: total_steps={total_steps!r}. Count optimizer steps."
        )
    config: dict[str, Any] = getattr(schedule, "get_config", dict)()
    steps = _steps_to_draw(config, int(total_steps))
    if getattr(schedule, "takes_arrays", False):
        rates = np.asarray(schedule(steps), np.float64)
    else:
        rates = np.array([float(schedule(int(step))) for step in steps])

    name = getattr(schedule, "__name__", type(schedule).__name__)
    figure, (axes,) = new_figure("plot_schedule", name, [1.0], _arguments(config))
    axes.plot(steps, rates, color=BLUE, linewidth=2)
    axes.fill_between(steps, rates, color=BLUE, alpha=0.08, linewidth=0)
    axes.set_ylim(bottom=0)
    dressed(axes, "learning rate")
    axes.set_xlabel("step [optimizer updates]")
    axes.margins(x=0.01)
    _mark_peak(axes, steps, rates, config.get("warmup_steps", 0))
    if path is not None:
        write_figure("plot_schedule", figure, path)
    return figure


def _steps_to_draw(config: Mapping[str, Any], total_steps: int) -> np.ndarray:
    """At most MOST_POINTS steps, the corners of the curve among them."""
    if total_steps < MOST_POINTS:
        return np.arange(total_steps + 1)
    corners = [config.get(name) for name in ("warmup_steps", "total_steps")]
    corners += list(config.get("boundaries", ()))[: MOST_POINTS // 8]
    known = np.array([c for c in corners if isinstance(c, int)], dtype=np.int64)
    known = np.concatenate([known - 1, known])
    known = known[(known >= 0) & (known <= total_steps)]
    even = np.linspace(0, total_steps, MOST_POINTS - known.size).astype(np.int64)
    return np.unique(np.concatenate([even, known]))


def _arguments(config: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        if isinstance(value, float):
            return f"{value:g}"
        if isinstance(value, int) and not isinstance(value, bool):
            return f"{value:,}"
        if isinstance(value, (list, tuple)) and len(value) > 6:
            return f"{len(value)} steps from {shown(value[0])} to {shown(value[-1])}"
        return ", ".join(map(shown, value)) if isinstance(value, (list, tuple)) else str(value)

    return "   ".join(f"{name.replace('_', ' ')} {shown(value)}" for name, value in config.items())


def _mark_peak(axes: Axes, steps: np.ndarray, rates: np.ndarray, warmup_steps: Any) -> None:
    if not np.isfinite(rates).any():
        return
    at = int(np.nanargmax(rates))
    peak, step = rates[at], int(steps[at])
    has_warmup = isinstance(warmup_steps, int) and 0 < warmup_steps < steps[-1]
    words = f"peak {peak:.3g} at step {step:,}"
    if has_warmup and step == warmup_steps:
        words += ", the warmup's end"
    axes.plot([step], [peak], "o", color=ORANGE, markersize=6, zorder=3)
    # Room for the words above the curve.
    axes.set_ylim(top=peak * 1.15 if peak > 0 else 1.0)
    _note(axes, words, step, peak, steps[-1])
    if has_warmup:
        axes.axvline(warmup_steps, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        if step != warmup_steps:
            _note(axes, f"warmup ends at step {warmup_steps:,}", warmup_steps, 0, steps[-1])


def _note(axes: Axes, words: str, x: float, y: float, last: float) -> None:
    """Words beside a point, on the side where there is room."""
    left = x > last / 2
    axes.annotate(
        words,
        (x, y),
        xytext=(-8 if left else 8, 6),
        textcoords="offset points",
        ha="right" if left else "left",
        color=INK,
        fontsize=9,
    )


def plot_run(run: Any, path: str | os.PathLike[str] | None = None) -> Figure:
    """Draws a run: a panel each for loss with the gap to validation, metrics, learning rate, gradient
    norm with its clip, update ratio, layers, throughput, waiting and memory.

    A panel is left out where the run has nothing for it. Over a step axis an epoch's
    values stand at the epoch's last step: where `epochs` has `step` at that step, else as
    if all epochs were equally long.

    Args:
        run: A run folder's path, what `read_run` returns, a Keras History, or any object
            with `steps` and `epochs` (dicts of arrays; either may be empty).
        path: Where to write the picture; its suffix (.png, .svg, .pdf) decides the format.
            None writes nothing.

    Returns:
        The matplotlib figure. A line has at most 2,000 points, each stretch's least and
        greatest value among them, so that no spike is lost.

    Raises:
        ValueError: If there is nothing to draw, `run` is none, or the picture cannot be written.

    Example:
        >>> from types import SimpleNamespace
        >>> run = SimpleNamespace(steps={}, epochs={"loss": [2.0, 1.0], "val_loss": [2.1, 1.3]})
        >>> [axes.get_ylabel() for axes in plot_run(run).axes]
        ['loss']
    """
    curves = curves_of(run)
    panels = panels_of(curves)
    if not panels:
        raise ValueError(
            "plot_run: a run must have a row of loss, accuracy, learning rate or a norm. "
            f"Received: run={run!r}. Train with tfr.Monitor or a recipe first."
        )
    heights = [panel.height for panel in panels]
    figure, all_axes = new_figure("plot_run", curves.title, heights, pad=28)
    for axes, panel in zip(all_axes, panels, strict=True):
        _draw(axes, curves, panel, ticks=8, columns=4)
    left, right = curves.extent
    if left < right:
        all_axes[0].set_xlim(left, right)
    all_axes[-1].set_xlabel(curves.x_label)
    if path is not None:
        write_figure("plot_run", figure, path)
    return figure


def plot_panel(curves: Curves, panel: Panel, marks: Sequence[Mark] = ()) -> Figure:
    """Draws one panel of a run as a picture of its own, as wide as a phone, with marks on it.

    Args:
        curves: The run.
        panel: One of `panels_of(curves)`.
        marks: What findings are about; only those of this panel are drawn.
    """
    figure, axes = new_tile(f"{panel.title} of {curves.title}", 0.75 + PANEL_HEIGHT * panel.height)
    here = [mark for mark in marks if mark.panel == panel.key]
    _draw(axes, curves, panel, ticks=5, columns=2, legend_pad=2.2 if here else 0.3)
    draw_marks(axes, curves, here)
    axes.set_xlabel(curves.x_label, fontsize=9)
    return figure


def _draw(
    axes: Axes, curves: Curves, panel: Panel, ticks: int, columns: int, legend_pad: float = 0.3
) -> None:
    handles = panel.draw(axes, curves)
    dressed(axes, panel.label, ticks)
    if handles is None:
        handles = axes.get_legend_handles_labels()[0]
    if len(handles) > 4 and columns < 4:
        columns = 3
        # matplotlib fills column by column, and this is read row by row.
        handles = [handles[i] for i in (0, 3, 1, 4, 2, 5) if i < len(handles)]
    if handles:
        # Above the panel: inside, it would cover curves, and matplotlib's "best" is slow and no better.
        axes.legend(
            handles=handles,
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=columns if len(handles) <= 4 or columns < 4 else len(handles),
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            borderaxespad=legend_pad,
            handlelength=1.6,
            columnspacing=1.2,
        )
