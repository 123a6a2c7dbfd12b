"""Faults of stock Keras that show on one device."""

import math
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tests.keras_faults.table import Table, refusal
from tfrecipes.step.installed import step_of
from tfrecipes.training.data import batches

TABLE = Table()
row = TABLE.row


def step(ours):
    return [tfr.TrainStep()] if ours else []


def near(a, b, tolerance=1e-6):
    return all(
        np.linalg.norm(p - q) <= tolerance * np.linalg.norm(q)
        for p, q in zip(a.get_weights(), b.get_weights(), strict=True)
    )


def finite(net):
    return all(np.isfinite(w).all() for w in net.get_weights())


def one_weight(optimizer, callbacks, steps, epochs=1, **compiling):
    """A weight that begins at 0 and whose gradient is 1 in every batch."""
    net = keras.Sequential(
        [keras.Input((1,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    net.compile(optimizer, lambda y_true, y_pred: y_pred[:, 0], **compiling)
    x = np.ones((steps, 1), "float32")
    net.fit(x, x, batch_size=1, epochs=epochs, shuffle=False, verbose=0, callbacks=callbacks)
    return net


class Steps(keras.callbacks.Callback):
    """What a function of the model gives after every batch."""

    def __init__(self, look):
        super().__init__()
        self.look, self.seen = look, []

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(self.look(self.model))


# ------------------------------------------------------------------------------------ loss scaling


def loss_scaler(ours, inner=None, **changes):
    library = tfr if ours else keras.optimizers
    return library.LossScaleOptimizer(inner or keras.optimizers.SGD(0.1), **changes)


def applied(optimizer, gradient, times):
    weight = keras.Variable([1.0])
    optimizer.build([weight])

    @tf.function
    def apply(g):
        optimizer.apply([g], [weight])

    for _ in range(times):
        apply(tf.constant([gradient]))
    return weight, apply


@row(3)
def a_loss_scale_has_a_floor(ours, folder):
    optimizer = loss_scaler(ours)
    weight, apply = applied(optimizer, np.inf, 180)
    apply(tf.zeros(1))  # 0 / 0 where the scale is 0
    assert float(optimizer.dynamic_scale) >= 1
    assert np.isfinite(weight.numpy()).all()


@row(3)
def a_loss_scale_has_a_ceiling(ours, folder):
    optimizer = loss_scaler(ours, dynamic_growth_steps=1)
    applied(optimizer, 0.0, 40)
    assert float(optimizer.dynamic_scale) <= 2.0**24


@row(37)
def a_file_of_float16_keeps_its_loss_scale_under_another_policy(ours, folder):
    keras.config.set_dtype_policy("mixed_float16")
    net = tiny.dense_model()
    optimizer = tfr.LossScaleOptimizer(tfr.AdamW(1e-2)) if ours else keras.optimizers.AdamW(1e-2)
    tiny.fit(net, optimizer)
    net.save(folder / "m.keras")
    keras.config.set_dtype_policy("float32")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = keras.saving.load_model(folder / "m.keras").optimizer
    assert isinstance(loaded, keras.optimizers.LossScaleOptimizer)
    assert int(loaded.iterations) == int(net.optimizer.iterations) > 0


@row(38)
def a_train_step_that_does_not_scale_its_loss_is_refused_under_loss_scaling(ours, folder):
    class OwnStep(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"own": loss}

    inputs = keras.Input((8,))
    net = OwnStep(inputs, keras.layers.Dense(3)(inputs))
    before = net.get_weights()
    said = refusal(lambda: tiny.fit(net, loss_scaler(ours), step(ours)))
    moved = np.abs(net.get_weights()[0] - before[0]).max()
    assert "scale_loss" in said or moved > 1e-3


# ------------------------------------------------------------------------------ clip, accumulation


@row(5)
def duplicate_rows_of_an_embedding_are_merged_before_the_clip(ours, folder):
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Embedding(3, 2), keras.layers.Flatten()]
    )
    net.compile(
        keras.optimizers.SGD(1.0, global_clipnorm=0.5), lambda y, p: keras.ops.sum(p, axis=-1)
    )
    before = net.get_weights()[0]
    net.fit(np.zeros((1, 4), "int32"), np.zeros((1, 1)), verbose=0, callbacks=step(ours))
    moved = np.linalg.norm(net.get_weights()[0] - before)
    assert moved == pytest.approx(0.5, rel=1e-6)


@row(6)
def an_average_moves_once_an_update_under_accumulation(ours, folder):
    def look(net):
        if ours:
            average = step_of(net).state.averages[0].numpy()
        else:
            average = net.optimizer._model_variables_moving_average[0].numpy()
        return (
            float(average[0, 0]),
            float(net.get_weights()[0][0, 0]),
            int(net.optimizer.iterations),
        )

    watch = Steps(look)
    if ours:
        callbacks = [tfr.GradientAccumulation(2), tfr.EMA(0.9, warmup=False), watch]
        one_weight(keras.optimizers.SGD(0.1), callbacks, 8)
    else:
        optimizer = keras.optimizers.SGD(
            0.1, use_ema=True, ema_momentum=0.9, gradient_accumulation_steps=2
        )
        one_weight(optimizer, [watch], 8)
    by_update = {}
    for average, weight, updates in watch.seen:
        by_update.setdefault(updates, (average, weight))
    (before, _), (after, weight) = by_update[3], by_update[4]
    assert after == pytest.approx(0.9 * before + 0.1 * weight, rel=1e-6)


@row(7)
def a_schedule_counts_updates_under_accumulation(ours, folder):
    rate = keras.optimizers.schedules.PolynomialDecay(
        1.0, 10, end_learning_rate=0.0
    )  # 1, .9, .8, .7
    if ours:
        net = one_weight(keras.optimizers.SGD(rate), [tfr.GradientAccumulation(2)], 8)
    else:
        net = one_weight(keras.optimizers.SGD(rate, gradient_accumulation_steps=2), [], 8)
    assert net.get_weights()[0][0, 0] == pytest.approx(-3.4, rel=1e-6)


def accumulated(ours, steps, **fitting):
    net = tiny.dense_model()
    if ours:
        tiny.fit(net, keras.optimizers.SGD(0.1), [tfr.GradientAccumulation(steps)], **fitting)
    else:
        tiny.fit(net, keras.optimizers.SGD(0.1, gradient_accumulation_steps=steps), **fitting)
    return net


@row(8)
def unequal_micro_batches_give_the_whole_batch(ours, folder):
    whole = tiny.dense_model()
    tiny.fit(whole, data=tiny.data(100), batch_size=100, epochs=1)
    parts = accumulated(ours, 4, data=tiny.data(100), batch_size=32, epochs=1)  # 32, 32, 32, 4
    assert near(parts, whole)


@row(9)
def the_last_partial_window_is_applied(ours, folder):
    whole = tiny.dense_model()
    tiny.fit(whole, data=tiny.data(40), batch_size=16, epochs=2)  # 16, 16, 8
    parts = accumulated(ours, 2, data=tiny.data(40), batch_size=8, epochs=2)
    assert near(parts, whole)


# ---------------------------------------------------------------------------------------- averages


def averaging(ours, decay=0.9, **swapping):
    """An optimizer and callbacks that keep an average."""
    if ours:
        return keras.optimizers.SGD(0.1), [tfr.EMA(decay)]
    swap = keras.callbacks.SwapEMAWeights(**swapping)
    return keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=decay), [swap]


@row(11)
def a_swap_is_an_exact_copy(ours, folder):
    plain, with_average = Steps(tiny.weights), Steps(tiny.weights)
    tiny.fit(tiny.dense_model(), keras.optimizers.SGD(0.1), [plain], epochs=3)
    optimizer, callbacks = averaging(ours, swap_on_epoch=True)
    tiny.fit(tiny.dense_model(), optimizer, [*callbacks, with_average], epochs=3)
    for raw, other in zip(plain.seen, with_average.seen, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(raw, other, strict=True))


@row(11)
def predicting_leaves_the_weights_as_they_were(ours, folder):
    net = tiny.dense_model()
    optimizer, callbacks = averaging(ours)
    tiny.fit(net, optimizer, callbacks)
    x, _ = tiny.data()
    if not ours:
        net.set_weights([w + 1.0 for w in net.get_weights()])  # away from the average
    before = net.get_weights()
    net.predict(x, verbose=0, callbacks=[] if ours else callbacks)
    assert all(np.array_equal(a, b) for a, b in zip(net.get_weights(), before, strict=True))


@row(12)
def the_saved_best_is_what_validation_saw(ours, folder):
    net, validation = tiny.dense_model(), tiny.data(64, seed=1)
    optimizer, callbacks = averaging(ours)
    best = keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True)
    history = tiny.fit(net, optimizer, [*callbacks, best], validation_data=validation)
    saved = keras.saving.load_model(folder / "best.keras")
    loss = saved.evaluate(*validation, verbose=0)
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-6)


