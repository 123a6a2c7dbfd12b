"""The panels of a run: what each shows, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfrecipes.runs.steps import TELEMETRY
from tfrecipes.views.canvas import BLUE, GREEN, GREY, INK, ORANGE, PINK, RED, SKY
from tfrecipes.views.curves import Curves, has
from tfrecipes.views.heat import draw_heat, heat_rows
from tfrecipes.views.thinning import thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A value that spans more than this from panel top to bottom is drawn on a logarithmic axis.
LOGARITHMIC_FROM = 30.0
# Where the update ratio of a net that learns well usually lies.
USUAL_RATIO = 1e-3
MOST_METRICS, MOST_COLUMNS = 4, 4

_RATIO_EDGES = (1e-6, 1e-5, 1e-4, 1e-2, 1e-1)
_NORM_EDGES = (1e-7, 1e-5, 1e-3, 1e1, 1e2)
_RATIO, _NORM = "update_ratio/", "grad_norm/"


class Panel(NamedTuple):
    """One picture of a run.

    Attributes:
        key: A plain word for links.
        title: What it shows, for a heading.
        label: Of its y axis, with its unit.
        height: Relative to the lowest panel.
        draw: Draws it; gives what the legend shows, None for what was labelled while drawing.
    """

    key: str
    title: str
    label: str
    height: float
    draw: Callable[[Axes, Curves], Sequence[Any] | None]


def panels_of(curves: Curves) -> list[Panel]:
    """The panels for which the run recorded something, in the order of reading."""
    found = []
    if has(curves.steps, "loss") or has(curves.epochs, "loss") or has(curves.epochs, "val_loss"):
        found.append(Panel("loss", "Loss", "loss", 1.7, _draw_loss))
    for i, name in enumerate(metrics_of(curves)):
        words = name.replace("_", " ")
        found.append(Panel(f"metric-{i + 1}", _capital(words), words, 1.0, _metric_drawer(name)))
    if curves.series("learning_rate") is not None or curves.planned is not None:
        found.append(Panel("rate", "Learning rate", "learning rate", 1.0, _draw_rate))
    if curves.series("grad_norm") is not None:
        found.append(Panel("norm", "Gradient norm", "gradient norm", 1.0, _draw_gradient_norm))
    if curves.series("update_ratio") is not None:
        label = "update ratio\n|Δw| / |w|"
        found.append(Panel("ratio", "Update ratio", label, 1.0, _draw_ratio))
    found += _layer_panels(curves)
    scale = curves.series("loss_scale")
    if scale is not None and bool((scale[1] > 1).any()):
        found.append(Panel("scale", "Loss scale", "loss scale", 1.0, _draw_scale))
    if has(curves.system, "samples_per_second"):
        label = "samples / s"
        found.append(Panel("speed", "Throughput", label, 1.0, _draw_speed))
    if any(has(curves.system, name) for name, *_ in _SHARES):
        found.append(Panel("waits", "Where the time went", "share [%]", 1.0, _draw_shares))
    if any(has(curves.system, name) for name, *_ in _MEMORIES):
        found.append(Panel("memory", "Memory", "memory [GiB]", 1.0, _draw_memory))
    own = [n for n in curves.steps if n not in TELEMETRY and has(curves.steps, n)]
    for i, name in enumerate(own[:MOST_COLUMNS]):
        words = name.replace("_", " ")
        found.append(Panel(f"own-{i + 1}", _capital(words), words, 1.0, _column_drawer(name)))
    return found


def metrics_of(curves: Curves) -> list[str]:
    """The metrics that `compile` was given: accuracy first, validation's beside training's."""
    known = {*TELEMETRY, *curves.steps, "loss", "val_loss"}
    names = dict.fromkeys(n.removeprefix("val_") for n in curves.epochs if n not in known)
    shown = [n for n in names if has(curves.epochs, n) or has(curves.epochs, f"val_{n}")]
    return sorted(shown, key=lambda name: name != "accuracy")[:MOST_METRICS]


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def draw_line(
    axes: Axes,
    x: np.ndarray,
    y: np.ndarray,
    label: str | None = None,
    mark: str | None = None,
    **style: Any,
) -> None:
    """A line of few points that keeps its spikes; rows that are few have visible points.

    Args:
        axes: Where.
        x: Places.
        y: Values.
        label: For a legend.
        mark: A marker of matplotlib that tells this line from others of its colour: at each of few
            points, at ten places of many.
        style: What `Axes.plot` takes.
    """
    x, y = thinned(x, y)
    few = np.isfinite(y).sum() <= 30
    style |= {"markevery": max(1, len(x) // 10)} if mark and not few else {}
    marker = mark or ("o" if few else None)
    axes.plot(x, y, label=label, marker=marker, markersize=4.5 if mark else 3.5, **style)


def set_scale(axes: Axes) -> None:
    """A logarithmic axis where the lines are positive and span much."""
    values = np.concatenate([np.asarray(line.get_ydata(), np.float64) for line in axes.lines])
    values = values[np.isfinite(values)]
    positive = values[values > 0]
    mostly_positive = values.size > 0 and values.min() >= 0 and positive.size > values.size / 2
    if mostly_positive and positive.max() > LOGARITHMIC_FROM * positive.min():
        axes.set_yscale("log")


def _draw_loss(axes: Axes, curves: Curves) -> None:
    if has(curves.steps, "loss"):
        # The epochs' line stands before it, so the noise between steps is drawn faintly.
        alpha = 0.4 if has(curves.epochs, "loss") else 0.9
        label = "each step"
        draw_line(axes, curves.step_x, curves.steps["loss"], label, color=BLUE, alpha=alpha, lw=0.8)
    for name, label, colour in (("loss", "epoch mean", BLUE), ("val_loss", "validation", ORANGE)):
        if has(curves.epochs, name):
            draw_line(axes, curves.epoch_x, curves.epochs[name], label, color=colour, lw=2)
    set_scale(axes)
    _draw_gap(axes, curves)


def _draw_gap(axes: Axes, curves: Curves) -> None:
    """What validation is worse by, as an area."""
    if not (has(curves.epochs, "loss") and has(curves.epochs, "val_loss")):
        return
    x, train, validation = curves.epoch_x, curves.epochs["loss"], curves.epochs["val_loss"]
    rows = min(train.size, validation.size)
    both = np.isfinite(train[:rows]) & np.isfinite(validation[:rows])
    if both.sum() < 2:
        return
    x, train, validation = (values[:rows][both] for values in (x, train, validation))
    gap = validation[-1] - train[-1]
    if x.size > 1000:
        at = np.linspace(0, x.size - 1, 1000).astype(int)
        x, train, validation = x[at], train[at], validation[at]
    label = f"gap, {gap:.2g} at the end"
    axes.fill_between(x, train, validation, color=ORANGE, alpha=0.14, lw=0, label=label)


def _metric_drawer(name: str) -> Callable[[Axes, Curves], None]:
    def draw(axes: Axes, curves: Curves) -> None:
        pairs = ((name, "training", BLUE), (f"val_{name}", "validation", ORANGE))
        for column, label, colour in pairs:
            if has(curves.epochs, column):
                draw_line(axes, curves.epoch_x, curves.epochs[column], label, color=colour, lw=2)

    return draw


def _column_drawer(name: str) -> Callable[[Axes, Curves], None]:
    def draw(axes: Axes, curves: Curves) -> None:
        draw_line(axes, curves.step_x, curves.steps[name], color=INK, lw=0.9)
        set_scale(axes)

    return draw


def _draw_rate(axes: Axes, curves: Curves) -> None:
    rates, planned = curves.series("learning_rate"), curves.planned
    if planned is not None and curves.by_step:
        # Under the line, and wider: where the two agree, a rim is all that is seen of it.
        draw_planned = {"color": ORANGE, "lw": 4, "alpha": 0.35, "label": "as planned"}
        axes.plot(*thinned(*planned), **draw_planned)
    if rates is not None:
        label = "as trained" if planned is not None and curves.by_step else None
        draw_line(axes, *rates, label, color=INK, lw=1.6)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _draw_gradient_norm(axes: Axes, curves: Curves) -> None:
    series = curves.series("grad_norm")
    if series is not None:
        draw_line(axes, *series, color=GREEN, lw=0.9)
    clip = curves.clip
    if clip is not None:
        label = f"clipped above {clip:g}"
        axes.axhline(clip, color=ORANGE, lw=1.2, ls=(0, (5, 3)), label=label)
    if has(curves.steps, "grad_norm"):
        _mark_clipped_and_lost(axes, curves)
    set_scale(axes)


def _mark_clipped_and_lost(axes: Axes, curves: Curves) -> None:
    norm = curves.steps["grad_norm"]
    clipped = curves.steps.get("clipped")
    if clipped is not None and (clipped > 0).any():
        share = float((clipped > 0).mean())
        x, y = thinned(curves.step_x[clipped > 0], norm[clipped > 0], most=600)
        label = f"clipped, {share:.0%} of steps"
        axes.plot(x, y, ".", color=ORANGE, markersize=3, label=label)
    lost = ~np.isfinite(norm) | (curves.steps.get("overflow", np.zeros_like(norm)) > 0)
    if lost.any():
        # Ticks near the lower edge: a norm that is not finite has no height.
        count = int(lost.sum())
        x = curves.step_x[lost]
        x = x[np.linspace(0, x.size - 1, min(x.size, 600)).astype(int)]
        axes.plot(
            x,
            np.full(x.size, 0.06),
            "|",
            color=RED,
            markersize=10,
            label=f"not finite, {count:,} step{'s' if count > 1 else ''}",
            transform=axes.get_xaxis_transform(),
            clip_on=False,
        )


def _draw_ratio(axes: Axes, curves: Curves) -> None:
    series = curves.series("update_ratio")
    if series is not None:
        draw_line(axes, *series, color=BLUE, lw=0.9)
    label = f"{USUAL_RATIO:g}, where it usually lies"
    axes.axhline(USUAL_RATIO, color=GREY, lw=1.2, ls=(0, (5, 3)), label=label)
    set_scale(axes)


def _layer_panels(curves: Curves) -> list[Panel]:
    found = []
    for key, title, label, start, edges in (
        ("layers", "Update ratio by layer", "update ratio\nby layer", _RATIO, _RATIO_EDGES),
        ("layer-norms", "Gradient norm by layer", "gradient norm\nby layer", _NORM, _NORM_EDGES),
    ):
        columns = [n for n in curves.layers if n.startswith(start) and has(curves.layers, n)]
        if columns:
            height = max(1.0, 0.25 + 0.11 * heat_rows(columns))
            found.append(Panel(key, title, label, height, _layers_drawer(start, columns, edges)))
    return found


def _layers_drawer(
    start: str, columns: list[str], edges: tuple[float, ...]
) -> Callable[[Axes, Curves], Sequence[Any]]:
    def draw(axes: Axes, curves: Curves) -> Sequence[Any]:
        table = {name.removeprefix(start): curves.layers[name] for name in columns}
        rows = min([curves.layers_x.size, *(values.size for values in table.values())])
        table = {name: values[:rows] for name, values in table.items()}
        return draw_heat(axes, curves.layers_x[:rows], table, edges)

    return draw


def _draw_scale(axes: Axes, curves: Curves) -> None:
    series = curves.series("loss_scale")
    if series is not None:
        draw_line(axes, *series, color=INK, lw=1.2)
        set_scale(axes)
        if axes.get_yscale() == "linear":
            axes.set_ylim(0, 1.25 * _largest(series[1]))


def _largest(values: np.ndarray) -> float:
    return float(values[np.isfinite(values)].max())


def _draw_speed(axes: Axes, curves: Curves) -> None:
    speed = curves.system["samples_per_second"]
    draw_line(axes, curves.system_x, speed, color=BLUE, lw=1.4)
    wait = curves.system.get("data_wait")
    if wait is not None and wait.size == speed.size and np.nanmax(np.append(wait, 0)) > 0.01:
        # Past nine tenths the guess of what could have been says nothing.
        without = speed / (1 - np.clip(wait, 0, 0.9))
        label = "lost to waiting for data"
        x, low = thinned(curves.system_x, speed, most=600)
        at = np.searchsorted(curves.system_x, x).clip(0, speed.size - 1)
        axes.fill_between(x, low, without[at], color=ORANGE, alpha=0.3, lw=0, label=label)
    axes.set_ylim(bottom=0)


_SHARES = (
    ("data_wait", "waiting for data", ORANGE, 1.8),
    ("reduce_share", "all-reduce", PINK, 1.4),
    ("cpu", "CPU busy", SKY, 1.0),
    ("gpu", "GPU busy", GREEN, 1.0),
)


def _draw_shares(axes: Axes, curves: Curves) -> None:
    for name, label, colour, width in _SHARES:
        if has(curves.system, name):
            share = 100 * curves.system[name]
            # "median": one number that a reader takes along.
            words = f"{label}, {np.nanmedian(share[np.isfinite(share)]):.0f} %"
            draw_line(axes, curves.system_x, share, words, color=colour, lw=width)
    axes.set_ylim(0, 103)


_MEMORIES = (("host_memory", "host", BLUE), ("gpu_memory", "GPU", GREEN))


def _draw_memory(axes: Axes, curves: Curves) -> None:
    for name, label, colour in _MEMORIES:
        if has(curves.system, name):
            memory = curves.system[name] / 2**30
            words = f"{label}, {_largest(memory):.2g} at most"
            draw_line(axes, curves.system_x, memory, words, color=colour, lw=1.6)
    axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
