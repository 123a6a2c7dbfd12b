"""Pages as their reader uses them: the code blocks of one, and a program run as it stands."""

import os
import re
import subprocess
import sys

from tests.contracts.tree import ROOT


def page(name):
    """The text of a page, by its path from the project's root."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text, language):
    """Bodies of a page's fenced blocks in a language."""
    return [body.strip() for body in re.findall(rf"^```{language}\n(.*?)^```$", text, re.M | re.S)]


def run(folder, *arguments):
    """What a Python of its own prints, which must end well and use nothing of ours that is deprecated."""
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:tfrecipes", *arguments],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