@row(12)
def the_restored_best_is_what_validation_saw(ours, folder):
    net, validation = tiny.dense_model(), tiny.data(64, seed=1)
    optimizer, callbacks = averaging(ours)
    # `start_from_epoch=0` with patience 0: training ends at the first epoch that is no better.
    stop = keras.callbacks.EarlyStopping(patience=1, restore_best_weights=True, mode="max")
    history = tiny.fit(net, optimizer, [*callbacks, stop], validation_data=validation, epochs=4)
    loss = net.evaluate(*validation, verbose=0)
    assert loss == pytest.approx(max(history.history["val_loss"]), rel=1e-6)


@row(13)
def an_average_of_a_short_run_has_forgotten_its_start(ours, folder):
    start, raw, net = (tiny.dense_model() for _ in range(3))
    tiny.fit(raw, epochs=10)
    optimizer, callbacks = averaging(ours, decay=0.999)
    tiny.fit(net, optimizer, callbacks, epochs=10)
    start.compile(loss=tiny.loss())
    first, last, have = (one.evaluate(*tiny.data(), verbose=0) for one in (start, raw, net))
    assert have - last < 0.3 * (first - last)


@row(13)
def statistics_of_batch_norm_are_averaged_along(ours, folder):
    watch = Steps(lambda net: net.get_layer("norm").moving_mean.numpy())
    tiny.fit(tiny.model(), keras.optimizers.SGD(0.1), [watch])
    net = tiny.model()
    optimizer, callbacks = averaging(ours, decay=0.5)
    tiny.fit(net, optimizer, callbacks)
    average = np.zeros(16)
    for n, value in enumerate(watch.seen):
        decay = min(0.5, (1 + n) / (10 + n))
        average = decay * average + (1 - decay) * value
    np.testing.assert_allclose(net.get_layer("norm").moving_mean.numpy(), average, rtol=1e-5)


