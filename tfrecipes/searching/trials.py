"""One training of a search: a recipe, a model, a score or the reason why there is none."""

import contextlib
import gc
import logging
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras

from tfrecipes.assemble.running import Outcome, run
from tfrecipes.callbacks.resume import Preempted
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.folder import read_run
from tfrecipes.searching.building import Source
from tfrecipes.searching.files import Record, SearchFolder
from tfrecipes.searching.space import Space

# A process that dies in one training so often is that training's fault.
_MOST_DEATHS = 2


class NoSuchObjectiveError(ValueError):
    """What the search goes by is not among what training logs; no trial could change that."""


@dataclass(frozen=True)
class Trainer:
    """Trains by `recipe.replace(...)` and writes down how it went.

    Args:
        space: Dimensions and the starting recipe.
        source: Model and data.
        folder: The search's.
        objective: A key of History.
        direction: "min" or "max".
        arguments: More arguments of `Recipe.fit`: loss, metrics, weights, steps_per_epoch.
    """

    space: Space
    source: Source
    folder: SearchFolder
    objective: str
    direction: str
    arguments: Mapping[str, Any] = field(default_factory=dict)

    def trial(self, name: str, hp: Any, epochs: int | None = None) -> Record:
        """Trains one trial, or gives what it came to before.

        Args:
            name: "03".
            hp: Keras Tuner's HyperParameters, with values.
            epochs: Instead of the recipe's.
        """
        own = {d.field for d in self.space.dimensions}
        values = {k: v for k, v in hp.values.items() if not k.startswith("tuner/")}
        changes = self.space.changes(values)
        fields = {**changes, **{k: v for k, v in values.items() if k not in own}}
        if epochs is not None:
            fields["train.epochs"] = changes["train.epochs"] = epochs
        return self._over(name) or self._trained(name, changes, fields, values, hp)

    def repeat(self, name: str, hp: Any) -> Record:
        """Trains a finalist, or the starting recipe, with another seed.

        Args:
            name: "03-1" or "start-1".
            hp: Keras Tuner's HyperParameters; a finalist's values are put into it.
        """
        candidate, _, number = name.rpartition("-")
        trial = self.folder.record(candidate)
        changes: dict[str, Any] = {}
        if trial is not None:
            hp.values.update(trial.values)
            changes = self.space.changes(trial.values)
        fields = {"train.seed": (self.space.start.train.seed + int(number)) % 2**32}
        return self._over(name) or self._trained(name, {**changes, **fields}, fields, {}, hp)

    def _over(self, name: str) -> Record | None:
        """The record of a training that is over, or that killed the processes that tried it."""
        record = self.folder.record(name)
        if record is None and len(deaths := self.folder.deaths(name)) >= _MOST_DEATHS:
            words = f"the process that trained it died {len(deaths)} times: {deaths[-1]}"
            record = Record(name, error=words, kind="Killed")
            self.folder.write_record(record)
        return record

    def _trained(
        self,
        name: str,
        changes: Mapping[str, Any],
        fields: Mapping[str, Any],
        values: Mapping[str, Any],
        hp: Any,
    ) -> Record:
        place, began = self.folder.place(name), time.perf_counter()
        place.mkdir(parents=True, exist_ok=True)
        score, kind, error = None, "", ""
        with (
            open(place / "log.txt", "a", encoding="utf-8") as log,
            contextlib.redirect_stdout(log),
            _each_traces_its_own(),
        ):
            try:
                score, error = self._score(self._fit(self.space.recipe(changes), place, hp), place)
            except (Preempted, NoSuchObjectiveError):
                raise
            except (Exception, SystemExit) as raised:
                kind, error = type(raised).__name__, str(raised) or type(raised).__name__
                traceback.print_exc(file=log)
        # Neither a trial's names nor its memory are the next one's.
        keras.utils.clear_session(free_memory=False)
        gc.collect()
        record = Record(
            name,
            fields,
            values,
            score,
            error,
            kind,
            _first_finding(place),
            round(time.perf_counter() - began, 3),
        )
        self.folder.write_record(record)
        self.folder.tidy(name, self.direction)
        return record

    def _fit(self, recipe: Recipe, place: Path, hp: Any) -> Outcome:
        return run(
            recipe,
            lambda: self.source.build(hp),
            self.source.data,
            validation_data=self.source.validation_data,
            directory=place,
            verbose=0,
            report=False,  # `tfrecipes report` makes it of the run's other files
            **self.arguments,
        )

    def _score(self, outcome: Outcome, place: Path) -> tuple[float | None, str]:
        """The objective of the model that one would keep, or why there is none."""
        history = outcome.history.history
        if outcome.code == 4:
            return None, str(read_run(place).state.get("reason") or "training was not finite")
        if self.objective not in history:
            raise NoSuchObjectiveError(
                f"search: `objective` must be among what training logs. Received: "
                f"objective={self.objective!r}. There are {', '.join(sorted(history))}."
            )
        epoch = _kept_epoch(self.space.start.train.best, history)
        score = float(history[self.objective][epoch])
        if not math.isfinite(score):
            return None, f"{self.objective} was {score} in epoch {len(history['loss'])}"
        return score, ""


@contextlib.contextmanager
def _each_traces_its_own() -> Iterator[None]:
    """Without TensorFlow's warning of one function that is traced again and again: it is each
    training's own, once."""

    def is_other(entry: logging.LogRecord) -> bool:
        return "triggered tf.function retracing" not in entry.getMessage()

    logger = logging.getLogger("tensorflow")
    logger.addFilter(is_other)
    try:
        yield
    finally:
        logger.removeFilter(is_other)


def _kept_epoch(best: str | None, history: Mapping[str, list[float]]) -> int:
    """The epoch of `best.keras` where the recipe keeps one, else the last."""
    values = history.get(best, []) if best else []
    finite = [(value, epoch) for epoch, value in enumerate(values) if math.isfinite(value)]
    if not best or not finite:
        return -1
    # As Keras's ModelCheckpoint tells it from the name.
    rises = "acc" in best or best.startswith("fmeasure")
    value = (max if rises else min)(v for v, _ in finite)
    return next(epoch for v, epoch in finite if v == value)


def _first_finding(place: Path) -> str:
    """What the diagnosis of a run ranks first, where it is worth a warning."""
    try:
        findings = read_run(place).findings
    except ValueError:  # the training ended before it had a run's files
        return ""
    told = [f for f in findings if f.get("severity") in ("error", "warning")]
    return f"{told[0].get('rule')}: {told[0].get('evidence')}" if told else ""
