"""Programs at the edge of what the step promises; a review found each of them broken."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.arithmetic import telemetry
from tfrecipes.step.installed import step_of

SGD = keras.optimizers.SGD


def compiled(optimizer=None, make=tiny.dense_model, **arguments):
    net = make()
    net.compile(optimizer or SGD(0.1), tiny.loss(), **arguments)
    return net


def fit(net, *callbacks, **changes):
    arguments = {"batch_size": 32, "shuffle": False, "verbose": 0} | changes
    return net.fit(*tiny.data(), callbacks=list(callbacks), **arguments).history


def distance(before, after):
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))


# ------------------------------------------------------------------------- one model, several fits


def test_a_fit_without_telemetry_logs_none_of_an_earlier_one():
    net = compiled()
    fit(net, tfr.Monitor())
    assert list(fit(net, tfr.TrainStep())) == ["loss"]


def test_steps_csv_has_no_row_of_a_fit_without_telemetry(tmp_path):
    net = compiled()
    for callback in (tfr.Monitor(tmp_path / "a"), tfr.TrainStep(), tfr.Monitor(tmp_path / "b")):
        fit(net, callback)
    rows = np.genfromtxt(tmp_path / "b" / "steps.csv", delimiter=",", names=True)
    assert list(rows["step"]) == [6, 7, 8]
    assert (rows["samples"] == 32).all()


def test_columns_may_change_from_fit_to_fit_and_back():
    net = compiled()
    for columns in (telemetry.COLUMNS, telemetry.COLUMNS[:3], telemetry.COLUMNS):
        history = fit(net, tfr.Monitor(columns=columns))
    assert history["samples"] == [32]


def test_layers_may_be_frozen_and_thawed_between_fits_with_an_average():
    net = compiled()
    for trainable in (True, False, True):
        net.get_layer("hidden").trainable = trainable
        before = net.get_weights()
        fit(net, tfr.EMA(0.5))
    assert int(step_of(net).state.averaged) == 9
    assert all(distance([a], [b]) > 0 for a, b in zip(before, net.get_weights(), strict=True))


def test_another_average_begins_anew_from_what_the_model_holds():
    net = compiled()
    fit(net, tfr.SWA(start=0), epochs=2)
    held = net.get_weights()
    net.optimizer.learning_rate = 0.0
    fit(net, tfr.EMA(0.5, warmup=False))
    assert distance(held, net.get_weights()) == 0


def test_an_average_begins_from_weights_that_a_callback_loads():
    class Loads(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.model.set_weights(wanted)

    net = compiled(SGD(0.0))
    wanted = [w + 1 for w in net.get_weights()]
    fit(net, tfr.EMA(0.9))
    fit(net, tfr.TrainStep())
    fit(net, tfr.EMA(0.9, warmup=False), Loads())
    assert distance(wanted, net.get_weights()) < 1e-6


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", keras.optimizers.schedules.ExponentialDecay(0.0, 1, 1.0)),
        ("global_clipnorm", 1e-12),
    ],
)
def test_what_is_set_on_the_optimizer_between_fits_holds(name, value):
    net = compiled()
    fit(net, tfr.TrainStep())
    setattr(net.optimizer, name, value)
    before = net.get_weights()
    fit(net, tfr.TrainStep())
    assert distance(before, net.get_weights()) < 1e-9


def test_a_stock_compile_after_a_recipes_is_stock():
    net = tiny.dense_model()
    recipe = tfr.Recipe.load("default").replace(ema=None)
    recipe.compile(net, 10, loss=tiny.loss())
    net.compile(SGD(0.1), tiny.loss())
    stock = compiled()
    fit(net), fit(stock)
    assert distance(net.get_weights(), stock.get_weights()) == 0


def test_train_on_batch_after_an_average_starts_from_it():
    recipe = tfr.Recipe.load("default")
    net = tiny.dense_model()
    recipe.compile(net, 30, loss=tiny.loss())
    fit(net, *recipe.callbacks(), epochs=10)
    averaged = net.get_weights()
    x, y = tiny.data(8)
    net.train_on_batch(x, y)
    assert distance(averaged, net.get_weights()) < 1e-4  # the rate is at its end, 1e-5


def test_durations_count_from_initial_epoch():
    net = compiled()
    fit(net, tfr.SWA(start="75%"), initial_epoch=4, epochs=8)
    assert int(step_of(net).state.averaged) == 1


# ---------------------------------------------------------------------------------- within one fit


def test_callbacks_may_come_as_a_callback_list():
    net = compiled()
    listed = keras.callbacks.CallbackList([tfr.EMA(0.9)], add_history=True, model=net, epochs=1)
    net.fit(*tiny.data(), batch_size=32, verbose=0, callbacks=listed)
    assert int(step_of(net).state.averaged) == 3


def test_a_fit_inside_a_fit_of_the_same_model_is_refused():
    class Fits(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.fit(*tiny.data(8), verbose=0)

    with pytest.raises(ValueError, match="inside a `fit`"):
        fit(compiled(), tfr.TrainStep(), Fits(), epochs=2)


def test_a_state_that_moves_in_evaluation_is_no_change_of_the_weights(capsys):
    class Counts(keras.layers.Layer):
        def build(self, shape):
            self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)

        def call(self, x):
            self.calls.assign_add(1.0)
            return x

    net = compiled(make=lambda: keras.Sequential([tiny.dense_model(), Counts()]))
    fit(net, tfr.EMA(0.9), epochs=2, validation_data=tiny.data(32))
    assert "changed" not in capsys.readouterr().out
    assert float(net.layers[-1].calls) == 8  # as stock Keras counts


def test_a_skipped_step_leaves_the_state_of_a_recurrent_layer():
    keras.utils.set_random_seed(0)
    layer = keras.layers.GRU(3, stateful=True)
    inputs = keras.Input(batch_shape=(8, 2, 4))
    net = keras.Model(inputs, layer(inputs))
    net.compile("sgd", "mse")
    x = np.random.default_rng(0).standard_normal((24, 2, 4)).astype("float32")
    x[9] = np.nan
    net.fit(x, x[:, 0, :3] * 0, batch_size=8, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
    assert int(net.optimizer.iterations) == 2
    assert np.isfinite(layer.states[0].numpy()).all()


@pytest.mark.filterwarnings("ignore:Your input ran out of data")
def test_the_end_of_data_of_unknown_length_is_no_attempt():
    x, y = tiny.data(23)
    spec = tf.TensorSpec((None, 8)), tf.TensorSpec((None,), tf.int32)
    batches = tf.data.Dataset.from_generator(
        lambda: ((x[i : i + 5], y[i : i + 5]) for i in range(0, 23, 5)), output_signature=spec
    )
    net = compiled("adam")
    net.fit(batches, epochs=2, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
    assert int(net.optimizer.iterations) == 10
    assert int(step_of(net).state.attempts) == 10


@pytest.mark.parametrize("policy", ["bfloat16", "float64"])
def test_an_average_of_weights_that_are_not_float32(policy):
    keras.config.set_dtype_policy(policy)
    net = compiled(make=lambda: keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)]))
    fit(net, tfr.EMA(0.9))
    fit(net, tfr.EMA(0.9))
    assert int(step_of(net).state.averaged) == 6


# ---------------------------------------------------------------------------------- kinds of model


def test_a_loss_without_a_reduction_is_cut_too():
    nets = []
    for callback in (tfr.TrainStep(), tfr.MicroBatch(10)):
        net = compiled()
        net.compile(SGD(1e-3), keras.losses.MeanSquaredError(reduction="none"))
        x, y = tiny.data(32)
        net.fit(x, tiny.one_hot(y), verbose=0, callbacks=[callback])
        nets.append(net)
    assert distance(*(net.get_weights() for net in nets)) < 1e-6


def test_a_models_own_compute_metrics_says_what_is_logged():
    class Own(keras.Model):
        def compute_metrics(self, x, y, y_pred, sample_weight=None):
            return {**super().compute_metrics(x, y, y_pred, sample_weight), "more": tf.ones(())}

    inputs = keras.Input((8,))
    net = compiled(make=lambda: Own(inputs, keras.layers.Dense(3)(inputs)))
    assert list(fit(net, tfr.TrainStep())) == ["loss", "more"]


@pytest.mark.parametrize("name", ["train_step", "compute_loss"])
def test_a_method_put_on_one_model_is_its_own(name):
    net = compiled()
    own = {
        "train_step": lambda data: {"loss": tf.constant(42.0)},
        "compute_loss": lambda x, y, y_pred, weight, training: keras.ops.sum(y_pred) * 0 + 42.0,
    }[name]
    object.__setattr__(net, name, own)
    assert int(fit(net, tfr.TrainStep())["loss"][0]) in (0, 42)  # 0: KERAS_FACTS 30


@pytest.mark.filterwarnings("ignore:The model does not have any trainable weights")
def test_a_model_that_is_frozen_whole_is_gone_through_as_in_keras():
    net = tiny.dense_model()
    net.trainable = False
    net.compile("sgd", tiny.loss())
    assert list(fit(net, tfr.TrainStep())) == ["loss"]


def test_ragged_data_are_refused_in_micro_batches():
    class Dense(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = keras.layers.Dense(1)

        def call(self, x):
            return self.out(x.to_tensor(shape=(None, 4)) if isinstance(x, tf.RaggedTensor) else x)

    net = Dense()
    net(np.zeros((1, 4), "float32"))
    net.compile("sgd", "mse")
    x = tf.ragged.constant([[1.0], [1.0, 2.0], [3.0]])
    batches = tf.data.Dataset.from_tensor_slices((x, np.ones((3, 1), "float32"))).batch(3)
    with pytest.raises(ValueError, match="dense tensors"):
        net.fit(batches, shuffle=False, verbose=0, callbacks=[tfr.MicroBatch(2)])


def test_nobody_is_promised_a_skip_that_keras_does_not_do(capsys):
    class Own(keras.Model):
        def train_step(self, data):
            return super().train_step(data)

    inputs = keras.Input((8,))
    fit(
        compiled("adam", make=lambda: Own(inputs, keras.layers.Dense(3)(inputs))),
        tfr.TrainStep(),
    )
    works, _, lost = capsys.readouterr().out.partition(";")
    assert "skip" not in works
    assert "skip" in lost


@pytest.mark.parametrize("name", ["apply", "update_step"])
def test_an_override_that_the_step_would_not_call_is_refused(name):
    with pytest.raises(TypeError, match="rule"):
        type("Mine", (tfr.SGD,), {name: lambda self, *a, **k: None})


# ------------------------------------------------------------------------------- stopping for good


def bad_in(steps, batch=4, count=6):
    """Data of `count` batches of which some hold a NaN."""
    x, y = tiny.data(batch * count)
    for step in steps:
        x[step * batch] = np.nan
    return x, y


@pytest.mark.parametrize("group", [1, 2, 3])
@pytest.mark.parametrize(
    ("arguments", "bad", "attempts", "updates"),
    [
        ({"on_nonfinite": "stop"}, (0,), 1, 0),
        ({"on_nonfinite": "stop"}, (1,), 2, 1),
        ({"max_bad_steps": 2}, (1, 2), 3, 1),
        ({"max_bad_steps": 2}, (0, 2, 4), 6, 3),
    ],
)
def test_a_run_stops_inside_a_call_of_several_steps(group, arguments, bad, attempts, updates):
    net = compiled(steps_per_execution=group)
    x, y = bad_in(bad)
    monitor = tfr.Monitor()
    net.fit(
        x,
        y,
        batch_size=4,
        shuffle=False,
        verbose=0,
        callbacks=[tfr.TrainStep(**arguments), monitor],
    )
    state = step_of(net).state
    assert int(state.attempts) == attempts
    assert int(net.optimizer.iterations) == updates
    assert int(state.overflows) == attempts - updates
    assert bool(step_of(net).stopped) == (attempts < 6)


def test_with_loss_scaling_stop_waits_for_the_smallest_scale():
    net = compiled(tfr.LossScaleOptimizer(tfr.SGD(0.1), initial_scale=4.0))
    x, y = bad_in(range(6))
    net.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[tfr.TrainStep("stop")])
    assert int(step_of(net).state.attempts) == 3  # at 4, at 2, at 1
    assert float(net.optimizer.dynamic_scale) == 1.0


def test_a_further_fit_counts_bad_steps_anew():
    net = compiled()
    for bad, stopped in ((range(6), True), ((0,), False)):
        x, y = bad_in(bad)
        net.fit(x, y, batch_size=4, shuffle=False, verbose=0, callbacks=[tfr.TrainStep("skip", 3)])
        assert bool(step_of(net).stopped) == stopped


@pytest.mark.parametrize(
    "callback", [lambda: tfr.MicroBatch(8), lambda: tfr.GradientAccumulation(2)]
)
def test_a_recipes_cut_and_a_callbacks_are_one_too_many(callback):
    recipe = tfr.Recipe.load("default").replace(**{"step.gradient_accumulation_steps": 2})
    net = tiny.dense_model()
    recipe.compile(net, 30, loss=tiny.loss())
    with pytest.raises(ValueError, match="once"):
        fit(net, callback())


def test_sparse_batches_cannot_be_joined_and_the_sentence_says_so():
    net = keras.Sequential([keras.Input((4,), sparse=True), keras.layers.Dense(2)])
    net.compile("sgd", "mse")
    x = tf.sparse.from_dense(np.eye(4, dtype="float32"))
    data = tf.data.Dataset.from_tensors((x, np.zeros((4, 2), "float32"))).repeat(2)
    with pytest.raises(ValueError, match="Received: SparseTensor"):
        net.fit(data, verbose=0, shuffle=False, callbacks=[tfr.GradientAccumulation(2)])


def test_a_call_of_more_steps_than_the_ring_has_rows_is_refused():
    net = compiled(steps_per_execution=5000)
    with pytest.raises(ValueError, match="Received: steps_per_execution=5000"):
        fit(net, tfr.Monitor())


class Late(keras.layers.Layer):
    """Has a layer that only training calls."""

    def __init__(self):
        super().__init__()
        self.extra = keras.layers.Dense(4, name="extra")

    def build(self, shape):
        """Nothing of it."""

    def call(self, x, training=False):
        return self.extra(x) if training else x


@pytest.mark.parametrize("callbacks", [[tfr.TrainStep()], [tfr.MicroBatch(4)]])
def test_weights_that_only_a_training_pass_makes_are_refused_in_one_sentence(callbacks):
    net = keras.Sequential([keras.Input((4,)), Late(), keras.layers.Dense(1)])
    net.compile("sgd", "mse", run_eagerly=True)
    x = np.ones((8, 4), "float32")
    with pytest.raises(ValueError, match=r"first training pass.*extra/kernel.*training=True"):
        net.fit(x, x[:, :1], verbose=0, callbacks=callbacks)
    again = keras.Sequential([keras.Input((4,)), Late(), keras.layers.Dense(1)])
    again(x, training=True)
    again.compile("sgd", "mse", run_eagerly=True)
    again.fit(x, x[:, :1], verbose=0, callbacks=callbacks)
