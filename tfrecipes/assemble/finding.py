"""Find the learning rate of a model, its data and a recipe, by sweeps."""

import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import keras

from tfrecipes.assemble.beginning import first_batch, look_at, made, surroundings
from tfrecipes.assemble.command import brought
from tfrecipes.assemble.sweeping import (
    recipe_compiler,
    refuse_generator,
    set_apart,
    sweep_rates,
)
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.step import keras_seams
from tfrecipes.step.installed import compile_with, step_of
from tfrecipes.training.data import understand
from tfrecipes.training.inferred_loss import infer_loss
from tfrecipes.tuning.lr_finder import Compile, FoundRate

BATCH_SIZE = 32  # Keras's own, where no recipe says


def find_learning_rate(
    model: Any,
    data: Any,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    scale: Literal["log", "linear"] = "log",
    *,
    loss: Any = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    steps: int | None = None,
    sweeps: int = 3,
    low: float | None = None,
    high: float | None = None,
    seed: int | None = None,
    sample_weight: Any = None,
    class_weight: Mapping[int, float] | None = None,
    steps_per_epoch: int | None = None,
    verbose: Any = "auto",
) -> FoundRate:
    """Find the peak learning rate by short sweeps, and leave everything as it was.

    A sweep trains from the model's present weights while the rate rises from step to step,

        log:     lr_t = low (high / low)^(t / (n - 1))
        linear:  lr_t = low + (high - low) t / (n - 1)

    with the recipe's own optimizer, precision, clipping, smoothing and micro-batches, and notes the
    loss of each batch. Where the loss runs away the sweep ends. Each sweep has another order of the
    data. The suggestion is sqrt(valley rise) / 1.2: between the rate two thirds along the longest
    fall of the loss, and the one at which it begins to rise fast, medians over sweeps.

    Afterwards weights, optimizer, BatchNorm, seeds, loss scale, compiled state, callbacks' leftovers
    and the data's order are bitwise as before; after an exception and Ctrl-C too. A model that was
    not built is built.

    Args:
        model: A Keras model, or a function that makes one.
        data: What `fit` takes, but no generator, which can be read once.
        recipe: A recipe, its name or path. None = the model's own compiled optimizer and loss, or
            the recipe `default` where it is not compiled.
        scale: How the rate rises. "linear" spends its steps near the highest rates.
        loss: What `compile` takes; None = the compiled or inferred one.
        epochs: Of the training that the rate is for; it decides how long a sweep is. None = the
            recipe's.
        batch_size: For arrays; None = the recipe's, or 32.
        steps: Rates of a sweep, >= 20; None = such that all sweeps take about 5 % of the training's
            steps, from 23 to 35. Longer sweeps lean to higher rates.
        sweeps: How many, >= 1.
        low: The lowest rate; None = 7 decades below the highest, or a part of it if linear.
        high: The highest; None = 10, or 1,000 times more or less if the loss rises elsewhere; on
            a linear scale twice the rate at which the loss of a first, logarithmic sweep rises.
        seed: Of the data's order; None = the recipe's.
        sample_weight: For arrays, as in `fit`.
        class_weight: As in `recipe.fit`.
        steps_per_epoch: For streams that do not tell their length.
        verbose: 0 shows no progress.

    Returns:
        `.suggestion`, `.interval`, `.learning_rates` (rates,), `.losses` (sweeps, rates), `.rules`,
        `.warning`, `.plot(path)`.

    Raises:
        ValueError: If an argument is out of range, or model and data cannot be trained.

    Example:
        >>> import numpy as np, tfrecipes as tfr
        >>> keras.utils.set_random_seed(0)
        >>> x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
        >>> y = x @ np.arange(8, dtype="float32")
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> found = find_learning_rate(model, (x, y[:, None]), verbose=0)
        >>> bool(1e-3 < found.suggestion < 10), found.losses.shape[0]
        (True, 3)

    References:
        Smith, Cyclical learning rates for training neural networks, WACV 2017, section 3.3 (the
        range test, linear). fastai's `lr_find` (exponential, the steepest and valley rules).
        Unlike both: several sweeps, the batch's own loss, an interval, a rule that looks at where
        the loss rises and not only at where it falls.
    """
    whole = {"sweeps": (sweeps, 1), "steps": (steps, 20), "epochs": (epochs, 1)}
    whole |= {"batch_size": (batch_size, 1), "steps_per_epoch": (steps_per_epoch, 1)}
    _refuse_out_of_range(scale, whole | {"seed": (seed, 0)}, low, high, recipe)
    given = understand(data, sample_weight)
    refuse_generator(given, "find_learning_rate")
    if isinstance(recipe, (str, os.PathLike)):
        recipe = Recipe.load(recipe)
    with keras_seams.kept_randomness():
        net, recipe = _made(model, recipe)
        given = set_apart(given)
        given, batch = first_batch(given)
        if not net.built:
            net(batch[0])
        compile_with_rate, loss = _compiler(net, recipe, loss, batch[1])
        if batch[1] is None and loss is not None and not _has_own_loss(net):
            raise ValueError(
                f"find_learning_rate: the loss needs labels. Received: data of inputs alone, and loss="
                f"{loss!r}. Give (x, y)."
            )
        look_at(given, net, loss)
        return sweep_rates(
            net,
            given,
            compile_with_rate,
            epochs=epochs or (recipe or Recipe.load("default")).train.epochs,
            batch_size=batch_size or (BATCH_SIZE if recipe is None else recipe.train.batch_size),
            seed=seed if seed is not None else 0 if recipe is None else recipe.train.seed,
            class_weight=class_weight,
            steps_per_epoch=steps_per_epoch,
            scale=scale,
            steps=steps,
            sweeps=sweeps,
            low=low,
            high=high,
            verbose=verbose,
        )


