"""What the step's one all-reduce takes by itself."""

import statistics
import time

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams

# It is measured so often at most, and for about so long [s].
REPEATS, PATIENCE = 5, 0.3


def reduce_seconds(model: keras.Model) -> float | None:
    """Seconds of one all-reduce of a vector as long as the step's, the median of a few; now.

    The step reduces gradients, BatchNorm's changes and a few sums in one packed vector, after the
    last backward pass and before the update: nothing runs beside it, so that alone it takes what it
    takes there. Nothing of the model is touched.

    Returns:
        None on one replica, and under several workers, which would all have to measure at once.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1 or not isinstance(
        strategy, tf.distribute.MirroredStrategy
    ):
        return None
    weights = [*model.trainable_variables, *keras_seams.moving_statistics(model)]
    length = sum(int(tf.size(keras_seams.local(v))) for v in weights) + 3
    # Values that the graph does not know: it would sum constants beforehand.
    values = strategy.experimental_distribute_values_from_function(
        lambda context: tf.zeros([length])
    )

    def reduce(part: tf.Tensor) -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        return context.all_reduce("sum", part)[0]

    @tf.function
    def once(values: object) -> object:
        return strategy.run(reduce, args=(values,))

    # Concrete at once: TensorFlow warns of a new function in every fit, and this one is meant.
    concrete = once.get_concrete_function(values)

    def timed() -> float:
        began = time.perf_counter()
        for result in strategy.experimental_local_results(concrete(values)):
            result.numpy()  # waits for it
        return time.perf_counter() - began

    timed()  # the first one takes longer
    began, found = time.perf_counter(), []
    while len(found) < REPEATS and time.perf_counter() - began < PATIENCE:
        found.append(timed())
    return statistics.median(found)
