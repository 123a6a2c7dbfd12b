"""EMA and SWA: the same weights for everybody, raw training untouched, exact swaps."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.step.installed import step_of


class Watch(keras.callbacks.Callback):
    """Raw weights after every step, and what the model holds at an epoch's end."""

    def __init__(self):
        super().__init__()
        self.raw, self.shown = [], []

    def on_train_batch_end(self, batch, logs=None):
        self.raw.append(tiny.weights(self.model))

    def on_epoch_end(self, epoch, logs=None):
        self.shown.append(tiny.weights(self.model))


def compiled(make=tiny.model, optimizer=None, **changes):
    net = make()
    net.compile(
        optimizer or keras.optimizers.Adam(1e-2), tiny.loss(), metrics=["accuracy"], **changes
    )
    return net


def fit(net, callbacks, epochs=3, **changes):
    x, y = tiny.data(96)
    arguments = {"batch_size": 32, "epochs": epochs, "shuffle": False, "verbose": 0} | changes
    return net.fit(x, y, callbacks=callbacks, **arguments)


def equal(a, b):
    return all(np.array_equal(p, q, equal_nan=True) for p, q in zip(a, b, strict=True))


def floats(variables):
    return [v for v in variables if v.dtype == np.float32]


def trajectory(epochs=3):
    """The raw run without an average: the weights before it, and after every step."""
    net, watch = compiled(), Watch()
    start = tiny.weights(net)
    fit(net, [watch], epochs)
    return start, watch.raw


def test_raw_training_is_bit_for_bit_what_it_is_without_an_average():
    _, raw = trajectory()
    net, watch = compiled(), Watch()
    x, y = tiny.data(32, seed=1)
    fit(net, [tfr.EMA(0.9), watch], validation_data=(x, y))
    assert len(raw) == len(watch.raw) == 9
    assert all(equal(a, b) for a, b in zip(raw, watch.raw, strict=True))


@pytest.mark.parametrize("warmup", [True, False])
def test_the_average_is_the_recursion_in_float64(warmup):
    start, raw = trajectory()
    expected = [v.astype(np.float64) for v in floats(start)]
    for n, weights in enumerate(raw):
        d = min(0.9, (1 + n) / (10 + n)) if warmup else 0.9
        expected = [d * a + (1 - d) * w for a, w in zip(expected, floats(weights), strict=True)]
    net = compiled()
    fit(net, [tfr.EMA(0.9, warmup=warmup)])
    for have, want in zip(floats(tiny.weights(net)), expected, strict=True):
        np.testing.assert_allclose(have, want, rtol=2e-6, atol=1e-7)


def test_the_average_is_tensorflows_own_with_its_ramp():
    start, raw = trajectory(1)
    reference = tf.train.ExponentialMovingAverage(0.9, num_updates=tf.Variable(0))
    variables = [tf.Variable(v) for v in floats(start)]
    reference.apply(variables)
    for n, weights in enumerate(raw):
        for variable, value in zip(variables, floats(weights), strict=True):
            variable.assign(value)
        reference._num_updates = tf.constant(n)
        reference.apply(variables)
    net = compiled()
    fit(net, [tfr.EMA(0.9)], epochs=1)
    for have, want in zip(floats(tiny.weights(net)), variables, strict=True):
        np.testing.assert_allclose(have, reference.average(want), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("ours_first", [True, False])
def test_validation_checkpoints_early_stopping_and_the_model_mean_the_same_weights(
    tmp_path, ours_first
):
    path = tmp_path / "{epoch}.weights.h5"
    watch = Watch()
    others = [
        keras.callbacks.ModelCheckpoint(str(path), save_weights_only=True),
        keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True),
        watch,
    ]
    ema = tfr.EMA(0.8)
    net = compiled()
    validation = tiny.data(40, seed=1)
    history = fit(
        net, [ema, *others] if ours_first else [*others, ema], validation_data=validation
    ).history
    for epoch in range(3):
        again = tiny.model()
        again.load_weights(tmp_path / f"{epoch + 1}.weights.h5", skip_mismatch=False)
        again.compile("sgd", tiny.loss())
        scores = again.evaluate(*validation, verbose=0, return_dict=True)
        assert scores["loss"] == pytest.approx(history["val_loss"][epoch], rel=1e-6)
        assert equal(floats(tiny.weights(again)), floats(watch.shown[epoch]))
    best = int(np.argmin(history["val_loss"]))
    assert equal(floats(tiny.weights(net)), floats(watch.shown[best]))


