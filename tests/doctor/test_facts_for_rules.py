"""What the rules need to know of a fit and cannot see in its curves: weights and penalties."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny

layers = keras.layers
X, Y = tiny.data(samples=96)


def told(kernel=None, data=(X, Y), **fit):
    """The facts of a short fit."""
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(8, kernel_regularizer=kernel), layers.Dense(3)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = [np.asarray(w) for w in model.weights]
    monitor = tfr.Monitor()
    model.fit(*data, verbose=0, callbacks=[monitor], **fit)
    return monitor.facts, before


@pytest.mark.parametrize(
    ("fit", "weighted"),
    [
        ({}, False),
        ({"class_weight": {0: 1.0, 1: 9.0, 2: 1.0}}, True),
        ({"sample_weight": np.linspace(0, 2, 96)}, True),
    ],
    ids=["plain", "classes", "samples"],
)
def test_weights_are_told(fit, weighted):
    assert told(**fit)[0]["weighted"] is weighted


def test_weights_of_a_stream_are_told():
    stream = tf.data.Dataset.from_tensor_slices((X, Y, np.ones(96, "float32"))).batch(32)
    assert told(data=(stream,), shuffle=False)[0]["weighted"] is True


def test_a_penalty_is_told_as_it_is_in_the_first_steps():
    assert told()[0]["penalty"] == 0
    facts, before = told(kernel=keras.regularizers.L2(0.5))
    assert facts["penalty"] == pytest.approx(0.5 * float((before[0] ** 2).sum()), rel=0.05)
