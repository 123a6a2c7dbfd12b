"""`compare.html`: several runs over one another, and what differs between them."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from tfrecipes.runs.atomic import write_atomically
from tfrecipes.runs.folder import Run, read_run
from tfrecipes.views.canvas import LIGHT, figure_svg
from tfrecipes.views.curves import curves_of
from tfrecipes.views.findings import all_findings
from tfrecipes.views.overlay import Member, colour_of, overlays_of, plot_overlay, shape_of
from tfrecipes.views.report import page, shortened, style
from tfrecipes.views.verdict import best_and_last, count, verdict

MOST_RUNS, MOST_ROWS = 32, 200
_MISSING = "-"
# What differs between any two runs, or is long and stands in a panel.
_NOT_COMPARED = ("started_at", "schedule.points", "groups", "labels.counts", "status", "words")


@dataclass(frozen=True)
class Section:
    """A table with a column a run.

    Attributes:
        title: What it is about.
        rows: Label, then a cell a run.
        best: Rows and columns of the cells that are the best of their rows.
        sentence: What is said where there are no rows.
    """

    title: str
    rows: list[tuple[str, list[str]]]
    best: frozenset[tuple[int, int]] = frozenset()
    sentence: str = ""


@dataclass(frozen=True)
class Comparison:
    """Runs that are looked at together.

    Attributes:
        labels: What each is called: as much of its path's end as tells it from the others.
        runs: As read.
        headline: Which of them is best, and by what.
        sections: Results, then what differs.
    """

    labels: tuple[str, ...]
    runs: tuple[Run, ...]
    headline: str
    sections: tuple[Section, ...]


def compare_runs(paths: Sequence[str | os.PathLike[str]]) -> Comparison:
    """Reads runs and lays what they recorded side by side.

    Args:
        paths: Two to 32 run folders.

    Raises:
        ValueError: If there are too few or too many, or one is no run folder.
    """
    if not 2 <= len(paths) <= MOST_RUNS:
        raise ValueError(
            f"compare: must be given 2 to {MOST_RUNS} runs. Received: {len(paths)}. "
            "Name the folders that `tfrecipes train` printed."
        )
    runs = tuple(read_run(path) for path in paths)
    labels = _labels([str(path) for path in paths])
    results, headline = _results(labels, runs)
    return Comparison(
        labels,
        runs,
        headline,
        (
            results,
            _differences("Recipe", runs, lambda run: run.recipe or {}),
            _differences("Run", runs, lambda run: run.facts),
            _differences("Environment", runs, lambda run: run.environment),
        ),
    )


def write_comparison(comparison: Comparison, path: str | os.PathLike[str]) -> Path:
    """Writes the comparison as one page: no script, no network, light and dark.

    Raises:
        ValueError: If `path` is a folder, or lies in none.
        RunWriteError: If the system refuses; an older page is intact.
    """
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise ValueError(
            f"compare: `--out` must be a file in a folder that exists. Received: {str(target)!r}. "
            "Name one such as compare.html."
        )
    return write_atomically(target, comparison_html(comparison))


def comparison_html(comparison: Comparison) -> str:
    """The page's text."""
    members = _members(comparison)
    findings = [all_findings(run) for run in comparison.runs]
    return page("compare.html.j2").render(
        style=style(),
        headline=comparison.headline,
        runs=[
            {
                "label": member.label,
                # One of ours, with its place in the page's variables.
                "shape": member.shape,
                "colour": Markup(f"var({_variable(member.colour)}, {member.colour})"),
                "verdict": verdict(run, found),
                "findings": found[:3],
            }
            for member, run, found in zip(members, comparison.runs, findings, strict=True)
        ],
        sections=comparison.sections,
        plots=[
            {
                "key": overlay.key,
                "title": overlay.title,
                "svg": Markup(figure_svg(plot_overlay(members, overlay))),
            }
            for overlay in overlays_of(members)
        ],
    )


def comparison_text(comparison: Comparison) -> str:
    """The tables as lines for a terminal."""
    lines = [comparison.headline]
    for section in comparison.sections:
        lines += ["", f"{section.title}:" if section.rows else section.sentence]
        if section.rows:
            lines += _text_table(comparison.labels, section)
    return "\n".join(_plain(line) for line in lines)


def _text_table(labels: Sequence[str], section: Section) -> list[str]:
    table = [("", list(labels))] + [
        (label, [cell + " *" * ((i, j) in section.best) for j, cell in enumerate(cells)])
        for i, (label, cells) in enumerate(section.rows)
    ]
    texts = [[_narrow(text) for text in (label, *cells)] for label, cells in table]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    return [
        "  ".join(f"{text:<{w}}" for text, w in zip(row, widths, strict=True)).rstrip()
        for row in texts
    ]


def _narrow(text: str, most: int = 34) -> str:
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most - most // 2 - 1) :]}"


