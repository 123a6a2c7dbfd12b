"""Reading a run folder, of a finished, running or killed run."""

import json
import os
import tomllib
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tfrecipes.runs.steps import read_table

RECIPE, ENVIRONMENT, STATE, FACTS = "recipe.toml", "environment.json", "state.json", "facts.json"
STEPS, EPOCHS, FINDINGS = "steps.csv", "epochs.csv", "findings.json"
SYSTEM, LAYERS, SWEEP = "system.csv", "layers.csv", "learning_rate.json"
FILES = (RECIPE, ENVIRONMENT, STATE, FACTS, STEPS, EPOCHS, FINDINGS, SYSTEM, LAYERS, SWEEP)

# A folder's file may come from anywhere; none of the small ones has business being larger.
_MOST_BYTES = 64 * 2**20

_READING_FAULTS = (OSError, ValueError)  # UnicodeDecodeError, JSON and TOML errors are ValueErrors


@dataclass(frozen=True)
class Run:
    """What a run left, as far as it can be read.

    Attributes:
        path: The folder; None for a run that was never in one.
        steps: Column to float64 array (steps,), from `steps.csv`.
        epochs: History's keys to float64 array (epochs,), from `epochs.csv`; NaN where an epoch
            has no value.
        recipe: `recipe.toml`, parsed. None where there is none.
        recipe_text: The same as text.
        environment: `environment.json`.
        findings: `findings.json`, a list of dicts.
        state: `state.json`, or the status that `facts.json` has. A killed run's says "running".
        facts: `facts.json`, what `tfr.Monitor` learnt of model, optimizer, loss and data.
        system: Column to float64 array (rows,), from `system.csv`: about a row a second.
        layers: Column to float64 array (rows,), from `layers.csv`: every so many steps.
        problems: A sentence for each file that is there and could not be read.
    """

    path: Path | None = None
    steps: dict[str, np.ndarray] = field(default_factory=dict)
    epochs: dict[str, np.ndarray] = field(default_factory=dict)
    recipe: dict[str, Any] | None = None
    recipe_text: str | None = None
    environment: dict[str, Any] = field(default_factory=dict)
    findings: list[dict[str, Any]] = field(default_factory=list)
    state: dict[str, Any] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
    system: dict[str, np.ndarray] = field(default_factory=dict)
    layers: dict[str, np.ndarray] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_run(path: str | os.PathLike[str]) -> Run:
    """Reads a run folder, of a finished, running or killed run.

    Args:
        path: The folder. Any one of its files is enough.

    Returns:
        The run; a broken file counts as absent and is named in `.problems`.

    Raises:
        ValueError: If `path` is no folder, or holds no file of a run.
    """
    path = Path(path)
    if not path.is_dir():
        raise ValueError(
            f"{path}: must be a run folder, and there is no folder of that name. Received: path={str(path)!r}."
        )
    if not any((path / name).exists() for name in FILES):
        raise ValueError(
            f"{path}: holds no file of a run (such as {STEPS} or {EPOCHS}). Received: path={str(path)!r}. "
            "Name the folder that `tfrecipes train` or `tfr.Monitor` wrote."
        )
    problems: list[str] = []
    recipe_text = _text(path / RECIPE, problems)
    run = Run(
        path=path,
        steps=_table(path / STEPS, problems),
        epochs=_table(path / EPOCHS, problems),
        recipe=_toml(recipe_text, problems),
        recipe_text=recipe_text,
        environment=_json(path / ENVIRONMENT, dict, problems),
        findings=[f for f in _json(path / FINDINGS, list, problems) if isinstance(f, dict)],
        state=_json(path / STATE, dict, problems),
        facts=_json(path / FACTS, dict, problems),
        system=_table(path / SYSTEM, problems),
        layers=_table(path / LAYERS, problems),
        problems=tuple(problems),
    )
    if not run.state and "status" in run.facts:
        # A folder that `tfr.Monitor` alone wrote has no state.json: that is a recipe's.
        told = {key: run.facts[key] for key in ("status", "reason") if key in run.facts}
        run = replace(run, state=told)
    return run


def _unreadable(name: str, error: Exception) -> str:
    return f"{name} could not be read: {error}"


def _text(path: Path, problems: list[str]) -> str | None:
    if not path.exists():
        return None
    try:
        if not path.is_file() or path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"it is no regular file of at most {_MOST_BYTES // 2**20} MiB")
        return path.read_text(encoding="utf-8")
    except _READING_FAULTS as error:
        problems.append(_unreadable(path.name, error))
        return None


def _toml(text: str | None, problems: list[str]) -> dict[str, Any] | None:
    try:
        return None if text is None else tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        problems.append(_unreadable(RECIPE, error))
        return None


def _json(path: Path, kind: type, problems: list[str]) -> Any:
    text = _text(path, problems)
    if text is None:
        return kind()
    try:
        value = json.loads(text)
        if not isinstance(value, kind):
            raise ValueError(f"it holds no JSON {'object' if kind is dict else 'array'}")
        return value
    except (ValueError, RecursionError) as error:
        problems.append(_unreadable(path.name, error))
        return kind()


def _table(path: Path, problems: list[str]) -> dict[str, np.ndarray]:
    if not path.exists():
        return {}
    try:
        return read_table(path)
    except _READING_FAULTS as error:
        problems.append(_unreadable(path.name, error))
        return {}
