"""A run as arrays to draw: its tables, and the x axis on which all of them stand."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tfrecipes.runs.folder import read_run

_LARGEST, _LEAST = 1e38, 1e-38

Table = Mapping[str, np.ndarray]
Series = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Curves:
    """A run's tables, each with the x at which its rows hold.

    Over a step axis an epoch's values stand at the epoch's last step: where `epochs` has `step`
    at that step, else where the run's facts say how long an epoch is, else as if all epochs
    were equally long. A run without steps has an epoch axis, counted from 1.

    Attributes:
        steps: Column to values (rows,), a row a step.
        epochs: Column to values (rows,), a row an epoch.
        system: Column to values (rows,), a row about a second.
        layers: Column to values (rows,), a row every so many steps.
        step_x: (rows of steps,).
        epoch_x: (rows of epochs,).
        system_x: (rows of system,).
        layers_x: (rows of layers,).
        by_step: Whether x counts steps.
        facts: What the run's monitor learnt; {} where nothing is known.
        recipe: The recipe as a dict; {} where there is none.
        title: The run's name, and its recipe's.
    """

    steps: Table
    epochs: Table
    system: Table
    layers: Table
    step_x: np.ndarray
    epoch_x: np.ndarray
    system_x: np.ndarray
    layers_x: np.ndarray
    by_step: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    title: str = "Run"

    def series(self, name: str) -> Series | None:
        """A column over the steps, or over the epochs where no step was recorded."""
        if has(self.steps, name):
            return self.step_x, self.steps[name]
        return (self.epoch_x, self.epochs[name]) if has(self.epochs, name) else None

    @property
    def x_label(self) -> str:
        """What x counts, with its unit."""
        return "step [optimizer updates]" if self.by_step else "epoch"

    @property
    def extent(self) -> tuple[float, float]:
        """The first and the last x of all tables."""
        every = np.concatenate([self.step_x, self.epoch_x, self.system_x, self.layers_x])
        every = every[np.isfinite(every)]
        return (float(every.min()), float(every.max())) if every.size else (0.0, 1.0)

    @property
    def clip(self) -> float | None:
        """The limit of the gradient's global norm; None where it is off or not known."""
        optimizer, step = self.facts.get("optimizer"), self.recipe.get("step")
        for table in (optimizer, step):
            limit = table.get("global_clipnorm") if isinstance(table, Mapping) else None
            if isinstance(limit, int | float) and not isinstance(limit, bool) and 0 < limit < 1e30:
                return float(limit)
        return None

    @property
    def planned(self) -> Series | None:
        """Steps and rates of the schedule as it was planned; None where it is not known."""
        schedule = self.facts.get("schedule")
        points = schedule.get("points") if isinstance(schedule, Mapping) else None
        try:
            table = np.asarray(points, np.float64)
        except (TypeError, ValueError):  # not numbers: a file that somebody edited
            return None
        if table.ndim != 2 or table.shape[1] != 2 or not np.isfinite(table).all():
            return None
        return table[:, 0], table[:, 1]


def curves_of(run: Any, where: str = "plot_run") -> Curves:
    """Reads a run.

    Args:
        run: A run folder's path, what `read_run` returns, a Keras History, or any object with
            `steps` and `epochs` (dicts of arrays).
        where: What the error names.

    Raises:
        ValueError: If it is none of these.
    """
    if isinstance(run, str | os.PathLike):
        run = read_run(run)
    history = getattr(run, "history", None)
    steps = getattr(run, "steps", {} if isinstance(history, Mapping) else None)
    epochs = getattr(run, "epochs", history)
    if not (isinstance(steps, Mapping) and isinstance(epochs, Mapping)):
        raise ValueError(
            f"{where}: `run` must be a run folder, or have `steps` and `epochs` (dicts of arrays). "
            f"Received: run={run!r}. Give the folder that `tfrecipes train` printed."
        )
    steps, epochs = _arrays(steps), _arrays(epochs)
    system, layers = _arrays(getattr(run, "system", None)), _arrays(getattr(run, "layers", None))
    facts, recipe = getattr(run, "facts", None), getattr(run, "recipe", None)
    facts = facts if isinstance(facts, Mapping) else {}
    step_x, system_x, layers_x = _x(steps), _x(system), _x(layers)
    by_step = any(x.size for x in (step_x, system_x, layers_x))
    count = _rows(epochs)
    epoch_x = np.arange(1, count + 1, dtype=np.float64)
    if by_step:
        last = np.nanmax(np.concatenate([step_x, system_x, layers_x, [0.0]]))
        epoch_x = _last_steps(epochs, facts, last)
    return Curves(
        steps,
        epochs,
        system,
        layers,
        step_x,
        epoch_x,
        system_x,
        layers_x,
        by_step,
        facts,
        recipe if isinstance(recipe, Mapping) else {},
        _title(run),
    )


def has(table: Table, name: str) -> bool:
    """Whether a table has a column with a value that can be drawn."""
    return name in table and bool(np.isfinite(table[name]).any())


def _arrays(table: Any) -> dict[str, np.ndarray]:
    """The columns that are numbers; a History may hold others."""
    arrays = {}
    for name, values in table.items() if isinstance(table, Mapping) else ():
        try:
            arrays[str(name)] = np.atleast_1d(np.asarray(values, np.float64))
        except (TypeError, ValueError):
            continue
    return {name: _in_range(values) for name, values in arrays.items() if values.ndim == 1}


def _in_range(values: np.ndarray) -> np.ndarray:
    """Numbers that a picture can be scaled to: float32's range; beyond it they are infinite or 0."""
    size = np.abs(values)
    if size.size == 0 or not ((size > _LARGEST) | (size < _LEAST)).any():
        return values
    values = np.where(size > _LARGEST, np.copysign(np.inf, values), values)
    return np.where(size < _LEAST, 0.0, values)


def _rows(table: Table) -> int:
    return max((values.size for values in table.values()), default=0)


def _x(table: Table) -> np.ndarray:
    if "step" in table:
        return table["step"]
    return np.arange(_rows(table), dtype=np.float64)


def _last_steps(epochs: Table, facts: Mapping[str, Any], last: float) -> np.ndarray:
    count = _rows(epochs)
    number = np.arange(1, count + 1, dtype=np.float64)
    length = facts.get("steps_per_epoch")
    if isinstance(length, int) and not isinstance(length, bool) and length > 0:
        guessed = number * length - 1
    else:
        guessed = last * number / max(count, 1)
    known = epochs.get("step", np.full(count, np.nan))
    if known.size < count:
        known = np.concatenate([known, np.full(count - known.size, np.nan)])
    return np.where(np.isfinite(known), known, guessed)


def _title(run: Any) -> str:
    recipe = getattr(run, "recipe", None)
    name = recipe.get("name") if isinstance(recipe, Mapping) else None
    folder = run if isinstance(run, str | os.PathLike) else getattr(run, "path", None)
    place = os.path.basename(os.path.abspath(folder)) if folder else None
    words = [f"run {place}" if place else "", f"recipe {name}" if name else ""]
    title = ", ".join(word for word in words if word) or "run"
    return title[0].upper() + title[1:]
