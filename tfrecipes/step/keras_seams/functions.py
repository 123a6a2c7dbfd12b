"""The train function: strategy, XLA and steps_per_execution around one step, and its waits."""

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import reduce_per_replica


class Waits:
    """How long train functions waited for the next batch, since they were made.

    Measured around the `get_next` of fit's iterator, inside the compiled function: from when it
    is asked for a batch until the batch is there. Where the device works behind the host's back
    the host may wait while the device still has work.
    """

    def __init__(self) -> None:
        with tf.init_scope(), tf.device("CPU:0"):
            self._inside = tf.Variable(0.0, dtype=tf.float64, trainable=False)
        self._on_the_host = 0.0

    @property
    def seconds(self) -> float:
        """All of it, read now."""
        return float(self._inside) + self._on_the_host

    def around(self, pull: Callable[[], Any]) -> Any:
        """What `pull` gives, in a graph or not; its time is added when it is there."""
        began = tf.timestamp()
        with tf.control_dependencies([began]):
            pulled = pull()
        with tf.control_dependencies(tf.nest.flatten(pulled, expand_composites=True)):
            self._inside.assign_add(tf.timestamp() - began)
        return pulled

    def take(self, iterator: Any, count: int) -> tuple[Any, ...]:
        """Up to `count` batches, pulled by the host."""
        began = time.perf_counter()
        batches = tuple(itertools.islice(iterator, count))
        self._on_the_host += time.perf_counter() - began
        return batches


@contextlib.contextmanager
def calls_of(model: keras.Model, steps: int) -> Iterator[None]:
    """Let the train function be made and called as one of `steps` steps, which it reads here."""
    group, model.steps_per_execution = model.steps_per_execution, steps
    try:
        yield
    finally:
        model.steps_per_execution = group


def loops_on_the_host(model: keras.Model, group: int) -> bool:
    """Whether the host pulls the batches: a loop on the device fails with replicas."""
    replicas = model.distribute_strategy.num_replicas_in_sync
    return group > 1 or (replicas > 1 and model.steps_per_execution > 1)


def _on_each_replica(model: keras.Model, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A step of one batch as Keras runs it: on every replica, compiled, its logs made one."""

    @tf.autograph.experimental.do_not_convert
    def on_batch(batch: Any) -> Any:
        outputs = model.distribute_strategy.run(step, args=(batch,))
        return reduce_per_replica(outputs, model.distribute_strategy, reduction="auto")

    if not model.run_eagerly:
        on_batch = tf.function(on_batch, reduce_retracing=True, jit_compile=model.jit_compile)
    return model._autoconvert_optionals(on_batch)


def make_function(
    model: keras.Model, step: Callable[[Any], Any], waits: Waits
) -> Callable[[Any], Any]:
    """A train function that pulls its batches where it runs, `steps_per_execution` of them a call.

    Raises:
        tf.errors.OutOfRangeError: By the function, where the iterator has no batch left; Keras
            ends the epoch there.
    """
    on_batch, group = _on_each_replica(model, step), model.steps_per_execution

    @tf.autograph.experimental.do_not_convert
    def on_iterator(iterator: Any) -> Any:
        logs = on_batch(waits.around(iterator.get_next))
        if group == 1:
            return logs

        def another(count: tf.Tensor, has: tf.Tensor, logs: Any) -> Any:
            batch = waits.around(iterator.get_next_as_optional)
            has = batch.has_value()
            logs = tf.cond(has, lambda: on_batch(batch.get_value()), lambda: logs)
            return count + 1, has, logs

        return tf.while_loop(
            lambda count, has, logs: tf.logical_and(count < group, has),
            another,
            (tf.constant(1), tf.constant(True), logs),
        )[2]

    if not model.run_eagerly:
        on_iterator = tf.function(on_iterator, reduce_retracing=True)

    def function(iterator: Any) -> Any:
        if isinstance(iterator, (tf.data.Iterator, tf.distribute.DistributedIterator)):
            return on_iterator(iterator)
        logs = None
        for batch in itertools.islice(iterator, group):  # `train_on_batch` gives a generator
            logs = on_batch(batch)
        return logs

    return function


def make_grouped_function(
    model: keras.Model, step: Callable[[Any], Any], group: int, waits: Waits
) -> Callable[[Any], Any]:
    """A train function whose step is given a tuple of up to `group` of fit's batches, or the one.

    The host pulls them, so that batches of any shape and a partial last group are what they are.
    """
    on_batches = _on_each_replica(model, step)

    def function(iterator: Any) -> Any:
        logs = None
        for _ in range(model.steps_per_execution):
            batches = waits.take(iterator, group)
            if not batches:
                break
            _refuse_unequal(batches)
            logs = on_batches(batches if group > 1 else batches[0])
        if logs is None:
            raise StopIteration
        return logs

    return function


def _refuse_unequal(batches: tuple[Any, ...]) -> None:
    first = [t.shape[1:] for t in keras.tree.flatten(batches[0]) if hasattr(t, "shape")]
    for other in batches[1:]:
        shapes = [t.shape[1:] for t in keras.tree.flatten(other) if hasattr(t, "shape")]
        if shapes != first:
            raise ValueError(
                "GradientAccumulation: the batches of one step must agree beyond the first axis. "
                f"Received: {first} and {shapes}. Pad them to one length."
            )
