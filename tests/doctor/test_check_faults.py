"""`tfr.check` end to end: one fault planted, found first or second, and nothing else above info."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny

layers = keras.layers
X, Y = tiny.data(samples=400)
ONE_HOT = tiny.one_hot(Y)
NUMBER = X @ np.random.default_rng(5).normal(size=8).astype("float32")
SPARSE = keras.losses.SparseCategoricalCrossentropy
LOGITS = SPARSE(from_logits=True)


def net(*hidden, last=None, units=3, loss=LOGITS, rate=1e-3, optimizer=None):
    """A small net over the table; `hidden` instead of its one hidden layer; `units` 0: nothing follows it."""
    inner = hidden or (layers.Dense(16, activation="relu"),)
    end = [layers.Dense(units, activation=last)] if units else []
    model = keras.Sequential([keras.Input((8,)), *inner, *end])
    model.compile(optimizer or keras.optimizers.Adam(rate), loss)
    return model


class Softmaxed(keras.Model):
    """No layer of it is called softmax."""

    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(16, activation="relu")
        self.out = layers.Dense(3)

    def call(self, x):
        return tf.nn.softmax(self.out(self.hidden(x)))


def softmaxed():
    model = Softmaxed()
    model.compile("adam", LOGITS)
    return model


class Uncalled(keras.Model):
    """One layer is built and never called."""

    def __init__(self):
        super().__init__()
        self.out, self.other = layers.Dense(3), layers.Dense(2)
        self.other.build((None, 8))
        self.out.build((None, 8))
        self.built = True

    def call(self, x):
        return self.out(x)


class Squared(keras.losses.Loss):
    """A loss of one's own, which lines up no shapes."""

    def call(self, y, y_pred):
        return tf.square(tf.cast(y, tf.float32) - y_pred)


class Centred(layers.Layer):
    """Takes the batch's mean off, in inference too."""

    def call(self, x):
        return x - keras.ops.mean(x, axis=0, keepdims=True)


class Nothing(layers.Layer):
    """Forgets what it is given."""

    def call(self, x):
        return x * 0.0


class Divided(layers.Layer):
    """Divides by zero."""

    def call(self, x):
        return x / (x - x)


def two_inputs(second):
    a, b = keras.Input((8,), name="a"), keras.Input((8,), name="b")
    joined = layers.Concatenate()([layers.Dense(8, activation="relu")(a), second(b)])
    model = keras.Model({"a": a, "b": b}, layers.Dense(3)(joined))
    model.compile("adam", LOGITS)
    return model


def untrained_and_frozen():
    model = net()
    model.layers[0].trainable = False
    return model


def wholly_frozen():
    model = net()
    model.trainable = False
    return model


def in_16_bits():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = net()
    keras.config.set_dtype_policy("float32")
    return model


def streamed(batch, shuffled=False, repeats=False):
    data = tf.data.Dataset.from_tensor_slices((X, Y))
    data = data.shuffle(400) if shuffled else data
    return (data.repeat() if repeats else data).batch(batch)


def by_class():
    order = np.argsort(Y, kind="stable")
    return tf.data.Dataset.from_tensor_slices((X[order], Y[order])).batch(32)


def dense(**named):
    return layers.Dense(16, **{"activation": "relu", **named})


constant = keras.initializers.Constant
normal = keras.initializers.RandomNormal

