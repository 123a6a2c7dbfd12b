"""`report.html`: what became of a run, in one file that opens anywhere."""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from tfrecipes.doctor.rules import SEVERITIES, Finding
from tfrecipes.runs.atomic import write_atomically
from tfrecipes.runs.folder import Run, read_run
from tfrecipes.views.canvas import DARK, LIGHT
from tfrecipes.views.curves import curves_of
from tfrecipes.views.findings import all_findings
from tfrecipes.views.marks import Mark, marks_of
from tfrecipes.views.panels import Panel, panels_of
from tfrecipes.views.plots import figure_svg, plot_panel
from tfrecipes.views.verdict import Verdict, count, verdict
from tfrecipes.views.words import facts_rows

__all__ = ["Verdict", "report_html", "verdict", "write_report"]

# A report stays below 2 MB whatever a run recorded: past these the rest is in the run's files, and the
# report says so.
MOST_EPOCHS, MOST_COLUMNS, MOST_FINDINGS, MOST_FACTS = 200, 40, 60, 100
LONGEST_TEXT, LONGEST_RECIPE = 2_000, 60_000


def write_report(
    run_folder_path: str | os.PathLike[str], findings: Iterable[Finding] | None = None
) -> Path:
    """Writes `report.html` into a run folder, from the folder's other files.

    One file of less than 2 MB: no script, no network, light and dark. It serves a finished run, a
    killed one, and a folder with no more than `steps.csv`. Whatever text the run brought is escaped.

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
    shown = all_findings(run) if findings is None else [finding.as_dict() for finding in findings]
    return write_atomically(Path(run_folder_path) / "report.html", report_html(run, shown))


def report_html(run: Run, findings: Sequence[Mapping[str, Any]]) -> str:
    """The report's text.

    Args:
        run: What `read_run` returned.
        findings: Dicts with `rule`, `severity`, `evidence`, `cause`, `advice`.
    """
    curves = curves_of(run)
    panels = panels_of(curves)
    shown = [_shown(finding) for finding in findings[:MOST_FINDINGS]]
    marks = marks_of(curves, [panel.key for panel in panels], shown)
    columns, rows, left_out = _epoch_table(run)
    recipe_text = run.recipe_text or ""
    return page("report.html.j2").render(
        style=style(),
        title=run_name(run),
        recipe_name=shortened(str((run.recipe or {}).get("name") or "")),
        verdict=verdict(run, findings),
        findings=[
            {**finding, "place": _place(marks.get(i), panels)}
            for i, finding in enumerate(shown, start=1)
        ],
        more_findings=len(findings) - len(shown),
        plots=[
            {
                "key": panel.key,
                "title": panel.title,
                # matplotlib escapes what it writes.
                "svg": Markup(figure_svg(plot_panel(curves, panel, tuple(marks.values())))),
            }
            for panel in panels
        ],
        epoch_columns=columns,
        epoch_rows=rows,
        epochs_left_out=left_out,
        recipe_lines=_lines(recipe_text[:LONGEST_RECIPE]),
        recipe_is_cut=len(recipe_text) > LONGEST_RECIPE,
        facts=[(label, shortened(text)) for label, text in facts_rows(run.facts)],
        environment=environment_rows(run.environment),
        problems=[shortened(problem) for problem in run.problems],
    )


def page(name: str) -> Any:
    """A template of this room, which escapes all that it is given."""
    text = resources.files("tfrecipes.views").joinpath(name).read_text("utf-8")
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["in_code"] = in_code
    return environment.from_string(text)


def in_code(text: str) -> Markup:
    """A text whose parts in backticks are shown as code; all of it is escaped."""
    parts = [escape(part) for part in text.split("`")]
    if len(parts) % 2 == 0:  # a backtick without its fellow is itself
        parts[-2:] = [Markup("`").join(parts[-2:])]
    pieces = [Markup("<code>{}</code>").format(p) if i % 2 else p for i, p in enumerate(parts)]
    return Markup("").join(pieces)


def style() -> Markup:
    """The style sheet of every page, with the pictures' colours in light and dark."""
    text = resources.files("tfrecipes.views").joinpath("page.css").read_text("utf-8")
    light, dark = ("; ".join(f"{k}: {v}" for k, v in table.items()) for table in (LIGHT, DARK))
    return Markup(text.replace("/* light */", light).replace("/* dark */", dark))


def run_name(run: Run) -> str:
    """The folder's name."""
    return shortened(run.path.resolve().name or str(run.path)) if run.path else "Run"


def shortened(text: str) -> str:
    """A text of the run, cut where it would fill the page."""
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} …"


def _shown(finding: Mapping[str, Any]) -> dict[str, str]:
    fields = {
        key: shortened(str(finding.get(key) or ""))
        for key in ("rule", "severity", "evidence", "cause", "advice")
    }
    # The level becomes a class name, so it is one of ours or none.
    level = fields["severity"] if fields["severity"] in SEVERITIES else "info"
    return {**fields, "level": level}


def _place(mark: Mark | None, panels: Sequence[Panel]) -> dict[str, str] | None:
    """Where a finding's link leads: the anchor, and the place in words."""
    if mark is None:
        return None
    title = next(panel.title for panel in panels if panel.key == mark.panel)
    return {"anchor": mark.anchor, "words": f"{title}, {mark.words}"}


def _lines(text: str) -> list[tuple[str, str]]:
    """A recipe's lines, each cut into what is set and the reason behind it."""
    lines = []
    for line in text.splitlines():
        # A number sign inside quotes begins no comment.
        match = re.match(r"""((?:[^"'#]|"(?:[^"\\]|\\.)*"|'[^']*')*)(#.*)?$""", line)
        lines.append((match[1], match[2] or "") if match else (line, ""))
    return lines


def _epoch_table(run: Run) -> tuple[list[str], list[list[str]], str]:
    """Columns and rows as text, `epoch` first and counted from 1; and what was left out."""
    epochs = count(run)[0]
    # Results first: a table is wider than a screen. Telemetry is a step's, and stands in the curves.
    every = sorted(run.epochs, key=lambda name: (name in run.steps and name != "loss", name))
    columns = every[:MOST_COLUMNS]
    at = np.unique(np.linspace(0, epochs - 1, MOST_EPOCHS).astype(int)) if epochs else ()
    rows = [
        [
            f"{i + 1:,}",
            *(_number(float(run.epochs[c][i])) if i < run.epochs[c].size else "" for c in columns),
        ]
        for i in at
    ]
    parts = []
    if len(rows) < epochs:
        parts.append(f"{len(rows)} of {epochs:,} epochs")
    if len(columns) < len(every):
        parts.append(f"{len(columns)} of {len(every):,} columns")
    left_out = f"{' and '.join(parts)} are shown; epochs.csv has all." if parts else ""
    return ["epoch", *map(shortened, columns)], rows, left_out


def _number(value: float) -> str:
    return f"{value:.5g}" if np.isfinite(value) else str(float(value))


def environment_rows(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of what `environment.json` says."""
    facts = []
    for key, value in list(environment.items())[:MOST_FACTS]:
        if isinstance(value, Mapping):
            text = ", ".join(f"{name} {version}" for name, version in value.items())
        elif isinstance(value, list | tuple):
            text = ", ".join(str(item) for item in value)
        else:
            text = "" if value is None else str(value)
        if text:
            facts.append((shortened(str(key).replace("_", " ")), shortened(text)))
    return facts
