import json
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.strategies import mirrored
from tfrecipes.arithmetic.smoothing import (
    SmoothedCrossentropy,
    SmoothedInTraining,
    evaluating,
    smoothed,
)

CLASSES = 7
SHAPES = [(5,), (4, 3), (2, 3, 4)]


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def reference(q, z, a):
    """Each prediction's loss in float64, from soft labels q."""
    shifted = z - z.max(-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return -(((1 - a) * q + a / z.shape[-1]) * log_p).sum(-1)


def case(shape, scale=3.0, seed=0):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, scale, (*shape, CLASSES)).astype("float32")
    return rng.integers(0, CLASSES, shape), logits


FORMS = {
    "integers": lambda y: y,
    "int32": lambda y: y.astype("int32"),
    "integers in a column": lambda y: y[..., None],
    "one-hot": lambda y: np.eye(CLASSES)[y],
    "one-hot integers": lambda y: np.eye(CLASSES, dtype="int64")[y],
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("a", [0.0, 0.1, 0.5])
@pytest.mark.parametrize("from_logits", [True, False])
def test_every_form_of_label_gives_the_reference(shape, form, a, from_logits):
    y, z = case(shape)
    expected = reference(np.eye(CLASSES)[y], z.astype(float), a)
    loss = SmoothedCrossentropy(a, from_logits=from_logits, reduction=None)
    predictions = z if from_logits else softmax(z.astype(float))
    # 5e-6: a few float32 ulp of logits up to 10, and of the logarithm of a rounded probability
    np.testing.assert_allclose(loss(FORMS[form](y), predictions), expected, rtol=5e-6, atol=5e-6)


def test_soft_labels_give_the_reference():
    _, z = case((6,))
    q = softmax(case((6,), seed=1)[1].astype(float))
    loss = SmoothedCrossentropy(0.1, from_logits=True)
    assert float(loss(q, z)) == pytest.approx(reference(q, z.astype(float), 0.1).mean(), rel=2e-6)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("form", ["integers", "one-hot"])
def test_the_gradient_is_softmax_minus_the_smoothed_label(form, jit):
    y, z = case((9,))
    a, loss = 0.1, SmoothedCrossentropy(0.1, from_logits=True)

    @tf.function(jit_compile=jit)
    def gradient(labels, logits):
        with tf.GradientTape() as tape:
            tape.watch(logits)
            value = loss(labels, logits)
        return tape.gradient(value, logits)

    q = (1 - a) * np.eye(CLASSES)[y] + a / CLASSES
    found = gradient(tf.constant(FORMS[form](y)), tf.constant(z))
    np.testing.assert_allclose(found, (softmax(z.astype(float)) - q) / 9, atol=2e-8)


@pytest.mark.parametrize("form", ["integers", "one-hot"])
def test_it_is_stable_at_logits_of_any_size(form):
    y = np.array([0, 1])
    z = np.array([[1e4, -1e4, 0], [1e4, 1e4 - 5, 1e4 - 9]], "float32")
    loss = SmoothedCrossentropy(0.1, from_logits=True, reduction=None)
    labels = y if form == "integers" else np.eye(3)[y]
    expected = reference(np.eye(3)[y], z.astype(float), 0.1)
    np.testing.assert_allclose(loss(labels, z), expected, rtol=1e-6)


@pytest.mark.parametrize("form", ["integers", "one-hot"])
@pytest.mark.parametrize("reduction", ["sum_over_batch_size", "sum", "mean_with_sample_weight"])
def test_weights_and_masks_count_as_in_keras(form, reduction):
    y, z = case((4, 3))
    weight = np.random.default_rng(1).random((4, 3)).astype("float32")
    mask = tf.constant(np.arange(12).reshape(4, 3) % 3 > 0)
    a, one_hot = 0.1, np.eye(CLASSES)[y]

    def value(loss, labels):
        logits = tf.constant(z)
        logits._keras_mask = mask
        return float(loss(labels, logits, sample_weight=weight))

    ours = SmoothedCrossentropy(a, from_logits=True, reduction=reduction)
    keras_own = keras.losses.CategoricalCrossentropy(True, label_smoothing=a, reduction=reduction)
    labels = y if form == "integers" else one_hot
    assert value(ours, labels) == pytest.approx(value(keras_own, one_hot), rel=2e-6)


def test_an_ignored_class_counts_nothing_nor_in_the_mean():
    y, z = case((8,))
    y[[1, 4, 5]] = 255
    loss = SmoothedCrossentropy(0.1, from_logits=True, ignore_class=255)
    kept = y != 255
    expected = reference(np.eye(CLASSES)[y[kept]], z[kept].astype(float), 0.1).mean()
    assert float(loss(y, z)) == pytest.approx(expected, rel=2e-6)
    plain = SmoothedCrossentropy(0.0, from_logits=True, ignore_class=255)
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=255)
    assert float(plain(y, z)) == float(stock(y, z))