# (rule, model, data), each as functions: models are made anew for every test.
FAULTS = {
    "grey levels": ("inputs_not_normalised", net, lambda: (X * 50 + 100, Y)),
    "noise for labels": (
        "labels_unrelated",
        net,
        lambda: (X, np.random.default_rng(1).permutation(Y)),
    ),
    "a stream in order": ("labels_sorted", net, by_class),
    "labels from 1": ("label_range", net, lambda: (X, Y + 1)),
    "large targets": (
        "targets_not_normalised",
        lambda: net(units=1, loss="mse"),
        lambda: (X, NUMBER * 1e4 + 3e4),
    ),
    "each against each": (
        "loss_broadcasts",
        lambda: net(units=1, loss=Squared()),
        lambda: (X, NUMBER),
    ),
    "rate 3": ("learning_rate_too_high", lambda: net(rate=3.0), None),
    "SGD at 100": (
        "learning_rate_too_high",
        lambda: net(optimizer=keras.optimizers.SGD(100.0, momentum=0.9)),
        None,
    ),
    "rate 0": ("learning_rate_too_low", lambda: net(rate=0.0), None),
    "rate 1e-9": ("learning_rate_too_low", lambda: net(rate=1e-9), None),
    "softmax as logits": ("logits_mismatch", lambda: net(last="softmax"), None),
    "tf.nn.softmax as logits": ("logits_mismatch", softmaxed, None),
    "logits as probabilities": ("logits_mismatch", lambda: net(loss=SPARSE()), None),
    "sigmoid as logits": (
        "logits_mismatch",
        lambda: net(
            units=1, last="sigmoid", loss=keras.losses.BinaryCrossentropy(from_logits=True)
        ),
        lambda: (X, (NUMBER > 0).astype("int32")),
    ),
    "softmax twice": ("softmax_twice", lambda: twice(), None),
    "softmax of one": (
        "softmax_of_one",
        lambda: net(units=1, last="softmax", loss="binary_crossentropy"),
        lambda: (X, (NUMBER > 0).astype("int32")),
    ),
    "relu for a regression": (
        "activation_and_loss",
        lambda: net(units=1, last="relu", loss="mse"),
        lambda: (X, NUMBER),
    ),
    "softmax and binary": (
        "activation_and_loss",
        lambda: net(last="softmax", loss="binary_crossentropy"),
        lambda: (X, ONE_HOT),
    ),
    "sigmoids for classes": (
        "loss_for_labels",
        lambda: net(last="sigmoid", loss="binary_crossentropy"),
        lambda: (X, ONE_HOT),
    ),
    "16 bits": ("output_16_bits", in_16_bits, None),
    "a layer not called": ("no_gradient", Uncalled, None),
    "a gradient stopped": (
        "no_gradient",
        lambda: net(dense(), layers.Lambda(tf.stop_gradient)),
        None,
    ),
    "all frozen": ("frozen_layers", wholly_frozen, None),
    "frozen untrained": ("frozen_layers", untrained_and_frozen, None),
    "dead ReLUs": ("dead_layers", lambda: net(dense(bias_initializer=constant(-50.0))), None),
    "all zero": ("dead_layers", lambda: zeroed(), None),
    "all alike": ("dead_layers", lambda: alike(), None),
    "the batch's mean": ("samples_mixed", lambda: net(dense(), Centred()), None),
    "inputs forgotten": ("inputs_ignored", lambda: net(Nothing(), dense()), None),
    "one input forgotten": (
        "inputs_ignored",
        lambda: two_inputs(Nothing()),
        lambda: ({"a": X, "b": X[::-1]}, Y),
    ),
    "16 sigmoids": (
        "vanishing_gradients",
        lambda: net(*[dense(activation="sigmoid") for _ in range(16)]),
        None,
    ),
    "wild weights": (
        "exploding_initialisation",
        lambda: net(*[dense(kernel_initializer=normal(0, 3.0)) for _ in range(7)]),
        None,
    ),
    "sure at once": ("initial_loss", lambda: net(dense(), layers.Rescaling(40.0)), None),
    "0 / 0": ("not_finite_at_start", lambda: net(Divided(), dense()), None),
    "BatchNorm of one": (
        "batch_norm_tiny",
        lambda: net(dense(), layers.BatchNormalization()),
        lambda: streamed(1, shuffled=True),
    ),
    "dropout .95": ("dropout_too_high", lambda: net(dense(), layers.Dropout(0.95)), None),
    "thirty outputs": ("unused_outputs", lambda: net(units=30), None),
    "other columns": ("input_shape", net, lambda: (X[:, :7], Y)),
    "fewer labels": ("input_shape", net, lambda: (X, Y[:-3])),
    "a negative weight": (
        "sample_weight",
        net,
        lambda: (X, Y, np.where(np.arange(400) == 3, -1.0, 1.0)),
    ),
    "no labels": (
        "label_shape",
        lambda: keras.Sequential([keras.Input((8,)), layers.Dense(3)]),
        lambda: X,
    ),
}


def twice():
    model = keras.Sequential(
        [keras.Input((8,)), dense(), layers.Dense(3, activation="softmax"), layers.Softmax()]
    )
    model.compile("adam", SPARSE())
    return model


def zeroed():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            dense(activation="tanh", kernel_initializer="zeros"),
            layers.Dense(3, kernel_initializer="zeros"),
        ]
    )
    model.compile("adam", LOGITS)
    return model


