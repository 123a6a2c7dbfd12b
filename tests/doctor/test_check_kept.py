"""`check` leaves model, data and every source of random numbers bit for bit as they were."""

import random

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.doctor import checking, short_fits, traced, trials


class Counting(keras.layers.Layer):
    """Keeps a tf.Variable of its own, which Keras does not know, and adds a loss."""

    def __init__(self):
        super().__init__(name="counting")
        self.seen = tf.Variable(0.0, trainable=False)

    def call(self, x):
        self.seen.assign_add(1.0)
        self.add_loss(0.0 * tf.reduce_sum(x))
        return x


def trained_model():
    """Every kind of state: moments, statistics, seeds, metrics, a frozen layer, plain variables."""
    net = tiny.model()
    outputs = keras.layers.Dense(3, name="more")(Counting()(net.outputs[0]))
    net = keras.Model(net.inputs, outputs, name="trained")
    net.get_layer("hidden").trainable = False
    net.compile(
        keras.optimizers.Adam(1e-2), loss=tiny.loss(), metrics=["accuracy"], jit_compile=False
    )
    net.fit(*tiny.data(), batch_size=32, epochs=1, verbose=0)
    return net


@pytest.fixture(scope="module")
def model():
    return trained_model()


def everything(net):
    """All that must stay: copies of values, and settings."""
    variables = [*net.variables, *net.optimizer.variables, *net.metrics_variables]
    values = {f"{i}/{v.path}": np.array(v.numpy()) for i, v in enumerate(variables)}
    values["plain"] = net.get_layer("counting").seen.numpy()
    settings = {
        "trainable": [layer.trainable for layer in net.layers],
        "loss": id(net.loss),
        "optimizer": id(net.optimizer),
        "losses": [id(one) for one in net.losses],
        "train_function": id(net.train_function),
        "attributes": sorted(vars(net)),
        "call": keras.Layer.__call__,
    }
    return values, settings


def assert_kept(before, after):
    assert before[1] == after[1]
    assert list(before[0]) == list(after[0])
    changed = [k for k in before[0] if before[0][k].tobytes() != after[0][k].tobytes()]
    assert changed == []


def seeds():
    """The coming random numbers of every generator; those that can be are put back."""
    python, numpy = random.getstate(), np.random.get_state()
    drawn = [random.random(), float(np.random.random())]
    random.setstate(python)
    np.random.set_state(numpy)
    return drawn


def test_model_data_and_seeds_stay_as_they_were(model):
    x, y = tiny.data(samples=200)
    given = x.copy(), y.copy()
    before, drawn = everything(model), seeds()
    found = tfr.check(model, (x, y), tiny.data(seed=1))
    assert all(isinstance(one, tfr.Finding) for one in found)
    assert_kept(before, everything(model))
    assert seeds() == drawn
    assert x.tobytes() == given[0].tobytes()
    assert y.tobytes() == given[1].tobytes()


def test_tensorflows_and_keras_seeds_and_names_go_on_as_without_it(model):
    def coming(checks):
        keras.utils.set_random_seed(7)
        keras.utils.clear_session(free_memory=False)
        tf.random.uniform(())
        keras.random.uniform(())
        tf.random.get_global_generator().reset_from_seed(5)
        if checks:
            tfr.check(model, tiny.data())
        drawn = [
            float(tf.random.uniform(())),
            float(keras.random.uniform(())),
            float(tf.random.get_global_generator().uniform(())),
            random.random(),
            float(np.random.random()),
        ]
        layer = keras.layers.Dense(2)
        layer.build((None, 3))
        return drawn, layer.name, layer.kernel.numpy().tolist()

    assert coming(False) == coming(True)


class Stopped(Exception):
    """Raised on purpose."""


PLACES = [
    (checking.data_checks, "ranges"),
    (trials, "telling"),
    (trials.model_checks, "samples_mixed"),
    (short_fits, "_attempt"),
    (traced.graph_walks, "last_activation"),
    (traced.keras_seams, "call"),
]


CASES = [(place, KeyboardInterrupt) for place in PLACES] + [
    (PLACES[3], Stopped),
    (PLACES[5], Stopped),
]


@pytest.mark.parametrize(
    ("place", "error"), CASES, ids=[f"{place[1]}-{error.__name__}" for place, error in CASES]
)
def test_what_raises_inside_leaves_everything_too(model, monkeypatch, place, error):
    module, name = place
    stock = getattr(module, name)

    def broken(*given, **named):
        stock(*given, **named)
        raise error("on purpose")

    monkeypatch.setattr(module, name, broken)
    before, drawn = everything(model), seeds()
    try:
        found = tfr.check(model, tiny.data(samples=200))
    except error:
        pass
    else:  # what a model's own call raises is a finding
        assert error is Stopped
        assert "on purpose" in found[0].evidence
    assert_kept(before, everything(model))
    assert seeds() == drawn


def test_a_check_changes_nothing_of_the_training_that_follows():
    def weights(checks):
        net = tiny.model()
        net.compile(keras.optimizers.SGD(0.1), loss=tiny.loss())
        if checks:
            tfr.check(net, tiny.data())
        net.fit(*tiny.data(), batch_size=32, epochs=1, verbose=0)
        return [w.tobytes() for w in tiny.weights(net)]

    assert weights(False) == weights(True)


def test_a_model_that_is_not_built_stays_unbuilt():
    net = keras.Sequential([keras.layers.Dense(16, activation="relu"), keras.layers.Dense(3)])
    found = tfr.check(net, tiny.data(samples=200))
    assert not net.built
    assert net.variables == []
    assert "not_looked_at" not in {one.rule for one in found}


def test_an_unbuilt_copy_keeps_what_its_layers_have_learnt():
    x, y = tiny.data(samples=200)
    norm = keras.layers.Normalization()
    norm.adapt(x * 1000 + 50)
    net = keras.Sequential([norm, keras.layers.Dense(16, "relu"), keras.layers.Dense(3)])
    assert not any(one.severity != "info" for one in tfr.check(net, (x * 1000 + 50, y)))


class Secretive(keras.Model):
    """Cannot be made from its config."""

    def __init__(self, layers):
        super().__init__()
        self.inner = layers[0]

    def get_config(self):
        raise TypeError("no config")

    def call(self, x):
        return self.inner(x)


def test_a_model_that_cannot_be_copied_is_left_alone_and_that_is_said():
    net = Secretive([keras.layers.Dense(3)])
    found = {one.rule: one for one in tfr.check(net, tiny.data(samples=200))}
    assert not net.built
    assert "Build it first" in found["not_looked_at"].evidence


def test_a_shuffled_dataset_gives_the_order_that_it_would_have_given(model):
    def orders(checks):
        tf.random.set_seed(3)
        ds = tf.data.Dataset.from_tensor_slices(tiny.data()).shuffle(96, seed=1).batch(16)
        if checks:
            tfr.check(model, ds, ds)
        return [next(iter(ds))[0].numpy().tobytes() for _ in range(2)]

    assert orders(False) == orders(True)


def test_a_function_that_makes_the_model_makes_the_same_one_afterwards():
    def make():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])

    def weights(checks):
        keras.utils.set_random_seed(1)
        if checks:
            tfr.check(make, tiny.data())
        return [w.tobytes() for w in tiny.weights(make())]

    assert weights(False) == weights(True)
