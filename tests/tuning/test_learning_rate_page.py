"""docs/learning_rate.md: its example runs as it stands, and so do its commands."""

import re

from tests.pages import blocks, page, run

PAGE = page("docs/learning_rate.md")
PROGRAM = """
from tfrecipes.demo import digits

def program():
    x, y = digits.load()
    return digits.model(), (x[:256], y[:256])
"""


def test_the_example_runs(tmp_path):
    (example,) = blocks(PAGE, "python")
    assert "Learning rate: " in run(tmp_path, "-c", example)
    assert (tmp_path / "learning_rate.png").exists()


def test_the_command_runs(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAM)
    (line,) = re.findall(r"^tfrecipes (find-lr .*)$", PAGE, re.M)
    out = run(tmp_path, "-m", "tfrecipes", *line.split())
    assert "Use it: --set schedule.peak_learning_rate=" in out
    assert (tmp_path / "learning_rate.png").exists()
