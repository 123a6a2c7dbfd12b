"""What Keras's own tests promise of optimizers and callbacks, held by our classes too."""

import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny

CLASSES = {"AdamW": tfr.AdamW, "Adam": tfr.Adam, "SGD": tfr.SGD}
every_class = pytest.mark.parametrize("cls", CLASSES.values(), ids=CLASSES)
GRADIENT = np.array([[1.0, 2.0], [3.0, 4.0]], "float32")


def variable():
    return keras.Variable(np.array([[1.0, 2.0], [3.0, 4.0]], "float32"))


def sgd(rate=1.0, **arguments):
    return tfr.SGD(rate, momentum=0.0, **arguments)


# -------------------------------------------------------------------------------------- optimizers


@every_class
def test_iterations_count_updates_by_apply_and_by_apply_gradients(cls):
    v, optimizer = variable(), cls(0.1)
    assert int(optimizer.iterations) == 0
    optimizer.apply_gradients([(tf.constant(GRADIENT), v)])
    optimizer.apply([tf.constant(GRADIENT)], [v])
    optimizer.apply([tf.constant(GRADIENT)])
    assert int(optimizer.iterations) == 3


@every_class
def test_no_gradient_at_all_is_an_error_and_one_missing_a_warning(cls):
    with pytest.raises(ValueError, match="depends on none of the 1 trainable weights"):
        cls(0.1).apply_gradients([(None, variable())])
    left, moved, optimizer = variable(), variable(), cls(0.1)
    with pytest.warns(UserWarning, match="does not depend on 1 of 2"):
        optimizer.apply_gradients([(None, left), (tf.constant(GRADIENT), moved)])
    assert np.array_equal(left.numpy(), variable().numpy())
    assert not np.array_equal(moved.numpy(), variable().numpy())


@every_class
def test_only_one_clip_may_be_set_and_each_is_kept(cls):
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        assert getattr(cls(0.1, **{name: 0.1}), name) == 0.1
    for other in ("clipvalue", "global_clipnorm"):
        with pytest.raises(ValueError, match="Only one of"):
            cls(0.1, **{"clipnorm": 0.1, other: 0.1})


@pytest.mark.parametrize(
    ("clip", "want"),
    [
        ({"clipnorm": 1.0}, [[0.6, 0.8], [0.0, 0.0]]),
        ({"global_clipnorm": 1.0}, [[0.6 / 2**0.5, 0.8 / 2**0.5], [0.0, 0.0]]),
        ({"clipvalue": 35.0}, [[30.0, 35.0], [0.0, 0.0]]),
    ],
)
def test_clips_are_kerass(clip, want):
    g = tf.constant([[30.0, 40.0], [0.0, 0.0]])
    ours, stock = [], []
    for optimizer, kept in ((sgd(**clip), ours), (keras.optimizers.SGD(1.0, **clip), stock)):
        first, second = keras.Variable(np.zeros((2, 2))), keras.Variable(np.zeros((2, 2)))
        optimizer.apply([g, g], [first, second])
        kept += [first.numpy(), second.numpy()]
    np.testing.assert_allclose(ours, stock, rtol=1e-6)
    np.testing.assert_allclose(ours[0], -np.array(want), rtol=1e-6)


def test_a_static_loss_scale_multiplies_the_loss_and_divides_the_gradient():
    v, optimizer = variable(), sgd(loss_scale_factor=1024.0)
    optimizer.apply([tf.constant(GRADIENT * 1024)], [v])
    assert float(optimizer.scale_loss(1.0)) == 1024.0
    assert v.numpy().tolist() == [[0, 0], [0, 0]]


@every_class
def test_constraints_hold_after_the_update(cls):
    v = keras.Variable(np.array([-0.5, 0.5], "float32"))
    v.constraint = keras.constraints.NonNeg()
    cls(1e-3).apply([tf.zeros(2)], [v])
    assert v.numpy().min() == 0.0


@every_class
def test_state_goes_over_by_set_weights_once_built(cls):
    v, first, second = variable(), cls(0.1), cls(0.1)
    first.apply([tf.constant(GRADIENT)], [v])
    with pytest.raises(ValueError, match="You are calling"):
        second.set_weights(first.variables)
    second.build([v])
    second.set_weights(first.variables)
    for a, b in zip(first.variables, second.variables, strict=True):
        assert np.array_equal(a.numpy(), b.numpy())


