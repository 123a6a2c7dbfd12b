"""Several runs over one another: a panel a quantity, a colour a run, and past eight a marker besides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from tfrecipes.views.canvas import (
    BLUE,
    BROWN,
    GREEN,
    GREY,
    INK,
    ORANGE,
    PANEL_HEIGHT,
    PINK,
    SKY,
    VIOLET,
    dressed,
    new_tile,
)
from tfrecipes.views.curves import Curves, Series, has
from tfrecipes.views.panels import draw_line, metrics_of, set_scale
from tfrecipes.views.thinning import thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = (BLUE, ORANGE, GREEN, PINK, SKY, BROWN, VIOLET, INK)
# Where the colours begin again, so that 32 runs can be told apart: markers, and what a page calls them.
MARKS = {"": None, "square": "s", "triangle": "^", "diamond": "D"}
# So many points tell the course of a noisy line.
_COURSE = 150
# And so many, with the least and the greatest of every stretch, its noise: a page of 32 runs stays small.
_FAINT = 400
_DASHES = (0, (4, 2))


@dataclass(frozen=True)
class Member:
    """One of the runs.

    Attributes:
        label: What it is called in the comparison.
        curves: What it recorded.
        colour: Its colour in every panel.
        shape: The name of its marker; empty for the first runs, which need none.
    """

    label: str
    curves: Curves
    colour: str
    shape: str = ""

    @property
    def mark(self) -> str | None:
        """Its marker."""
        return MARKS[self.shape]


class Overlay(NamedTuple):
    """One panel of a comparison.

    Attributes:
        key: A plain word for links.
        title: What it shows.
        label: Of the y axis.
        draw: Draws one run's lines and gives what they are: words to line style.
    """

    key: str
    title: str
    label: str
    draw: Callable[[Axes, Member], dict[str, object]]


def colour_of(number: int) -> str:
    """The colour of the run that stands at a place in the command: the same in every comparison."""
    return COLOURS[number % len(COLOURS)]


def shape_of(number: int) -> str:
    """The name of the marker of the run that stands at a place: another one each time the colours begin again."""
    return list(MARKS)[number // len(COLOURS) % len(MARKS)]


def overlays_of(members: Sequence[Member]) -> list[Overlay]:
    """The panels for which one of the runs recorded something, in the order of reading."""
    metrics = dict.fromkeys(name for member in members for name in metrics_of(member.curves))
    possible = [Overlay("loss", "Loss", "loss", _pair("loss"))]
    for i, name in enumerate(list(metrics)[:4]):
        words = name.replace("_", " ")
        title = words[:1].upper() + words[1:]
        possible.append(Overlay(f"metric-{i + 1}", title, words, _pair(name)))
    for key, title, label, column in (
        ("rate", "Learning rate", "learning rate", "learning_rate"),
        ("norm", "Gradient norm", "gradient norm", "grad_norm"),
        ("ratio", "Update ratio", "update ratio", "update_ratio"),
    ):
        possible.append(Overlay(key, title, label, _column(column)))
    possible.append(Overlay("speed", "Throughput", "samples / s", _speed))
    return [overlay for overlay in possible if any(_draws(overlay, m) for m in members)]


def plot_overlay(members: Sequence[Member], overlay: Overlay) -> Figure:
    """Draws one panel of a comparison, as wide as a phone."""
    from matplotlib.lines import Line2D

    names = ", ".join(member.label for member in members)
    figure, axes = new_tile(f"{overlay.title} of {names}", 0.85 + 1.25 * PANEL_HEIGHT)
    styles: dict[str, object] = {}
    for member in members:
        styles |= overlay.draw(axes, member)
    if overlay.key == "speed":
        axes.set_ylim(bottom=0)
    elif overlay.key != "rate" and not overlay.key.startswith("metric"):
        set_scale(axes)
    dressed(axes, overlay.label, ticks=5)
    axes.set_xlabel(members[0].curves.x_label, fontsize=9)
    if len(styles) > 1:
        axes.legend(
            handles=[
                Line2D([], [], color=GREY, ls=style, lw=1.8, label=word)
                for word, style in styles.items()
            ],
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            ncols=2,
            frameon=False,
            fontsize=8,
            labelcolor=INK,
            borderaxespad=0.3,
        )
    return figure


def _draws(overlay: Overlay, member: Member) -> bool:
    curves = member.curves
    if overlay.key == "speed":
        return has(curves.system, "samples_per_second")
    if overlay.key in ("rate", "norm", "ratio"):
        column = {"rate": "learning_rate", "norm": "grad_norm", "ratio": "update_ratio"}
        return curves.series(column[overlay.key]) is not None
    name = "loss" if overlay.key == "loss" else overlay.label.replace(" ", "_")
    columns = (name, f"val_{name}")
    return any(has(curves.epochs, column) for column in columns) or has(curves.steps, name)


def _pair(name: str) -> Callable[[Axes, Member], dict[str, object]]:
    """A column of the epochs with its validation, or of the steps where no epoch has ended."""

    def draw(axes: Axes, member: Member) -> dict[str, object]:
        curves, drawn = member.curves, {}
        for column, word, style, width in (
            (name, "training", _DASHES, 1.2),
            (f"val_{name}", "validation", "-", 2.0),
        ):
            if has(curves.epochs, column):
                values = curves.epochs[column]
                draw_line(
                    axes,
                    curves.epoch_x,
                    values,
                    mark=member.mark,
                    color=member.colour,
                    lw=width,
                    ls=style,
                )
                drawn[word] = style
        if not drawn and has(curves.steps, name):
            _draw_noisy(axes, member, (curves.step_x, curves.steps[name]))
        return drawn

    return draw


def _column(name: str) -> Callable[[Axes, Member], dict[str, object]]:
    def draw(axes: Axes, member: Member) -> dict[str, object]:
        series = member.curves.series(name)
        if series is None:
            return {}
        if name == "learning_rate":
            thin = thinned(*series, most=_FAINT)
            draw_line(axes, *thin, mark=member.mark, color=member.colour, lw=1.8)
        else:
            _draw_noisy(axes, member, series)
        return {}

    return draw


def _speed(axes: Axes, member: Member) -> dict[str, object]:
    if has(member.curves.system, "samples_per_second"):
        speed = member.curves.system["samples_per_second"]
        series = thinned(member.curves.system_x, speed, most=_FAINT)
        draw_line(axes, *series, mark=member.mark, color=member.colour, lw=1.6)
    return {}


def _draw_noisy(axes: Axes, member: Member, series: Series) -> None:
    """Every value faintly, spikes among them, and over it the course of the medians."""
    x, y = series
    known = np.isfinite(y)
    x, y = x[known], y[known]
    if x.size > 2 * _COURSE:
        faint = thinned(*series, most=_FAINT)
        draw_line(axes, *faint, color=member.colour, lw=0.6, alpha=0.25)
        parts = np.array_split(np.arange(x.size), _COURSE)
        x, y = (np.array([np.median(values[part]) for part in parts]) for values in (x, y))
    draw_line(axes, x, y, mark=member.mark, color=member.colour, lw=1.6)