def find_for_target(
    recipe: Recipe, target: str | None = None, data: Path | None = None, **arguments: Any
) -> FoundRate:
    """`tfrecipes find-lr`: the words of the command line to a rate.

    Args:
        recipe: The recipe, with what the command line changed in it.
        target: `package.module:function` or `path/file.py:function`; None = the demo.
        data: An .npz file; None = the target's or the demo's data.
        **arguments: Of `find_learning_rate`.

    Raises:
        ValueError: For input that cannot be used, one sentence.
    """
    with surroundings(recipe):
        model, training, _ = brought(recipe, target, data)
    return find_learning_rate(model, training, recipe, **arguments)


def _made(model: Any, recipe: Recipe | None) -> tuple[keras.Model, Recipe | None]:
    """The model, and the recipe to compile it by; None = its own compiled state."""
    if isinstance(model, keras.Model) and recipe is None and _is_compiled(model):
        return model, None
    if recipe is None and callable(model) and not isinstance(model, keras.Model):
        net = model()
        if isinstance(net, keras.Model) and _is_compiled(net):
            return net, None
        model = net
    recipe = recipe or Recipe.load("default")
    if not isinstance(model, keras.Model) and not callable(model):
        raise ValueError(
            "find_learning_rate: `model` must be a Keras model or a function that makes one. "
            f"Received: model={model!r}."
        )
    return made(recipe, model, None)[0], recipe


def _has_own_loss(model: keras.Model) -> bool:
    return keras_seams.has_own_train_step(model) or keras_seams.has_own_compute_loss(model)


def _is_compiled(model: keras.Model) -> bool:
    return getattr(model, "optimizer", None) is not None


def _compiler(
    model: keras.Model, recipe: Recipe | None, loss: Any, labels: Any
) -> tuple[Compile, Any]:
    own, weights = keras_seams.given_loss(model) if _is_compiled(model) else (None, None)
    loss = loss if loss is not None else own
    if recipe is not None:
        if loss is None:
            loss, _ = infer_loss(labels, model)
        return recipe_compiler(recipe, model, loss), loss
    optimizer = model.optimizer
    # `step_of` would put a step on a model that has none.
    base = None if keras_seams.holder_of(model) is None else step_of(model).base
    plain: dict[str, Any] = {
        "loss": loss,
        "loss_weights": weights,
        "run_eagerly": model.run_eagerly,
        "jit_compile": False,
    }

    def compile_with_rate(schedule: Any) -> None:
        with model.distribute_strategy.scope():
            again = _another(optimizer, schedule)
        # Not the model's own `compile`, which may want other arguments.
        keras.Model.compile(model, optimizer=again, **plain)
        if base is not None:
            compile_with(model, base)

    return compile_with_rate, loss


def _another(optimizer: keras.optimizers.Optimizer, schedule: Any) -> keras.optimizers.Optimizer:
    """An optimizer of the same settings with another schedule."""
    again = type(optimizer).from_config(_settings(optimizer))
    scheduled: Any = getattr(again, "inner_optimizer", again)
    scheduled.learning_rate = schedule
    return again


def _settings(optimizer: keras.optimizers.Optimizer) -> dict[str, Any]:
    """An optimizer's config with a number for its schedule: few that users write have a config."""
    inner = getattr(optimizer, "inner_optimizer", None)
    plain = None if inner is None else type(inner).from_config(_settings(inner))
    try:
        config = optimizer.get_config()
    except NotImplementedError:
        # The optimizer's attributes without the optimizer, on which nothing may be set.
        bare: Any = object.__new__(type(optimizer))
        bare.__dict__.update(optimizer.__dict__)
        if plain is None:
            bare.learning_rate = keras.optimizers.schedules.ExponentialDecay(1e-3, 1, 1.0)
        else:
            bare.__dict__["inner_optimizer"] = plain
        config = bare.get_config()
    if "learning_rate" in config:
        config["learning_rate"] = 1e-3  # never used
    if plain is not None:
        config["inner_optimizer"] = keras.saving.serialize_keras_object(plain)
    return config


def _refuse_out_of_range(
    scale: str,
    whole: Mapping[str, tuple[Any, int]],
    low: float | None,
    high: float | None,
    recipe: Any,
) -> None:
    where = "find_learning_rate"
    if scale not in ("log", "linear"):
        raise ValueError(
            f"{where}: `scale` must be 'log' or 'linear'. Received: scale={scale!r}. Take 'log' "
            "to look over several decades."
        )
    if recipe is not None and not isinstance(recipe, (Recipe, str, os.PathLike)):
        raise ValueError(
            f"{where}: `recipe` must be a recipe, its name or its path. Received: "
            f"recipe={recipe!r}. Give one such as 'default', or leave it out."
        )
    for name, (value, least) in whole.items():
        is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if value is not None and not (is_whole and int(value) >= least):
            raise ValueError(
                f"{where}: `{name}` must be a whole number >= {least}. Received: {name}={value!r}."
            )
    for name, value in (("low", low), ("high", high)):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is not None and not (number and 0 < value < math.inf):
            raise ValueError(
                f"{where}: `{name}` must be a finite rate > 0. Received: {name}={value!r}. Give "
                "one such as 1e-5, or leave it out."
            )
    if low is not None and high is not None and not low < high:
        raise ValueError(
            f"{where}: `low` must be below `high`. Received: low={low!r}, high={high!r}."
        )
