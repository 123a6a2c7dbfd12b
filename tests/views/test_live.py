import io
import sys
from types import SimpleNamespace

import pytest
from rich.console import Console

from tfrecipes.views import live
from tfrecipes.views.live import (
    Moment,
    NotebookDisplay,
    PlainDisplay,
    TerminalDisplay,
    choose_display,
)

MOMENT = Moment("epoch 3/10", 120, 230, ("loss 0.31", "a[b] 1"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    monkeypatch.setenv("TERM", "xterm-256color")
    return Terminal()


def test_a_moment_is_a_line() -> None:
    assert str(MOMENT) == "epoch 3/10  step 120/230  loss 0.31  a[b] 1"
    assert Moment("epoch 1", 7, None, ()).count == "step 7"


def test_a_pipe_and_a_dumb_terminal_get_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert isinstance(choose_display(io.StringIO()), PlainDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(choose_display(terminal), PlainDisplay)


def test_plain_lines_are_whole_and_hold_no_escape_codes() -> None:
    pipe = io.StringIO()
    display = PlainDisplay(pipe)
    display.show(MOMENT)
    display.line("done")
    display.close()
    assert pipe.getvalue() == f"{MOMENT}\ndone\n"


def test_a_terminal_gets_a_bar_and_finished_lines_stay(terminal: Terminal) -> None:
    display = choose_display(terminal)
    assert isinstance(display, TerminalDisplay)
    display.show(MOMENT)
    assert "step 120/230" in terminal.getvalue()
    assert "a[b] 1" in terminal.getvalue()
    display.line("epoch 3/10 [done]")
    display.close()
    assert "epoch 3/10 [done]" in terminal.getvalue()


def test_the_cursor_is_never_left_hidden(terminal: Terminal) -> None:
    display = choose_display(terminal)
    display.show(MOMENT)
    shown, hidden = terminal.getvalue().rfind("\x1b[?25h"), terminal.getvalue().rfind("\x1b[?25l")
    assert shown > hidden
    display.close()


def test_prints_of_the_program_go_through_and_stdout_is_given_back(terminal: Terminal) -> None:
    before = sys.stdout
    display = choose_display(terminal)
    print("from the program")
    display.close()
    assert sys.stdout is before
    assert "from the program" in terminal.getvalue()


@pytest.mark.parametrize("width", [20, 40, 200])
def test_any_width_and_an_unknown_length_are_drawn(width: int) -> None:
    console = Console(file=Terminal(), force_terminal=True, width=width)
    display = TerminalDisplay(console)
    display.show(Moment("epoch 1", 3, None, ()))
    display.show(Moment("epoch 1", 3, 2, ("loss 1",)))
    display.close()


class Handle:
    def __init__(self) -> None:
        self.shown: list[str] = []

    def update(self, content: str) -> None:
        self.shown.append(content)


def test_a_notebook_gets_one_output_with_names_escaped() -> None:
    handle = Handle()
    display = NotebookDisplay(lambda content, display_id: handle, str)
    display.show(Moment("epoch 1/2", 1, 4, ("<script>x</script> 1",)))
    assert '<progress max="4" value="1">' in handle.shown[-1]
    assert "<script>" not in handle.shown[-1]
    display.show(Moment("epoch 1/2", 1, None, ()))
    assert "<progress>" in handle.shown[-1]
    for epoch in range(100):
        display.line(f"epoch {epoch} <b>")
    display.close()
    assert "epoch 99 &lt;b&gt;" in handle.shown[-1]
    assert handle.shown[-1].count("\n") == NotebookDisplay.most_lines - 1


def test_a_kernel_is_a_notebook_and_an_ipython_prompt_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shells = {"kernel": SimpleNamespace(kernel=object()), "prompt": SimpleNamespace(), "none": None}
    for name, shell in shells.items():
        fake = SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", fake)
        assert live._in_notebook() is (name == "kernel")
    monkeypatch.delitem(sys.modules, "IPython")
    assert live._in_notebook() is False


def test_a_kernel_gets_the_notebook_display(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = SimpleNamespace(HTML=str, display=lambda content, display_id: Handle())
    monkeypatch.setattr(live, "_in_notebook", lambda: True)
    monkeypatch.setitem(sys.modules, "IPython", SimpleNamespace(display=shown))
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    assert isinstance(choose_display(), NotebookDisplay)


def test_a_pipe_gets_no_line_that_says_nothing() -> None:
    file = io.StringIO()
    PlainDisplay(file).show(Moment("epoch 1/2  validation", 0, 6, ()))
    assert file.getvalue() == ""
