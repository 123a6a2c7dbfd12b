"""What a search prints: a line a training."""

from collections.abc import Mapping
from typing import Any

from tfrecipes.searching.files import Record, SearchFolder

_LONGEST = 60


class Teller:
    """Prints one line for each training that is over: fields, score, best so far, time left.

    Args:
        folder: The search's.
        direction: "min" or "max".
        objective: What is searched by.
        trials: How many there will be.
        repeats: How many repeats follow at least.
        workers: How many train at once.
        verbose: 0 prints nothing.
    """

    def __init__(
        self,
        folder: SearchFolder,
        direction: str,
        objective: str,
        trials: int,
        repeats: int,
        workers: int = 1,
        verbose: Any = "auto",
    ) -> None:
        self._folder = folder
        self._sign = 1 if direction == "min" else -1
        self._objective = objective
        self._trials = trials
        self._repeats = repeats
        self._workers = workers
        self._verbose = verbose

    def say(self, words: str) -> None:
        """Prints a sentence."""
        if self._verbose != 0:
            print(words, flush=True)

    def __call__(self, record: Record) -> None:
        """Prints a training's line."""
        if self._verbose == 0:
            return
        if "-" in record.name:
            candidate, _, number = record.name.rpartition("-")
            who = "the starting recipe" if candidate == "start" else f"trial {int(candidate)}"
            head = f"fresh seed {number} of {who}"
        else:
            head = f"trial {int(record.name)} of {self._trials}  {fields_text(record.fields)}"
        if record.score is None:
            result = f"no score: {short(record.error, record.kind)}"
        else:
            result = f"{self._objective} {record.score:.4g}"
        self.say(f"{head}  {result}{self._best()}  {record.seconds:.1f} s{self._left()}")

    def _best(self) -> str:
        scored = [r for r in self._folder.trials() if r.score is not None]
        if not scored:
            return ""
        best = min(scored, key=lambda r: self._sign * float(r.score or 0))
        return f", best {best.score:.4g} (trial {int(best.name)})"

    def _left(self) -> str:
        trials, repeats = self._folder.trials(), self._folder.repeats()
        left = max(0, self._trials - len(trials)) + max(0, self._repeats - len(repeats))
        took = [record.seconds for record in trials]
        if not left or not took:
            return ""
        return f", about {duration(left * sum(took) / len(took) / self._workers)} left"


def fields_text(fields: Mapping[str, Any]) -> str:
    """Fields by the last part of their names: `peak_learning_rate 0.01, warmup 5%`."""
    return ", ".join(f"{name.rpartition('.')[2]} {value_text(v)}" for name, v in fields.items())


def value_text(value: Any) -> str:
    """A value in a few letters."""
    if value is None:
        return "off"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def short(error: str, kind: str = "") -> str:
    """An error on one line, cut where it is long."""
    words = " ".join((f"{kind}: {error}" if kind else error).split())
    return words if len(words) <= _LONGEST else words[: _LONGEST - 1] + "…"


def duration(seconds: float) -> str:
    """A time in words of one unit: 40 s, 5 min, 1.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
