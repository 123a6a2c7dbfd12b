"""What is to be said about a run: the rules' findings now, and those that others left."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, SEVERITIES
from tfrecipes.runs.folder import Run
from tfrecipes.views.verdict import verdict


def all_findings(run: Run) -> list[dict[str, Any]]:
    """What the rules find in a run now, and what other rules left in `findings.json`; errors first."""
    # What one of ours said while the run went on is judged anew, with all that is known now.
    judged = {rule.__name__ for rule in RULES}
    rows = [finding.as_dict() for finding in diagnose(run)]
    rows += [finding for finding in run.findings if str(finding.get("rule")) not in judged]
    rank = {severity: i for i, severity in enumerate(SEVERITIES)}
    return sorted(rows, key=lambda row: rank.get(str(row.get("severity")), len(rank)))


def findings_text(run: Run, findings: Sequence[Mapping[str, Any]], width: int | None = None) -> str:
    """The verdict and the findings as lines for a terminal.

    Args:
        run: What `read_run` returned.
        findings: Dicts with `rule`, `severity`, `evidence`, `cause`, `advice`.
        width: Of the lines; None is the terminal's, 100 at most.

    Example:
        >>> finding = {"rule": "mine", "severity": "info", "evidence": "Seen.", "advice": "Do this."}
        >>> print(findings_text(Run(), [finding], width=40))
        How the run ended is not recorded; no
        problem was found. Nothing was recorded.
        <BLANKLINE>
        1. Info: mine
           Seen.
           What to do: Do this.
    """
    width = width or min(shutil.get_terminal_size((100, 24)).columns, 100)
    said = verdict(run, findings)
    lines = _wrapped(" ".join([said.headline, *said.sentences]), "", width)
    for number, finding in enumerate(findings, start=1):
        fields = {key: _one_line(str(value or "")) for key, value in finding.items()}
        severity = fields.get("severity", "").capitalize()
        lines += ["", f"{number}. {severity}: {fields.get('rule', '')}"]
        for key, word in (
            ("evidence", ""),
            ("cause", "Likely cause: "),
            ("advice", "What to do: "),
        ):
            if fields.get(key):
                lines += _wrapped(word + fields[key], "   ", width)
    return "\n".join(lines)


def _wrapped(text: str, indent: str, width: int) -> list[str]:
    # A command is copied whole: no break inside a word or at a hyphen.
    return textwrap.wrap(
        text,
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _one_line(text: str) -> str:
    """A text of the run without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
