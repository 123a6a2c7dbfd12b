"""find_learning_rate: what strangers give it, what it must not answer, what it must put back."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny

X, Y = tiny.data()


def find(net, data=(X, Y), recipe=None, **arguments):
    given = {"verbose": 0, "sweeps": 1, "steps": 20, "low": 1e-4, "high": 10.0} | arguments
    return tfr.find_learning_rate(net, data, recipe, **given)


@pytest.fixture(scope="module")
def net():
    made = tiny.dense_model()
    made.compile("sgd", tiny.loss())
    return made


class Unsaved(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule as tutorials write them: without a config."""

    def __call__(self, step):
        return 0.1


@pytest.mark.parametrize("scaled", [False, True])
def test_a_schedule_without_a_config_is_replaced_and_comes_back(scaled):
    model, schedule = tiny.dense_model(), Unsaved()
    own = keras.optimizers.SGD(schedule, momentum=0.7)
    optimizer = keras.optimizers.LossScaleOptimizer(own) if scaled else own
    model.compile(optimizer, tiny.loss())
    assert np.isfinite(find(model).losses[0, 0])
    assert model.optimizer is optimizer
    assert float(own.learning_rate) == pytest.approx(0.1)


class Adversaries(keras.Model):
    """Two optimizers of its own, a variable in a list, and a compiled optimizer that is unused."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(tiny.CLASSES)
        self.counts = [tf.Variable(0.0, trainable=False)]
        self.own = keras.optimizers.SGD(0.1, momentum=0.9)

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        self.counts[0].assign_add(1.0)
        with tf.GradientTape() as tape:
            loss = tiny.loss()(y, self(x, training=True))
        weights = self.trainable_variables
        self.own.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def test_other_optimizers_are_put_back_and_their_model_is_refused():
    model = Adversaries()
    model.compile()
    model.fit(X, Y, verbose=0)
    before = [v.numpy() for v in (*model.variables, *model.own.variables, *model.counts)]
    with pytest.raises(ValueError, match=r"must train by `self\.optimizer`.* Received: "):
        find(model)
    after = [v.numpy() for v in (*model.variables, *model.own.variables, *model.counts)]
    for old, new in zip(before, after, strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.mark.parametrize("given", [{}, {"low": None, "high": None}])
def test_data_that_are_not_finite_have_no_rate(net, given):
    data = tf.data.Dataset.from_tensor_slices((X * np.nan, Y)).batch(32)
    with pytest.raises(ValueError, match=r"the loss must be finite .*Check the data first"):
        find(net, data, **given)


def test_streams_need_no_length(net):
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(32).repeat()
    assert np.isfinite(find(net, data).losses[0, 0])


def test_a_lowest_rate_alone_has_four_decades_above_it(net):
    found = find(net, low=5.0, high=None)
    assert found.learning_rates[-1] / found.learning_rates[0] >= 1000


def test_random_numbers_go_on_and_nothing_is_put_on_the_model(net):
    attributes = set(vars(net))
    random.seed(3)
    expected = random.random()
    random.seed(3)
    find(tiny.dense_model, recipe=tfr.Recipe.load("default"))
    assert random.random() == expected
    find(net)
    assert set(vars(net)) == attributes


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"epochs": 0}, "`epochs` must be a whole number >= 1"),
        ({"batch_size": 0}, "`batch_size` must be a whole number >= 1"),
        ({"steps_per_epoch": 0}, "`steps_per_epoch` must be"),
        ({"seed": "a"}, "`seed` must be a whole number >= 0"),
        ({"recipe": 3}, "`recipe` must be a recipe"),
        ({"data": X}, "the loss needs labels"),
    ],
)
def test_bad_input_gets_one_sentence(net, arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        find(net, **arguments)
    assert "Received: " in str(error.value)


def test_a_model_without_weights_to_train_is_refused(net):
    frozen = tiny.dense_model()
    frozen.trainable = False
    frozen.compile("sgd", tiny.loss())
    with pytest.raises(ValueError, match="must have weights to train"):
        find(frozen)
    with pytest.raises(ValueError, match="find_learning_rate: `model` must be"):
        find("resnet50")


def test_numbers_of_numpy_are_numbers(net):
    assert find(net, steps=np.int64(20), low=np.float32(1e-3)).losses.shape == (1, 20)
