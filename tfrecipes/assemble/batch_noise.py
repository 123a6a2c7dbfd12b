"""The critical batch: the noise scale of a model's gradients, now and after a short training."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

from tfrecipes.assemble.batch_trial import Way
from tfrecipes.doctor.sampled import Sampled
from tfrecipes.step import keras_seams
from tfrecipes.step.installed import step_of
from tfrecipes.step.plan import StepPlan
from tfrecipes.training.data import batches
from tfrecipes.tuning.batch_gradients import Batch, products
from tfrecipes.tuning.keeping import kept
from tfrecipes.tuning.noise_scale import FEWEST, NoiseScale, noise_scale

# Micro-batches of a measurement, and samples in all of them; more where these tell too little.
MICRO_BATCHES, SAMPLES, MOST_SAMPLES = 64, 2048, 16384
_SMALLEST = 4  # samples of a micro-batch: BatchNorm of one sample gives no gradient
# The short training is such a share of the whole, and no longer than so many steps.
SHARE, MOST_STEPS = 0.1, 100

Tick = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Noise:
    """What was measured.

    Attributes:
        points: As `BatchSize.points` has them.
        notes: Why there are fewer than were wanted.
    """

    points: list[dict[str, Any]]
    notes: list[str]


def steps_before(way: Way) -> int:
    """How long to train before the second measurement, where nobody says."""
    if way.recipe is None:
        return min(MOST_STEPS, way.steps_per_epoch)
    return max(1, min(MOST_STEPS, round(SHARE * way.total_steps)))


def measure(
    model: keras.Model,
    sample: Sampled,
    way: Way,
    *,
    micro_batch: int,
    steps: int,
    seed: int,
    tick: Tick,
) -> Noise:
    """Measure the noise scale at the start and after some steps, and put everything back.

    Args:
        model: Built.
        sample: The data.
        way: How it is compiled.
        micro_batch: No pass has more samples.
        steps: Of the training in between; 0 = measure at the start alone.
        seed: Which samples are measured, and the order of the training.
        tick: Called with what is done, how much of it, and of how much.
    """
    if refusal := _refusal(model, sample):
        return Noise([], [refusal])
    order = np.random.default_rng(seed).permutation(sample.rows)
    points: list[dict[str, Any]] = []
    notes: list[str] = []
    holder = keras_seams.holder_of(model)
    base = None if holder is None else holder.base
    with kept(model):
        cut = micro_batch if micro_batch < way.batch_size else None
        _without_xla(way).compile(model, sample.take(order[:256])[1], cut, base)
        for step in (0, steps) if steps else (0,):
            if step:
                _train(model, sample, way, order, step, seed, tick)
            try:
                scale = _scale(model, sample, order, micro_batch, seed, step, tick)
            except ValueError as error:
                notes.append(f"after {step} steps: {error}")
                break
            points.append(_point(step, scale))
    return Noise(points, notes)


def batch_to_take(noise: Noise, given: int, samples: int | None) -> int:
    """The batch size to set: the critical batch, rounded down; the given one where it is as good."""
    if not noise.points:
        return given
    last = noise.points[-1]
    low, high = last["low"], last["high"]
    if not math.isfinite(high) or low <= given <= high:
        return given
    size = max(1, int(last["critical_batch"]))
    size -= size % (1 << max(0, size.bit_length() - 3))
    return size if samples is None else min(size, samples)


def _refusal(model: keras.Model, sample: Sampled) -> str | None:
    if keras_seams.has_own_train_step(model):
        return (
            f"{type(model).__name__} has its own `train_step`, whose gradients nobody else sees: "
            "the critical batch was not measured."
        )
    if not model.trainable_variables:
        return "the model has no trainable weights: the critical batch was not measured."
    if sample.rows < 2 * FEWEST:
        return (
            f"{sample.rows} samples are too few to tell the gradient from its noise: the critical "
            "batch was not measured."
        )
    return None


def _without_xla(way: Way) -> Way:
    # To compile by XLA would take longer than to measure; it changes rounding alone.
    if way.recipe is None:
        return way
    plain = way.recipe.replace(**{"step.jit": False, "step.steps_per_execution": 1})
    return replace(way, recipe=plain)


def _train(
    model: keras.Model,
    sample: Sampled,
    way: Way,
    order: np.ndarray,
    steps: int,
    seed: int,
    tick: Tick,
) -> None:
    """Train for some steps, on samples from the other end of the order than those measured."""
    tick("training", 0, steps)
    x, y, weight = sample.take(order[::-1][: steps * way.batch_size])
    data = batches(x, y, weight, batch_size=min(way.batch_size, sample.rows), seed=seed)
    count = itertools.count(1)
    shown = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: tick("training", next(count), steps)
    )
    # Keras's types know its defaults alone.
    arguments: dict[str, Any] = {"verbose": 0, "shuffle": False}
    model.fit(data.dataset, steps_per_epoch=steps, epochs=1, callbacks=[shown], **arguments)


def _scale(
    model: keras.Model,
    sample: Sampled,
    order: np.ndarray,
    micro_batch: int,
    seed: int,
    step: int,
    tick: Tick,
) -> NoiseScale:
    """The noise scale at the present weights; from more samples where few tell too little."""
    scale: NoiseScale | None = None
    for wanted in (SAMPLES, MOST_SAMPLES):
        rows = min(wanted, sample.rows)
        size = max(_SMALLEST, rows // MICRO_BATCHES)
        size = min(size, micro_batch, rows // FEWEST)
        count = min(MICRO_BATCHES, rows // size)
        if scale is not None and count * size <= scale.micro_batches * scale.size:
            break  # there are no more
        inner = products(
            model,
            _parts(sample, order, size, count),
            step_of(model).base or StepPlan(),
            seed,
            lambda done, all=count: tick(f"noise scale after {step} steps", done, all),
        )
        scale = noise_scale(inner, size)
        if scale.is_resolved:
            break
    if scale is None:
        raise ValueError("find_batch_size: there must be samples. Received: none.")
    return scale


def _parts(sample: Sampled, order: np.ndarray, size: int, count: int) -> Iterator[Batch]:
    return (sample.take(order[i * size : (i + 1) * size]) for i in range(count))


def _point(step: int, scale: NoiseScale) -> dict[str, Any]:
    return {
        "step": step,
        "critical_batch": scale.value,
        "low": scale.low,
        "high": scale.high,
        "trace": scale.trace,
        "squared_norm": scale.squared_norm,
        "samples": scale.micro_batches * scale.size,
    }
