"""The facts of a run for its summary."""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np

from tfrecipes.arithmetic.precision import Precision
from tfrecipes.assemble.compiling import Compiled
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.step import keras_seams, optimizers
from tfrecipes.training import devices
from tfrecipes.training.prepared import Prepared
from tfrecipes.views.summary import Summary


def summary_of(
    recipe: Recipe,
    model: keras.Model,
    data: Prepared,
    compiled: Compiled,
    precision: Precision,
    inferred_loss: str | None,
    folder: Path,
    notes: Sequence[str],
) -> Summary:
    """What is about to happen, in numbers; printed before the first step."""
    notes = list(notes)
    inner = model.optimizer
    inner = getattr(inner, "inner_optimizer", inner)
    schedule = recipe.schedule.arguments(
        total_steps=data.steps_per_epoch * recipe.train.epochs,
        steps_per_epoch=data.steps_per_epoch,
    )
    decayed = excluded = None
    if model.built and recipe.optimizer.weight_decay:
        report = optimizers.decay_report(inner, model)
        decayed = sum(d.decayed for d in report.decisions)
        excluded = len(report.decisions) - decayed
    average = None
    if recipe.ema is not None:
        average = f"EMA, decay {recipe.ema.decay:g}"
    elif recipe.swa is not None:
        average = f"SWA, from {recipe.swa.start}"
    if model.built and keras_seams.ends_in_16_bits(model):
        notes.append(
            "the model's output has 16 bits: give its last layer dtype='float32', so that "
            "the loss is computed from float32 logits."
        )
    if isinstance(compiled.jit.value, bool):
        xla = "on" if model.jit_compile else "off"
    else:
        xla = compiled.jit.value
    loss = getattr(model.loss, "name", None) or getattr(model.loss, "__name__", model.loss)
    precision_word, precision_reason = _word_and_reason(precision.reason)
    return Summary(
        model=model.name,
        trainable_parameters=_parameters(model.trainable_variables),
        frozen_parameters=_parameters(model.non_trainable_variables),
        steps_per_epoch=data.steps_per_epoch,
        epochs=recipe.train.epochs,
        total_steps=data.steps_per_epoch * recipe.train.epochs,
        batch_size=data.batch_size,
        micro_batches=recipe.step.gradient_accumulation_steps,
        schedule=recipe.schedule.name,
        peak_learning_rate=schedule["peak_learning_rate"],
        warmup_steps=schedule.get("warmup_steps"),
        end_learning_rate=schedule.get("end_learning_rate"),
        precision=precision_word or precision.policy,
        precision_reason=precision_reason,
        optimizer=recipe.optimizer.name,
        weight_decay=recipe.optimizer.weight_decay,
        decayed_weights=decayed,
        excluded_weights=excluded,
        clip=recipe.step.global_clipnorm,
        loss=str(loss) if inferred_loss is None else _in_brackets(inferred_loss),
        label_smoothing=compiled.smoothing,
        average=average,
        devices=_devices(),
        xla=xla,
        xla_reason=compiled.jit.reason,
        directory=str(folder),
        notes=tuple(notes),
    )


def _word_and_reason(sentence: str) -> tuple[str, str]:
    """Halves of "float32: no accelerator was found"; an empty word where there is no colon."""
    word, colon, reason = sentence.partition(": ")
    return (word, reason) if colon else ("", sentence)


def _in_brackets(sentence: str) -> str:
    """The reason of an inferred loss behind it; of several outputs the sentence as it is."""
    word, reason = _word_and_reason(sentence)
    return f"{word} ({reason})" if word and ";" not in sentence else sentence


def _parameters(variables: Sequence[keras.Variable]) -> int:
    return sum(int(np.prod(v.shape)) for v in variables)


def _devices() -> str:
    seen = devices.describe()
    return ", ".join(seen["accelerators"]) or f"CPU, {seen['cpus']} cores"