@every_class
def test_an_optimizer_can_be_pickled_and_cloned(cls):
    for optimizer in (cls(0.1), tfr.LossScaleOptimizer(cls(tfr.InverseSqrt(0.1, 4)))):
        again = pickle.loads(pickle.dumps(optimizer))
        assert again.get_config() == optimizer.get_config()
        assert type(again) is type(optimizer)


@every_class
def test_tf_train_checkpoint_restores_model_and_optimizer(cls, tmp_path):
    net = tiny.dense_model()
    net.compile(cls(1e-2), tiny.loss())
    x, y = tiny.data(16)
    net.train_on_batch(x, y)
    checkpoint = tf.train.Checkpoint(model=net, optimizer=net.optimizer)
    before = [v.numpy() for v in (*net.variables, *net.optimizer.variables)]
    path = checkpoint.save(str(tmp_path / "c"))
    net.train_on_batch(x, y)
    checkpoint.restore(path)
    for v, value in zip((*net.variables, *net.optimizer.variables), before, strict=True):
        assert np.array_equal(v.numpy(), value)


@every_class
def test_a_tf_variable_is_updated_beside_a_keras_one(cls):
    v, plain, optimizer = variable(), tf.Variable(variable().numpy(), name="plain"), cls(0.1)
    optimizer.apply_gradients([(tf.constant(GRADIENT), v), (tf.constant(GRADIENT), plain)])
    assert int(optimizer.iterations) == 1
    np.testing.assert_array_equal(plain.numpy(), v.numpy())


@every_class
def test_names_are_made_as_keras_makes_them_and_kept(cls):
    first, second, named = cls(0.1), cls(0.1), cls(0.1, name="mine")
    assert second.name == f"{first.name}_1"
    for optimizer in (second, named):
        again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
        assert again.name == optimizer.name
        assert type(again) is cls


@every_class
def test_weight_decay_moves_weights_without_a_gradient_and_spares_the_excluded(cls):
    decayed, spared = variable(), variable()
    optimizer = cls(0.5, weight_decay=0.1, exclude=())
    optimizer.exclude_from_weight_decay(var_list=[spared])
    optimizer.apply([tf.zeros((2, 2)), tf.zeros((2, 2))], [decayed, spared])
    np.testing.assert_allclose(decayed.numpy(), variable().numpy() * 0.95, rtol=1e-6)
    assert np.array_equal(spared.numpy(), variable().numpy())


# ------------------------------------------------------------------------------------------- rates


def test_a_rate_may_be_a_function_and_is_asked_at_every_step():
    rates = tf.Variable(0.5)
    v, optimizer = variable(), sgd(rates.read_value)
    apply = tf.function(lambda g: optimizer.apply([g], [v]))
    apply(tf.constant(GRADIENT))
    assert v.numpy().tolist() == (variable().numpy() - 0.5 * GRADIENT).tolist()
    rates.assign(0.0)
    apply(tf.constant(GRADIENT))
    assert v.numpy().tolist() == (variable().numpy() - 0.5 * GRADIENT).tolist()
    assert float(optimizer.learning_rate) == 0.0


@every_class
def test_a_schedule_in_place_of_a_float_takes_the_rates_variable_away(cls):
    optimizer = cls(0.1)
    count = len(optimizer.variables)
    optimizer.learning_rate = tfr.WarmupConstant(0.1)
    assert len(optimizer.variables) == count - 1
    assert float(optimizer.learning_rate) == pytest.approx(0.1)


class Rates(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(float(self.model.optimizer.learning_rate))


def program(optimizer, callbacks, epochs=3, **changes):
    """One weight whose gradient is 1, so that its moves are the rates; two batches an epoch."""
    inputs = keras.Input((1,))
    net = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    net.compile(optimizer, loss=lambda y, p: p)
    seen = [float(net.get_weights()[0][0, 0])]
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(net.get_weights()[0][0, 0]))
    )
    x = np.ones((2, 1), "float32")
    arguments = {"batch_size": 1, "epochs": epochs, "shuffle": False, "verbose": 0} | changes
    history = net.fit(x, x, callbacks=[keep, *callbacks], **arguments)
    return net, list(-np.diff(seen)), history.history


