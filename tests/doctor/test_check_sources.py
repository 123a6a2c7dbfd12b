"""What `check` takes for data: everything that `fit` takes and that can be read again."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.doctor.sampled import sampled

X, Y = tiny.data(samples=256)


class Batches(keras.utils.PyDataset):
    """Eight batches of 32."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        rows = slice(32 * index, 32 * index + 32)
        return X[rows], Y[rows]


def dataset():
    return tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(256).batch(32)


@pytest.mark.parametrize("make", [Batches, dataset], ids=["PyDataset", "tf.data"])
def test_streams_are_read_and_their_batches_looked_at(make):
    looked = sampled(make())
    assert (looked.rows, looked.batch_size, looked.is_whole) == (256, 32, True)
    assert [len(y) for y in looked.label_batches] == [32] * 8
    found = tfr.check(tiny.dense_model(), make(), make())
    assert {one.rule for one in found if one.severity != "info"} == {"validation_leak"}


def test_an_endless_stream_is_looked_at_in_part():
    looked = sampled(dataset().repeat())
    assert looked.rows == 64 * 32
    assert not looked.is_whole


def test_a_stream_without_a_shuffle_is_known_by_a_second_pass():
    assert sampled(tf.data.Dataset.from_tensor_slices((X, Y)).batch(32)).repeats_its_order
    assert not sampled(dataset()).repeats_its_order


def test_a_generator_is_refused_in_a_sentence_and_not_touched():
    made = ((X, Y) for _ in range(2))
    with pytest.raises(ValueError, match="can be read only once"):
        tfr.check(tiny.dense_model(), made)
    assert len(list(made)) == 2


def test_batches_of_several_lengths_are_looked_at_by_those_of_the_first():
    def made():
        for length in (4, 4, 6):
            yield np.ones((8, length), "float32"), np.arange(8) % 2

    spec = (tf.TensorSpec((8, None), tf.float32), tf.TensorSpec((8,), tf.int64))
    looked = sampled(tf.data.Dataset.from_generator(made, output_signature=spec))
    assert looked.rows == 16
    assert not looked.is_whole


def test_ragged_inputs_are_left_to_the_model():
    ragged = tf.ragged.constant([[1.0, 2.0], [3.0]] * 20)
    looked = sampled((ragged, np.arange(40) % 2))
    assert looked.inputs() == {}
    assert looked.take(np.array([0, 1]))[0].shape[0] == 2


def test_what_is_no_model_or_no_data_is_refused():
    with pytest.raises(ValueError, match="must be a Keras model"):
        tfr.check("a model", (X, Y))
    with pytest.raises(ValueError, match="there must be inputs"):
        tfr.check(tiny.dense_model(), None)
    with pytest.raises(ValueError, match="empty"):
        tfr.check(tiny.dense_model(), dataset().take(0))


def test_no_rows_are_a_finding():
    (found,) = tfr.check(tiny.dense_model(), (X[:0], Y[:0]))
    assert (found.rule, found.severity) == ("input_shape", "error")


def test_a_loss_that_is_given_beats_the_compiled_one():
    net = tiny.dense_model()
    net.compile("adam", loss=tiny.loss())
    wrong = keras.losses.SparseCategoricalCrossentropy(from_logits=False)
    assert tfr.check(net, (X, Y), loss=wrong)[0].rule == "logits_mismatch"
    assert isinstance(net.loss, keras.losses.Loss)


def test_a_model_for_one_batch_size_is_given_that_one():
    inputs = keras.Input(batch_shape=(16, 8))
    net = keras.Model(inputs, keras.layers.Dense(3)(keras.layers.Dense(8, "relu")(inputs)))
    assert not [one for one in tfr.check(net, (X, Y)) if one.severity != "info"]


def test_a_model_that_raises_is_a_finding_with_its_words():
    class Broken(keras.Model):
        def build(self, shape):
            self.built = True

        def call(self, x):
            raise RuntimeError("cannot be called")

    net = Broken()
    net.build((None, 8))
    loss = keras.losses.SparseCategoricalCrossentropy()
    found = tfr.check(net, (X, Y), loss=loss)[0]
    assert found.rule == "model_fails"
    assert "cannot be called" in found.evidence
