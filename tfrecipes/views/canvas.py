"""What every picture shares: its look, and how it becomes a file or inline SVG."""

from __future__ import annotations

import hashlib
import html
import io
import math
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
PINK, SKY, BROWN, VIOLET = "#b0528f", "#2a93c9", "#8a6100", "#6a51a3"
INK, GREY, FAINT, PAPER = "#24292f", "#6e7781", "#e4e7eb", "#ffffff"
# From too small through the usual to too large.
HEAT = ("#08457e", "#3f8fc5", "#a9cfe8", "#dddfe2", "#f5b27a", "#c8500a")

# Inside a page a colour is the page's variable, which knows light and dark; what stands behind the
# comma is for a page that has none.
_VARIABLES = {
    **{
        colour: f"--plot-{name}"
        for name, colour in {
            "blue": BLUE,
            "orange": ORANGE,
            "green": GREEN,
            "red": RED,
            "pink": PINK,
            "sky": SKY,
            "brown": BROWN,
            "violet": VIOLET,
            "ink": INK,
            "grey": GREY,
            "faint": FAINT,
            "paper": PAPER,
        }.items()
    },
    **{colour: f"--plot-heat-{i}" for i, colour in enumerate(HEAT)},
}

# A dark page's colours: the same hues, light enough to stand on it.
DARK = {
    "--plot-blue": "#5aaef0",
    "--plot-orange": "#ff9248",
    "--plot-green": "#3fc79a",
    "--plot-red": "#ff7d8f",
    "--plot-pink": "#e394c8",
    "--plot-sky": "#7fd0f7",
    "--plot-brown": "#d6ab4b",
    "--plot-violet": "#b3a1ea",
    "--plot-ink": "#e6e8eb",
    "--plot-grey": "#9aa2ab",
    "--plot-faint": "#30363d",
    "--plot-paper": "#14171a",
    "--plot-heat-0": "#4f9fe6",
    "--plot-heat-1": "#2f6ea8",
    "--plot-heat-2": "#2a5274",
    "--plot-heat-3": "#2b3036",
    "--plot-heat-4": "#8a4d1c",
    "--plot-heat-5": "#ff9248",
}
LIGHT = {variable: colour for colour, variable in _VARIABLES.items()}

WIDTH = 9.0  # inches
PANEL_HEIGHT = 1.75
# Ids that begin so are links' targets and stay as they are; all others get a picture's own prefix.
ANCHOR = "finding-"


def new_figure(
    where: str, title: str, heights: Sequence[float], subtitle: str = "", pad: float = 10
) -> tuple[Figure, list[Axes]]:
    """A figure with one panel per height, above one another over one x axis.

    Args:
        where: What draws it; names the picture for readers that cannot see it.
        title: The line above the panels.
        heights: Relative heights.
        subtitle: A smaller line below the title.
        pad: Room between title and panel [points], for a legend say.
    """
    height = max(4.2, 0.9 + PANEL_HEIGHT * sum(heights))
    figure, panels = _bare(heights, WIDTH, height, 120)
    # XML has no place for control characters.
    title = "".join(letter if letter.isprintable() else "?" for letter in title)
    figure.set_label(f"{where}: {title}")
    # Names come from folders and files: no `$` in them begins mathematics.
    panels[0].set_title(
        elided(title, 80),
        loc="left",
        color=INK,
        fontsize=13,
        fontweight="bold",
        pad=26 + 13 * subtitle.count("\n") if subtitle else pad,
        parse_math=False,
    )
    if subtitle:
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


def new_tile(label: str, height: float) -> tuple[Figure, Axes]:
    """A figure with one panel and no title: a phone is as wide as it, and a page lays many out.

    Args:
        label: Names the picture for readers that cannot see it.
        height: In inches.
    """
    figure, (axes,) = _bare([1.0], 4.0, height, 96)
    figure.set_label("".join(letter if letter.isprintable() else "?" for letter in label))
    return figure, axes


def _bare(
    heights: Sequence[float], width: float, height: float, dpi: int
) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=dpi, facecolor=PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=list(heights))
    return figure, list(grid[:, 0])


