"""docs/learning_rate.md: its example runs as it stands, and so do its commands."""

import os
import re
import subprocess
import sys

from tests.contracts.tree import ROOT

PAGE = (ROOT / "docs" / "learning_rate.md").read_text(encoding="utf-8")
PROGRAM = """
from tfrecipes.demo import digits

def program():
    x, y = digits.load()
    return digits.model(), (x[:256], y[:256])
"""


def run(folder, *command):
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_example_runs(tmp_path):
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    assert "Learning rate: " in run(tmp_path, "-c", block)
    assert (tmp_path / "learning_rate.png").exists()


def test_the_command_runs(tmp_path):
    (tmp_path / "mine.py").write_text(PROGRAM)
    (line,) = re.findall(r"^tfrecipes (find-lr .*)$", PAGE, re.M)
    out = run(tmp_path, "-m", "tfrecipes", *line.split())
    assert "Use it: --set schedule.peak_learning_rate=" in out
    assert (tmp_path / "learning_rate.png").exists()
