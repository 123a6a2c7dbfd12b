"""Gradients of many micro-batches at one set of weights, and their inner products."""

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.backward import BackwardPass
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.update import current_scale

# Gradients of more numbers are folded to so many: each number is added to one of them under a sign
# drawn once. Inner products stay unbiased, with a spread of sqrt(2 / 2**18) = 0.3 % of |g|^2.
FOLDED = 2**18
_COLUMNS = 2**15  # multiplied at once in float64

Batch = tuple[Any, Any, Any]  # x, y, sample_weight


def products(
    model: keras.Model,
    batches: Iterator[Batch],
    plan: StepPlan,
    seed: int = 0,
    tick: Callable[[int], None] = lambda done: None,
) -> np.ndarray:
    """Inner products of the gradients of batches, each as the step would take it alone.

    The weights are read and not moved; statistics, seeds and metrics move as in training. Under a
    loss scale gradients are divided by it, and where one overflows the scale is halved until none
    does, for this measurement alone.

    Args:
        model: Compiled, built, on one device.
        batches: Micro-batches of one size, at least one.
        plan: For its label smoothing; the batches are not cut.
        seed: Of the signs by which a large gradient is folded.
        tick: Called after each with how many are done.

    Returns:
        g_i . g_j, float64 (m, m).

    Raises:
        ValueError: If a gradient is not finite.
    """
    backward = BackwardPass(model, StepPlan(label_smoothing=plan.label_smoothing))
    fold = _Folding(model, seed)

    @tf.function(autograph=False, reduce_retracing=True)
    def gradient(batch: Batch, scale: tf.Tensor) -> tf.Tensor:
        def on_replica(part: Batch) -> tf.Tensor:
            result = backward(part, None, scale)
            return fold([g for g in result.gradients if g is not None]) / scale

        return model.distribute_strategy.run(on_replica, args=(batch,))

    first = _tensors(next(batches))
    keras_seams.build(model, first)
    # Read eagerly: a wrapper's scale moves with training, not within a measurement.
    found = current_scale(model.optimizer)
    scale = 1.0 if found is None else float(found)
    rows: list[np.ndarray] = []
    for number, batch in enumerate(itertools.chain([first], batches)):
        tensors = _tensors(batch)
        row = gradient(tensors, tf.constant(scale)).numpy()
        while not np.isfinite(row).all() and scale > 1.0:
            scale = max(1.0, scale / 2)
            row = gradient(tensors, tf.constant(scale)).numpy()
        if not np.isfinite(row).all():
            raise ValueError(
                "find_batch_size: gradients must be finite. Received: NaN or infinity in "
                f"micro-batch {number + 1}. Look at the data with tfr.check, or lower the rate."
            )
        rows.append(row)
        tick(number + 1)
    return _gram(np.stack(rows))


def _tensors(batch: Batch) -> Batch:
    x, y, weight = (
        None if part is None else keras.tree.map_structure(tf.convert_to_tensor, part)
        for part in batch
    )
    return x, y, weight


class _Folding:
    """Gradients of a model as one vector of at most FOLDED numbers."""

    def __init__(self, model: keras.Model, seed: int) -> None:
        count = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        self._signs: tf.Tensor | None = None
        if count > FOLDED:
            padded = -(-count // FOLDED) * FOLDED
            drawn = np.random.default_rng(seed).integers(0, 2, padded, np.int8) * 2 - 1
            with tf.device("CPU:0"):
                self._signs = tf.constant(drawn, tf.int8)

    def __call__(self, gradients: list[tf.Tensor]) -> tf.Tensor:
        flat = tf.concat([tf.reshape(g, [-1]) for g in gradients], 0)
        if self._signs is None:
            return flat
        size = tf.size(self._signs)
        flat = tf.pad(flat, [[0, size - tf.size(flat)]]) * tf.cast(self._signs, tf.float32)
        return tf.reduce_sum(tf.reshape(flat, [-1, FOLDED]), 0)


def _gram(rows: np.ndarray) -> np.ndarray:
    """rows rows^T in float64, some columns at a time."""
    total = np.zeros((len(rows), len(rows)))
    for start in range(0, rows.shape[1], _COLUMNS):
        part = rows[:, start : start + _COLUMNS].astype(np.float64)
        total += part @ part.T
    return total
