"""An epoch's last call of the train function runs the steps that are left, and no more."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.callbacks.resume import Preempted


def endless(batches=7):
    """Batches of 4 that go on from the first again; 10 steps an epoch begin anywhere in them."""
    return tf.data.Dataset.from_tensor_slices(tiny.data(4 * batches)).batch(4).repeat()


def fitted(group, data, *callbacks, eager=False):
    net = tiny.model()
    net.compile(tfr.AdamW(1e-2), tiny.loss(), steps_per_execution=group, run_eagerly=eager)
    history = net.fit(
        data, steps_per_epoch=10, epochs=3, shuffle=False, verbose=0, callbacks=list(callbacks)
    )
    return net, history.history


def same(one, two):
    return all(
        np.array_equal(a, b) for a, b in zip(tiny.weights(one), tiny.weights(two), strict=True)
    )


@pytest.mark.parametrize("eager", [False, True])
def test_endless_data_give_the_steps_that_were_asked_for(eager):
    one, history = fitted(1, endless(), tfr.Monitor())
    several, of_several = fitted(4, endless(), tfr.Monitor(), eager=eager)
    assert int(several.optimizer.iterations) == 30
    if not eager:  # an op by itself rounds otherwise than in a compiled graph
        assert same(one, several)
        assert of_several == history


def test_data_longer_than_an_epoch_are_used_to_their_end():
    data = tf.data.Dataset.from_tensor_slices(tiny.data(4 * 30)).batch(4)
    one, _ = fitted(1, data, tfr.TrainStep())
    several, _ = fitted(4, data, tfr.TrainStep())
    assert int(several.optimizer.iterations) == 30
    assert same(one, several)


def test_accumulated_groups_of_batches_are_counted_as_steps():
    one, _ = fitted(1, endless(), tfr.GradientAccumulation(2))
    several, _ = fitted(3, endless(), tfr.GradientAccumulation(2))
    assert int(several.optimizer.iterations) == 30
    assert same(one, several)


def test_a_batch_trained_inside_the_fit_is_no_call_of_it():
    class Peek(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.train_on_batch(*tiny.data(4))

    net, _ = fitted(4, endless(), tfr.TrainStep(), Peek())
    assert int(net.optimizer.iterations) == 33


@pytest.mark.parametrize("calls", [2, 3, 4])
def test_a_cut_run_goes_on_from_any_call(tmp_path, calls):
    class Cut(keras.callbacks.Callback):
        left = calls

        def on_train_batch_end(self, batch, logs=None):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt

    # Without a state of its own the source begins at the epoch's start.
    def data():
        x, y = tiny.data(40)
        return tf.data.Dataset.from_tensor_slices((x, y)).batch(4).repeat()

    whole, history = fitted(4, data(), tfr.TrainStep())
    with pytest.raises((KeyboardInterrupt, Preempted)):
        fitted(4, data(), tfr.Resume(tmp_path, every="1"), Cut())
    again, rest = fitted(4, data(), tfr.Resume(tmp_path, every="1"))
    assert int(again.optimizer.iterations) == 30
    assert same(whole, again)
    assert rest["loss"] == history["loss"]
