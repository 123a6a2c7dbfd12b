"""What must stand before a run can train: the model, one batch to look at, the folder."""

import contextlib
import itertools
import os
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic import precision as precisions
from tfrecipes.arithmetic.precision import Precision
from tfrecipes.assemble.compiling import model_precision
from tfrecipes.doctor import checks
from tfrecipes.doctor.named_outputs import output_shapes
from tfrecipes.recipe import gallery
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.folder import Run, RunFolder, read_run
from tfrecipes.runs.restart import Restart, decide
from tfrecipes.training import devices
from tfrecipes.training.data import Understood

Batch = tuple[Any, Any]  # (x, y), y None where there are no labels


@contextlib.contextmanager
def surroundings(recipe: Recipe) -> Iterator[Precision]:
    """Seed, precision policy and strategy of a recipe, while a model is made."""
    before = keras.config.dtype_policy()
    keras.utils.set_random_seed(recipe.train.seed)
    if recipe.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    strategy = devices.resolve(recipe.train.devices)
    precision = precisions.set_precision(recipe.step.precision)
    try:
        with strategy.scope() if strategy is not None else contextlib.nullcontext():
            yield precision
    finally:
        keras.config.set_dtype_policy(before)


def made(recipe: Recipe, model: Any, precision: Precision | None) -> tuple[keras.Model, Precision]:
    """The model, made under the recipe's seed, precision and strategy where it is a function.

    Args:
        recipe: The recipe.
        model: A Keras model, or a function that makes one.
        precision: What was chosen before the model was made elsewhere, with its reason.
    """
    if isinstance(model, keras.Model):
        has = model_precision(recipe, model)
        return model, precision if precision and precision.policy == has.policy else has
    if not callable(model):
        raise ValueError(
            "recipe.fit: `model` must be a Keras model or a function that makes one. "
            f"Received: model={model!r}."
        )
    with surroundings(recipe) as precision:
        net = model()
    if not isinstance(net, keras.Model):
        raise ValueError(
            "recipe.fit: the function must return a Keras model. "
            f"Received: {type(net).__name__} from {getattr(model, '__name__', model)!r}."
        )
    has = model_precision(recipe, net)
    return net, precision if precision.policy == has.policy else has


def first_batch(given: Understood) -> tuple[Understood, Batch]:
    """A batch to look at, and the data with that batch still in them.

    Of arrays it is one row of the inputs and all labels; of a stream its first batch, which a
    generator is given back.

    Raises:
        ValueError: If there is none.
    """
    if given.kind == "arrays":
        x = keras.tree.map_structure(lambda leaf: _tensor(leaf[:1]), given.x)
        return given, (x, given.y)
    if given.kind == "PyDataset":
        batch = given.x[0] if given.steps != 0 else None
    else:
        batch = next(iter(given.x), None)
    if batch is None:
        raise ValueError(f"data: there must be samples. Received: an empty {given.kind}.")
    if given.kind == "generator":
        given = replace(given, x=_put_back(batch, given.x))
    parts = (*batch, None) if isinstance(batch, (tuple, list)) else (batch, None)
    x, y = parts[:2]
    x = keras.tree.map_structure(lambda leaf: _tensor(leaf)[:1], x)
    return given, (x, None if y is None else keras.tree.map_structure(np.asarray, y))


def _put_back(batch: Any, rest: Any) -> Iterator[Any]:
    # A generator, and not itertools.chain: Keras knows a one-shot source by its type.
    yield from itertools.chain([batch], rest)


def _tensor(leaf: Any) -> Any:
    return leaf if tf.is_tensor(leaf) else tf.convert_to_tensor(np.asarray(leaf))


def look_at(given: Understood, model: keras.Model, loss: Any, where: str = "data") -> None:
    """Look at in-memory data once, and refuse in a sentence what cannot be trained on."""
    if given.kind != "arrays":
        return
    checks.look_once(
        given.x,
        given.y,
        given.sample_weight,
        input_shapes=getattr(model, "input_shape", None) if model.built else None,
        output_shape=output_shapes(model, given.y),
        loss=loss,
        where=where,
    )


def finished_run(directory: str | os.PathLike[str] | None) -> Run | None:
    """The run in a folder, if it is over; nothing is written or locked to find out."""
    if directory is None or not (Path(directory) / "state.json").is_file():
        return None
    run = read_run(directory)
    return run if run.state.get("status") == "finished" else None


def refuse_differing(recipe: Recipe, run: Run | None, resume: str) -> Restart:
    """What a run in the folder means for this one.

    Raises:
        ValueError: If the mode refuses, or a key that changes the arithmetic differs.
    """
    return decide(run, tomllib.loads(gallery.show(recipe)), resume)


def open_folder(
    recipe: Recipe, directory: str | os.PathLike[str] | None, resume: str
) -> tuple[RunFolder, Restart]:
    """The run's folder, locked, and what to do in it."""
    if directory is None:
        refuse_differing(recipe, None, resume)
        return RunFolder.fresh(recipe.name), Restart.BEGIN
    folder = RunFolder.open(directory)
    try:
        found = read_run(folder.path) if folder.holds_run else None
        return folder, refuse_differing(recipe, found, resume)
    except ValueError:
        folder.remove_if_unused()
        folder.close()
        raise


def shown_again(run: Run, model: keras.Model) -> keras.callbacks.History:
    """A finished run's History, and its weights in the model; no file is touched."""
    path = Path(run.path or ".") / "model.keras"
    if model.built and path.is_file():
        model.load_weights(path)
    history = keras.callbacks.History()
    history.set_model(model)
    for name, values in run.epochs.items():
        # SWA's values are known once, at the end: one number and no list of epochs.
        kept = values[-1:] if name.startswith("swa_val_") else values
        history.history[name] = [float(v) for v in kept]
    history.epoch = list(range(max(map(len, run.epochs.values()), default=0)))
    model.history = history
    return history
