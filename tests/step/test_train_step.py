"""The train step against stock Keras, one big batch, and itself."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.step.installed import step_of

# float32 sums in another order, Adam's division by small roots: measured 4e-7 after 50 steps.
SAME_ARITHMETIC = 1e-6


def distance(a, b):
    """Largest |p - q| / |q| over the weights."""
    return max(
        float(np.linalg.norm(p - q) / max(np.linalg.norm(q), 1e-12))
        for p, q in zip(a.get_weights(), b.get_weights(), strict=True)
    )


def same_bits(a, b):
    return all(
        np.array_equal(p, q, equal_nan=True)
        for p, q in zip(tiny.weights(a), tiny.weights(b), strict=True)
    )


def trained(callbacks=(), make=tiny.dense_model, optimizer=None, **changes):
    net = make()
    optimizer = optimizer or keras.optimizers.AdamW(1e-2, weight_decay=0.1, global_clipnorm=0.5)
    history = tiny.fit(net, optimizer, callbacks, **changes)
    return net, history


RAGGED = {"data": tiny.data(103), "batch_size": 40}


def test_our_step_alone_gives_the_bits_of_stock_keras():
    # With BatchNorm, Dropout, a clip, ragged batches: the same forward, the same update.
    stock, before = trained(make=tiny.model, **RAGGED)
    ours, after = trained([tfr.TrainStep()], make=tiny.model, **RAGGED)
    assert same_bits(stock, ours)
    assert before.history == after.history


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("size", [7, 10, 40, 1000])
def test_micro_batches_give_the_whole_batch(size, jit):
    whole, history = trained(**RAGGED)
    net = tiny.dense_model()
    net.compile(
        keras.optimizers.AdamW(1e-2, weight_decay=0.1, global_clipnorm=0.5),
        tiny.loss(),
        jit_compile=jit,
    )
    x, y = RAGGED["data"]
    split = net.fit(
        x, y, batch_size=40, epochs=2, shuffle=False, verbose=0, callbacks=[tfr.MicroBatch(size)]
    )
    assert distance(net, whole) < SAME_ARITHMETIC
    np.testing.assert_allclose(split.history["loss"], history.history["loss"], rtol=1e-6)


def test_accumulated_batches_give_the_whole_batch_and_the_last_partial_window_is_applied():
    whole, history = trained(**RAGGED)  # 40, 40, 23
    split, parts = trained(
        [tfr.GradientAccumulation(5)], data=RAGGED["data"], batch_size=8
    )  # 5 x 8, 5 x 8, 2 x 8 + 7
    assert distance(split, whole) < SAME_ARITHMETIC
    np.testing.assert_allclose(parts.history["loss"], history.history["loss"], rtol=1e-6)
    assert int(split.optimizer.iterations) == int(whole.optimizer.iterations) == 6


def test_accumulation_counts_updates_in_keras_progress_and_says_nothing_of_missing_data(recwarn):
    class Counter(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.batches = []

        def on_train_batch_end(self, batch, logs=None):
            self.batches.append(batch)

    counter = Counter()
    net = tiny.dense_model()
    net.compile("sgd", tiny.loss())
    x, y = tiny.data(100)
    unknown = tf.data.Dataset.from_generator(
        lambda: ((x[i : i + 10], y[i : i + 10]) for i in range(0, 100, 10)),
        output_signature=(tf.TensorSpec((None, 8)), tf.TensorSpec((None,), tf.int32)),
    )
    net.fit(
        unknown,
        shuffle=False,
        epochs=2,
        verbose=0,
        callbacks=[tfr.GradientAccumulation(4), counter],
    )
    assert counter.batches == [0, 1, 2] * 2
    assert counter.params["steps"] in (3, None)
    assert int(net.optimizer.iterations) == 6
    assert not [w for w in recwarn if "ran out of data" in str(w.message)]


def test_steps_per_epoch_with_finite_data_is_refused_under_accumulation():
    with pytest.raises(ValueError, match="steps_per_epoch"):
        trained([tfr.GradientAccumulation(2)], steps_per_epoch=2)


def test_batches_that_differ_in_length_are_refused_under_accumulation():
    net = keras.Sequential(
        [keras.Input((None, 4)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]
    )
    net.compile("sgd", "mse")
    data = tf.data.Dataset.from_generator(
        lambda: ((np.zeros((2, n, 4)), np.zeros((2, 1))) for n in (3, 5)),
        output_signature=(tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, 1))),
    )
    with pytest.raises(ValueError, match="beyond the first axis"):
        net.fit(data, shuffle=False, verbose=0, callbacks=[tfr.GradientAccumulation(2)])


# ------------------------------------------------------------------------------ what losses need


def masked_model():
    """Two outputs with masks of their own, a third without, and an activity regulariser."""
    keras.utils.set_random_seed(0)
    first, second = keras.Input((6,), name="first"), keras.Input((9,), name="second")
    a = keras.layers.Embedding(12, 4, mask_zero=True, name="embed_first")(first)
    b = keras.layers.Embedding(12, 4, mask_zero=True, name="embed_second")(second)
    a = keras.layers.Dense(5, activation="tanh", name="hidden_first")(a)
    b = keras.layers.Dense(5, activation="tanh", name="hidden_second")(b)
    one = keras.layers.Dense(3, name="one", kernel_regularizer=keras.regularizers.L2(0.01))(a)
    two = keras.layers.Dense(1, name="two", activity_regularizer=keras.regularizers.L2(0.01))(b)
    three = keras.layers.Dense(1, name="three")(keras.layers.Dense(4)(first * 0.1))
    return keras.Model([first, second], {"one": one, "two": two, "three": three})


def masked_data(n=23):
    rng = np.random.default_rng(3)
    first, second = rng.integers(0, 12, (n, 6)), rng.integers(0, 12, (n, 9))
    first[:, 3:] *= rng.integers(0, 2, (n, 3))
    first[:5, 1:] = 0  # one part nearly all masked
    y = {
        "one": rng.integers(0, 3, (n, 6)),
        "two": rng.standard_normal((n, 9, 1)).astype("float32"),
        "three": rng.standard_normal((n, 1)).astype("float32"),
    }
    weights = {
        name: rng.uniform(0, 3, shape).astype("float32")
        for name, shape in (("one", (n, 6)), ("two", (n, 9)), ("three", (n,)))
    }
    return [first.astype("float32"), second], y, weights


@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "mean_with_sample_weight", "sum"])
@pytest.mark.parametrize("weighted", [False, True])
def test_outputs_with_masks_of_their_own_have_denominators_of_their_own(reduction, weighted):
    x, y, weights = masked_data()
    nets, losses = [], []
    for callbacks in ([], [tfr.MicroBatch(4)]):
        net = masked_model()
        net.compile(
            keras.optimizers.SGD(1e-3 if reduction == "sum" else 0.1),
            loss={
                "one": keras.losses.SparseCategoricalCrossentropy(
                    from_logits=True, reduction=reduction
                ),
                "two": keras.losses.MeanSquaredError(reduction=reduction),
                "three": keras.losses.Huber(reduction=reduction),
            },
            loss_weights={"one": 1.0, "two": 0.5, "three": 2.0},
        )
        history = net.fit(
            x,
            y,
            sample_weight=weights if weighted else None,
            batch_size=23,
            epochs=3,
            shuffle=False,
            verbose=0,
            callbacks=callbacks,
        )
        nets.append(net)
        losses.append(history.history)
    assert distance(nets[1], nets[0]) < SAME_ARITHMETIC
    for name, values in losses[0].items():
        np.testing.assert_allclose(losses[1][name], values, rtol=2e-6, err_msg=name)


def test_a_loss_that_gives_one_number_is_refused_with_micro_batches_unless_declared():
    def one_number(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(keras.ops.cast(y_true, "float32") - y_pred))

    x, y = tiny.data(20)
    results = []
    for declared, callbacks in ((False, [tfr.MicroBatch(8)]), (True, [tfr.MicroBatch(8)]), (1, [])):
        if declared:
            one_number.mean_over_samples = True
        net = tiny.dense_model()
        net.compile("sgd", one_number)
        arguments = {"batch_size": 20, "verbose": 0, "callbacks": callbacks}
        if not declared:
            with pytest.raises(ValueError, match="mean_over_samples"):
                net.fit(x, tiny.one_hot(y), **arguments)
        else:
            net.fit(x, tiny.one_hot(y), **arguments)
            results.append(net)
    assert distance(*results) < SAME_ARITHMETIC


def test_class_weights_and_soft_labels_and_unlabeled_data_train():
    x, y = tiny.data(30)
    net = tiny.dense_model()
    net.compile("sgd", tiny.loss())
    net.fit(x, y, class_weight={0: 2.0, 1: 0.5}, verbose=0, callbacks=[tfr.MicroBatch(7)])

    soft = 0.7 * tiny.one_hot(y) + 0.3 * tiny.one_hot(y[::-1])
    net = tiny.dense_model()
    net.compile("sgd", keras.losses.CategoricalCrossentropy(from_logits=True))
    net.fit(x, soft, verbose=0, callbacks=[tfr.MicroBatch(7)])

    class Penalised(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(keras.ops.square(x)))
            return x

    whole = []
    for callbacks in ([], [tfr.MicroBatch(7)]):
        keras.utils.set_random_seed(0)
        net = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), Penalised()])
        net.compile(keras.optimizers.SGD(0.1))
        net.fit(x, batch_size=30, epochs=3, verbose=0, callbacks=callbacks)
        whole.append(net)
    assert distance(whole[1], whole[0]) < SAME_ARITHMETIC


# --------------------------------------------------------------------------------- kinds of model


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = keras.layers.Dense(16, activation="tanh")
        self.out = keras.layers.Dense(3)

    def call(self, x):
        return self.out(self.hidden(x))


def unbuilt_sequential():
    return keras.Sequential([keras.layers.Dense(16, activation="tanh"), keras.layers.Dense(3)])


@pytest.mark.parametrize("make", [Subclassed, unbuilt_sequential])
@pytest.mark.parametrize(
    "callbacks",
    [
        lambda: [tfr.TrainStep()],
        lambda: [tfr.MicroBatch(10), tfr.EMA(0.9), tfr.Monitor()],
    ],
)
def test_a_model_without_variables_gets_them_from_its_first_batch(make, callbacks):
    nets = []
    for ours in ([], callbacks()):
        keras.utils.set_random_seed(0)
        net = make()
        net.compile("adam", tiny.loss(), metrics=["accuracy"])
        x, y = tiny.data(64)
        net.fit(x, y, batch_size=32, shuffle=False, verbose=0, callbacks=ours)
        nets.append(net)
    assert all(w.shape == v.shape for w, v in zip(*(n.get_weights() for n in nets), strict=True))
    if len(callbacks()) == 1:
        assert distance(nets[1], nets[0]) == 0


class OwnStep(keras.Model):
    """A model with a `train_step` of its own, as the Keras guide writes it."""

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"my_loss": loss}


def test_a_models_own_train_step_is_kept_and_averages_still_move(capsys):
    inputs = keras.Input((8,))
    net = OwnStep(inputs, keras.layers.Dense(3)(inputs))
    net.compile(tfr.AdamW(1e-2, global_clipnorm=1.0), tiny.loss())
    x, y = tiny.data(32)
    history = net.fit(
        x, y, batch_size=8, verbose=0, callbacks=[tfr.EMA(0.9), tfr.Monitor(), tfr.MicroBatch(4)]
    )
    assert list(history.history) == ["my_loss"]
    assert int(step_of(net).state.averaged) == 4
    said = capsys.readouterr().out
    assert "own train_step" in said
    assert "micro-batches" in said


def test_a_models_own_train_step_refuses_accumulation():
    inputs = keras.Input((8,))
    net = OwnStep(inputs, keras.layers.Dense(3)(inputs))
    net.compile("sgd", tiny.loss())
    with pytest.raises(ValueError, match="own `train_step`"):
        net.fit(*tiny.data(), verbose=0, callbacks=[tfr.GradientAccumulation(2)])


@pytest.mark.parametrize("name", ["Adam", "Lion", "Muon", "Adafactor", "RMSprop", "Nadam", "Ftrl"])
def test_any_stock_optimizer_is_clipped_and_updated_once(name):
    make = getattr(keras.optimizers, name)
    whole, _ = trained(optimizer=make(1e-2))
    ours, _ = trained([tfr.TrainStep()], optimizer=make(1e-2))
    assert distance(ours, whole) < SAME_ARITHMETIC
    split, _ = trained([tfr.MicroBatch(9)], optimizer=make(1e-2, global_clipnorm=0.5))
    clipped, _ = trained(optimizer=make(1e-2, global_clipnorm=0.5))
    # The sign of a gradient near 0 decides for some of them: nearer than that is luck.
    assert distance(split, clipped) < 1e-2


def test_the_clip_merges_duplicate_rows_of_an_embedding_where_stock_keras_does_not():
    net = keras.Sequential(
        [keras.Input((4,)), keras.layers.Embedding(3, 2), keras.layers.Flatten()]
    )
    x = np.zeros((1, 4), "int32")  # one row four times

    def step(optimizer, callbacks):
        net.compile(optimizer, loss=lambda y, p: keras.ops.sum(p, -1))
        before = net.get_weights()[0]
        net.fit(x, np.zeros((1, 1)), verbose=0, callbacks=callbacks)
        return float(np.linalg.norm(net.get_weights()[0] - before))

    clipped = {"learning_rate": 1.0, "global_clipnorm": 0.5}
    assert step(keras.optimizers.SGD(**clipped), []) > 0.6  # KERAS_FACTS 5
    assert step(keras.optimizers.SGD(**clipped), [tfr.TrainStep()]) == pytest.approx(0.5, rel=1e-6)
    assert step(tfr.SGD(momentum=0.0, **clipped), []) == pytest.approx(0.5, rel=1e-6)


# --------------------------------------------------------------------------------------- plan


def test_the_order_of_callbacks_changes_no_bit():
    def callbacks():
        return [tfr.MicroBatch(10), tfr.EMA(0.9), tfr.Monitor(), tfr.TrainStep()]

    one, _ = trained(callbacks(), make=tiny.model, **RAGGED)
    two, _ = trained(callbacks()[::-1], make=tiny.model, **RAGGED)
    assert same_bits(one, two)


def test_two_claims_on_one_field_are_an_error_with_both_names():
    with pytest.raises(ValueError, match=r"(?s)EMA.*average.*claimed by EMA"):
        trained([tfr.EMA(0.9), tfr.EMA(0.99)])
    with pytest.raises(ValueError, match="once"):
        trained([tfr.MicroBatch(8), tfr.GradientAccumulation(2)])
    with pytest.raises(ValueError, match="average"):
        trained([tfr.EMA(0.9), tfr.SWA()])


def test_a_second_fit_traces_nothing():
    net = tiny.model()
    net.compile(keras.optimizers.SGD(0.1), tiny.loss())
    x, y = tiny.data(64)
    traces = []
    call = net.call

    def counted(*args, **kwargs):
        traces.append(1)
        return call(*args, **kwargs)

    net.call = counted
    arguments = {"batch_size": 32, "shuffle": False, "verbose": 0}
    net.fit(x, y, callbacks=[tfr.EMA(0.9), tfr.Monitor()], **arguments)
    first = len(traces)
    assert first > 0
    net.fit(x, y, callbacks=[tfr.EMA(0.9), tfr.Monitor()], **arguments)
    assert len(traces) == first


def test_without_our_callbacks_the_model_is_stock_again():
    net = tiny.model()
    net.compile(keras.optimizers.SGD(0.1), tiny.loss())
    x, y = tiny.data(64)
    net.fit(x, y, verbose=0, callbacks=[tfr.TrainStep()])
    assert not {"make_train_function", "evaluate", "_get_metrics_result_or_logs"} & set(vars(net))
    net.fit(x, y, verbose=0)
    assert net.train_function is not None


def test_a_fit_that_raised_leaves_nothing_for_the_next_one():
    class Fails(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            raise RuntimeError("in the middle")

    net = tiny.model()
    net.compile(keras.optimizers.SGD(0.1), tiny.loss())
    x, y = tiny.data(64)
    with pytest.raises(RuntimeError):
        net.fit(x, y, verbose=0, callbacks=[tfr.MicroBatch(4), tfr.EMA(0.5), Fails()])
    history = net.fit(x, y, verbose=0)
    assert list(history.history) == ["loss"]
    assert "make_train_function" not in vars(net)
    net.fit(x, y, verbose=0, callbacks=[tfr.GradientAccumulation(2)])


def test_the_saved_model_needs_no_tfrecipes(tmp_path):
    net, _ = trained([tfr.EMA(0.9), tfr.Monitor(), tfr.MicroBatch(8)], make=tiny.model)
    net.save(tmp_path / "m.keras")
    config = (tmp_path / "m.keras").read_bytes()
    assert b"tfrecipes" not in config
    stock = tiny.model()
    assert len(net.variables) == len(stock.variables)
    assert distance(keras.saving.load_model(tmp_path / "m.keras"), net) == 0


def test_a_deleted_model_is_freed():
    net, history = trained([tfr.EMA(0.9), tfr.Monitor(), tfr.MicroBatch(8)], make=tiny.model)
    gone = weakref.ref(net)
    del net, history
    gc.collect()
    assert gone() is None


def test_steps_per_execution_changes_no_bit():
    nets = []
    for group in (1, 2):
        net = tiny.model()
        net.compile(keras.optimizers.Adam(1e-2), tiny.loss(), steps_per_execution=group)
        x, y = tiny.data(80)
        net.fit(
            x,
            y,
            batch_size=20,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[tfr.EMA(0.9), tfr.MicroBatch(7), tfr.Monitor()],
        )
        nets.append(net)
    assert same_bits(*nets)


def test_train_on_batch_after_fit_is_stock():
    net, _ = trained([tfr.EMA(0.9)], make=tiny.model)
    x, y = tiny.data(8)
    assert np.isfinite(net.train_on_batch(x, y))


@pytest.mark.parametrize(
    ("optimizer", "word"),
    [
        (lambda: keras.optimizers.Adam(use_ema=True), "use_ema"),
        (lambda: keras.optimizers.Adam(gradient_accumulation_steps=2), "GradientAccumulation"),
    ],
)
def test_what_an_optimizer_would_do_beside_the_step_is_refused(optimizer, word):
    with pytest.raises(ValueError, match=word):
        trained([tfr.TrainStep()], optimizer=optimizer())


# ------------------------------------------------------------------------------------ not finite


@pytest.mark.parametrize("micro", [[], [10]])
@pytest.mark.parametrize(
    "optimizer", [lambda: tfr.AdamW(1e-2), lambda: keras.optimizers.Adam(1e-2)]
)
def test_a_step_that_is_not_finite_leaves_no_trace(optimizer, micro):
    x, y = tiny.data(96)
    bad = x.copy()
    bad[40] = np.nan  # in the second batch of three
    seen = []
    for data in ((bad, y), (np.delete(x, range(32, 64), 0), np.delete(y, range(32, 64), 0))):
        net = tiny.model()
        net.compile(optimizer(), tiny.loss(), metrics=["accuracy"])
        history = net.fit(
            *data,
            batch_size=32,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[tfr.EMA(0.9), *(tfr.MicroBatch(size) for size in micro)],
        )
        seen.append((net, history.history, int(net.optimizer.iterations)))
    assert seen[0][2] == seen[1][2] == 4
    assert same_bits(seen[0][0], seen[1][0])
    assert seen[0][1] == seen[1][1]


def test_the_run_stops_after_so_many_bad_steps_and_says_why(capsys):
    x, y = tiny.data(96)
    net = tiny.model()
    before = tiny.weights(net)
    net.compile("adam", tiny.loss())
    net.fit(x * np.nan, y, batch_size=2, verbose=0, callbacks=[tfr.TrainStep(max_bad_steps=5)])
    assert net.stop_training
    assert int(step_of(net).state.attempts) == 5
    assert "5 steps in a row" in capsys.readouterr().out
    assert all(np.array_equal(a, b) for a, b in zip(before, tiny.weights(net), strict=True))


def test_on_nonfinite_stop_ends_at_the_first():
    x, y = tiny.data(96)
    net = tiny.model()
    net.compile("adam", tiny.loss())
    net.fit(x * np.inf, y, batch_size=2, verbose=0, callbacks=[tfr.TrainStep("stop")])
    assert int(step_of(net).state.attempts) == 1
