"""A run while it trains: what of it is in memory, and when the rules are asked about it."""

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, Finding, Rule
from tfrecipes.runs.reading import Run

# Rows of a table in memory at most; where there are more, every second is left out, and again.
MOST_ROWS = 40_000
# Asking the rules may take this share of the fit's time, after a start that is free [s].
SHARE, FREE = 0.005, 0.05
# A value so many times the median of the last ones is a spike; loss, gradient norm.
SPIKES = {"loss": 3.0, "grad_norm": 10.0}
_REMEMBERED, _ENOUGH = 256, 50


class Thinned:
    """A table that grows by rows and stays small: every `every`-th row of it, evenly."""

    def __init__(self) -> None:
        self.columns: tuple[str, ...] = ()
        self._blocks: list[np.ndarray] = []
        self._rows = self._seen = 0
        self.every = 1

    def add(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        """Add rows; other columns than before begin the table anew."""
        if columns != self.columns:
            self.__init__()
            self.columns = columns
        first = -self._seen % self.every
        self._seen += len(rows)
        block = rows[first :: self.every]
        self._blocks.append(block)
        self._rows += len(block)
        if self._rows > MOST_ROWS:
            whole = np.concatenate(self._blocks)[::2]
            self._blocks, self._rows, self.every = [whole], len(whole), 2 * self.every

    def table(self) -> dict[str, np.ndarray]:
        """Column to values."""
        if not self._blocks:
            return {}
        if len(self._blocks) > 1:
            self._blocks = [np.concatenate(self._blocks)]
        return {name: self._blocks[0][:, i] for i, name in enumerate(self.columns)}


class Watch:
    """What a running fit showed so far, and what the rules said of it.

    Args:
        rules: As `diagnose` takes them.
        folder: The run's folder, for rules that look; None without one.

    Attributes:
        rules: The rules, of which a user's own cannot end the training by raising.
        findings: Of the last look.
        said: What was printed, by rule and severity.
        facts: As in facts.json.
    """

    def __init__(self, rules: Sequence[Rule] = RULES, folder: Any = None) -> None:
        self.rules = [rule if rule in RULES else _kept_from_raising(rule) for rule in rules]
        self._folder = folder
        self.recipe: Mapping[str, Any] | None = None
        self.facts: dict[str, Any] = {}
        self.findings: list[Finding] = []
        self.said: set[tuple[str, str]] = set()
        self.begin_anew()
        self.begin_clock()

    def begin_anew(self) -> None:
        """Forget every row: another run begins."""
        self.steps, self.system, self.layers = Thinned(), Thinned(), Thinned()
        self.epochs: list[dict[str, float]] = []
        self._recent = {name: np.empty(0) for name in SPIKES}

    def begin_clock(self) -> None:
        """A fit begins: its time is what the rules have a share of."""
        self._began, self._spent = time.monotonic(), 0.0

    def know(self, run: Run) -> None:
        """Take over what an earlier part of the same run left in its files."""
        for mine, table in (
            (self.steps, run.steps),
            (self.system, run.system),
            (self.layers, run.layers),
        ):
            if table:
                mine.add(tuple(table), np.column_stack(list(table.values())))
        count = len(next(iter(run.epochs.values()), ()))
        self.epochs = [
            {k: float(v[i]) for k, v in run.epochs.items() if v[i] == v[i]} for i in range(count)
        ]

    def add_steps(self, columns: tuple[str, ...], rows: np.ndarray) -> bool:
        """Add steps' rows; whether one of them is a spike."""
        self.steps.add(columns, rows)
        found = [
            self._is_spike(name, rows[:, columns.index(name)]) for name in SPIKES if name in columns
        ]
        return any(found)

    def _is_spike(self, name: str, values: np.ndarray) -> bool:
        before = self._recent[name]
        good = values[np.isfinite(values)]
        self._recent[name] = np.concatenate([before, good])[-_REMEMBERED:]
        if len(before) < _ENOUGH or not len(values):
            return len(good) < len(values)
        usual = float(np.median(before))
        return len(good) < len(values) or (usual > 0 and good.max() > SPIKES[name] * usual)

    def run(self, status: str) -> Run:
        """The run so far, as rules read it."""
        names = dict.fromkeys(key for row in self.epochs for key in row)
        return Run(
            path=self._folder,
            steps=self.steps.table(),
            epochs={n: np.array([row.get(n, np.nan) for row in self.epochs]) for n in names},
            recipe=None if self.recipe is None else dict(self.recipe),
            state={"status": status, "epochs": len(self.epochs)},
            facts=self.facts,
            system=self.system.table(),
            layers=self.layers.table(),
        )

    def look(self, status: str = "running") -> bool:
        """Ask the rules, if there is time for it; whether they say something else than before."""
        began = time.monotonic()
        if status == "running" and self._spent > FREE + SHARE * (began - self._began):
            return False
        before = self.findings
        try:
            self.findings = diagnose(self.run(status), self.rules)
        except Exception as error:  # a rule of ours with a fault must not end a training run
            print(f"Monitor: the run could not be judged, training goes on. {error!r}")
        self._spent += time.monotonic() - began
        return self.findings != before

    def unsaid(self) -> list[Finding]:
        """Errors and warnings that were not told yet; they count as told from here on."""
        new = [
            one
            for one in self.findings
            if one.severity != "info" and (one.rule, one.severity) not in self.said
        ]
        self.said.update((one.rule, one.severity) for one in new)
        return new


def _kept_from_raising(rule: Rule) -> Rule:
    """A user's rule that, where it raises, says so once and is left out from then on."""
    failed: list[Exception] = []

    @functools.wraps(rule)
    def kept(run: Any) -> Finding | None:
        if failed:
            return None
        try:
            return rule(run)
        except Exception as error:  # whatever a user's function raises
            failed.append(error)
            name = getattr(rule, "__name__", repr(rule))
            print(f"Monitor: rule {name} failed and is left out, training goes on. {error!r}")
            return None

    return kept


def guarded_loggers(
    loggers: Sequence[Callable[[dict[str, float], int], object]],
) -> Callable[[dict[str, float], int], None]:
    """All of them as one; one that raises is said and left out from then on."""
    left = list(loggers)

    def log(values: dict[str, float], step: int) -> None:
        for logger in tuple(left):
            try:
                logger(dict(values), step)
            except Exception as error:  # a tracker's network, say
                left.remove(logger)
                name = getattr(logger, "__qualname__", repr(logger))
                print(f"Monitor: logger {name} failed and is left out, training goes on. {error!r}")

    return log
