"""What every picture shares: its look, and how it becomes a file or inline SVG."""

from __future__ import annotations

import hashlib
import html
import io
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by readers who see red and green alike (after Okabe & Ito), on white.
BLUE, ORANGE, GREEN, RED = "#0b62a4", "#d55e00", "#00805a", "#b3123c"
INK, GREY, FAINT = "#24292f", "#6e7781", "#e4e7eb"
WIDTH = 9.0  # inches
PANEL_HEIGHT = 1.75


def new_figure(
    where: str, title: str, heights: Sequence[float], subtitle: str = ""
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per height, above one another over one x axis.

    Args:
        where: What draws it; names the picture for readers that cannot see it.
        title: The line above the panels.
        heights: Relative heights.
        subtitle: A smaller line below the title.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    # XML has no place for control characters.
    title = "".join(letter if letter.isprintable() else "?" for letter in title)
    height = max(4.2, 0.9 + PANEL_HEIGHT * sum(heights))
    figure = Figure(figsize=(WIDTH, height), dpi=120, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    figure.set_label(f"{where}: {title}")
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights))
    panels = list(grid[:, 0])
    # Names come from folders and files: no `$` in them begins mathematics.
    panels[0].set_title(
        title,
        loc="left",
        color=INK,
        fontsize=13,
        fontweight="bold",
        pad=26 if subtitle else 10,
        parse_math=False,
    )
    panels[0].annotate(
        subtitle,
        (0, 1),
        xycoords="axes fraction",
        xytext=(0, 9),
        textcoords="offset points",
        color=GREY,
        fontsize=9,
        parse_math=False,
    )
    figure.align_ylabels(panels)
    return figure, panels


def dressed(axes: Axes, label: str) -> None:
    """Labels, grid and ticks of a panel whose lines are drawn."""
    from matplotlib.ticker import MaxNLocator, StrMethodFormatter

    axes.set_ylabel(label, color=INK, fontsize=10)
    axes.xaxis.label.set_color(INK)
    axes.grid(True, color=FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(labelcolor=INK, labelsize=9, length=3, color=GREY)
    axes.tick_params(which="minor", color=FAINT)
    low, high = axes.get_xlim()
    if high - low < 1:  # a single row
        middle = round((low + high) / 2)
        axes.set_xlim(middle - 1, middle + 1)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5))
        # 0.00025 and not 0.25 beside a far-off 1e-3: a rate is read off as it is typed.
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))


def write_figure(where: str, figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes the picture; the suffix decides the format.

    Raises:
        ValueError: If the suffix is no format, or the file cannot be written.
    """
    target = Path(path)
    formats = figure.canvas.get_supported_filetypes()
    if target.suffix[1:].lower() not in formats:
        raise ValueError(
            f"{where}: `path` must end in a format. Received: path={str(target)!r}. "
            "End it in .png, .svg or .pdf."
        )
    if not target.parent.is_dir():
        raise ValueError(
            f"{where}: the folder of `path` must exist. Received: path={str(target)!r}. "
            f"Make {str(target.parent)!r} first."
        )
    picture = io.BytesIO()  # drawn whole before the file is touched
    figure.savefig(picture, format=target.suffix[1:].lower())
    try:
        target.write_bytes(picture.getvalue())
    except OSError as error:
        raise ValueError(
            f"{where}: `path` must be a file that can be written. Received: path={str(target)!r}. "
            f"The system says: {error.strerror}."
        ) from error


def figure_svg(figure: Figure) -> str:
    """The figure as an `<svg>` element to stand inside an HTML page.

    Text stays text, in the page's fonts: no font is embedded and nothing is fetched. Ids
    begin with a digest of the picture, so that several stand on one page; the same run drawn
    again gives the same string.
    """
    import matplotlib

    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "tfrecipes"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None, "Creator": None})
    svg = drawn.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # The element's own style sheet has the selector `*`: inside a page it would style the page.
    svg = re.sub(r"\s*<defs>\s*<style.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    prefix = "p" + hashlib.sha256(svg.encode()).hexdigest()[:8] + "-"
    svg = re.sub(r'\bid="', f'id="{prefix}', svg)
    svg = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{prefix}", svg)
    label = html.escape(str(figure.get_label()), quote=True)
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}" stroke-linejoin="round"', 1)