def dressed(axes: Axes, label: str, ticks: int = 8) -> None:
    """Labels, grid and ticks of a panel whose lines are drawn.

    Args:
        axes: The panel.
        label: Of the y axis.
        ticks: About how many the x axis has.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

    label = "\n".join(elided(line, 24) for line in label.split("\n"))
    axes.set_ylabel(label, color=INK, fontsize=10, parse_math=False)
    axes.xaxis.label.set_color(INK)
    axes.set_facecolor(PAPER)
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
    axes.xaxis.set_major_locator(MaxNLocator(ticks, integer=True, min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    if axes.yaxis_inverted():  # names, and no numbers
        return
    if axes.get_yscale() == "linear":
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: number(y)))
    else:
        bottom, top = axes.get_ylim()
        decades = math.log10(top / bottom)
        subs = (1.0, 2.0, 5.0) if decades < 2.2 else (1.0,)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=6))
        axes.yaxis.set_minor_formatter(NullFormatter())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))


def elided(text: str, most: int) -> str:
    """A text of at most `most` letters: its start and its end."""
    head = most - most // 2
    return text if len(text) <= most else f"{text[: head - 1]}…{text[len(text) - most + head :]}"


def number(value: float) -> str:
    """A tick's number as it is typed: 0.00025, 25,000 or 1e-6, and no far-off factor."""
    if 1000 <= abs(value) < 1e7:
        return f"{value:,.0f}"
    return re.sub(r"e([+-])0", r"e\1", f"{value:.6g}").replace("e+", "e")


def power(value: float) -> str:
    """A number on a logarithmic axis: 1e-3 beside 1e-4."""
    return re.sub("e-0", "e-", f"{value:.0e}") if 0 < abs(value) < 0.01 else number(value)


def refuse_path(where: str, target: Path) -> None:
    """One sentence for a path that no picture can be written to; also long before there is one.

    Raises:
        ValueError: If the suffix is no format, or there is no such folder.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    if target.suffix[1:].lower() not in FigureCanvasAgg.get_supported_filetypes():
        raise ValueError(
            f"{where}: `path` must end in a format. Received: path={str(target)!r}. "
            "End it in .png, .svg or .pdf."
        )
    if not target.parent.is_dir():
        raise ValueError(
            f"{where}: the folder of `path` must exist. Received: path={str(target)!r}. "
            f"Make {str(target.parent)!r} first."
        )


def write_figure(where: str, figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes the picture; the suffix decides the format.

    Raises:
        ValueError: If the suffix is no format, or the file cannot be written.
    """
    target = Path(path)
    refuse_path(where, target)
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

    Text stays text, in the page's fonts: no font is embedded and nothing is fetched. Colours are the
    page's variables (`LIGHT`, `DARK`). Ids begin with a digest of the picture, so that several stand
    on one page, but for those that begin with `finding-`, which links lead to; the same run drawn
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
    svg = re.sub(r"<!--.*?-->\s*", "", svg, flags=re.DOTALL)
    prefix = "p" + hashlib.sha256(svg.encode()).hexdigest()[:8] + "-"
    svg = re.sub(rf'\bid="(?!{ANCHOR})', f'id="{prefix}', svg)
    svg = re.sub(rf'(xlink:href="#|url\(#)(?!{ANCHOR})', rf"\g<1>{prefix}", svg)
    svg = svg.replace(' target="_blank"', "")  # links lead into this page
    svg = re.sub(r"<[^>]*>", lambda tag: _themed(tag[0]), svg)
    label = html.escape(str(figure.get_label()), quote=True)
    # What is inside an image is no link to those who listen to the page.
    role = "group" if "<a " in svg else "img"
    return svg.replace(
        "<svg", f'<svg role="{role}" aria-label="{label}" stroke-linejoin="round"', 1
    )


def _themed(tag: str) -> str:
    """A tag with the page's colours and fonts in its style: what stands between tags is text."""

    def restyled(style: re.Match[str]) -> str:
        said = re.sub(
            r"#[0-9a-f]{6}\b",
            lambda c: f"var({_VARIABLES[c[0]]}, {c[0]})" if c[0] in _VARIABLES else c[0],
            style[0],
        )
        return re.sub(r"font-family: [^;\"]*", "font-family: system-ui, sans-serif", said)

    return re.sub(r'style="[^"]*"', restyled, tag)
