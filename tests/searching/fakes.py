"""Searches whose trainings are a formula: Keras Tuner is real, nothing is trained."""

import contextlib
import math
from types import SimpleNamespace

from tfrecipes.recipe.recipe import Recipe
from tfrecipes.searching.building import Source
from tfrecipes.searching.deciding import START
from tfrecipes.searching.files import Record, SearchFolder
from tfrecipes.searching.oracles import Agenda, make_oracle
from tfrecipes.searching.plan import hyperparameters_of
from tfrecipes.searching.space import Space
from tfrecipes.searching.tuner import make_tuner, quiet

RATE = "schedule.peak_learning_rate"
SPACE = {RATE: ("log", 1e-4, 1.0), "optimizer.weight_decay": ("linear", 0.0, 0.2)}


def valley(fields, seed=0):
    """Best at a rate of 0.01; a little noise by seed."""
    return math.log10(fields[RATE] / 1e-2) ** 2 + 1 + 0.01 * math.sin(seed * 7.3)


class Trainer:
    """Scores by a formula and writes the records that a training would."""

    def __init__(self, folder, space, score, direction="min"):
        self.folder, self.space, self.score = folder, space, score
        self.objective, self.direction = "val_loss", direction
        self.source = Source(lambda hp: None, False, None, None)
        self.trained, self.epochs = [], []

    def trial(self, name, hp, epochs=None):
        values = {k: v for k, v in hp.values.items() if not k.startswith("tuner/")}
        self.epochs.append(epochs)
        return self._record(name, self.space.changes(values), values, 0)

    def repeat(self, name, hp):
        candidate, _, number = name.rpartition("-")
        trial = self.folder.record(candidate)
        assert (trial is None) == (candidate == START)
        fields = (
            {RATE: self.space.start.schedule.peak_learning_rate} if trial is None else trial.fields
        )
        return self._record(name, fields, {}, int(number))

    def _record(self, name, fields, values, seed):
        if (there := self.folder.record(name)) is not None:
            return there
        self.trained.append(name)
        try:
            record = Record(name, fields, values, self.score(fields, seed))
        except ArithmeticError as error:
            record = Record(name, fields, values, None, str(error), type(error).__name__)
        self.folder.write_record(record)
        return record


def search(
    path,
    method="sobol",
    score=valley,
    trials=8,
    direction="min",
    repeats=3,
    finalists=2,
    space=None,
    seed=0,
    epochs=9,
    hyperparameters=None,
):
    """Carries a search out, or on. Gives folder, space, agenda, trainer and tuner."""
    folder = SearchFolder(path)
    parsed = Space.parse(SPACE if space is None else space, Recipe.load("default"))
    agenda = Agenda(folder, direction, finalists, repeats)
    hp = hyperparameters or hyperparameters_of(parsed)
    oracle = make_oracle(method, "val_loss", direction, trials, seed, hp, agenda, epochs)
    trainer = Trainer(folder, parsed, score, direction)
    tuner = make_tuner(oracle, trainer, folder, told=lambda record: None)
    with quiet():
        tuner.search(verbose=0)
    return SimpleNamespace(
        folder=folder, space=parsed, agenda=agenda, trainer=trainer, tuner=tuner, oracle=oracle
    )


class Killed(BaseException):
    """What ends a process in the middle, as no `except Exception` would see it."""


@contextlib.contextmanager
def killed_at_write(monkeypatch, number):
    """The process ends at its so-many-eth write of a file, before (even) or after (odd) it."""
    from tfrecipes.runs import atomic
    from tfrecipes.searching import files, oracles, tuner

    count = 0

    def write(*arguments, **more):
        nonlocal count
        count += 1
        if count > number // 2:
            if number % 2:
                atomic.write_atomically(*arguments, **more)
            raise Killed
        return atomic.write_atomically(*arguments, **more)

    with monkeypatch.context() as patched:
        for module in (files, oracles, tuner):
            patched.setattr(module, "write_atomically", write)
        yield
