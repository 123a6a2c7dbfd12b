"""The files that a Monitor keeps of a run, written as it goes; training goes on where a write fails."""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecipes.callbacks.events import Events
from tfrecipes.doctor.rules import Finding
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import Run, RunFolder, StepsFile, read_run
from tfrecipes.runs.reading import RECIPE

_OPEN = {
    "steps.csv": RunFolder.open_steps,
    "system.csv": RunFolder.open_system,
    "layers.csv": RunFolder.open_layers,
}


class RunFiles:
    """A run folder's telemetry and findings.

    Args:
        folder: The folder, which stays open.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder
        self._tables: dict[str, StepsFile] = {}
        self._events: Events | None = None
        self._failed: set[str] = set()

    @property
    def path(self) -> Path:
        """The folder's path."""
        return self._folder.path

    def _guarded(self, what: str, write: Callable[[], object]) -> None:
        """Training goes on where a write fails; it is said once per file."""
        try:
            write()
        except (RunWriteError, OSError, tf.errors.OpError) as error:
            if what not in self._failed:
                self._failed.add(what)
                print(f"Monitor: {what} could not be written, training goes on. {error}")

    # -- before --------------------------------------------------------------------------------

    def recipe(self) -> dict[str, Any] | None:
        """The recipe in the folder, or None."""
        if not (self.path / RECIPE).exists():
            return None
        try:
            return tomllib.loads((self.path / RECIPE).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            print(f"Monitor: {RECIPE} could not be read, rules do without it. {error}")
            return None

    @property
    def epochs_written(self) -> int:
        """Rows of epochs.csv."""
        return self._folder.epochs_written

    def keep_epochs(self, count: int) -> None:
        """Leave so many rows in epochs.csv."""
        self._guarded("epochs.csv", lambda: self._folder.keep_epochs(count))

    def read_before(self, step: int, epoch: int) -> Run:
        """What the files hold of the steps before one, and of the epochs before one."""
        run = read_run(self.path)

        def before(table: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
            kept = table["step"] < step if "step" in table else slice(0, 0)
            return {name: values[kept] for name, values in table.items()}

        return replace(
            run,
            steps=before(run.steps),
            system=before(run.system),
            layers=before(run.layers),
            epochs={name: values[:epoch] for name, values in run.epochs.items()},
        )

    # -- while it runs -------------------------------------------------------------------------

    def facts(self, facts: Mapping[str, Any]) -> None:
        """Write facts.json anew."""
        self._guarded("facts.json", lambda: self._folder.write_facts(facts))

    def _append(self, name: str, columns: Sequence[str], rows: np.ndarray) -> None:
        def append() -> None:
            if name not in self._tables:
                first = int(rows[0, columns.index("step")]) if "step" in columns else None
                self._tables[name] = _OPEN[name](self._folder, resume_step=first)
            self._tables[name].append(columns, rows)

        self._guarded(name, append)

    def _event(self, write: Callable[[Events], object]) -> None:
        self._events = self._events or Events(self._folder.events_path)
        events = self._events
        self._guarded("events", lambda: (write(events), events.flush()))

    def steps(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        """Append rows to steps.csv, and to TensorBoard's events."""
        self._append("steps.csv", columns, rows)
        self._event(lambda events: events.steps(columns, rows))

    def layers(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        """Append rows to layers.csv."""
        self._append("layers.csv", columns, rows)

    def system(self, row: Mapping[str, float], tagged: Mapping[str, float]) -> None:
        """Append a row to system.csv, and its values by their tags to TensorBoard's events."""
        self._append("system.csv", list(row), np.array([list(row.values())]))
        self._event(lambda events: events.values(tagged, int(row["step"])))

    def epoch(self, row: Mapping[str, float], tagged: Mapping[str, float], number: int) -> None:
        """Append a row to epochs.csv, and its values by their tags to TensorBoard's events."""
        self._guarded("epochs.csv", lambda: self._folder.append_epoch(row))
        self._event(lambda events: events.values(tagged, number))

    def findings(self, findings: Sequence[Finding]) -> None:
        """Write findings.json anew."""
        self._guarded("findings.json", lambda: self._folder.write_findings(findings))

    # -- after ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the files."""
        for name, table in self._tables.items():
            self._guarded(name, table.close)
        self._tables = {}
        if self._events is not None:
            self._guarded("events", self._events.flush)
