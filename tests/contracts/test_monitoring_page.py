"""docs/monitoring.md: every example runs as it stands, one after the other in one process."""

import os
import re
import subprocess
import sys

from tests.contracts.tree import ROOT

PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
BLOCKS = [body for body in re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)]


def test_every_example_runs(tmp_path):
    # One process: importing TensorFlow five times would take longer than all of them.
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning:tfrecipes", "-c", "\n".join(BLOCKS)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(BLOCKS) >= 5
    assert (tmp_path / "runs" / "mine" / "facts.json").exists()