@row(13)
def the_model_after_fit_is_the_one_that_was_validated(ours, folder):
    net, validation = tiny.dense_model(), tiny.data(64, seed=1)
    optimizer, callbacks = averaging(ours, decay=0.9)
    # As Keras's `use_ema` stands alone: nobody told of the callback that swaps.
    history = tiny.fit(net, optimizer, callbacks if ours else [], validation_data=validation)
    loss = net.evaluate(*validation, verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-6)


# --------------------------------------------------------------------------------- decay, schedules


def biases_kept(optimizer):
    """Whether an update by zero gradients leaves the biases of a model as they are."""
    net = tiny.dense_model()
    biases = [v for v in net.trainable_variables if v.path.endswith("bias")]
    for bias in biases:
        bias.assign(np.ones(bias.shape))
    optimizer.apply([tf.zeros(v.shape) for v in net.trainable_variables], net.trainable_variables)
    return all((bias.numpy() == 1).all() for bias in biases)


def without_biases(ours):
    if ours:
        return tfr.AdamW(0.1, weight_decay=0.5)
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.5)
    optimizer.exclude_from_weight_decay(var_names=["bias"])
    return optimizer


@row(14)
def what_does_not_decay_is_in_the_config(ours, folder):
    optimizer = without_biases(ours)
    assert biases_kept(optimizer)
    assert biases_kept(type(optimizer).from_config(optimizer.get_config()))