def _plain(text: str) -> str:
    """A text of the runs without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _variable(colour: str) -> str:
    return next(name for name, value in LIGHT.items() if value == colour)


def _members(comparison: Comparison) -> list[Member]:
    runs = comparison.runs
    if not all(curves_of(run).by_step for run in runs):
        # One axis for all: where one run knows no steps, all are drawn over epochs.
        runs = tuple(replace(run, steps={}, system={}, layers={}) for run in runs)
    return [
        Member(label, curves_of(run), colour_of(i), shape_of(i))
        for i, (label, run) in enumerate(zip(comparison.labels, runs, strict=True))
    ]


def _labels(paths: Sequence[str]) -> tuple[str, ...]:
    """As few last parts of each path as tell all of them apart; numbered where they are the same."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    labels = ["/".join(part[-1:]) for part in parts]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = ["/".join(part[-depth:]) for part in parts]
        if len(set(labels)) == len(labels):
            break
    else:
        labels = [f"{part[-1]} ({i})" for i, part in enumerate(parts, start=1)]
    return tuple(shortened(label) for label in labels)


def _results(labels: Sequence[str], runs: Sequence[Run]) -> tuple[Section, str]:
    rows: list[tuple[str, list[str]]] = [
        ("end", [_end(run) for run in runs]),
        ("epochs", [f"{count(run)[0]:,}" for run in runs]),
        ("steps", [f"{count(run)[1]:,}" if run.steps else _MISSING for run in runs]),
    ]
    best: set[tuple[int, int]] = set()
    headline = "The runs have no value in common that could be compared."
    for name in _metrics(runs):
        tops, lasts = _tops_and_lasts(name, runs)
        known = [value for value, _ in tops if math.isfinite(value)]
        if not known:
            continue
        top = min(known) if _least_is_best(name) else max(known)
        winners = [i for i, (value, _) in enumerate(tops) if value == top]
        if headline.startswith("The runs have") and len(known) > 1:
            names = " and ".join(labels[i] for i in winners)
            has_word = "has" if len(winners) == 1 else "have"
            where = f" in epoch {tops[winners[0]][1]:,}" if len(winners) == 1 else ""
            headline = f"{names} {has_word} the best {name}: {top:.5g}{where}."
        if len(winners) < len(runs):
            best |= {(len(rows), i) for i in winners}
        shown = [f"{v:.5g} (epoch {e:,})" if math.isfinite(v) else _MISSING for v, e in tops]
        rows.append((f"{name}, best", shown))
        rows.append((f"{name}, last", [f"{v:.5g}" if v is not None else _MISSING for v in lasts]))
    speeds = [_median(run.system.get("samples_per_second")) for run in runs]
    if any(speed is not None for speed in speeds):
        texts = [_MISSING if speed is None else f"{speed:,.0f}" for speed in speeds]
        rows.append(("samples / s, median", texts))
    return Section("Results (* best of the runs)", rows[:MOST_ROWS], frozenset(best)), headline


def _end(run: Run) -> str:
    status = run.state.get("status")
    return {"running": "running, or killed"}.get(str(status), shortened(str(status or _MISSING)))


def _metrics(runs: Sequence[Run]) -> list[str]:
    """Columns of results, validation's first; telemetry is a step's and no result."""
    names = dict.fromkeys(
        name for run in runs for name in run.epochs if name == "loss" or name not in run.steps
    )
    telemetry = {"learning_rate", "step", "samples", "clipped", "overflow", "loss_scale"}
    order = ("val_accuracy", "val_loss", "accuracy", "loss")
    ranked = sorted(
        names, key=lambda n: order.index(n) if n in order else 1.5 if n[:4] == "val_" else 9
    )
    return [name for name in ranked if name not in telemetry][:12]


def _least_is_best(name: str) -> bool:
    rows = best_and_last(name, np.array([0.0, 1.0]))
    return rows is not None and rows[0] == 0


def _tops_and_lasts(
    name: str, runs: Sequence[Run]
) -> tuple[list[tuple[float, int]], list[float | None]]:
    """The best value of each run with its epoch, NaN where there is none; and the last value."""
    tops: list[tuple[float, int]] = []
    lasts: list[float | None] = []
    for run in runs:
        values = run.epochs.get(name, np.empty(0))
        rows = best_and_last(name, values)
        tops.append((math.nan, 0) if rows is None else (float(values[rows[0]]), rows[0] + 1))
        lasts.append(None if values.size == 0 else float(values[-1]))
    return tops, lasts


def _median(values: np.ndarray | None) -> float | None:
    known = np.empty(0) if values is None else values[np.isfinite(values)]
    return float(np.median(known)) if known.size else None


def _differences(
    title: str, runs: Sequence[Run], read: Callable[[Run], Mapping[str, Any]]
) -> Section:
    """The keys that are not the same in all runs, tables' keys by their dotted names."""
    flat = [_flat(read(run)) for run in runs]
    keys = dict.fromkeys(key for table in flat for key in table)
    rows = [
        (shortened(key), [shortened(table.get(key, _MISSING)) for table in flat])
        for key in keys
        if not key.endswith(_NOT_COMPARED) and len({table.get(key, _MISSING) for table in flat}) > 1
    ]
    if not any(flat):
        sentence = f"{title}: none of the runs has any recorded."
    else:
        sentence = f"{title}: nothing differs."
    return Section(f"{title}: what differs", rows[:MOST_ROWS], sentence=sentence)


def _flat(table: Mapping[str, Any], start: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in table.items():
        name = f"{start}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
            for i, inner in enumerate(value):
                flat |= _flat(inner, f"{name}.{i}.")
        elif isinstance(value, list | tuple):
            flat[name] = ", ".join(map(_word, value)) or "none"
        else:
            flat[name] = _word(value)
    return flat


def _word(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: _MISSING}[value]
    return f"{value:.6g}" if isinstance(value, float) else str(value)
