import keras
import numpy as np
import pytest

from tfrecipes.training.inferred_loss import infer_loss, infer_metrics

L = keras.layers
INTS = np.array([0, 2, 1, 2])
ZERO_ONE = np.array([0, 1, 1, 0])


def dense(units, activation=None, *after):
    return keras.Sequential([keras.Input((4,)), L.Dense(units, activation), *after])


def functional(units, last):
    x = keras.Input((4,))
    return keras.Model(x, last(L.Dense(units)(x)))


class Subclassed(keras.Model):
    def __init__(self, units, activation=None):
        super().__init__()
        self.head = L.Dense(units, activation)

    def call(self, x):
        return self.head(x)


SPARSE, ONE_HOT = "SparseCategoricalCrossentropy", "CategoricalCrossentropy"
BINARY, MSE = "BinaryCrossentropy", "MeanSquaredError"

CASES = [
    (INTS, lambda: dense(3), SPARSE, True),
    (INTS[:, None], lambda: dense(3), SPARSE, True),
    (INTS.astype("float32"), lambda: dense(3), SPARSE, True),
    (INTS.astype("uint8"), lambda: dense(3, "softmax"), SPARSE, False),
    (ZERO_ONE, lambda: dense(2), SPARSE, True),
    (ZERO_ONE.astype(bool), lambda: dense(2), SPARSE, True),
    (INTS, lambda: dense(3, None, L.Softmax()), SPARSE, False),
    (INTS, lambda: dense(3, None, L.Activation("softmax")), SPARSE, False),
    (INTS, lambda: dense(3, "softmax", L.Activation("linear", dtype="float32")), SPARSE, False),
    (INTS, lambda: dense(3, "softmax", L.Dropout(0.1), L.Reshape((3,))), SPARSE, False),
    (INTS, lambda: dense(8, "softmax", L.Dense(3)), SPARSE, True),
    (INTS, lambda: keras.Sequential([keras.Input((4,)), dense(3, "softmax")]), SPARSE, False),
    (INTS, lambda: functional(3, keras.ops.softmax), SPARSE, False),
    (
        INTS,
        lambda: functional(3, lambda t: keras.ops.cast(keras.ops.softmax(t), "float16")),
        SPARSE,
        False,
    ),
    (INTS, lambda: functional(3, lambda t: t * 2), SPARSE, True),
    (
        INTS,
        lambda: functional(3, keras.Sequential([keras.Input((3,)), L.Softmax()])),
        SPARSE,
        False,
    ),
    (INTS, lambda: Subclassed(3), SPARSE, True),
    (INTS, lambda: Subclassed(3, "softmax"), SPARSE, False),
    (INTS, lambda: keras.Sequential([L.Dense(3)]), SPARSE, True),
    (
        np.zeros((2, 4), int),
        lambda: keras.Sequential([keras.Input((4, 1)), L.Dense(5)]),
        SPARSE,
        True,
    ),
    (np.eye(3)[INTS], lambda: dense(3), ONE_HOT, True),
    (np.eye(3, dtype=int)[INTS], lambda: dense(3, "softmax"), ONE_HOT, False),
    (np.eye(3)[INTS], lambda: Subclassed(3), ONE_HOT, True),
    (np.eye(3)[INTS] * 0.8 + 0.2 / 3, lambda: dense(3, "softmax"), ONE_HOT, False),
    (ZERO_ONE, lambda: dense(1), BINARY, True),
    (ZERO_ONE[:, None].astype("float32"), lambda: dense(1, "sigmoid"), BINARY, False),
    (ZERO_ONE, lambda: Subclassed(1, "sigmoid"), BINARY, False),
    (np.array([[1, 1, 0], [0, 0, 0]]), lambda: dense(3, "sigmoid"), BINARY, False),
    (np.array([0.5, 2.0]), lambda: dense(1), MSE, None),
    (np.array([[0.5, 2.0, 1.0]]), lambda: dense(3), MSE, None),
    (np.array([1.0, 5.0]), lambda: dense(1), MSE, None),
]


@pytest.mark.parametrize(("y", "make", "kind", "from_logits"), CASES)
def test_the_loss_follows_from_labels_and_last_activation(y, make, kind, from_logits):
    loss, reason = infer_loss(y, make())
    assert type(loss).__name__ == kind
    assert getattr(loss, "from_logits", None) == from_logits
    if from_logits is not None:
        assert ("from logits" if from_logits else "from probabilities") in reason


def two_outputs():
    x = keras.Input((4,))
    return keras.Model(x, [L.Dense(3, "softmax", name="kind")(x), L.Dense(1, name="size")(x)])


def test_each_of_several_outputs_has_its_own():
    labels = [INTS, np.array([0.5, 1.5, 2.5, 3.5])]
    losses, reason = infer_loss(labels, two_outputs())
    assert [type(loss).__name__ for loss in losses] == [SPARSE, MSE]
    assert losses[0].from_logits is False
    assert reason.startswith("0: sparse categorical cross-entropy from probabilities")
    named, _ = infer_loss({"size": labels[1], "kind": labels[0]}, two_outputs())
    assert {key: type(loss).__name__ for key, loss in named.items()} == {
        "kind": SPARSE,
        "size": MSE,
    }
    assert infer_metrics(losses) == [["accuracy"], []]
    assert infer_metrics(named) == {"kind": ["accuracy"], "size": []}


def test_without_labels_there_is_no_loss():
    loss, reason = infer_loss(None, dense(3))
    assert loss is None
    assert "no labels" in reason


@pytest.mark.parametrize(
    ("y", "make", "words"),
    [
        (INTS, lambda: two_outputs(), "labels of one output for a model of 2"),
        ([INTS] * 3, lambda: two_outputs(), "whose outputs are"),
        ({"kind": INTS, "sise": INTS}, lambda: two_outputs(), "sise"),
        ([INTS, INTS], lambda: Subclassed(3), "not known beforehand"),
        (INTS, lambda: dense(1), "whole numbers other than 0 and 1 for one output"),
        (ZERO_ONE, lambda: keras.Sequential([Subclassed(2)]), "not known beforehand"),
        (np.array(["a", "b"]), lambda: dense(2), "labels of dtype"),
        (np.array([[1, 2, 0], [2, 0, 0]]), lambda: dense(3), "that are not one-hot for 3 outputs"),
    ],
)
def test_what_is_open_asks_for_the_loss(y, make, words):
    with pytest.raises(ValueError, match="Give it: loss=") as caught:
        infer_loss(y, make())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_accuracy_of_a_binary_loss_has_the_right_threshold():
    logits, y = np.array([[-1.0], [0.3], [2.0]]), np.array([[0], [1], [1]])
    (metric,) = infer_metrics(keras.losses.BinaryCrossentropy(from_logits=True))
    assert metric.name == "accuracy"
    metric.update_state(y, logits)
    assert float(metric.result()) == 1.0
    (metric,) = infer_metrics("bce")
    metric.update_state(y, 1 / (1 + np.exp(-logits)))
    assert float(metric.result()) == 1.0


@pytest.mark.parametrize(
    ("loss", "metrics"),
    [
        ("categorical_crossentropy", ["accuracy"]),
        (keras.losses.SparseCategoricalCrossentropy(), ["accuracy"]),
        (keras.losses.categorical_crossentropy, ["accuracy"]),
        (keras.losses.Huber(), []),
        (None, []),
    ],
)
def test_classification_is_watched_by_accuracy(loss, metrics):
    assert infer_metrics(loss) == metrics