@row(14)
def a_rule_after_build_is_refused(ours, folder):
    optimizer = (tfr if ours else keras.optimizers).AdamW(0.1)
    optimizer.build(tiny.dense_model().trainable_variables)
    assert refusal(lambda: optimizer.exclude_from_weight_decay(var_names=["bias"]))


@row(35)
def a_schedule_that_takes_a_numbers_place_is_used(ours, folder):
    net = tiny.dense_model()
    tiny_fit = {"batch_size": 32, "verbose": 0, "shuffle": False, "callbacks": step(ours)}
    net.compile(keras.optimizers.SGD(0.1), tiny.loss())
    net.fit(*tiny.data(), **tiny_fit)
    before = net.get_weights()
    net.optimizer.learning_rate = keras.optimizers.schedules.ExponentialDecay(0.0, 1, 1.0)
    net.fit(*tiny.data(), **tiny_fit)
    assert all(np.array_equal(a, b) for a, b in zip(net.get_weights(), before, strict=True))


def refused_beside_a_schedule(ours, callback):
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.9)
    with pytest.raises(ValueError, match="schedule"):
        tiny.fit(tiny.dense_model(), keras.optimizers.SGD(schedule), [*step(ours), callback])


@row(36, raises=TypeError)
def a_scheduler_beside_a_schedule_is_refused_in_a_sentence(ours, folder):
    refused_beside_a_schedule(ours, keras.callbacks.LearningRateScheduler(lambda epoch: 0.1))


@row(36, raises=pytest.fail.Exception)
def a_plateau_rule_beside_a_schedule_is_refused_at_once(ours, folder):
    # Stock Keras says nothing before the first reduction, which these two epochs do not reach.
    refused_beside_a_schedule(ours, keras.callbacks.ReduceLROnPlateau("loss", patience=10))


def warmed_up(ours, peak, total, warmup):
    if ours:
        return tfr.WarmupCosine(peak, total, warmup_steps=warmup)
    return keras.optimizers.schedules.CosineDecay(peak, total, warmup_steps=warmup)


@row(41)
def warmup_steps_warm_up(ours, folder):
    schedule = warmed_up(ours, 0.1, 100, 10)
    assert [round(float(schedule(t)), 6) for t in (0.0, 5.0)] == [0.0, 0.05]


@row(41)
def the_total_includes_the_warmup(ours, folder):
    schedule = (
        tfr.WarmupCosine(0.1, 100, warmup_steps=50)
        if ours
        else keras.optimizers.schedules.CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=50)
    )
    assert float(schedule(100.0)) == pytest.approx(0.0, abs=1e-9)


@row(41, raises=tf.errors.InvalidArgumentError)
def a_rate_may_be_a_python_integer(ours, folder):
    schedule = (
        tfr.WarmupCosine(1, 100, warmup_steps=10, end_learning_rate=0)
        if ours
        else keras.optimizers.schedules.CosineDecay(0, 90, warmup_target=1.0, warmup_steps=10)
    )
    assert float(schedule(5)) == 0.5


@row(42)
def an_optimizer_that_evaluates_another_point_is_refused(ours, folder):
    net, optimizer = tiny.dense_model(), keras.optimizers.ScheduleFreeAdamW(0.1)
    if "ScheduleFree" in refusal(lambda: tiny.fit(net, optimizer, step(ours))):
        return
    for y, z in zip(net.trainable_variables, optimizer._momentums, strict=True):
        x = (y.numpy() - (1 - optimizer.beta_1) * z.numpy()) / optimizer.beta_1
        np.testing.assert_allclose(y.numpy(), x, rtol=1e-4)


# ------------------------------------------------------------------------------------- data, losses