def test_classes_may_stand_in_another_axis():
    y, z = case((4, 3))
    moved = np.moveaxis(z, -1, 1)
    loss = SmoothedCrossentropy(0.1, from_logits=True, axis=1)
    expected = float(SmoothedCrossentropy(0.1, from_logits=True)(y, z))
    for labels in (y, y[:, None], np.moveaxis(np.eye(CLASSES)[y], -1, 1)):
        assert float(loss(labels, moved)) == pytest.approx(expected, rel=1e-6)


def test_sixteen_bit_logits_are_summed_in_float32():
    y, z = case((5,))
    halves = tf.cast(z, "bfloat16")
    expected = reference(np.eye(CLASSES)[y], tf.cast(halves, "float64").numpy(), 0.1).mean()
    value = SmoothedCrossentropy(0.1, from_logits=True)(y, halves)
    assert value.dtype == tf.float32
    assert float(value) == pytest.approx(expected, rel=2e-6)


def compiled(loss, activation=None, outputs=CLASSES):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(outputs, activation)])
    model.compile("sgd", loss)
    return model


@pytest.mark.parametrize(("eager", "steps_per_execution"), [(False, 1), (False, 2), (True, 1)])
def test_fit_smooths_and_evaluation_does_not(eager, steps_per_execution):
    x = np.random.default_rng(0).random((8, 3)).astype("float32")
    y = np.arange(8) % CLASSES
    model = compiled(SmoothedCrossentropy(0.1, from_logits=True))
    model.compile(
        keras.optimizers.SGD(0.0),
        SmoothedCrossentropy(0.1, from_logits=True),
        run_eagerly=eager,
        steps_per_execution=steps_per_execution,
    )
    history = model.fit(x, y, validation_data=(x, y), batch_size=4, verbose=0).history
    z, one_hot = model(x).numpy().astype(float), np.eye(CLASSES)[y]
    smooth, plain = reference(one_hot, z, 0.1).mean(), reference(one_hot, z, 0).mean()
    assert abs(smooth - plain) > 1e-3
    assert history["loss"][0] == pytest.approx(smooth, rel=2e-6)
    assert history["val_loss"][0] == pytest.approx(plain, rel=2e-6)
    assert model.evaluate(x, y, verbose=0) == pytest.approx(plain, rel=2e-6)
    assert model.test_on_batch(x, y) == pytest.approx(plain, rel=2e-6)
    assert model.train_on_batch(x, y) == pytest.approx(smooth, rel=2e-6)


def test_two_replicas_smooth_in_training_and_not_in_evaluation():
    x, y = np.ones((8, 3), "float32"), np.arange(8) % CLASSES
    with mirrored().scope():
        model = compiled(SmoothedCrossentropy(0.1, from_logits=True))
        model.optimizer.learning_rate = 0.0
    history = model.fit(x, y, validation_data=(x, y), verbose=0, shuffle=False).history
    z, one_hot = model(x).numpy().astype(float), np.eye(CLASSES)[y]
    assert history["loss"][0] == pytest.approx(reference(one_hot, z, 0.1).mean(), rel=2e-6)
    assert history["val_loss"][0] == pytest.approx(reference(one_hot, z, 0).mean(), rel=2e-6)


def test_a_direct_call_smooths_and_the_innermost_step_decides():
    def test_step(inner):
        return inner()

    def train_step(inner):
        return inner()

    assert not evaluating()
    assert test_step(evaluating)
    assert not test_step(lambda: train_step(evaluating))
    assert train_step(lambda: test_step(evaluating))