def alike():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            dense(activation="tanh", kernel_initializer=constant(0.05)),
            layers.Dense(3, kernel_initializer=constant(0.05)),
        ]
    )
    model.compile("adam", LOGITS)
    return model


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found_first_and_alone(name):
    rule, model, data = FAULTS[name]
    found = tfr.check(model(), (X, Y) if data is None else data())
    assert found[0].rule == rule, [str(one) for one in found]
    assert found[0].severity != "info"
    assert {one.rule for one in found if one.severity != "info"} == {rule}
    assert any(letter.isdigit() for letter in found[0].evidence)
    assert found[0].cause
    assert found[0].advice


def autoencoder():
    model = keras.Sequential(
        [keras.Input((8,)), dense(), layers.Dense(4), dense(), layers.Dense(8)]
    )
    model.compile("adam", "mse")
    return model


def normalising():
    norm = layers.Normalization()
    norm.adapt(X * 1000 + 50)
    return net(norm, dense())


def reader():
    model = keras.Sequential(
        [
            keras.Input((10,), dtype="int32"),
            layers.Embedding(300, 8, mask_zero=True),
            layers.GRU(8),
            layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", SPARSE())
    return model


def words():
    x = np.random.default_rng(3).integers(1, 300, (400, 10))
    y = (x[:, 0] > 150).astype("int32")
    x[:, 7:] *= np.random.default_rng(4).integers(0, 2, (400, 1))
    return x, y


def two_outputs():
    a = keras.Input((8,), name="a")
    h = dense()(a)
    outputs = {"p": layers.Dense(3, name="p")(h), "q": layers.Dense(1, name="q")(h)}
    return keras.Model(a, outputs)


TWO = {"q": NUMBER[:, None], "p": Y}  # Keras sorts a dict's keys: here that is another order


def two_outputs_by_key(named=True, compiled=False):
    a = keras.Input((8,), name="a")
    h = dense()(a)
    names = ("q", "p") if named else (None, None)
    outputs = {"q": layers.Dense(1, name=names[0])(h), "p": layers.Dense(3, name=names[1])(h)}
    model = keras.Model(a, outputs)
    if compiled:
        model.compile("adam", {"q": "mse", "p": LOGITS}, loss_weights={"q": 0.5, "p": 1.0})
    return model


def two_in_a_list():
    a = keras.Input((8,), name="a")
    h = dense()(a)
    model = keras.Model(a, [layers.Dense(1, name="q")(h), layers.Dense(3, name="p")(h)])
    model.compile("adam", {"q": "mse", "p": LOGITS})
    return model


class OwnStep(keras.Model):
    """Trains itself; its data are no pairs."""

    def __init__(self):
        super().__init__()
        self.out = layers.Dense(8)

    def call(self, x):
        return self.out(x)

    def train_step(self, data):
        return {"loss": tf.zeros(())}


def zero_head():
    a = keras.Input((8,))
    h = dense()(a)
    branch = layers.Dense(16, kernel_initializer="zeros")(dense()(h))
    return keras.Model(a, layers.Dense(3, kernel_initializer="zeros")(layers.Add()([h, branch])))


def fine_tuned():
    model = net()
    model.fit(X, Y, epochs=1, verbose=0)
    model.layers[0].trainable = False
    model.compile("adam", LOGITS)
    return model


def learnt():
    """Near its minimum SGD's steps, good ones for a fresh model, throw a single batch's loss up."""
    model = net(units=1, loss="mse", optimizer=keras.optimizers.SGD(3e-2, momentum=0.9))
    model.fit(X, NUMBER, epochs=20, verbose=0)
    return model


HEALTHY = {
    "tiny": (tiny.model, None),
    "smoothed labels": (lambda: net(loss=tfr.SmoothedCrossentropy(0.1, from_logits=True)), None),
    "probabilities": (lambda: net(last="softmax", loss=SPARSE()), None),
    "one hot": (
        lambda: net(last="softmax", loss=keras.losses.CategoricalCrossentropy(label_smoothing=0.1)),
        lambda: (X, ONE_HOT),
    ),
    "several labels": (
        lambda: net(last="sigmoid", loss="binary_crossentropy"),
        lambda: (X, (X[:, :3] > 0).astype("float32")),
    ),
    "a number, weighted": (
        lambda: net(units=1, loss="mae"),
        lambda: (X, NUMBER, np.linspace(0.5, 2, 400)),
    ),
    "an autoencoder": (autoencoder, lambda: (X, X)),
    "normalised inside": (normalising, lambda: (X * 1000 + 50, Y)),
    "BatchNorm first": (lambda: net(layers.BatchNormalization(), dense()), lambda: (X * 200, Y)),
    "words": (reader, words),
    "two outputs": (two_outputs, lambda: (X, {"p": Y, "q": NUMBER[:, None]})),
    "two outputs, unsorted": (two_outputs_by_key, lambda: (X, TWO)),
    "two outputs, compiled": (lambda: two_outputs_by_key(compiled=True), lambda: (X, TWO)),
    "two outputs by key alone": (
        lambda: two_outputs_by_key(named=False, compiled=True),
        lambda: (X, TWO),
    ),
    "two in a list, labels by name": (two_in_a_list, lambda: (X, TWO)),
    "penalties and dropout": (
        lambda: net(dense(kernel_regularizer="l2"), layers.Dropout(0.5)),
        None,
    ),
    "a step of its own": (OwnStep, lambda: X),
    "zero branches and head": (zero_head, None),
    "fine-tuned": (fine_tuned, None),
    "scaled back at its end": (
        lambda: net(
            dense(), layers.Dense(1), layers.Rescaling(200.0, offset=500.0), units=0, loss="mse"
        ),
        lambda: (X, 500 + 200 * NUMBER[:, None] / NUMBER.std()),
    ),
    "a shuffled stream": (net, lambda: streamed(32, shuffled=True)),
    "a stream without an end": (net, lambda: streamed(32, shuffled=True, repeats=True)),
    "learnt already": (learnt, lambda: (X, NUMBER)),
    "a warmup": (
        lambda: net(optimizer=tfr.AdamW(tfr.WarmupCosine(0.5, total_steps=100, warmup_steps=10))),
        None,
    ),
}


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_model_on_healthy_data_hears_nothing_above_info(name):
    model, data = HEALTHY[name]
    found = tfr.check(model(), (X, Y) if data is None else data())
    assert [str(one) for one in found if one.severity != "info"] == []


def test_a_softmax_over_the_samples_is_told_by_its_axis_and_by_what_it_mixes():
    model = net(dense(), layers.Dense(3), layers.Softmax(axis=0), units=0, loss=SPARSE())
    found = [one for one in tfr.check(model, (X, Y)) if one.severity != "info"]
    assert [one.rule for one in found] == ["activation_and_loss", "samples_mixed"]
    assert "over another axis" in found[0].cause


def test_a_line_through_one_feature_repeats_within_a_thousandth_by_chance():
    line = np.random.default_rng(6).normal(size=(600, 1)).astype("float32")
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1)])
    training, validation = ((part, 3 * part[:, 0]) for part in (line[:500], line[500:]))
    found = tfr.check(model, training, validation)
    assert [str(one) for one in found if one.severity != "info"] == []