@row(19)
def a_seeded_order_differs_from_epoch_to_epoch(ours, folder):
    seen = []

    class Recorder(keras.layers.Layer):
        def call(self, x):
            if tf.executing_eagerly() and x.shape[0]:
                seen.append(x.numpy()[:, 0])
            return x

    x = np.arange(64, dtype="float32")[:, None]
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.Input((1,)), Recorder(), keras.layers.Dense(1)])
    net.compile("sgd", "mse", run_eagerly=True)
    seen.clear()
    if ours:
        data = batches(x, x, batch_size=32, seed=0)
        net.fit(
            data.dataset, steps_per_epoch=data.steps_per_epoch, epochs=2, shuffle=False, verbose=0
        )
    else:
        net.fit(x, x, batch_size=32, epochs=2, verbose=0)
    orders = np.concatenate([s for s in seen if len(s) == 32]).reshape(2, 64)
    assert all(sorted(order) == list(range(64)) for order in orders)
    assert not np.array_equal(*orders)


@row(39, raises=TypeError)
def integer_labels_are_smoothed(ours, folder):
    loss = (
        tfr.SmoothedCrossentropy(0.1, from_logits=True)
        if ours
        else keras.losses.SparseCategoricalCrossentropy(from_logits=True, label_smoothing=0.1)
    )
    x, y = tiny.data()
    net = tiny.dense_model()
    logits = net(x)
    smoothed = 0.9 * tiny.one_hot(y) + 0.1 / 3
    assert float(loss(y, logits)) == pytest.approx(
        float(keras.losses.CategoricalCrossentropy(from_logits=True)(smoothed, logits)), rel=1e-6
    )


@row(39)
def a_loss_is_not_smoothed_in_evaluation(ours, folder):
    x, y = tiny.data()
    net = tiny.dense_model()
    plain = float(tiny.loss()(y, net(x)))
    smoothing = tfr.SmoothedCrossentropy if ours else keras.losses.CategoricalCrossentropy
    net.compile("sgd", smoothing(label_smoothing=0.1, from_logits=True))
    assert net.evaluate(x, tiny.one_hot(y), verbose=0) == pytest.approx(plain, rel=1e-6)


@row(40)
def class_weights_of_soft_labels_are_refused(ours, folder):
    x, y = tiny.data()
    soft = 0.6 * tiny.one_hot(y) + 0.4 * tiny.one_hot(y[::-1])
    loss, weights = keras.losses.CategoricalCrossentropy(from_logits=True), {0: 5.0}
    net = tiny.dense_model()

    def fit():
        if ours:
            recipe, run = tfr.Recipe.load("tiny"), folder / "run"
            recipe.fit(net, (x, soft), loss=loss, class_weight=weights, directory=run, verbose=0)
        else:
            net.compile("sgd", loss)
            net.fit(x, soft, class_weight=weights, verbose=0)

    # Or the largest entry was taken for the class.
    assert "soft labels" in refusal(fit)


# ------------------------------------------------------------------------------------- what is seen


@row(29)
def a_spike_in_the_loss_is_seen_at_its_step(ours, folder):
    x, y = np.ones((100, 1), "float32"), np.ones((100, 1), "float32")
    y[90] = 10.0
    net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, kernel_initializer="ones")])
    net.compile(keras.optimizers.SGD(0.0), "mean_absolute_error")

    class LossOfEachBatch(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.losses = []

        def on_train_batch_end(self, batch, logs=None):
            self.losses.append(logs["loss"])

    watch = LossOfEachBatch()
    if ours:
        monitor = tfr.Monitor(folder / "run")
        net.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[monitor])
        losses = np.genfromtxt(folder / "run" / "steps.csv", delimiter=",", names=True)["loss"]
    else:
        net.fit(x, y, batch_size=1, shuffle=False, verbose=0, callbacks=[watch])
        losses = watch.losses
    assert losses[90] == pytest.approx(9.0, rel=1e-5)


@row(29)
def the_learning_rate_is_in_history(ours, folder):
    history = tiny.fit(tiny.dense_model(), callbacks=[tfr.Monitor()] if ours else [])
    assert "learning_rate" in history.history


@row(30)
def a_train_step_that_returns_its_loss_shows_it(ours, folder):
    class OwnStep(keras.Model):
        def train_step(self, data):
            x, y = data
            with tf.GradientTape() as tape:
                loss = self.compute_loss(y=y, y_pred=self(x, training=True))
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply(gradients, self.trainable_variables)
            return {"loss": loss}

    inputs = keras.Input((8,))
    history = tiny.fit(OwnStep(inputs, keras.layers.Dense(3)(inputs)), callbacks=step(ours))
    assert min(history.history["loss"]) > 0.1


