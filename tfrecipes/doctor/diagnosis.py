"""From a run to what is wrong with it, in words."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tfrecipes.doctor.rules import RULES, Finding, Rule
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.ranking import ranked
from tfrecipes.runs.folder import Run, read_run


def diagnose(run_or_history: Any, rules: Sequence[Rule] = RULES) -> list[Finding]:
    """Asks every rule about a run, one that is still going too.

    Args:
        run_or_history: A run folder's path; what `read_run` returned, or any object with `.steps`
            and `.epochs`; the History that `fit` returned; or a dict of lists, History's keys or, where
            it has a `step` that counts by one, telemetry's columns.
        rules: Functions `f(run) -> Finding | None`. Your own go beside ours:
            `rules=[*tfr.RULES, mine]`. They may read `.steps .epochs .recipe`, and `.facts .system
            .layers .state` where the run has them.

    Returns:
        What was found: errors first, then warnings, then what is worth knowing; within each the
        likeliest cause first. What one of our findings explains is left out and named in it; what
        your own rules find always stands.

    Raises:
        ValueError: If a path is no run folder.
        TypeError: If `run_or_history` is something else, or a rule returns something else.

    Example:
        >>> history = {"loss": [2.3, 2.9, 4.1, 7.7, 20.0]}
        >>> [finding.rule for finding in diagnose(history)]
        ['diverged']
    """
    look = Look.at(_as_run(run_or_history))
    ours, theirs = [], []
    # Odd numbers (inf - inf, 0 / 0) are what a broken run is made of.
    with np.errstate(all="ignore"):
        for rule in rules:
            finding = rule(look)
            if finding is None:
                continue
            if not isinstance(finding, Finding):
                name = getattr(rule, "__name__", repr(rule))
                raise TypeError(
                    f"diagnose: rule {name} must return a Finding or None. Received: {finding!r}."
                )
            (ours if rule in RULES else theirs).append(finding)
    return ranked(ours, theirs, [rule.__name__ for rule in RULES])


def _as_run(given: Any) -> Any:
    if isinstance(given, str | os.PathLike):
        return read_run(given)
    if hasattr(given, "steps") and hasattr(given, "epochs"):
        return given
    if isinstance(history := getattr(given, "history", None), Mapping):
        return Run(epochs=_arrays(history))
    if isinstance(given, Mapping):
        table = _arrays(given)
        return Run(steps=table) if _are_steps(table) else Run(epochs=table)
    raise TypeError(
        "diagnose: must be given a run folder's path, a run, a History or a dict of lists. "
        f"Received: run_or_history={given!r}."
    )


def _are_steps(table: Mapping[str, np.ndarray]) -> bool:
    """Whether a table has a row a step. A Monitor's History has a column `step` too, of each epoch's last."""
    step = table.get("step")
    if step is None or any(name.startswith("val_") for name in table):
        return False
    return step.size < 2 or bool(step[1] - step[0] == 1)


def _arrays(table: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The columns that are numbers; a History may hold others, which no rule reads."""
    arrays = {}
    for name, values in table.items():
        try:
            arrays[str(name)] = np.atleast_1d(np.asarray(values, dtype=np.float64))
        except (TypeError, ValueError):
            continue
    return arrays
