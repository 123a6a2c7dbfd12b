"""What the findings of a run are worth: hits, false alarms, and how sure that makes us."""

import json
from collections.abc import Iterable, Mapping, Sequence
from math import sqrt
from pathlib import Path
from typing import Any

import tfrecipes as tfr
from parts.faults import Fault, names

SEVERITIES = ("error", "warning", "info")
RANKS = 2  # first or second
Finding = Mapping[str, str]


def wilson(hits: int, of: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share, as Wilson drew it: it holds near 0 and 1 too."""
    if of == 0:
        return 0.0, 1.0
    share, square = hits / of, z * z
    middle = (share + square / (2 * of)) / (1 + square / of)
    half = z * sqrt(share * (1 - share) / of + square / (4 * of * of)) / (1 + square / of)
    return max(0.0, middle - half), min(1.0, middle + half)


def share(hits: int, of: int) -> dict[str, Any]:
    """A share with what it is made of."""
    low, high = wilson(hits, of)
    return {"hits": hits, "of": of, "share": hits / of if of else None, "low": low, "high": high}


def findings_of(folder: Path) -> dict[str, list[dict[str, str]]]:
    """What is said of a run: by `diagnose` alone, and with what `check` said before it."""
    alone = [finding.as_dict() for finding in tfr.diagnose(folder)]
    path = folder / "check.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    both = {f["rule"]: f for f in [*alone, *before]}  # what both say is said once, before
    first = [both[f["rule"]] for f in before]
    rest = [f for f in alone if f["rule"] not in {g["rule"] for g in before}]
    ranked = sorted([*first, *rest], key=lambda f: SEVERITIES.index(f["severity"]))
    return {"diagnose": alone, "diagnose_and_check": ranked}


def judge(fault: Fault, findings: Sequence[Finding]) -> dict[str, Any]:
    """One faulty run: whether the cause was ranked first or second, and what else was said."""
    ranks = [i for i, finding in enumerate(findings) if names(finding, fault.causes)]
    loud = [f for f in findings if f["severity"] != "info"]
    wrong = [f["rule"] for f in loud if not names(f, (*fault.causes, *fault.accepted))]
    return {
        "hit": bool(ranks) and ranks[0] < RANKS,
        "rank": ranks[0] + 1 if ranks else None,
        "loud": len(loud),
        "wrong": wrong,
        "said": ", ".join(f"{f['severity']} {f['rule']}" for f in findings),
    }


def alarms(findings: Sequence[Finding]) -> list[str]:
    """What was said of a healthy run above info."""
    return [f["rule"] for f in findings if f["severity"] != "info"]


def recall(runs: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Share of runs whose cause was ranked first or second."""
    runs = list(runs)
    return share(sum(run["hit"] for run in runs), len(runs))


def precision(runs: Iterable[Mapping[str, Any]], false: int = 0) -> dict[str, Any]:
    """Share of findings above info that are true; `false` come from healthy runs."""
    runs = list(runs)
    loud = sum(run["loud"] for run in runs) + false
    return share(loud - sum(len(run["wrong"]) for run in runs) - false, loud)
