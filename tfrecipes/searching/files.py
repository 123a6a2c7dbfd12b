"""A search's folder: what was asked, a record for each training that is over, and the result."""

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tfrecipes.runs.atomic import write_atomically
from tfrecipes.runs.folder import RunFolder
from tfrecipes.runs.reading import FILES

SETTINGS, RESULT, RECORD, DEATHS = "search.json", "result.json", "record.json", "deaths.json"
# What may differ when a search goes on: how it is carried out, not what is computed.
_FREE = {"workers", "verbose", "directory"}


@dataclass(frozen=True)
class Record:
    """One training that is over.

    Args:
        name: "03" for a trial, "03-1" for a trial's first repeat, "start-1" for the recipe's own.
        fields: What was searched, by dotted name, as the recipe took it.
        values: The same and the build function's own, as Keras Tuner chose them.
        score: The objective; None where there is none.
        error: Why there is no score, in the exception's own words; else empty.
        kind: The exception's type.
        finding: What the run's diagnosis ranks first, if it is no mere remark.
        seconds: How long it took [s].
    """

    name: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    score: float | None = None
    error: str = ""
    kind: str = ""
    finding: str = ""
    seconds: float = 0.0


class SearchFolder:
    """The folder of a search; every file of ours in it is read and written here.

    Each write is whole or not there at all. `trials/03` is the run folder of a trial and holds its
    `record.json` as soon as it is over; `keras_tuner/` is Keras Tuner's own.

    Args:
        path: The folder; it must exist.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._records: dict[str, Record] = {}
        self._held: RunFolder | None = None

    @classmethod
    def hold(cls, directory: str | os.PathLike[str] | None) -> "SearchFolder":
        """Opens and locks the folder; None makes a fresh `runs/search-<n>`.

        Raises:
            ValueError: If it cannot be used, another search is writing in it, or a run is in it.
        """
        held = RunFolder.fresh("search") if directory is None else RunFolder.open(directory)
        if any((held.path / name).exists() for name in FILES):
            held.close()
            raise ValueError(
                f"search: {held.path} holds a run, not a search. Received: "
                f"directory={str(directory)!r}. Name another folder."
            )
        folder = cls(held.path)
        folder._held = held
        return folder

    def release(self) -> None:
        """Unlocks the folder, and removes it where nothing was written into it."""
        if self._held is not None:
            self._held.remove_if_unused()
            self._held.close()
            self._held = None

    # -- what was asked --------------------------------------------------------------------------

    def settings(self) -> dict[str, Any] | None:
        """What this folder's search was asked; None in a new one."""
        return self._json(self.path / SETTINGS)

    def begin(self, settings: Mapping[str, Any]) -> None:
        """Writes what is asked, with everything that was found for it."""
        write_atomically(self.path / SETTINGS, json.dumps(settings, indent=1) + "\n")

    # -- trainings -------------------------------------------------------------------------------

    @property
    def tuner_path(self) -> Path:
        """Keras Tuner's directory."""
        return self.path / "keras_tuner"

    @property
    def best_path(self) -> Path:
        """The best recipe."""
        return self.path / "best.toml"

    def place(self, name: str) -> Path:
        """The run folder of a training."""
        return self.path / ("repeats" if "-" in name else "trials") / name

    def write_record(self, record: Record) -> None:
        """Says that a training is over."""
        place = self.place(record.name)
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / RECORD, json.dumps(vars(record), indent=1) + "\n")

    def record(self, name: str) -> Record | None:
        """The record of a training; None as long as it is not over."""
        if name not in self._records:
            found = self._json(self.place(name) / RECORD)
            if found is None:
                return None
            self._records[name] = Record(**found)
        return self._records[name]

    def trials(self) -> list[Record]:
        """The trials that are over, by number."""
        return sorted(self._all("trials"), key=lambda record: int(record.name))

    def repeats(self) -> dict[tuple[str, int], float | None]:
        """(trial or "start", number of the repeat) to its score."""
        found = {}
        for record in self._all("repeats"):
            candidate, _, number = record.name.rpartition("-")
            found[candidate, int(number)] = record.score
        return found

    def _all(self, kind: str) -> list[Record]:
        folder = self.path / kind
        names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
        return [record for name in names if (record := self.record(name)) is not None]

    def tidy(self, name: str, direction: str) -> None:
        """Removes what a finished training needs no more; of the models only the best is kept."""
        shutil.rmtree(self.place(name) / "checkpoints", ignore_errors=True)
        sign = 1 if direction == "min" else -1
        scored = [r for r in self.trials() if r.score is not None]
        best = min(scored, key=lambda r: sign * float(r.score or 0), default=None)
        for record in [*self.trials(), *([] if "-" not in name else [self.record(name)])]:
            if record is not None and record is not best:
                for model in ("model.keras", "best.keras"):
                    (self.place(record.name) / model).unlink(missing_ok=True)

    # -- workers ---------------------------------------------------------------------------------

    def log_path(self, process: str) -> Path:
        """What a process of the search prints."""
        return self.path / "workers" / f"{process}.log"

    def note_begun(self, process: str, name: str | None) -> None:
        """Says which training a process is in."""
        path = self.path / "workers" / f"{process}.json"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, json.dumps({"training": name}), sync=False)

    def note_death(self, process: str, words: str) -> str | None:
        """Writes down that a process died in a training, and gives that training's name."""
        path = self.path / "workers" / f"{process}.json"
        name = (self._json(path) or {}).get("training")
        if name is not None and self.record(name) is None:
            place = self.place(name)
            place.mkdir(parents=True, exist_ok=True)
            write_atomically(place / DEATHS, json.dumps({"words": [*self.deaths(name), words]}))
            return name
        return None

    def deaths(self, name: str) -> list[str]:
        """How processes died in a training."""
        return (self._json(self.place(name) / DEATHS) or {}).get("words", [])

    # -- the result ------------------------------------------------------------------------------

    def result(self) -> dict[str, Any] | None:
        """What a finished search wrote; None before."""
        return self._json(self.path / RESULT)

    def finish(self, result: Mapping[str, Any], best: str, table: str) -> None:
        """Writes the best recipe, the table as CSV and, last, that the search is over."""
        write_atomically(self.best_path, best)
        write_atomically(self.path / "table.csv", table)
        write_atomically(self.path / RESULT, json.dumps(result, indent=1) + "\n")

    def _json(self, path: Path) -> dict[str, Any] | None:
        if not path.is_file():
            return None
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(
                f"search: {path} cannot be read ({error}). Remove the folder."
            ) from None


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """What a folder's search was asked that this one is not, a phrase each."""
    found = []
    for key, value in here.items():
        if key in _FREE or there.get(key) == value:
            continue
        if isinstance(value, Mapping) and isinstance(there.get(key), Mapping):
            inner = differences(there[key], value)
            missing = [k for k in there[key] if k not in value]
            found += [f"{key}.{one}" for one in [*inner, *(f"{m} is only there" for m in missing)]]
        else:
            found.append(f"{key} is {there.get(key)!r} there, {value!r} here")
    return found


def finite(score: float | None) -> bool:
    """Whether there is a score to compare."""
    return score is not None and math.isfinite(score)
