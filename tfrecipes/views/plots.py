"""Pictures of a schedule and of a run.  No pyplot: nothing global is touched, no window opens."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfrecipes.runs.folder import read_run
from tfrecipes.views.canvas import (
    BLUE,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    dressed,
    figure_svg,
    new_figure,
    write_figure,
)
from tfrecipes.views.thinning import thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_svg", "plot_run", "plot_schedule"]

MOST_POINTS = 2000
# A rate that spans more than this from panel top to bottom is drawn on a logarithmic axis.
LOGARITHMIC_FROM = 30.0


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
    """Draws a run: loss, accuracy, learning rate, gradient norm and update ratio.

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
    tables = _tables(run)
    panels = [(label, draw) for label, draw, drawn in _PANELS if drawn(tables)]
    if not panels:
        raise ValueError(
            "plot_run: a run must have a row of loss, accuracy, learning rate or a norm. "
            f"Received: run={run!r}. Train with tfr.Monitor or a recipe first."
        )
    heights = [1.7 if label == "loss" else 1.0 for label, _ in panels]
    figure, all_axes = new_figure("plot_run", _title(run), heights)
    for axes, (label, draw) in zip(all_axes, panels, strict=True):
        draw(axes, tables)
        dressed(axes, label)
        if axes.get_legend_handles_labels()[1]:
            # Not "best": on long lines it tries every place against every point.
            place = "lower right" if label == "accuracy" else "upper right"
            axes.legend(loc=place, framealpha=0.85, edgecolor="none", ncols=4, fontsize=9)
    all_axes[-1].set_xlabel("step [optimizer updates]" if tables.by_step else "epoch")
    if path is not None:
        write_figure("plot_run", figure, path)
    return figure


class _Tables(NamedTuple):
    """A run as arrays: `x` the steps or epochs at which a row's values hold."""

    steps: dict[str, np.ndarray]
    epochs: dict[str, np.ndarray]
    step_x: np.ndarray
    epoch_x: np.ndarray

    @property
    def by_step(self) -> bool:
        return self.step_x.size > 0

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray] | None:
        """A column over the steps, or over the epochs where no step was recorded."""
        if _has(self.steps, name):
            return self.step_x, self.steps[name]
        return (self.epoch_x, self.epochs[name]) if _has(self.epochs, name) else None


def _has(table: Mapping[str, np.ndarray], name: str) -> bool:
    return name in table and bool(np.isfinite(table[name]).any())


def _tables(run: Any) -> _Tables:
    if isinstance(run, (str, os.PathLike)):
        run = read_run(run)
    history = getattr(run, "history", None)
    steps = getattr(run, "steps", {} if isinstance(history, Mapping) else None)
    epochs = getattr(run, "epochs", history)
    if not (isinstance(steps, Mapping) and isinstance(epochs, Mapping)):
        raise ValueError(
            "plot_run: `run` must be a run folder, or have `steps` and `epochs` (dicts of arrays). "
            f"Received: run={run!r}. Give the folder that `tfrecipes train` printed."
        )
    steps = {name: np.asarray(values, np.float64) for name, values in steps.items()}
    epochs = {name: np.asarray(values, np.float64) for name, values in epochs.items()}
    rows = max((values.size for values in steps.values()), default=0)
    step_x = steps.get("step", np.arange(rows, dtype=np.float64))
    count = max((values.size for values in epochs.values()), default=0)
    epoch_x = np.arange(1, count + 1, dtype=np.float64)
    if rows and "step" in epochs:
        epoch_x = epochs["step"]
    elif rows:
        epoch_x = np.nanmax(step_x) * epoch_x / max(count, 1)
    return _Tables(steps, epochs, step_x, epoch_x)


def _title(run: Any) -> str:
    recipe = getattr(run, "recipe", None)
    name = recipe.get("name") if isinstance(recipe, Mapping) else None
    folder = run if isinstance(run, (str, os.PathLike)) else getattr(run, "path", None)
    place = os.path.basename(os.path.abspath(folder)) if folder else None
    words = [f"run {place}" if place else "", f"recipe {name}" if name else ""]
    title = ", ".join(word for word in words if word) or "run"
    return title[0].upper() + title[1:]


