"""`report.html`: what became of a run, in one file that opens anywhere."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import SEVERITIES, Finding
from tfrecipes.runs.atomic import write_atomically
from tfrecipes.runs.folder import Run, read_run
from tfrecipes.views.plots import figure_svg, plot_run

_ENDS = {
    "finished": "The run finished",
    "stopped": "The run was stopped before its end",
    "preempted": "The run was interrupted and can be resumed",
    "running": "The run is still going, or was killed",
}


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


def write_report(
    run_folder_path: str | os.PathLike[str], findings: Iterable[Finding] | None = None
) -> Path:
    """Writes `report.html` into a run folder, from the folder's other files.

    One file: no script, no network, light and dark. It serves a finished run, a killed one, and a folder
    with no more than `steps.csv`. Whatever text the run brought is escaped.

    Args:
        run_folder_path: The folder.
        findings: What to show. None diagnoses the run, and adds what `findings.json` has besides.

    Returns:
        The report's path.

    Raises:
        ValueError: If the path is no run folder.
        RunWriteError: If the report cannot be written; an older one is intact.
    """
    run = read_run(run_folder_path)
    shown = _all_findings(run) if findings is None else [finding.as_dict() for finding in findings]
    return write_atomically(Path(run_folder_path) / "report.html", report_html(run, shown))


def report_html(run: Run, findings: list[dict[str, Any]]) -> str:
    """The report's text.

    Args:
        run: What `read_run` returned.
        findings: Dicts with `rule`, `severity`, `evidence`, `cause`, `advice`.
    """
    template = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=False
    ).from_string(resources.files("tfrecipes.views").joinpath("report.html.j2").read_text("utf-8"))
    columns, rows = _epoch_table(run)
    return template.render(
        title=(run.path.resolve().name or str(run.path)) if run.path else "Run",
        recipe_name=str((run.recipe or {}).get("name") or ""),
        verdict=verdict(run, findings),
        findings=[_shown(finding) for finding in findings],
        curves=_curves(run),
        epoch_columns=columns,
        epoch_rows=rows,
        recipe_text=run.recipe_text,
        environment=_facts(run.environment),
        problems=run.problems,
    )


def verdict(run: Run, findings: list[dict[str, Any]]) -> Verdict:
    """The run in one line and the sentences that support it."""
    severities = [finding.get("severity") for finding in findings]
    level = next((word for word in ("error", "warning") if word in severities), "good")
    status = run.state.get("status")
    end = _ENDS.get(str(status), "How the run ended is not recorded")
    counts = [
        f"{severities.count(severity)} {severity}{'s' if severities.count(severity) > 1 else ''}"
        for severity in ("error", "warning")
        if severity in severities
    ]
    headline = f"{end}; {' and '.join(counts) if counts else 'no problem was found'}."
    sentences = [_extent(run), *_results(run)]
    if reason := run.state.get("reason"):
        sentences.append(f"Reason: {reason}")
    return Verdict(level, headline, tuple(sentence for sentence in sentences if sentence))


def _curves(run: Run) -> Markup | None:
    try:
        figure = plot_run(run)
    except ValueError:  # its word for a run with no value that can be drawn
        return None
    return Markup(figure_svg(figure))  # matplotlib escapes what it writes


def _all_findings(run: Run) -> list[dict[str, Any]]:
    fresh = [finding.as_dict() for finding in diagnose(run)]
    known = {finding["rule"] for finding in fresh}
    rows = fresh + [finding for finding in run.findings if finding.get("rule") not in known]
    rank = {severity: i for i, severity in enumerate(SEVERITIES)}
    return sorted(rows, key=lambda row: rank.get(str(row.get("severity")), len(rank)))


def _shown(finding: Mapping[str, Any]) -> dict[str, str]:
    fields = {
        key: str(finding.get(key) or "")
        for key in ("rule", "severity", "evidence", "cause", "advice")
    }
    # The level becomes a class name, so it is one of ours or none.
    level = fields["severity"] if fields["severity"] in SEVERITIES else "info"
    return {**fields, "level": level}


def _count(run: Run) -> tuple[int, int]:
    epochs = max((values.size for values in run.epochs.values()), default=0)
    step = run.steps.get("step", np.empty(0))
    finite = step[np.isfinite(step)]
    steps = int(finite.max()) + 1 if finite.size else 0
    return epochs, steps


def _extent(run: Run) -> str:
    epochs, steps = _count(run)
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
        known = np.flatnonzero(np.isfinite(values))
        if not known.size:
            continue
        best = known[(np.argmin if "loss" in name else np.argmax)(values[known])]
        last = known[-1]
        text = f"{name} {values[last]:.4g} in epoch {last + 1}"
        sentences.append(
            f"{text}, the best."
            if best == last
            else f"{text}; best {values[best]:.4g} in epoch {best + 1}."
        )
    loss = run.steps.get("loss", np.empty(0))
    if not names and loss.size:
        sentences.append(f"loss {loss[-1]:.4g} in the last step.")
    return sentences


def _epoch_table(run: Run) -> tuple[list[str], list[list[str]]]:
    """Columns and rows as text; `epoch` first, counted from 1."""
    count = _count(run)[0]
    # Results first: a table is wider than a screen. Telemetry is a step's, and stands in the curves.
    columns = sorted(run.epochs, key=lambda name: (name in run.steps and name != "loss", name))
    rows = [
        [
            str(i + 1),
            *(_number(run.epochs[c][i]) if i < run.epochs[c].size else "" for c in columns),
        ]
        for i in range(count)
    ]
    return ["epoch", *columns], rows


def _number(value: float) -> str:
    return f"{value:.5g}" if np.isfinite(value) else str(float(value))


def _facts(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    facts = []
    for key, value in environment.items():
        if isinstance(value, Mapping):
            text = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list | tuple):
            text = ", ".join(str(item) for item in value)
        else:
            text = "" if value is None else str(value)
        if text:
            facts.append((str(key).replace("_", " "), text))
    return facts
