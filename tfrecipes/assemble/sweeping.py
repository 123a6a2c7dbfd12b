"""Sweeps over data that are understood: the batches, the length, the compiled model."""

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.assemble.compiling import compile_model
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.training.copies import copied
from tfrecipes.training.data import Understood, to_tensor, understand
from tfrecipes.training.prepared import Prepared, prepared
from tfrecipes.tuning.lr_finder import Compile, FoundRate, find
from tfrecipes.views.live import choose_display

# All sweeps together take about this share of the training's steps, within these bounds. Longer
# sweeps lean to higher rates: the low ones have the time to learn what the high ones are judged by.
SHARE, FEWEST, MOST = 0.05, 23, 35
RATE = "schedule.peak_learning_rate"


def sweep_rates(
    model: keras.Model,
    given: Understood,
    compile_with_rate: Compile,
    *,
    epochs: int,
    batch_size: int,
    seed: int,
    class_weight: Mapping[int, float] | None = None,
    steps_per_epoch: int | None = None,
    scale: str = "log",
    steps: int | None = None,
    sweeps: int = 3,
    low: float | None = None,
    high: float | None = None,
    verbose: Any = "auto",
) -> FoundRate:
    """The sweeps of a model that is built, over data that are understood."""
    if not model.trainable_variables:
        raise ValueError(
            "find_learning_rate: the model must have weights to train. Received: a model without "
            "trainable variables. Set `trainable = True` on a layer."
        )
    batches = _Batches(given, batch_size, class_weight, steps_per_epoch)
    if steps is None:
        wanted = SHARE * epochs * batches.steps_per_epoch / sweeps
        steps = min(MOST, max(FEWEST, math.ceil(wanted)))
    display = None if verbose == 0 else choose_display()
    try:
        return find(
            model,
            compile_with_rate,
            batches,
            scale=scale,
            steps=steps,
            seeds=range(seed, seed + sweeps),
            low=low,
            high=high,
            display=display,
        )
    finally:
        if display is not None:
            display.close()


def refuse_generator(given: Understood, where: str, when: str = "") -> None:
    """One sentence for a source that the sweeps would use up."""
    if given.kind == "generator":
        raise ValueError(
            f"{where}: {when}data must be readable more than once. Received: a generator. Give "
            "arrays, a tf.data.Dataset, a PyDataset or a DataLoader."
        )


def set_apart(given: Understood) -> Understood:
    """The data, such that reading them does not move on the shuffle of what was given."""
    return understand(copied(given.x)[0]) if given.kind == "tf.data" else given


def recipe_compiler(recipe: Recipe, model: keras.Model, loss: Any) -> Compile:
    """Compiles a model by a recipe with another schedule, without XLA and without metrics."""
    # To compile by XLA would take longer than to sweep; it changes rounding alone.
    changes: dict[str, Any] = {"step.jit": False, "step.steps_per_execution": 1}
    if recipe.schedule.peak_learning_rate == "find":
        changes["schedule.peak_learning_rate"] = 1e-3  # never used: the schedule is the sweep's
    plain = recipe.replace(**changes)

    def compile_with_rate(schedule: Any) -> None:
        compile_model(plain, model, 1, 1, loss, [], schedule)

    return compile_with_rate


class _Batches:
    """Endless batches for one sweep after another, that move nothing of the data on.

    Attributes:
        steps_per_epoch: Of the training.
    """

    def __init__(
        self,
        given: Understood,
        batch_size: int,
        class_weight: Mapping[int, float] | None,
        steps_per_epoch: int | None,
    ) -> None:
        given = set_apart(given)
        if given.kind == "arrays":
            # Once: every sweep would copy them to the device's host anew.
            given = understand(_tensors(given))
        self._given, self._batch_size = given, batch_size
        if given.kind != "arrays" and steps_per_epoch is None and not given.steps:
            steps_per_epoch = 1  # a length that nobody knows: the shortest sweeps
        self._class_weight, self._wanted = class_weight, steps_per_epoch
        self.steps_per_epoch = self._prepared(0).steps_per_epoch
        self._sweeps_read = 0
        self._stream: Iterator[Any] | None = None

    def __call__(self, seed: int) -> Any:
        if self._given.kind == "arrays":
            return self._prepared(seed).source
        source = self._prepared(0).source
        if isinstance(source, tf.data.Dataset):
            self._sweeps_read += 1
            return source.repeat().skip((self._sweeps_read - 1) * FEWEST)
        return self._read(source)

    def _prepared(self, seed: int) -> Prepared:
        return prepared(
            self._given,
            batch_size=self._batch_size,
            seed=seed,
            steps_per_epoch=self._wanted,
            class_weight=self._class_weight,
            start=lambda steps: 0,
        )

    def _read(self, source: Any) -> Iterator[Any]:
        """Batches of a loader from where the sweep before stopped, again and again."""
        if self._stream is None:
            self._stream = self._endless(source)
        return (batch for batch in self._stream)

    def _endless(self, source: Any) -> Iterator[Any]:
        while True:
            if isinstance(source, keras.utils.PyDataset):
                steps = source.num_batches
                places = itertools.count() if steps is None else range(steps)
                batches: Any = (source[i] for i in places)
            else:
                batches = iter(source)
            empty = True
            for batch in batches:
                empty = False
                yield tuple(keras.tree.map_structure(_on_host, part) for part in _parts(batch))
            if empty:
                return


def _parts(batch: Any) -> tuple[Any, ...]:
    """(x,), (x, y) or (x, y, sample_weight) of a batch; a generator must give tuples."""
    x, y, weight = keras.utils.unpack_x_y_sample_weight(batch)
    return (x,) if y is None else (x, y) if weight is None else (x, y, weight)


def _on_host(leaf: Any) -> Any:
    return leaf if tf.is_tensor(leaf) else np.asarray(leaf)


def _tensors(given: Understood) -> tuple[Any, ...]:
    with tf.device("CPU:0"):
        parts = (given.x, given.y, given.sample_weight)
        made_of = tuple(
            None if p is None else keras.tree.map_structure(to_tensor, p) for p in parts
        )
    return made_of[: 1 + max(i for i, part in enumerate(made_of) if part is not None)]


def rate_for_run(
    recipe: Recipe,
    model: keras.Model,
    given: Understood,
    loss: Any,
    class_weight: Mapping[int, float] | None,
    steps_per_epoch: int | None,
    verbose: Any,
) -> tuple[FoundRate, Recipe, list[str]]:
    """What a run needs whose recipe says "find": the rate, the recipe with it, what to say."""
    found = sweep_rates(
        model,
        given,
        recipe_compiler(recipe, model, loss),
        epochs=recipe.train.epochs,
        batch_size=recipe.train.batch_size,
        seed=recipe.train.seed,
        class_weight=class_weight,
        steps_per_epoch=steps_per_epoch,
        verbose=verbose,
    )
    notes = [f"the learning rate was {found.reason} ({found.seconds:.1f} s)."]
    if found.warning:
        notes.append(f"the learning rate that was found is not sure: {found.warning}")
    end = getattr(recipe.schedule, "end_learning_rate", 0.0)
    if end > found.suggestion:
        notes.append(
            f"schedule.end_learning_rate={end:.2g} lies above the {found.suggestion:.2g} that was "
            "found: the rate will rise."
        )
    return found, recipe.replace(**{RATE: found.suggestion}), notes
