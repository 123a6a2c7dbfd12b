"""The run folder: one folder a run, and every file of it is read and written here."""

import csv
import io
import json
import math
import os
import re
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tfrecipes.runs.atomic import RunWriteError, write_atomically
from tfrecipes.runs.environment import collect_environment
from tfrecipes.runs.held import LOCK, let_go, locked, make, unusable
from tfrecipes.runs.reading import (
    ENVIRONMENT,
    EPOCHS,
    FACTS,
    FILES,
    FINDINGS,
    LAYERS,
    RECIPE,
    STATE,
    STEPS,
    SWEEP,
    SYSTEM,
    Run,
    read_run,
)
from tfrecipes.runs.steps import SYSTEM_INTEGERS, StepsFile, read_table

_SYNC_EVERY = 1.0  # [s]

Status = Literal["running", "finished", "stopped", "preempted"]
STATUSES: tuple[Status, ...] = ("running", "finished", "stopped", "preempted")


class RunFolder:
    """A run's folder, held by a lock while it is written.

    Made by `RunFolder.fresh` or `RunFolder.open`; released by `close` or the end of a `with`. The
    lock is the operating system's: a killed run leaves none behind.

    Every writing method raises RunWriteError where the system refuses, and then leaves the old
    file as it was. Each write is whole or not there at all.

    Attributes:
        path: The folder.
        holds_run: Whether the folder held a run's files when it was opened.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock = locked(self.path)
        self.holds_run = any((self.path / name).exists() for name in FILES)
        self._epochs: list[dict[str, float]] | None = None
        self._epochs_synced = float("-inf")
        self._made: list[Path] = []  # folders that were not there before, the innermost first

    @classmethod
    def fresh(cls, name: str, root: str | os.PathLike[str] = "runs") -> "RunFolder":
        """Makes `root/<name>-<n>`, n one more than the highest there.

        Raises:
            ValueError: If `name` is no plain file name, or the folder cannot be made.
        """
        if (
            not name
            or name.startswith(".")
            or re.search(r"[/\\\x00-\x1f]", name)
            or len(name) > 200
        ):
            raise ValueError(
                "run folder: a run's name must be a plain file name of at most 200 characters. "
                f"Received: name={name!r}."
            )
        root = Path(root)
        made = make(root)
        pattern = re.compile(re.escape(name) + r"-(\d{1,9})")
        taken = (pattern.fullmatch(entry.name) for entry in root.iterdir())
        number = max((int(match[1]) for match in taken if match), default=0)
        while True:
            number += 1
            path = root / f"{name}-{number}"
            try:
                path.mkdir()
            except FileExistsError:  # another run took the number in this moment
                continue
            except OSError as error:
                raise unusable(path, error) from error
            folder = cls(path)
            folder._made = [path, *made]
            return folder

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Opens the folder that the caller names, and makes it with its parents where it is missing.

        Raises:
            ValueError: If it is a file, cannot be made or written, or another run is in it.
        """
        made = make(Path(path))
        folder = cls(path)
        folder._made = made
        return folder

    @classmethod
    def take(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """Opens the folder, and lets go of it for an earlier run of this process.

        A `fit` that was interrupted, in a notebook say, never told its callbacks, and a traceback
        that is still shown keeps them alive. Another process's run is refused as by `open`.
        """
        let_go(path)
        return cls.open(path)

    def close(self) -> None:
        """Releases the lock."""
        self._lock.release()

    def remove_if_unused(self) -> None:
        """Removes a folder that was made here and nothing was written into: no run began in it."""
        if not self._made:
            return
        self.close()
        if {entry.name for entry in self.path.iterdir()} <= {LOCK}:
            (self.path / LOCK).unlink(missing_ok=True)
            for made in self._made:
                if any(made.iterdir()):
                    break  # another run's
                made.rmdir()

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def steps_path(self) -> Path:
        """Telemetry, a row a step."""
        return self.path / STEPS

    @property
    def epochs_path(self) -> Path:
        """History, a row an epoch."""
        return self.path / EPOCHS

    @property
    def model_path(self) -> Path:
        """The last model, deployable."""
        return self.path / "model.keras"

    @property
    def best_path(self) -> Path:
        """The best model, where the recipe asks for it."""
        return self.path / "best.keras"

    @property
    def report_path(self) -> Path:
        """The report, one file."""
        return self.path / "report.html"

    @property
    def sweep_plot_path(self) -> Path:
        """The picture of the sweeps that found the learning rate, where they did."""
        return self.path / "learning_rate.png"

    @property
    def checkpoints_path(self) -> Path:
        """What a run is resumed from."""
        return self.path / "checkpoints"

    @property
    def events_path(self) -> Path:
        """TensorBoard's event files."""
        return self.path / "events"

    def write_recipe(self, text: str) -> None:
        """Writes `recipe.toml`, the text as given."""
        write_atomically(self.path / RECIPE, text)

    def write_environment(self, devices: Sequence[str] = (), **facts: Any) -> None:
        """Writes `environment.json`: `collect_environment` and whatever JSON-able `facts` join it."""
        self._write_json(ENVIRONMENT, collect_environment(devices) | facts)

    def write_findings(self, findings: Iterable[Any]) -> None:
        """Writes `findings.json`, a list: dicts, or objects with `as_dict()`."""
        rows = [dict(f) if isinstance(f, Mapping) else f.as_dict() for f in findings]
        self._write_json(FINDINGS, rows)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Writes `facts.json`; a number that JSON has no word for (NaN, inf) becomes null."""
        self._write_json(FACTS, finite(facts))

    def write_sweep(self, sweep: Mapping[str, Any]) -> None:
        """Writes `learning_rate.json`: what the sweeps before the run found."""
        self._write_json(SWEEP, finite(sweep))

    def write_state(
        self, status: Status, epochs: int, exit_code: int | None = None, reason: str | None = None
    ) -> None:
        """Writes `state.json`: where the run stands.

        Args:
            status: "running"; "finished"; "stopped" for good, before its end; "preempted", to be
                resumed.
            epochs: Whole epochs done.
            exit_code: What the command ended with; None while it runs.
            reason: Why it stopped, one sentence.
        """
        if status not in STATUSES:
            raise ValueError(
                f"state.json: `status` must be one of {', '.join(STATUSES)}. Received: status={status!r}."
            )
        state = {"status": status, "epochs": epochs, "exit_code": exit_code, "reason": reason}
        self._write_json(STATE, state)

    def open_steps(self, resume_step: int | None = None) -> StepsFile:
        """Opens `steps.csv` for appending; rows with `step >= resume_step` are dropped first."""
        return StepsFile(self.steps_path, resume_step)

    def open_system(self, resume_step: int | None = None) -> StepsFile:
        """Opens `system.csv` for appending, about a row a second; what is not known stays empty."""
        return StepsFile(self.path / SYSTEM, resume_step, integers=SYSTEM_INTEGERS, empty=True)

    def open_layers(self, resume_step: int | None = None) -> StepsFile:
        """Opens `layers.csv` for appending: each layer group's norms, every so many steps."""
        return StepsFile(self.path / LAYERS, resume_step)

    def append_epoch(self, logs: Mapping[str, float]) -> None:
        """Adds a row to `epochs.csv`. A key that is new becomes a column, empty in earlier rows."""
        self._loaded_epochs().append({key: float(value) for key, value in logs.items()})
        self._write_epochs()

    def amend_last_epoch(self, logs: Mapping[str, float]) -> None:
        """Adds to the last row, or changes it: values known only when all training is over."""
        rows = self._loaded_epochs()
        if not rows:
            rows.append({})
        rows[-1].update({key: float(value) for key, value in logs.items()})
        self._write_epochs()

    @property
    def epochs_written(self) -> int:
        """How many rows `epochs.csv` has."""
        return len(self._loaded_epochs())

    def keep_epochs(self, count: int) -> None:
        """Drops the rows past the first `count`: a resumed run writes them again."""
        rows = self._loaded_epochs()
        if len(rows) > count:
            del rows[count:]
            self._write_epochs()

    def _loaded_epochs(self) -> list[dict[str, float]]:
        if self._epochs is None:
            table: dict[str, np.ndarray] = {}
            if self.epochs_path.exists():
                table = read_table(self.epochs_path)
            count = len(next(iter(table.values()), ()))
            self._epochs = [{key: float(table[key][i]) for key in table} for i in range(count)]
        return self._epochs

    def _write_epochs(self) -> None:
        rows = self._loaded_epochs()
        columns = list(dict.fromkeys(key for row in rows for key in row))
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([re.sub(r"[\r\n]+", " ", column) for column in columns])
        for row in rows:
            writer.writerow([repr(row[column]) if column in row else "" for column in columns])
        # Epochs may be shorter than the disk's answer: it is waited for about once a second.
        sync = time.monotonic() - self._epochs_synced >= _SYNC_EVERY
        write_atomically(self.epochs_path, text.getvalue(), sync)
        if sync:
            self._epochs_synced = time.monotonic()

    def _write_json(self, name: str, value: Any) -> None:
        write_atomically(self.path / name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def finite(value: Any) -> Any:
    """A JSON-able value with null in the place of every number that is not finite."""
    if isinstance(value, Mapping):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


__all__ = ["STATUSES", "Run", "RunFolder", "RunWriteError", "Status", "StepsFile", "read_run"]
