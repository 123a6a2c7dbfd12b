"""Functions that make models, for children of `find_batch_size` to import."""

import keras

from tests import tiny


class Doubled(keras.layers.Layer):
    """A class that is not registered with Keras, and can be imported."""

    def call(self, x):
        return 2 * x


def net():
    return tiny.model()


def fails_in_a_child():
    """Made without complaint where the tests are; not where a child is."""
    import os

    if "TFRECIPES_TRYING_A_BATCH" in os.environ:
        raise KeyError("no weights to load")
    return tiny.dense_model()
