"""What a run holds, read with care: columns as numbers, facts and recipe keys that may be missing."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray
EMPTY = np.empty(0)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


class Tables:
    """One run, whatever of it there is.

    What a user's rule may read of a run is here too (`.steps .epochs .recipe .facts .system .layers
    .state`), and anything else comes from the run itself.
    """

    def __init__(self, run: Any) -> None:
        self._run = run
        self._columns: dict[tuple[str, str], Array] = {}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._run, name)

    @property
    def steps(self) -> Mapping[str, Array]:
        """Column to values, a row a step."""
        return mapping(getattr(self._run, "steps", None))

    @property
    def epochs(self) -> Mapping[str, Array]:
        """History's keys to values."""
        return mapping(getattr(self._run, "epochs", None))

    @property
    def recipe(self) -> Mapping[str, Any] | None:
        """The recipe's tables, None where there is none."""
        recipe = getattr(self._run, "recipe", None)
        return recipe if isinstance(recipe, Mapping) else None

    @property
    def facts(self) -> Mapping[str, Any]:
        """What the monitor learnt at the fit's start."""
        return mapping(getattr(self._run, "facts", None))

    @property
    def system(self) -> Mapping[str, Array]:
        """What the machine did, about a row a second."""
        return mapping(getattr(self._run, "system", None))

    @property
    def layers(self) -> Mapping[str, Array]:
        """Layer groups' norms, a row every so many steps."""
        return mapping(getattr(self._run, "layers", None))

    @property
    def state(self) -> Mapping[str, Any]:
        """Where the run stands."""
        return mapping(getattr(self._run, "state", None))

    @property
    def running(self) -> bool:
        """Whether it is being trained, or was killed."""
        return self.state.get("status") == "running"

    @property
    def cut_short(self) -> bool:
        """Whether its end is no end."""
        return self.state.get("status") in ("running", "preempted", "stopped")

    def column(self, table: str, name: str) -> Array:
        """A column as float64, empty where it is missing or holds no numbers."""
        key = (table, name)
        if key not in self._columns:
            values = getattr(self, table).get(name)
            try:
                column = EMPTY if values is None else np.asarray(values, np.float64).ravel()
            except (TypeError, ValueError):
                column = EMPTY
            self._columns[key] = column
        return self._columns[key]

    def step(self, name: str) -> Array:
        """A column of steps.csv; empty where it does not fit the loss's rows."""
        values = self.column("steps", name)
        loss = self.column("steps", "loss")
        return values if values.size == loss.size or not loss.size else EMPTY

    def epoch(self, name: str) -> Array:
        """A column of epochs.csv."""
        return self.column("epochs", name)

    def number(self, row: int) -> int:
        """The step's number of a row of steps.csv."""
        step = self.step("step")
        return int(step[row]) if step.size > row and math.isfinite(step[row]) else int(row)

    def fact(self, *path: str) -> Any:
        """A fact by its path, None where it is missing."""
        value: Any = self.facts
        for key in path:
            value = mapping(value).get(key)
        return value

    def fact_number(self, *path: str) -> float | None:
        """A fact that is a finite number, else None."""
        value = self.fact(*path)
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            return None
        return float(value)

    def setting(self, table: str, key: str) -> Any:
        """A key of the recipe, None where there is none."""
        return mapping(mapping(self.recipe).get(table)).get(key)
