"""16 bits end to end: what computes in them, what stays float32, and what is lost without it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.step.installed import step_of

HALVES = {"bfloat16": tf.bfloat16, "float16": tf.float16}


def regression(samples=256):
    rng = np.random.default_rng(7)
    x = rng.standard_normal((samples, tiny.FEATURES)).astype("float32")
    y = np.tanh(x @ rng.standard_normal((tiny.FEATURES, 2))).astype("float32")
    return x, y


class Far(keras.losses.Loss):
    """Mean squared error so small that its gradient is no float16: 1e-8 is the smallest's half."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def call(self, y_true, y_pred):
        return self.weight * keras.ops.mean(keras.ops.square(y_true - y_pred), axis=-1)


def two_layers(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((tiny.FEATURES,)),
            keras.layers.Dense(32, activation="tanh", name="first"),
            keras.layers.Dense(32, activation="tanh", name="second"),
            keras.layers.Dense(2, dtype="float32", name="out"),
        ]
    )


WEIGHT = 1e-7


def final_errors(precision, scaled, seeds=range(3), jit=False, rounds=35):
    """Error after training from each seed's weights, and the hidden layers' largest move."""
    tfr.set_precision(precision)
    net = two_layers(0)
    # The loss is WEIGHT times too small and the rate as much too large: in float32, plain SGD.
    optimizer = tfr.SGD(0.3 / WEIGHT, momentum=0.0)
    if scaled:
        optimizer = tfr.LossScaleOptimizer(optimizer, dynamic_growth_steps=5)
    net.compile(optimizer, Far(WEIGHT), jit_compile=jit, auto_scale_loss=False)
    x, y = regression()
    data = [np.tile(a, (rounds, 1)) for a in (x, y)]
    errors, moves = [], []
    for seed in seeds:
        start = two_layers(seed).get_weights()
        net.set_weights(start)
        net.fit(*data, batch_size=64, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
        errors.append(float(np.mean((net.predict(x, batch_size=256, verbose=0) - y) ** 2)))
        hidden = zip(start[:4], net.get_weights()[:4], strict=True)
        moves.append(max(float(np.abs(p - q).max()) for p, q in hidden))
    return errors, moves


def test_gradients_that_underflow_train_with_loss_scaling_to_within_the_noise_of_float32():
    plain, _ = final_errors("float32", False)
    scaled, _ = final_errors("float16", True)
    lost, moved = final_errors("float16", False, seeds=range(1))
    noise = np.std(plain, ddof=1)
    assert abs(np.mean(scaled) - np.mean(plain)) < noise
    # Seed for seed it is the same training, to float16's rounding.
    np.testing.assert_allclose(scaled, plain, rtol=0.05)
    # Without scaling the hidden layers' gradients are 0 and only the float32 output learns.
    assert moved == [0.0]
    assert lost[0] > plain[0] + 5 * noise


def test_the_scale_finds_its_way_up_under_xla_too():
    (graph,), _ = final_errors("float16", True, range(1), rounds=10)
    (xla,), _ = final_errors("float16", True, range(1), rounds=10, jit=True)
    assert xla == pytest.approx(graph, rel=0.02)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "make", [tfr.SGD, keras.optimizers.SGD], ids=["our optimizer", "a stock optimizer"]
)
def test_an_update_of_1e_5_relative_is_kept(half, make):
    chosen = tfr.set_precision(half)
    inputs = keras.Input((1,))
    layer = keras.layers.Dense(1, use_bias=False, kernel_initializer="ones", name="one")
    net = keras.Model(inputs, keras.layers.Activation("linear", dtype="float32")(layer(inputs)))
    optimizer = make(1e-5, momentum=0.0)
    if chosen.loss_scaling:
        optimizer = tfr.LossScaleOptimizer(optimizer)
    net.compile(optimizer, loss=lambda y, p: p)  # its gradient is 1
    x = np.ones((20, 1), "float32")
    net.fit(x, x, batch_size=1, verbose=0, callbacks=[tfr.TrainStep(), tfr.EMA(0.5)])
    step = step_of(net)
    step.swap.hide()
    # 20 updates, each 1/400 of bfloat16's distance at 1, 1/50 of float16's; and 20 roundings.
    assert layer.kernel.dtype == "float32"
    np.testing.assert_allclose(layer.kernel.numpy(), 1 - 20e-5, atol=20 * 2**-25)
    assert float(tf.cast(1 - 1e-5, HALVES[half])) == 1.0
    assert step.state.averages[0].dtype == tf.float32
    assert 1 - 20e-5 < float(step.state.averages[0][0, 0]) < 1 - 18e-5


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize(
    "inner",
    [lambda: tfr.AdamW(1e-2), lambda: tfr.SGD(0.1), lambda: keras.optimizers.AdamW(1e-2)],
    ids=["AdamW", "SGD", "keras.AdamW"],
)
def test_variables_moments_logits_loss_and_averages_are_float32(half, inner):
    chosen = tfr.set_precision(half)
    net = tiny.model()
    net.get_layer("logits").dtype_policy = "float32"
    optimizer = tfr.LossScaleOptimizer(inner()) if chosen.loss_scaling else inner()
    seen = {}

    class Loss(keras.losses.Loss):
        def call(self, y_true, y_pred):
            seen["logits"] = y_pred.dtype
            values = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
            seen["loss"] = values.dtype
            return values

    def hidden_gradient(step):
        seen["gradients"] = {g.dtype for g in step.gradients}
        return step.gradient_norm

    net.compile(optimizer, Loss())
    monitor = tfr.Monitor(columns=[*tfr.COLUMNS, hidden_gradient])
    net.fit(*tiny.data(32), batch_size=16, verbose=0, callbacks=[tfr.EMA(0.9), monitor])
    assert net.get_layer("hidden").compute_dtype == half
    assert seen == {"logits": tf.float32, "loss": tf.float32, "gradients": {tf.float32}}
    floats = [v for v in (*net.variables, *net.optimizer.variables) if "float" in v.dtype]
    assert {v.dtype for v in floats} == {"float32"}
    assert {a.dtype for a in step_of(net).state.averages} == {tf.float32}


