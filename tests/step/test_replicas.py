"""Two replicas give one device's run: reduce, clip, verdict, statistics, uneven batches."""

import contextlib

import keras
import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny
from tests.strategies import mirrored
from tfrecipes.step.installed import step_of
from tfrecipes.step.keras_seams import local

# Sums in another order; measured 1.5e-7 after 9 steps.
SAME = 1e-6


def distance(a, b):
    return max(
        float(np.linalg.norm(p - q) / max(np.linalg.norm(q), 1e-12))
        for p, q in zip(a.get_weights(), b.get_weights(), strict=True)
    )


def run(scope, callbacks, optimizer, make=tiny.dense_model, loss=tiny.loss, **changes):
    with scope:
        net = make()
        net.compile(optimizer(), loss(), metrics=["accuracy"])
    x, y = changes.pop("data", None) or tiny.data(103)
    arguments = {"batch_size": 40, "epochs": 3, "shuffle": False, "verbose": 0} | changes
    return net, net.fit(x, y, callbacks=callbacks, **arguments).history


def both(callbacks, optimizer, **changes):
    one = run(contextlib.nullcontext(), callbacks(), optimizer, **changes)
    two = run(mirrored().scope(), callbacks(), optimizer, **changes)
    return one, two


def ours(**changes):
    return tfr.AdamW(1e-2, weight_decay=0.1, global_clipnorm=0.5, **changes)


@pytest.mark.parametrize(
    ("callbacks", "optimizer"),
    [
        (lambda: [tfr.TrainStep()], ours),
        (lambda: [tfr.MicroBatch(7), tfr.EMA(0.9), tfr.Monitor()], ours),
        (lambda: [tfr.TrainStep()], lambda: keras.optimizers.Nadam(1e-2, global_clipnorm=0.5)),
        (
            lambda: [tfr.MicroBatch(9)],
            lambda: keras.optimizers.AdamW(1e-2, weight_decay=0.1, clipnorm=0.3),
        ),
        (lambda: [tfr.TrainStep()], lambda: tfr.LossScaleOptimizer(ours())),
        (lambda: [tfr.TrainStep()], lambda: keras.optimizers.LossScaleOptimizer(ours())),
    ],
)
def test_two_replicas_give_one_devices_weights_and_history(callbacks, optimizer):
    (one, first), (two, second) = both(callbacks, optimizer)
    assert distance(two, one) < SAME
    assert list(first) == list(second)
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(second[name], first[name], rtol=1e-6)
    if "grad_norm" in first:
        for name in ("grad_norm", "update_norm", "samples", "step", "clipped"):
            np.testing.assert_allclose(second[name], first[name], rtol=1e-5, err_msg=name)


def test_accumulation_joins_each_replicas_own_batches():
    (one, _), (two, _) = both(lambda: [tfr.GradientAccumulation(3)], ours, batch_size=20)
    assert distance(two, one) < SAME
    assert int(local(two.optimizer.iterations)) == int(one.optimizer.iterations) == 6


@pytest.mark.parametrize("batch", [103, 51])
def test_uneven_batches_are_exact_a_first_one_and_one_of_a_single_sample_too(batch):
    # 103: 52 and 51 at once. 51, 51, 1: the second replica gets nothing at the end.
    (one, first), (two, second) = both(lambda: [tfr.TrainStep()], ours, batch_size=batch)
    assert distance(two, one) < SAME
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-6)


def test_a_replica_without_samples_leaves_batch_norm_alone():
    net, history = run(mirrored().scope(), [tfr.TrainStep()], ours, make=tiny.model, batch_size=51)
    assert np.isfinite(history["loss"]).all()
    assert all(np.isfinite(w).all() for w in tiny.weights(net))
    assert int(local(step_of(net).state.overflows)) == 0


def test_batch_norm_statistics_agree_on_every_replica_and_dropout_masks_differ():
    class Keeps(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.dropout = keras.layers.Dropout(0.5, seed=3)

        def call(self, x, training=None):
            dropped = self.dropout(keras.ops.ones_like(x), training=training)
            self.mask.assign(dropped[:1] if training else self.mask)
            return x * dropped

        def build(self, shape):
            self.mask = self.add_weight(shape=(1, shape[-1]), initializer="zeros", trainable=False)

    with mirrored().scope():
        net = keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.BatchNormalization(),
                keras.layers.Dense(32),
                Keeps(),
                keras.layers.Dense(3),
            ]
        )
        net.compile(ours(), tiny.loss())
    net.fit(*tiny.data(96), batch_size=32, verbose=0, callbacks=[tfr.TrainStep()])
    norm = net.layers[0]
    for variable in (norm.moving_mean, norm.moving_variance):
        first, second = (v.numpy() for v in variable.value.values)
        np.testing.assert_array_equal(first, second)
        assert not np.allclose(first, [0.0] * 8)
    first, second = (v.numpy() for v in net.layers[2].mask.value.values)
    assert not np.array_equal(first, second)
    states = [v for v in net.non_trainable_variables if v.name == "seed_generator_state"]
    for state in states:
        first, second = (v.numpy() for v in state.value.values)
        np.testing.assert_array_equal(first, second)
    assert len(states) == 1