def _line(axes: Axes, x: np.ndarray, y: np.ndarray, label: str | None = None, **style: Any) -> None:
    x, y = thinned(x, y)
    few = np.isfinite(y).sum() <= 30
    axes.plot(x, y, label=label, marker="o" if few else None, markersize=3.5, **style)


def _scale(axes: Axes) -> None:
    """A logarithmic axis where the lines are positive and span much."""
    values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    values = values[np.isfinite(values)]
    if values.size and values.min() > 0 and values.max() > LOGARITHMIC_FROM * values.min():
        axes.set_yscale("log")


def _draw_loss(axes: Axes, tables: _Tables) -> None:
    if _has(tables.steps, "loss"):
        _line(axes, tables.step_x, tables.steps["loss"], "each step", color=BLUE, alpha=0.4, lw=0.8)
    for name, label, colour in (
        ("loss", "epoch mean", BLUE),
        ("val_loss", "validation", ORANGE),
    ):
        if _has(tables.epochs, name):
            _line(axes, tables.epoch_x, tables.epochs[name], label, color=colour, lw=2)
    _scale(axes)


def _draw_accuracy(axes: Axes, tables: _Tables) -> None:
    for name, label, colour in (
        ("accuracy", "training", BLUE),
        ("val_accuracy", "validation", ORANGE),
    ):
        if _has(tables.epochs, name):
            _line(axes, tables.epoch_x, tables.epochs[name], label, color=colour, lw=2)


def _draw_column(name: str, colour: str, width: float) -> Callable[[Axes, _Tables], None]:
    def draw(axes: Axes, tables: _Tables) -> None:
        series = tables.series(name)
        if series is not None:
            _line(axes, *series, color=colour, lw=width)
            if name != "learning_rate":
                _scale(axes)

    return draw


def _draw_gradient_norm(axes: Axes, tables: _Tables) -> None:
    _draw_column("grad_norm", GREEN, 0.9)(axes, tables)
    if not _has(tables.steps, "grad_norm"):
        return
    norm = tables.steps["grad_norm"]
    clipped = tables.steps.get("clipped")
    if clipped is not None and (clipped > 0).any():
        share = float((clipped > 0).mean())
        x, y = thinned(tables.step_x[clipped > 0], norm[clipped > 0])
        axes.plot(x, y, ".", color=ORANGE, markersize=3, label=f"clipped, {share:.0%} of steps")
    lost = ~np.isfinite(norm) | (tables.steps.get("overflow", np.zeros_like(norm)) > 0)
    if lost.any():
        # Ticks near the lower edge: a norm that is not finite has no height.
        count = int(lost.sum())
        x, y = thinned(tables.step_x[lost], np.full(count, 0.06))
        axes.plot(
            x,
            y,
            "|",
            color=RED,
            markersize=10,
            label=f"not finite, {count:,} step{'s' if count > 1 else ''}",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


_Panel = tuple[str, Callable[["Axes", _Tables], None], Callable[[_Tables], bool]]


def _any_of(*names: str) -> Callable[[_Tables], bool]:
    return lambda tables: any(_has(tables.epochs, name) for name in names)


_PANELS: tuple[_Panel, ...] = (
    ("loss", _draw_loss, lambda t: _has(t.steps, "loss") or _any_of("loss", "val_loss")(t)),
    ("accuracy", _draw_accuracy, _any_of("accuracy", "val_accuracy")),
    (
        "learning rate",
        _draw_column("learning_rate", INK, 1.6),
        lambda t: t.series("learning_rate") is not None,
    ),
    ("gradient norm", _draw_gradient_norm, lambda t: t.series("grad_norm") is not None),
    (
        "update ratio\n|Δw| / |w|",
        _draw_column("update_ratio", BLUE, 0.9),
        lambda t: t.series("update_ratio") is not None,
    ),
)
