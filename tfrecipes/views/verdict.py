"""What became of a run, in one line and the sentences that support it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfrecipes.runs.folder import Run

_ENDS = {
    "finished": "The run finished",
    "stopped": "The run was stopped before its end",
    "preempted": "The run was interrupted and can be resumed",
    "running": "The run is still going, or was killed",
}
UNKNOWN_END = "How the run ended is not recorded"


@dataclass(frozen=True)
class Verdict:
    """What stands at the top of a report.

    Attributes:
        level: "error" or "warning" where a finding is one, else "good".
        headline: One line.
        sentences: What supports it.
    """

    level: str
    headline: str
    sentences: tuple[str, ...]


def verdict(run: Run, findings: Sequence[Mapping[str, Any]]) -> Verdict:
    """The run in one line and the sentences that support it."""
    severities = [finding.get("severity") for finding in findings]
    level = next((word for word in ("error", "warning") if word in severities), "good")
    counts = [
        f"{severities.count(severity)} {severity}{'s' if severities.count(severity) > 1 else ''}"
        for severity in ("error", "warning")
        if severity in severities
    ]
    headline = f"{_ending(run)}; {' and '.join(counts) if counts else 'no problem was found'}."
    sentences = [_extent(run), *_results(run)]
    if reason := run.state.get("reason"):
        sentences.append(f"Reason: {reason}")
    return Verdict(level, headline, tuple(sentence for sentence in sentences if sentence))


def _ending(run: Run) -> str:
    return _ENDS.get(str(run.state.get("status")), UNKNOWN_END)


def count(run: Run) -> tuple[int, int]:
    """Epochs and steps that were recorded."""
    epochs = max((values.size for values in run.epochs.values()), default=0)
    step = run.steps.get("step", np.empty(0))
    finite = step[np.isfinite(step)]
    return epochs, int(finite.max()) + 1 if finite.size else 0


def best_and_last(name: str, values: np.ndarray) -> tuple[int, int] | None:
    """Rows of a column's best and last value; None where it has no finite one.

    A column whose name speaks of a loss or an error is best at its least, every other at its greatest.
    """
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return None
    least = any(word in name for word in ("loss", "error", "mae", "mse", "perplexity"))
    return int(known[(np.argmin if least else np.argmax)(values[known])]), int(known[-1])


def _extent(run: Run) -> str:
    epochs, steps = count(run)
    parts = []
    if epochs:
        parts.append(f"{epochs:,} epoch{'s' if epochs > 1 else ''}")
    if steps:
        parts.append(f"{steps:,} step{'s' if steps > 1 else ''}")
    return f"{' and '.join(parts)} recorded." if parts else "Nothing was recorded."


def _results(run: Run) -> list[str]:
    """The last and the best value of what a reader looks for first."""
    names = [n for n in ("val_accuracy", "accuracy", "val_loss", "loss") if n in run.epochs]
    sentences = []
    for name in names[:3]:
        values = run.epochs[name]
        rows = best_and_last(name, values)
        if rows is None:
            continue
        best, last = rows
        text = f"{name} {values[last]:.4g} in epoch {last + 1:,}"
        sentences.append(
            f"{text}, the best."
            if values[best] == values[last]
            else f"{text}; best {values[best]:.4g} in epoch {best + 1:,}."
        )
    loss = run.steps.get("loss", np.empty(0))
    if not names and loss.size:
        sentences.append(f"loss {loss[-1]:.4g} in the last step.")
    return sentences
