"""Recipe to objects: schedule, optimizer, a compiled model, callbacks."""

import os
from dataclasses import dataclass
from typing import Any, Literal

import keras

from tfrecipes.arithmetic import schedules
from tfrecipes.arithmetic.precision import Precision
from tfrecipes.arithmetic.smoothing import smoothed
from tfrecipes.assemble.inferring import InferredLoss, leave_loss_open
from tfrecipes.callbacks.averages import EMA, SWA
from tfrecipes.callbacks.monitor import Monitor
from tfrecipes.callbacks.resume import Resume
from tfrecipes.callbacks.step import TrainStep
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.folder import RunFolder
from tfrecipes.step import optimizers
from tfrecipes.step.installed import compile_with
from tfrecipes.step.loss_scale_optimizer import LossScaleOptimizer
from tfrecipes.step.plan import StepPlan
from tfrecipes.training.xla import Jit, choose_jit

# What a recipe's word for a precision makes of Keras's policy; "auto" agrees with any.
_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@dataclass(frozen=True)
class Compiled:
    """What `compile` chose, for the summary and the run's files."""

    smoothing: str
    precision: Precision
    jit: Jit


def compile(
    recipe: Recipe,
    model: keras.Model,
    total_steps: int,
    loss: Any = None,
    metrics: Any = None,
    schedule: keras.optimizers.schedules.LearningRateSchedule | None = None,
) -> keras.Model:
    """Compile a model by a recipe, with our train step for every `fit` of it.

    Args:
        recipe: The recipe.
        model: A Keras model.
        total_steps: Optimizer steps of the whole run, >= 1.
        loss: A Keras loss; None = it is told from the first batch of the first `fit` with
            `recipe.callbacks()`. Without labels the model's own losses are minimised.
        metrics: Keras metrics; None beside an inferred loss: accuracy where there are classes.
        schedule: A Keras schedule instead of the recipe's.

    Returns:
        The model.

    Raises:
        ValueError: If the recipe cannot be had for this model, or over so many steps.
    """
    if isinstance(total_steps, bool) or not isinstance(total_steps, int) or total_steps < 1:
        raise ValueError(
            "recipe.compile: `total_steps` must be a whole number >= 1. Received: "
            f"total_steps={total_steps!r}. It is steps an epoch times epochs."
        )
    per_epoch = -(-total_steps // recipe.train.epochs)
    compile_model(recipe, model, total_steps, per_epoch, loss, metrics, schedule)
    return model


def callbacks(
    recipe: Recipe, directory: str | os.PathLike[str] | None = None
) -> list[keras.callbacks.Callback]:
    """The recipe's callbacks, for `model.fit` of a model that the recipe compiled.

    Args:
        recipe: The recipe.
        directory: The run's folder, with steps.csv, epochs.csv and checkpoints; None = no files.
    """
    folder = None if directory is None else RunFolder.take(directory)
    found: list[keras.callbacks.Callback] = [InferredLoss(), *step_callbacks(recipe)]
    found.append(Monitor(folder))
    if folder is not None and (resume := resume_callback(recipe, folder)) is not None:
        found.append(resume)
    return found


def resume_callback(recipe: Recipe, folder: RunFolder, pull_skipped: bool = True) -> Resume | None:
    """The recipe's checkpoints in a run's folder, or None where they are off."""
    table = recipe.resume
    if table is None or table.every is None:
        return None
    return Resume(folder.checkpoints_path, table.every, table.keep, pull_skipped)


def step_callbacks(recipe: Recipe) -> list[keras.callbacks.Callback]:
    step = recipe.step
    found: list[keras.callbacks.Callback] = []
    found.append(TrainStep(on_nonfinite=_nonfinite(recipe), max_bad_steps=step.max_bad_steps))
    if recipe.ema is not None:
        found.append(EMA(recipe.ema.decay, recipe.ema.warmup))
    if recipe.swa is not None:
        found.append(SWA(recipe.swa.start, recipe.swa.learning_rate, recipe.swa.cycle))
    return found


def compile_model(
    recipe: Recipe,
    model: keras.Model,
    total_steps: int,
    steps_per_epoch: int,
    loss: Any,
    metrics: Any,
    schedule: Any = None,
    shapes_vary: bool = False,
) -> Compiled:
    refuse_what_comes_later(recipe)
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"recipe.compile: `model` must be a Keras model. Received: model={model!r}."
        )
    if schedule is None:
        _refuse_unknown_rate(recipe)
        schedule = make_schedule(recipe, total_steps, steps_per_epoch)
    chosen = model_precision(recipe, model)
    with model.distribute_strategy.scope():
        optimizer = make_optimizer(recipe, schedule)
        if chosen.loss_scaling:
            optimizer = LossScaleOptimizer(optimizer)
    jit = choose_jit(model, recipe.step.jit, shapes_vary)
    steps = recipe.step.steps_per_execution
    # Keras's types know its defaults alone.
    arguments: dict[str, Any] = {
        "metrics": metrics,
        "jit_compile": jit.value,
        "steps_per_execution": 1 if steps == "auto" else steps,
    }
    model.compile(optimizer=optimizer, loss=loss, **arguments)
    if loss is None:
        leave_loss_open(model, arguments)
    compile_with(
        model,
        StepPlan(
            micro_batch=recipe.step.micro_batch,
            micro_batches=recipe.step.gradient_accumulation_steps,
            label_smoothing=recipe.loss.label_smoothing,
            on_nonfinite=recipe.step.on_nonfinite,
            max_bad_steps=recipe.step.max_bad_steps,
        ),
    )
    amount = recipe.loss.label_smoothing
    smoothing = smoothed(loss, amount).reason if amount and loss is not None else "off"
    return Compiled(smoothing, chosen, jit)


