"""What several replicas of a model must agree on, in a replica context.

Each replica holds its own copy of every variable and sees its share of the batch. Sums over
replicas make the gradients equal; what a forward pass moves by itself, dropout's seeds and
BatchNorm's statistics, needs a word of its own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.backward import Backward
from tfrecipes.step.keras_seams import local
from tfrecipes.step.update import all_reduce

# Odd, so that replicas' seeds differ modulo 2**31 for any number of them; the golden ratio's bits
# spread them. Replica 0 keeps the seeds of a run on one device.
_APART = 0x9E3779B1


def _count() -> int:
    return tf.distribute.get_strategy().num_replicas_in_sync


@contextmanager
def distinct_seeds(model: keras.Model) -> Iterator[None]:
    """Let each replica draw its own random numbers, and end with equal generators again.

    In stock Keras every replica draws the same dropout mask (KERAS_FACTS 22).
    """
    context = tf.distribute.get_replica_context()
    if _count() == 1 or context is None:
        yield
        return
    replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
    states = [local(v) for v in keras_seams.seed_states(model)]
    offsets = [tf.cast([replica * _APART % 2**31, 0], state.dtype) for state in states]
    for state, offset in zip(states, offsets, strict=True):
        state.assign(state.read_value() + offset)
    yield
    for state, offset in zip(states, offsets, strict=True):
        state.assign(state.read_value() - offset)


def whole_step(
    model: keras.Model,
    result: Backward,
    before: Sequence[tuple[tf.Variable, tf.Tensor]],
) -> tuple[list[tf.Tensor | None], tf.Tensor, list[tf.Tensor]]:
    """The whole step's gradients, loss and terms, in one collective; BatchNorm's moved equally.

        moving <- before + (1/R) sum_r (moving_r - before)      r: replicas with samples

    Args:
        model: The model.
        result: This replica's share.
        before: Variables that the forward pass moved, with their values before it.
    """
    if _count() == 1:
        return result.gradients, result.loss, result.terms
    was = {id(variable): value for variable, value in before}
    moving = [local(v) for v in keras_seams.moving_statistics(model)]
    changes = [v.read_value() - was[id(v)] for v in moving]
    has_samples = tf.cast(result.local_samples > 0, tf.float32)
    reduced = all_reduce([*result.gradients, *changes, result.loss, has_samples, *result.terms])
    count = len(result.gradients)
    sums = [t for t in reduced[count:] if t is not None]
    loss, replicas, *terms = sums[len(moving) :]
    for variable, change in zip(moving, sums, strict=False):
        variable.assign(was[id(variable)] + change / replicas)
    return reduced[:count], loss, terms