def test_swaps_are_exact_for_tiny_and_huge_weights_where_stock_keras_loses_them():
    def make():
        net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1, use_bias=False)])
        net.set_weights([np.array([[1e-8], [1e8], [-3.0]], "float32")])
        return net

    x, y = np.zeros((4, 3), "float32"), np.zeros((4, 1), "float32")
    net = make()
    net.compile(keras.optimizers.SGD(0.0), "mse")
    before = net.get_weights()[0].copy()
    for _ in range(2):
        net.fit(x, y, epochs=2, verbose=0, callbacks=[tfr.EMA(0.5)], validation_data=(x, y))
    assert np.array_equal(net.get_weights()[0], before)


def test_a_further_fit_goes_on_from_the_raw_weights():
    _, raw = trajectory(4)
    net, watch = compiled(), Watch()
    fit(net, [tfr.EMA(0.9)], epochs=2)
    fit(net, [tfr.EMA(0.9), watch], epochs=2)
    assert equal(watch.raw[-1], raw[-1])
    assert int(step_of(net).state.averaged) == 12


def test_changed_weights_are_kept_and_said(capsys):
    net = compiled()
    fit(net, [tfr.EMA(0.9)])
    net.set_weights([w * 0 for w in net.get_weights()])
    fit(net, [tfr.EMA(0.9)], epochs=1)
    assert "were changed" in capsys.readouterr().out
    assert int(step_of(net).state.averaged) == 3


def test_a_further_fit_without_an_average_starts_from_the_averaged_weights():
    net, watch = compiled(), Watch()
    fit(net, [tfr.EMA(0.9)])
    averaged = tiny.weights(net)
    net.optimizer.learning_rate = 0.0
    fit(net, [watch, tfr.TrainStep()], epochs=1)
    trainable = [i for i, v in enumerate(net.variables) if v.trainable]
    assert all(np.array_equal(averaged[i], watch.raw[0][i]) for i in trainable)


def test_an_evaluation_that_raises_puts_the_raw_weights_back():
    class Fails(keras.callbacks.Callback):
        def on_test_begin(self, logs=None):
            raise RuntimeError("in validation")

    net, watch = compiled(), Watch()
    with pytest.raises(RuntimeError, match="in validation"):
        fit(net, [tfr.EMA(0.9), watch, Fails()], validation_data=tiny.data(8))
    assert equal(tiny.weights(net), watch.raw[-1])


def test_evaluating_in_the_middle_of_an_epoch_sees_raw_weights_and_changes_nothing():
    class Looks(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            before = [v for v in tiny.weights(self.model)]
            self.model.evaluate(*tiny.data(8), verbose=0)
            assert equal(before, tiny.weights(self.model))

    net = compiled()
    fit(net, [tfr.EMA(0.9), Looks()])


def test_a_checkpoint_inside_an_epoch_is_refused(tmp_path):
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "m.keras"), save_freq=2)
    with pytest.raises(ValueError, match="save_freq"):
        fit(compiled(), [tfr.EMA(0.9), checkpoint])


def test_batch_norm_statistics_are_averaged_along():
    net = compiled()
    fit(net, [tfr.EMA(0.5)])
    named = {v.path: v for v in net.variables}
    state = step_of(net).state
    shadow = {v.path: a for v, a in zip(state.averaged_variables, state.averages, strict=True)}
    assert np.array_equal(named["norm/moving_mean"].numpy(), shadow["norm/moving_mean"].numpy())