def test_a_softmax_model_is_trained_from_its_logits():
    # Probabilities that round to 0 have a finite, exact loss, as in Keras's own.
    model = compiled(SmoothedCrossentropy(0.1), "softmax", 3)
    model.layers[-1].kernel.assign(200.0 * np.eye(3))
    x, y = np.eye(3, dtype="float32"), np.array([1, 2, 0])
    expected = reference(np.eye(3)[y], 200 * np.eye(3), 0.1).mean()
    assert model.train_on_batch(x, y) == pytest.approx(expected, rel=1e-6)


def test_a_model_with_it_is_saved_and_loaded(tmp_path):
    loss = SmoothedCrossentropy(0.2, True, ignore_class=3, reduction="sum", name="mine")
    again = SmoothedCrossentropy.from_config(json.loads(json.dumps(loss.get_config())))
    assert again.get_config() == loss.get_config()
    y, z = case((5,))
    assert float(again(y, z)) == float(loss(y, z))
    for made in (loss, smoothed("binary_crossentropy").loss):
        model = compiled(made)
        model.fit(np.ones((2, 3)), np.zeros((2, CLASSES)), verbose=0) if made is not loss else None
        model.save(tmp_path / "m.keras")
        loaded = keras.saving.load_model(tmp_path / "m.keras")
        assert loaded.loss.get_config() == made.get_config()


@pytest.mark.parametrize("a", [-0.1, 1.0, 2, float("nan"), "0.1", None, True])
def test_a_smoothing_out_of_range_is_refused(a):
    with pytest.raises(ValueError, match=r"`label_smoothing` must be in \[0, 1\). Received"):
        SmoothedCrossentropy(a)


@pytest.mark.parametrize(
    ("labels", "predictions"),
    [((4, 3), (4, 5)), ((4, 1), (4, 1)), ((4, 2, 2), (4, 5)), ((4,), (4, 1))],
)
def test_shapes_that_fit_neither_form_are_refused(labels, predictions):
    with pytest.raises(ValueError, match="labels must be integers") as caught:
        SmoothedCrossentropy(0.1)(np.zeros(labels), np.ones(predictions))
    assert "\n" not in str(caught.value)


