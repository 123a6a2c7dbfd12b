"""A model that was trained for a moment is what it was: bits, compiled state, generators."""

import os
import random
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.tuning.keeping import kept


def trained():
    """A compiled model in the middle of its life: moments, statistics, an average put in."""
    net = tiny.model()
    optimizer = tfr.LossScaleOptimizer(tfr.AdamW(1e-2, global_clipnorm=1.0))
    tiny.fit(net, optimizer, [tfr.EMA(0.9)])
    return net


def state_of(net):
    return {
        "weights": tiny.weights(net),
        "optimizer": [np.array(v) for v in net.optimizer.variables],
        "metrics": [np.array(v) for v in net.metrics_variables],
        "attributes": {k: id(v) for k, v in net.__dict__.items()},
        "generators": (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            tf.random.get_global_generator().state.numpy().tolist(),
        ),
    }


def assert_same(before, after):
    for name in ("weights", "optimizer", "metrics"):
        assert len(before[name]) == len(after[name])
        for a, b in zip(before[name], after[name], strict=True):
            np.testing.assert_array_equal(a, b, err_msg=name)
    assert before["attributes"] == after["attributes"]
    assert before["generators"] == after["generators"]


def disturb(net):
    """Everything that a search of any kind may do to a model."""
    optimizer = tfr.SGD(1.0, momentum=0.9)
    tiny.fit(net, optimizer, [tfr.SWA(start=0), keras.callbacks.TerminateOnNaN()], epochs=1)
    net.optimizer.learning_rate = 3.0
    net.stop_training = True
    random.random()
    np.random.rand()
    tf.random.get_global_generator().normal(())
    tf.data.Dataset.range(3).shuffle(3)  # draws a seed


def test_all_is_as_it_was():
    net = trained()
    before = state_of(net)
    drawn = []
    for attempt in range(2):
        tf.random.set_seed(7)
        if attempt:
            with kept(net):
                disturb(net)
                assert any(
                    (a != b).any()
                    for a, b in zip(before["weights"], tiny.weights(net), strict=True)
                )
        drawn.append(float(tf.random.normal(())))
    assert drawn[0] == drawn[1]
    assert_same(before, state_of(net))


def test_training_goes_on_as_if_nothing_had_happened():
    results = []
    for attempt in range(2):
        net = trained()
        if attempt:
            with kept(net):
                disturb(net)
        x, y = tiny.data()
        net.fit(x, y, batch_size=32, shuffle=False, verbose=0, callbacks=[tfr.EMA(0.9)])
        results.append(tiny.weights(net))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_after_an_exception_too(error):
    net = trained()
    before = state_of(net)

    def search():
        with kept(net):
            disturb(net)
            raise error

    with pytest.raises(type(error)):
        search()
    assert_same(before, state_of(net))


def test_a_second_ctrl_c_waits_until_all_is_put_back(monkeypatch):
    net = trained()
    before = state_of(net)
    order = []

    def interrupted(self):
        os.kill(os.getpid(), signal.SIGINT)
        restore(self)
        order.append("restored")

    from tfrecipes.tuning import keeping

    restore = keeping.Snapshot.restore
    monkeypatch.setattr(keeping.Snapshot, "restore", interrupted)

    def search():
        with kept(net):
            disturb(net)
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(10**6):
                pass

    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            search()
        assert order == ["restored"]
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    assert_same(before, state_of(net))


def test_a_model_without_variables_is_refused():
    net = keras.Sequential([keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="not built"), kept(net):
        pass
