"""The strategies that tests use, one of each a process.

TensorFlow numbers the collectives of every MirroredStrategy from the same start and keeps their
shapes: a second strategy whose first collective has another shape aborts (TensorFlow 2.21).
"""

import functools


@functools.cache
def mirrored():
    """Two replicas on the two logical CPU devices of conftest."""
    import tensorflow as tf

    return tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