def test_labels_of_unknown_width_are_not_broadcast():
    loss = SmoothedCrossentropy(0.1, from_logits=True)

    @tf.function(input_signature=[tf.TensorSpec((None, None)), tf.TensorSpec((None, 3))])
    def value(labels, logits):
        return loss(labels, logits)

    z = tf.constant([[1.0, 2.0, 3.0]])
    assert float(value(tf.constant([[0.0, 1, 0]]), z)) == pytest.approx(float(loss([1], z)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        value(tf.constant([[1.0]]), z)


def test_labels_of_unknown_rank_are_refused():
    @tf.function(input_signature=[tf.TensorSpec(None), tf.TensorSpec((None, 3))])
    def value(labels, logits):
        return SmoothedCrossentropy(0.1)(labels, logits)

    with pytest.raises(ValueError, match="labels of shape unknown"):
        value.get_concrete_function()


K = keras.losses
SPARSE = {"from_logits": True, "ignore_class": 3, "reduction": "sum", "name": "mine"}
TWINS = [
    ("sparse_categorical_crossentropy", SmoothedCrossentropy, {"from_logits": False}),
    ("SparseCategoricalCrossentropy", SmoothedCrossentropy, {"from_logits": False}),
    (K.sparse_categorical_crossentropy, SmoothedCrossentropy, {"from_logits": False}),
    (K.SparseCategoricalCrossentropy(**SPARSE), SmoothedCrossentropy, SPARSE),
    (
        K.CategoricalCrossentropy(True, axis=1, reduction="sum"),
        SmoothedCrossentropy,
        {"from_logits": True, "axis": 1, "reduction": "sum"},
    ),
    ("categorical_crossentropy", SmoothedCrossentropy, {"from_logits": False}),
    (
        {"class_name": "CategoricalCrossentropy", "config": {"from_logits": True}},
        SmoothedCrossentropy,
        {"from_logits": True},
    ),
    ("bce", SmoothedInTraining, {}),
    (K.BinaryCrossentropy(from_logits=True), SmoothedInTraining, {}),
    (K.BinaryFocalCrossentropy(gamma=3.0), SmoothedInTraining, {}),
    ("categorical_focal_crossentropy", SmoothedInTraining, {}),
]


@pytest.mark.parametrize(("loss", "kind", "config"), TWINS)
def test_the_twin_has_the_arguments_of_the_original(loss, kind, config):
    twin, reason = smoothed(loss, 0.2)
    assert type(twin) is kind
    assert twin.label_smoothing == 0.2
    assert {key: getattr(twin, key) for key in config} == config
    assert reason.endswith("smoothed by 0.2, not in evaluation")
    if isinstance(loss, str) and "_" in loss:
        assert twin.name == loss  # Keras names the output's metric by it
    assert "label_smoothing" not in K.get(loss).__dict__ or K.get(loss).label_smoothing == 0


@pytest.mark.parametrize(
    ("loss", "keyword"),
    [
        (K.BinaryCrossentropy(from_logits=True), {}),
        (K.BinaryFocalCrossentropy(gamma=3.0, alpha=0.3), {"gamma": 3.0, "alpha": 0.3}),
        (K.CategoricalFocalCrossentropy(from_logits=True), {"from_logits": True}),
    ],
)
def test_losses_with_a_smoothing_in_keras_are_theirs_in_training_and_plain_in_evaluation(
    loss, keyword
):
    twin = smoothed(loss, 0.2).loss
    y, z = case((6,))
    y, p = np.eye(CLASSES)[y], softmax(z) if not getattr(loss, "from_logits", False) else z
    config = {**loss.get_config(), "label_smoothing": 0.2}
    assert float(twin(y, p)) == float(type(loss)(**config)(y, p))

    def test_step():
        return float(twin(y, p))

    assert test_step() == float(loss(y, p))
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(twin))
    assert again.get_config() == twin.get_config()


class MyCrossentropy(K.CategoricalCrossentropy):
    pass


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (None, "there is no loss"),
        ("mse", "mse is none of Keras's cross-entropies"),
        (K.Huber(), "Huber is none of Keras's"),
        (lambda y, p: 0.0, "none of Keras's"),
        (MyCrossentropy(), "MyCrossentropy is not Keras's own class"),
        (K.CategoricalCrossentropy(label_smoothing=0.05), "has label_smoothing 0.05 of its own"),
        (SmoothedCrossentropy(0.3), "has label_smoothing 0.3 of its own"),
        (SmoothedInTraining(K.BinaryCrossentropy()), "has label_smoothing 0.1 of its own"),
        ("crossentropy", "leaves open which"),
        ([], "there is no loss"),
    ],
)
def test_what_cannot_be_smoothed_says_why(loss, words):
    twin, reason = smoothed(loss)
    assert twin is None
    assert words in reason


def test_a_smoothing_of_zero_leaves_the_loss():
    assert smoothed("categorical_crossentropy", 0.0) == (
        None,
        "not smoothed: label smoothing is 0",
    )


def test_structures_are_mapped_and_the_rest_stays():
    mapped, reason = smoothed({"a": "sparse_categorical_crossentropy", "b": "mse"})
    assert type(mapped["a"]) is SmoothedCrossentropy
    assert mapped["b"] == "mse"
    assert reason.startswith("a: sparse_categorical_crossentropy smoothed by 0.1")
    assert reason.endswith("b: not smoothed: mse is none of Keras's cross-entropies")
    mapped, _ = smoothed(["mse", K.BinaryCrossentropy()])
    assert mapped[0] == "mse"
    assert type(mapped[1]) is SmoothedInTraining
    assert smoothed({"a": "mse"}).loss is None


def test_a_name_that_is_no_loss_is_refused():
    with pytest.raises(ValueError, match="nonsense"):
        smoothed("nonsense")


def test_integer_labels_cost_no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled(SmoothedCrossentropy(0.1), "softmax").fit(
            np.ones((4, 3)), np.zeros(4, "int64"), verbose=0
        )
