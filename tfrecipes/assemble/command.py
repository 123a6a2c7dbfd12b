"""`tfrecipes train`: from the words of the command line to an exit code."""

from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfrecipes.assemble.beginning import surroundings
from tfrecipes.assemble.running import run
from tfrecipes.callbacks.resume import Preempted
from tfrecipes.demo import digits
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.training.archives import load_npz
from tfrecipes.training.labels import split
from tfrecipes.training.targets import TargetError, call_target, load_target

# The demo is small, and a tenth of it would be 180 digits: one of them is half a percent.
DEMO_SHARE = 0.2
VALIDATION_SHARE = 0.1


def train(
    recipe: Recipe,
    target: str | None = None,
    data: Path | None = None,
    out: Path | None = None,
    resume: str = "auto",
    verbose: Any = "auto",
) -> int:
    """Train a target, or the demo, by a recipe.

    Args:
        recipe: The recipe, with what the command line changed in it.
        target: `package.module:function` or `path/file.py:function`; None = the demo.
        data: An .npz file; None = the target's or the demo's data.
        out: The run's folder; None = a fresh one in runs/.
        resume: "auto", "never" or "must".
        verbose: 0 = no summary and no progress.

    Returns:
        The exit code: 0 finished, 4 not finite, 75 stopped by a signal, 1 where the run's last
        checkpoint could not be written.

    Raises:
        ValueError: For input that cannot be used, one sentence.
    """
    with surroundings(recipe) as precision:
        model, training, validation = brought(recipe, target, data)
    try:
        return run(
            recipe,
            model,
            training,
            validation_data=validation,
            directory=out,
            verbose=verbose,
            resume=resume,
            precision=precision,
        ).code
    except Preempted as stop:
        print(stop)
        if out is None:
            print(f"Give the command the folder of this run then: --out {stop.run_folder}")
        return Preempted.CODE
    except RunWriteError as error:
        print(error)
        return 1


def brought(
    recipe: Recipe, target: str | None = None, data: Path | None = None
) -> tuple[keras.Model, Any, Any]:
    """The model, the data and the validation data that the words of the command line mean.

    Args:
        recipe: Whose seed splits what is split.
        target: `package.module:function` or `path/file.py:function`; None = the demo.
        data: An .npz file, which beats the target's or the demo's data.

    Raises:
        ValueError: For input that cannot be used, one sentence.
    """
    model, training, validation = _target(target, recipe)
    if data is not None:
        training, validation = _archive(data, recipe)
        if target is None:
            _refuse_other_than_digits(model, training[0])
    if training is None:
        raise TargetError(
            f"target {target}: returns a model without data. Received: no data. Return "
            "(model, data), or name an .npz file with --data."
        )
    return model, training, validation


def _target(target: str | None, recipe: Recipe) -> tuple[keras.Model, Any, Any]:
    if target is None:
        x, y = digits.load()
        training, validation = split(x, y, share=DEMO_SHARE, seed=recipe.train.seed)
        return digits.model(), training, validation
    made = call_target(load_target(target), target)
    return made.model, made.data, made.validation_data


def _refuse_other_than_digits(model: keras.Model, x: np.ndarray) -> None:
    wanted = model.input_shape[1:]
    if x.shape[1:] != wanted:
        raise TargetError(
            "--data: without a target the demo's net is trained, which takes digits of shape "
            f"{wanted}. Received: x_train of shape {x.shape}. Name a target, such as "
            "path/file.py:function."
        )


def _archive(path: Path, recipe: Recipe) -> tuple[Any, Any]:
    archive = load_npz(path)
    if archive.validation is not None:
        return (archive.x, archive.y), archive.validation
    return split(archive.x, archive.y, share=VALIDATION_SHARE, seed=recipe.train.seed)