def test_a_loss_that_dropout_makes_is_no_finding_of_its_own():
    model = net(dense(), layers.Dropout(0.95), dense(), layers.Dropout(0.95))
    found = [one for one in tfr.check(model, (X, Y)) if one.severity != "info"]
    assert [one.rule for one in found] == ["dropout_too_high"]


@pytest.mark.slow
def test_a_net_of_keras_applications_is_fine():
    model = keras.applications.MobileNetV2((64, 64, 3), weights=None, classes=3)
    model.compile("adam", SPARSE())
    x = np.random.default_rng(0).random((200, 64, 64, 3)).astype("float32")
    y = np.arange(200) % 3
    x[np.arange(200), :, :, y] *= 0.3
    found = tfr.check(model, (x, y))
    assert [str(one) for one in found if one.severity != "info"] == []


def test_data_stand_before_rate_and_rate_before_architecture():
    found = tfr.check(net(rate=0.0, last="softmax"), (np.where(X[5, 3] == X, np.nan, X), Y))
    loud = [one.rule for one in found if one.severity != "info"]
    assert loud == ["not_finite", "learning_rate_too_low", "logits_mismatch"]


def test_memory_is_estimated():
    (found,) = [one for one in tfr.check(net(), (X, Y)) if one.rule == "memory"]
    # 8 x 16 + 16 + 16 x 3 + 3 weights of 4 bytes; 16 + 3 outputs a sample.
    assert "weights 780 B, gradients 780 B, moments 1.56 KB" in found.evidence
    assert "(76 B a sample)" in found.evidence