def test_a_users_own_average_says_its_coefficient():
    class Mean(tfr.Average):
        def coefficient(self, n):
            n = tf.cast(n, tf.float32)
            return n / (n + 1.0)

    _, raw = trajectory(2)
    net = compiled()
    fit(net, [Mean(start=2)], epochs=2)
    want = np.mean([floats(w)[0] for w in raw[2:]], axis=0)
    np.testing.assert_allclose(floats(tiny.weights(net))[0], want, rtol=1e-5, atol=1e-6)
    with pytest.raises(TypeError, match="coefficient"):
        fit(compiled(), [tfr.Average()])


# ------------------------------------------------------------------------------------------ SWA


def test_swa_is_the_mean_of_epoch_ends_at_its_own_rate_and_recalibrates_batch_norm():
    net, watch, monitor = compiled(), Watch(), tfr.Monitor()
    x, _ = tiny.data(96)
    rates = []

    class Rates(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            rates.append(step_of(self.model).last_row["learning_rate"])

    validation = tiny.data(40, seed=1)
    history = fit(
        net,
        [tfr.SWA("50%", learning_rate=0.05), watch, monitor, Rates()],
        epochs=4,
        validation_data=validation,
    ).history
    np.testing.assert_allclose(rates, [0.01] * 6 + [0.05] * 6, rtol=1e-6)
    trainable = [i for i, v in enumerate(net.variables) if v.trainable]
    have = tiny.weights(net)
    for i in trainable:
        want = (watch.raw[8][i] + watch.raw[11][i]) / 2
        np.testing.assert_allclose(have[i], want, rtol=1e-6, atol=1e-7)
    # BatchNorm stands on the first Dense layer: its statistics under the averaged weights.
    hidden = x @ net.get_layer("hidden").get_weights()[0] + net.get_layer("hidden").get_weights()[1]
    parts = [hidden[i : i + 32] for i in (0, 32, 64)]
    norm = net.get_layer("norm")
    np.testing.assert_allclose(
        norm.moving_mean, np.mean([p.mean(0) for p in parts], 0), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(
        norm.moving_variance, np.mean([p.var(0) for p in parts], 0), rtol=1e-3, atol=1e-5
    )
    assert len(history["val_loss"]) == 4
    assert len(history["swa_val_loss"]) == 1
    scores = net.evaluate(*validation, verbose=0, return_dict=True)
    assert history["swa_val_loss"][0] == pytest.approx(scores["loss"], rel=1e-5)


def test_swa_comes_after_a_restored_best_whatever_the_order():
    stopping = keras.callbacks.EarlyStopping(patience=50, restore_best_weights=True)
    net = compiled()
    fit(
        net,
        [tfr.SWA(start="1ep"), stopping],
        epochs=3,
        validation_data=tiny.data(40, seed=1),
    )
    state = step_of(net).state
    trainable = zip(state.averaged_variables, state.averages, strict=True)
    assert all(np.array_equal(v.numpy(), a.numpy()) for v, a in trainable if v.trainable)


def test_a_cyclic_swa_averages_once_a_cycle():
    net = compiled()
    fit(net, [tfr.SWA(start=3, learning_rate=0.05, cycle=2)], epochs=4)  # 12 steps, 9 after
    assert int(step_of(net).state.averaged) == 4


def test_swa_refuses_a_source_that_cannot_be_read_again():
    x, y = tiny.data(96)
    net = compiled()
    with pytest.raises(ValueError, match="only once"):
        net.fit(
            ((x[:8], y[:8]) for _ in range(4)),
            shuffle=False,
            verbose=0,
            callbacks=[tfr.SWA(start=1)],
        )


@pytest.mark.parametrize(
    "make",
    [
        lambda: tfr.EMA(1.0),
        lambda: tfr.EMA(-0.1),
        lambda: tfr.EMA("0.9"),
        lambda: tfr.SWA(learning_rate=-1.0),
        lambda: tfr.SWA(learning_rate=float("nan")),
        lambda: tfr.SWA(cycle="2ep"),
        lambda: tfr.SWA(start="soon"),
    ],
)
def test_bad_arguments_are_one_sentence(make):
    with pytest.raises(ValueError, match="Received"):
        make()