STEPS = {"stock step": lambda: [], "our step": lambda: [tfr.TrainStep()]}
either_step = pytest.mark.parametrize("ours", STEPS.values(), ids=STEPS)
close = {"rtol": 0, "atol": 5e-7}  # of weights of order 1


@either_step
def test_learning_rate_scheduler_sets_float_rates_after_tracing(ours):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    net, moves, history = program(sgd(0.4), [scheduler, *ours()])
    np.testing.assert_allclose(moves, [0.2, 0.2, 0.1, 0.1, 0.05, 0.05], **close)
    assert float(net.optimizer.learning_rate) == pytest.approx(0.05)
    np.testing.assert_allclose(history["learning_rate"], [0.2, 0.1, 0.05])


@either_step
def test_reduce_lr_on_plateau_sets_float_rates_after_tracing(ours):
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor="loss", patience=1, factor=0.1, min_delta=100, min_lr=0.002
    )
    _, moves, _ = program(sgd(0.1), [plateau, *ours()], epochs=4)
    np.testing.assert_allclose(moves, [0.1] * 4 + [0.01] * 2 + [0.002] * 2, **close)


@pytest.mark.parametrize("wrapper", [tfr.LossScaleOptimizer, keras.optimizers.LossScaleOptimizer])
def test_a_rate_that_a_callback_sets_reaches_through_a_loss_scale_wrapper(wrapper):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    optimizer = wrapper(sgd(0.4), initial_scale=4.0)
    _, moves, _ = program(optimizer, [scheduler, tfr.TrainStep()], epochs=2)
    np.testing.assert_allclose(moves, [0.2, 0.2, 0.1, 0.1], **close)


@either_step
def test_a_rate_that_a_callback_sets_beside_a_schedule_is_refused(ours):
    scheduler = keras.callbacks.LearningRateScheduler(lambda epoch, rate: rate / 2)
    # Keras's sentence in a stock step; ours may come before it.
    with pytest.raises((TypeError, ValueError), match=r"[Ss]chedule"):
        program(sgd(tfr.WarmupConstant(0.1)), [scheduler, *ours()])


@either_step
def test_a_float_rate_set_between_two_fits_holds(ours):
    net, _, _ = program(sgd(0.4), ours(), epochs=1)
    x = np.ones((1, 1), "float32")
    for rate in (0.25, 0.5):
        net.optimizer.learning_rate = rate
        before = net.get_weights()[0]
        net.fit(x, x, verbose=0, callbacks=ours())
        np.testing.assert_allclose(before - net.get_weights()[0], rate, **close)


@either_step
def test_a_fit_of_a_stock_schedule_takes_its_rates_in_order(ours):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.4, decay_steps=1, decay_rate=0.5)
    net, moves, _ = program(sgd(schedule), ours(), epochs=2)
    np.testing.assert_allclose(moves, [0.4, 0.2, 0.1, 0.05], **close)
    assert int(net.optimizer.iterations) == 4


# ---------------------------------------------------------------------------------------- averages


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("scaled", [False, True], ids=["float32", "loss scale"])
def test_what_validation_said_last_evaluate_says_and_the_checkpoint_holds(tmp_path, jit, scaled):
    optimizer = keras.optimizers.SGD(0.1)
    net = tiny.model()
    net.compile(
        tfr.LossScaleOptimizer(optimizer) if scaled else optimizer, tiny.loss(), jit_compile=jit
    )
    checkpoint = keras.callbacks.ModelCheckpoint(str(tmp_path / "{epoch}.keras"))
    x, y = tiny.data(64)
    history = net.fit(
        x, y, epochs=2, validation_data=(x, y), verbose=0, callbacks=[tfr.EMA(0.9), checkpoint]
    )
    score = net.evaluate(x, y, verbose=0)
    assert score == history.history["val_loss"][-1]
    assert keras.saving.load_model(tmp_path / "2.keras").evaluate(x, y, verbose=0) == score