def make_schedule(
    recipe: Recipe, total_steps: int, steps_per_epoch: int
) -> keras.optimizers.schedules.LearningRateSchedule:
    """The recipe's schedule over a run of that length."""
    arguments = recipe.schedule.arguments(total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    return getattr(schedules, recipe.schedule.class_name)(**arguments)


def make_optimizer(recipe: Recipe, schedule: Any) -> keras.optimizers.Optimizer:
    """The recipe's optimizer; the clip limit's one home is its config."""
    return getattr(optimizers, recipe.optimizer.class_name)(
        learning_rate=schedule,
        global_clipnorm=recipe.step.global_clipnorm,
        **recipe.optimizer.arguments(),
    )


def refuse_what_comes_later(recipe: Recipe) -> None:
    """One sentence for what a recipe may say and this version cannot do."""
    _nonfinite(recipe)


def _refuse_unknown_rate(recipe: Recipe) -> None:
    if recipe.schedule.peak_learning_rate == "find":
        raise ValueError(
            "recipe.compile: the rate is found on the data, which `compile` does not see. Received: "
            "schedule.peak_learning_rate='find'. Use recipe.fit, or give the number that "
            "tfr.find_learning_rate(model, data, recipe).suggestion is."
        )


def _nonfinite(recipe: Recipe) -> Literal["skip", "stop"]:
    wanted = recipe.step.on_nonfinite
    if wanted == "rewind":
        raise ValueError(
            "step.on_nonfinite: going back to an earlier step is not in this version. "
            f"Received: {wanted!r}. Use 'skip' or 'stop'."
        )
    return wanted


def model_precision(recipe: Recipe, model: keras.Model) -> Precision:
    """The precision that a made model has; the recipe's word must agree, unless it is "auto".

    Raises:
        ValueError: If the recipe wants 16 bits and the model's layers were made for float32.
    """
    has = model.dtype_policy.name
    wanted = _POLICIES.get(recipe.step.precision)
    if wanted is not None and wanted != has:
        raise ValueError(
            f"step.precision: the model's layers were made with the policy {has!r}, which stays "
            f"with them. Received: precision={recipe.step.precision!r}. Pass a function that "
            f"makes the model, or call tfr.set_precision({recipe.step.precision!r}) before you "
            "make it."
        )
    return Precision(has, has == "mixed_float16", "the policy that the model was made with")