@row(31)
def endless_data_get_as_many_updates_as_asked(ours, folder):
    x, y = tiny.data(8)
    data = tf.data.Dataset.from_tensors((x, y)).repeat()
    net = tiny.dense_model()
    net.compile(keras.optimizers.SGD(0.1), tiny.loss(), steps_per_execution=4)

    net.fit(data, steps_per_epoch=10, shuffle=False, verbose=0, callbacks=step(ours))
    assert int(net.optimizer.iterations) == 10


# --------------------------------------------------------------------------------------- not finite


def with_nan(step=1, batch=32, samples=96):
    x, y = tiny.data(samples)
    x[step * batch] = np.nan
    return x, y


@row(32)
def a_checkpoint_never_holds_weights_that_are_not_finite(ours, folder):
    guard = [tfr.TrainStep()] if ours else [keras.callbacks.TerminateOnNaN()]
    save = keras.callbacks.ModelCheckpoint(folder / "m.keras")
    tiny.fit(tiny.dense_model(), callbacks=[*guard, save], data=with_nan(step=2))
    assert finite(keras.saving.load_model(folder / "m.keras"))


@row(32)
def one_overflow_does_not_stop_a_run_with_loss_scaling(ours, folder):
    net = tiny.dense_model()
    callbacks = [*step(ours), keras.callbacks.TerminateOnNaN()]
    tiny.fit(net, loss_scaler(ours), callbacks, data=with_nan())
    assert int(net.optimizer.iterations) == 4


@row(33)
def a_bad_step_in_the_first_epoch_does_not_spoil_the_best(ours, folder):
    best = keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True)
    history = tiny.fit(
        tiny.dense_model(),
        callbacks=[*step(ours), best],
        data=with_nan(),
        validation_data=tiny.data(64, seed=1),
        epochs=3,
    )
    losses = history.history["val_loss"]
    saved = keras.saving.load_model(folder / "best.keras").evaluate(
        *tiny.data(64, seed=1), verbose=0
    )
    assert all(map(math.isfinite, losses))
    assert saved == pytest.approx(min(losses), rel=1e-6)


@row(33)
def a_first_validation_that_is_no_number_is_the_best_of_nothing(ours, folder):
    net = tiny.dense_model()
    x, y = tiny.data(64, seed=1)

    class Broken(keras.callbacks.Callback):
        """A first validation of which nothing can be said, as of a divergence that recovers."""

        def on_epoch_end(self, epoch, logs=None):
            logs["val_loss"] = float("nan") if epoch == 0 else logs["val_loss"]

    best = keras.callbacks.ModelCheckpoint(folder / "best.keras", save_best_only=True)
    early = keras.callbacks.EarlyStopping("val_loss", patience=2, restore_best_weights=True)
    history = tiny.fit(
        net,
        callbacks=[*step(ours), Broken(), best, early],
        data=tiny.data(),
        validation_data=(x, y),
        epochs=4,
    )
    losses = history.history["val_loss"]
    assert len(losses) == 4
    assert net.evaluate(x, y, verbose=0) == pytest.approx(min(losses[1:]), rel=1e-6)
    saved = keras.saving.load_model(folder / "best.keras")
    assert saved.evaluate(x, y, verbose=0) == pytest.approx(min(losses[1:]), rel=1e-6)


@row(34)
def one_gradient_that_is_no_number_does_not_spoil_every_weight(ours, folder):
    net = tiny.dense_model()
    optimizer = keras.optimizers.SGD(0.1, global_clipnorm=1.0)
    tiny.fit(net, optimizer, step(ours), data=with_nan())
    assert finite(net)


# ------------------------------------------------------------------------- each row, both ways


@TABLE.ours()
def test_ours_is_right(check, tmp_path):
    check(True, tmp_path)


@TABLE.stock()
def test_stock_keras_is_wrong(check, tmp_path):
    check(False, tmp_path)