@pytest.mark.parametrize("word", ["auto", "float32", "bfloat16", "float16"])
def test_set_precision_then_a_stock_program_trains(word):
    chosen = tfr.set_precision(word)
    net = two_layers(0)
    net.compile(tfr.AdamW(1e-2, global_clipnorm=1.0), "mse")
    # Keras wraps by itself where the policy is mixed_float16: the same as asking for it.
    wrapped = isinstance(net.optimizer, keras.optimizers.LossScaleOptimizer)
    assert wrapped == chosen.loss_scaling
    history = net.fit(*regression(), epochs=12, verbose=0, callbacks=[tfr.Monitor()]).history
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert history["overflow"][-1] == 0
    assert history["loss_scale"][-1] == (2.0**15 if chosen.loss_scaling else 1.0)


@pytest.mark.parametrize("half", HALVES)
def test_the_step_in_16_bits_is_stock_keras_to_the_bit(half):
    weights = []
    for callbacks in ([], [tfr.TrainStep()]):
        tfr.set_precision(half)
        net = two_layers(0)
        net.compile(keras.optimizers.AdamW(1e-2), "mse")
        net.fit(*regression(), epochs=2, shuffle=False, verbose=0, callbacks=callbacks)
        weights.append(net.get_weights())
    for stock, ours in zip(*weights, strict=True):
        np.testing.assert_array_equal(ours, stock)


def test_a_static_loss_scale_is_divided_out_before_the_clip():
    weights = []
    for factor in (None, 1024.0):
        tfr.set_precision("float32")
        net = two_layers(0)
        net.compile(tfr.AdamW(1e-2, global_clipnorm=0.1, loss_scale_factor=factor), "mse")
        net.fit(*regression(), epochs=2, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
        weights.append(net.get_weights())
    for plain, scaled in zip(*weights, strict=True):
        np.testing.assert_array_equal(scaled, plain)  # a power of two changes no bit
