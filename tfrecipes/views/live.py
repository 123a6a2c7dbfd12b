"""Where progress is shown: live in a terminal, as lines in a pipe, as a bar in a notebook."""

import atexit
import html
import importlib
import sys
from dataclasses import dataclass
from typing import Any, Protocol, TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text


@dataclass(frozen=True)
class Moment:
    """What there is to show now.

    Attributes:
        title: "epoch 3/10".
        step: Steps done in this epoch or pass.
        steps: Steps of a whole one; None where nobody knows yet.
        parts: Numbers as text, in the order of reading.
    """

    title: str
    step: int
    steps: int | None
    parts: tuple[str, ...]

    @property
    def count(self) -> str:
        return f"step {self.step}" if self.steps is None else f"step {self.step}/{self.steps}"

    def __str__(self) -> str:
        return "  ".join((self.title, self.count, *self.parts))


class Display(Protocol):
    """Shows moments, which replace each other, and lines, which stay."""

    interval: float  # seconds between two moments, at least

    def show(self, moment: Moment) -> None: ...
    def line(self, text: str) -> None: ...
    def close(self) -> None: ...


class PlainDisplay:
    """One line now and then: for pipes, files and dumb terminals."""

    interval = 5.0

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def show(self, moment: Moment) -> None:
        if moment.parts:  # a line stays: it must have something to say
            self.line(str(moment))

    def line(self, text: str) -> None:
        print(text, file=self._file, flush=True)

    def close(self) -> None:
        self._file.flush()


class TerminalDisplay:
    """A bar with its numbers below; finished epochs scroll away above it.

    What the program prints meanwhile appears above the bar. Where training ends by an exception
    nobody calls `close`; then the interpreter's exit does.
    """

    interval = 0.1

    def __init__(self, console: Console) -> None:
        self._console = console
        # No refresh thread: what has not changed need not be drawn.
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._live.start()
        console.show_cursor(True)  # rich hides it, and an exception would leave it hidden
        atexit.register(self.close)

    def show(self, moment: Moment) -> None:
        bar = Table.grid(padding=(0, 1), expand=False)
        total = None if moment.steps is None else float(moment.steps)
        width = max(10, min(40, self._console.width - 30))
        bar.add_row(
            Text(moment.title, style="bold"),
            ProgressBar(total=total, completed=moment.step, width=width),
            Text(moment.count),
        )
        self._live.update(Group(bar, Text("  ".join(moment.parts))), refresh=True)

    def line(self, text: str) -> None:
        # Text, not a string: rich would read square brackets in a metric's name as markup.
        self._console.print(Text(text))

    def close(self) -> None:
        atexit.unregister(self.close)
        self._live.stop()


class NotebookDisplay:
    """One output that is replaced: a bar, its numbers, and the epochs so far."""

    interval = 0.2
    # A notebook keeps every output in its file; a thousand epochs need not be in it.
    most_lines = 50

    def __init__(self, display: Any, html_type: Any) -> None:
        self._html = html_type
        self._lines: list[str] = []
        self._handle = display(html_type(""), display_id=True)

    def show(self, moment: Moment) -> None:
        total = "" if moment.steps is None else f' max="{moment.steps}" value="{moment.step}"'
        numbers = html.escape("  ".join(moment.parts))
        self._update(
            f"<div><b>{html.escape(moment.title)}</b> <progress{total}></progress> "
            f"{html.escape(moment.count)}<br>{numbers}</div>"
        )

    def line(self, text: str) -> None:
        self._lines = [*self._lines, text][-self.most_lines :]
        self._update("")

    def close(self) -> None:
        self._update("")

    def _update(self, below: str) -> None:
        lines = html.escape("\n".join(self._lines))
        self._handle.update(self._html(f"<pre>{lines}</pre>{below}"))


def choose_display(file: TextIO | None = None) -> Display:
    """The display for where this program runs.

    Args:
        file: Where to write; None is a notebook's output, else standard output.
    """
    if file is None and _in_notebook():
        ipython = importlib.import_module("IPython.display")
        return NotebookDisplay(ipython.display, ipython.HTML)
    stream: TextIO = file or sys.stdout
    console = Console(file=stream, highlight=False)
    if console.is_terminal and not console.is_dumb_terminal:
        return TerminalDisplay(console)
    return PlainDisplay(stream)


def _in_notebook() -> bool:
    """Whether a Jupyter kernel runs this; a plain IPython prompt is a terminal."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return getattr(shell, "kernel", None) is not None
