"""docs/batch_size.md: its example runs as it stands, as a script."""

import os
import re
import subprocess
import sys

from tests.contracts.tree import ROOT

PAGE = (ROOT / "docs" / "batch_size.md").read_text(encoding="utf-8")


def test_the_example_runs(tmp_path):
    (example,) = re.findall(r"^```python\n(.*?)^```$", PAGE, re.M | re.S)
    script = tmp_path / "example.py"
    script.write_text(example)
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Micro-batch     64 is the largest that fits into 4 GB" in done.stdout
    assert "What to do      " in done.stdout
