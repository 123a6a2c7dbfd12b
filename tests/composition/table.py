"""What the cells are held to, and the table of what they gave."""

import datetime
from importlib.metadata import version
from pathlib import Path

import numpy as np

PAGE = Path(__file__).resolve().parents[2] / "docs" / "composition.md"
# Of each tensor's norm: six steps in float32 beside float64, sums in another order. Measured: 3e-7.
TOLERANCE = 1e-6

CLASSES = {
    "bitwise": "observing features are on: the same bits as without them, and near the reference",
    "rounding": "near the reference",
    "XLA": "near the reference; its fusions round otherwise, so nothing is bitwise",
}

HEAD = """\
# The law of composition, walked

`pytest tests/composition --all -n 2 --dist load` makes this page (two processes, as one grows to 8
GB over so many models on two replicas). Each cell is one training run of six steps with
one value of every feature; the reference is the same arithmetic in float64 NumPy
(`tests/composition/reference.py`): no micro-batches, no loss scale, no replicas, one big batch a
step. Held are the weights, their average, the number of updates, the losses in History and each
row of the telemetry. A default test run walks a seeded sample of {sample} cells that has every
pair of values of two features.

Observing features: telemetry columns, layers' norms, `steps_per_execution`, the order of
callbacks, a loss scale (a power of two), and an average beside the raw weights.
"""


def distance(have, want):
    """Largest |p - q| / |q| over the tensors."""
    return max(
        float(np.linalg.norm(p - q) / np.linalg.norm(q)) for p, q in zip(have, want, strict=True)
    )


def walked(reports):
    """[(class, distance, passed)] of the cells among pytest's reports."""
    found = []
    for report in reports:
        for name, value in getattr(report, "user_properties", ()):
            if name == "composition":
                found.append((*value, report.passed))
    return found


def say(reports, write_line, write_page):
    """Print how many cells were walked; write the page where they were all of them."""
    from tests.composition import matrix

    cells = walked(reports)
    if not cells:
        return
    write_line(sentence(cells))
    if write_page and len(cells) == len(matrix.whole()):
        write(cells, len(matrix.sample()))
        write_line(f"composition: wrote {PAGE.name}")


def sentence(cells):
    counts = ", ".join(f"{sum(c[0] == name for c in cells)} {name}" for name in CLASSES)
    failed = sum(not passed for *_, passed in cells)
    farthest = max(far for _, far, _ in cells)
    return (
        f"composition: walked {len(cells)} cells ({counts}), {failed} failed; "
        f"farthest from the reference {farthest:.1e} of a tensor's norm, allowed {TOLERANCE:.0e}"
    )


def write(cells, sample):
    """Write the page."""
    versions = f"Keras {version('keras')}, TensorFlow {version('tensorflow')}"
    rows = ["| Class | Held | Cells | Failed | Farthest |", "|---|---|---|---|---|"]
    for name, words in CLASSES.items():
        of_class = [cell for cell in cells if cell[0] == name]
        failed = sum(not passed for *_, passed in of_class)
        farthest = max((far for _, far, _ in of_class), default=0.0)
        rows.append(f"| {name} | {words} | {len(of_class)} | {failed} | {farthest:.1e} |")
    date = datetime.date.today().isoformat()
    text = (
        HEAD.format(sample=sample)
        + f"""
Walked on {date} with {versions}: {len(cells)} cells, {sum(not c[-1] for c in cells)} failed.
Distances are of a tensor's norm, allowed {TOLERANCE:.0e}.

"""
    )
    PAGE.write_text(text + "\n".join(rows) + "\n", encoding="utf-8")