@pytest.mark.parametrize("callbacks", [[], ["step"]])
@pytest.mark.parametrize("scaled", [False, True])
def test_infinity_on_one_replica_alone_is_skipped_by_all(callbacks, scaled):
    # KERAS_FACTS 1: stock writes -inf into the weights of both replicas.
    x, y = tiny.data(64)
    x[20] = np.inf  # second half of the first batch: replica 1 alone
    with mirrored().scope():
        net = tiny.dense_model()
        optimizer = tfr.LossScaleOptimizer(ours()) if scaled else ours()
        net.compile(optimizer, tiny.loss())
    before = tiny.weights(net)
    net.fit(
        x,
        y,
        batch_size=32,
        steps_per_epoch=1,
        shuffle=False,
        verbose=0,
        callbacks=[tfr.TrainStep() for _ in callbacks],
    )
    assert all(np.array_equal(a, b) for a, b in zip(before, tiny.weights(net), strict=True))
    for variable in net.trainable_variables:
        first, second = (v.numpy() for v in variable.value.values)
        np.testing.assert_array_equal(first, second)
    inner = getattr(net.optimizer, "inner_optimizer", net.optimizer)
    assert int(local(inner.iterations)) == 0
    if scaled:
        assert float(local(net.optimizer.dynamic_scale)) == 2.0**14


def test_our_optimizer_in_stock_fit_clips_after_the_reduce():
    # KERAS_FACTS 4: stock clips each replica's half before the sum.
    limit = 0.5
    results = []
    for make in (
        lambda: tfr.SGD(1.0, momentum=0.0, global_clipnorm=limit),
        lambda: keras.optimizers.SGD(1.0, global_clipnorm=limit),
    ):
        with mirrored().scope():
            net = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1, use_bias=False)])
            net.set_weights([np.zeros((1, 1), "float32")])
            net.compile(make(), keras.losses.MeanSquaredError())
        x, y = np.array([[1.0], [-1.0]]), np.array([[3.0], [1.0]])
        # Gradients -6 and +2 on the two replicas; their mean has norm 2.
        net.fit(x, y, batch_size=2, shuffle=False, verbose=0)
        results.append(abs(float(net.get_weights()[0][0, 0])))
    assert results[0] == pytest.approx(limit, rel=1e-6)
    assert results[1] != pytest.approx(limit, rel=1e-2)


@pytest.mark.parametrize("made_by", [ours, lambda: keras.optimizers.Adam(1e-2)])
def test_an_optimizer_made_outside_the_scope_counts_once_a_step(made_by):
    (one, _), _ = both(lambda: [tfr.TrainStep()], made_by)
    with mirrored().scope():
        net = tiny.dense_model()
    net.compile(made_by(), tiny.loss())
    net.fit(
        *tiny.data(103),
        batch_size=40,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[tfr.TrainStep()],
    )
    assert int(local(net.optimizer.iterations)) == 9
    assert distance(net, one) < SAME


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum"])
def test_weighted_means_and_sums_are_those_of_the_whole_batch(reduction):
    weights = np.random.default_rng(0).uniform(0, 3, 103).astype("float32")

    def loss():
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction=reduction)

    (one, first), (two, second) = both(
        lambda: [tfr.TrainStep()],
        lambda: tfr.SGD(1e-3 if reduction == "sum" else 0.1),
        loss=loss,
        sample_weight=weights,
    )
    assert distance(two, one) < SAME
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-6)


def test_a_loss_of_one_number_is_refused_or_declared_a_mean():
    def mean(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(y_pred))

    with pytest.raises(ValueError, match="mean_over_samples"):
        run(mirrored().scope(), [tfr.TrainStep()], lambda: tfr.SGD(0.1), loss=lambda: mean)
    mean.mean_over_samples = True
    (one, _), (two, _) = both(lambda: [tfr.TrainStep()], lambda: tfr.SGD(0.1), loss=lambda: mean)
    assert distance(two, one) < SAME


def test_swa_and_a_further_ema_fit_work_on_replicas():
    (one, first), (two, second) = both(
        lambda: [tfr.SWA("50%", learning_rate=0.02)],
        ours,
        validation_data=tiny.data(40, seed=1),
    )
    assert distance(two, one) < SAME
    np.testing.assert_allclose(second["swa_val_loss"], first["swa_val_loss"], rtol=1e-5)


def test_regularisers_count_once():
    def make():
        keras.utils.set_random_seed(0)
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16, kernel_regularizer=keras.regularizers.L2(0.1)),
                keras.layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.1)),
            ]
        )

    (one, first), (two, second) = both(lambda: [tfr.MicroBatch(11)], ours, make=make)
    assert distance(two, one) < SAME
    np.testing.assert_allclose(second["loss"], first["loss"], rtol=1e-6)
