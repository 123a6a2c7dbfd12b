import keras
import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.arithmetic.smoothing import SmoothedCrossentropy, smoothed
from tfrecipes.doctor import checks
from tfrecipes.doctor.checks import look_once

X = np.ones((6, 3), "float32")
INTS = np.array([0, 1, 2, 0, 1, 2])
ONE_HOT = np.eye(3)[INTS]
SPARSE, CATEGORICAL = "sparse_categorical_crossentropy", "categorical_crossentropy"
OUT = (None, 3)


def spoilt(array, index, value):
    array = array.astype("float32")
    array[index] = value
    return array


GOOD = [
    ({"x": X},),
    ({"x": X, "y": INTS, "loss": SPARSE, "output_shape": OUT},),
    ({"x": X, "y": INTS[:, None].astype("float32"), "loss": SPARSE, "output_shape": OUT},),
    ({"x": X, "y": INTS > 0, "loss": SPARSE, "output_shape": OUT},),
    ({"x": X, "y": ONE_HOT, "loss": CATEGORICAL, "output_shape": OUT},),
    ({"x": X, "y": ONE_HOT * 0.9 + 0.03, "loss": CATEGORICAL, "output_shape": OUT},),
    ({"x": X, "y": INTS, "loss": SmoothedCrossentropy(), "output_shape": OUT},),
    ({"x": X, "y": ONE_HOT, "loss": SmoothedCrossentropy(), "output_shape": OUT},),
    ({"x": X, "y": INTS % 2, "loss": "bce", "output_shape": (None, 1)},),
    ({"x": X, "y": INTS * 0.5, "loss": "mse", "output_shape": (None, 1)},),
    ({"x": X, "y": ONE_HOT, "loss": lambda y, p: 0.0, "output_shape": (None, 7)},),
    ({"x": X, "y": INTS, "sample_weight": np.arange(6)},),
    ({"x": X, "input_shapes": (None, 3)},),
    ({"x": X, "input_shapes": (None, 3, 1)},),
    ({"x": X[..., None], "input_shapes": (None, None)},),
    ({"x": {"a": X, "b": X}, "input_shapes": {"a": (None, 3), "b": (None, 3)}},),
    ({"x": [X, X[:, :2]], "input_shapes": [(None, 3), (None, 2)]},),
    ({"x": X, "y": [INTS, ONE_HOT], "loss": [SPARSE, CATEGORICAL], "output_shape": [OUT, OUT]},),
    ({"x": X, "y": [INTS, INTS], "loss": SPARSE, "output_shape": OUT},),
    ({"x": X, "y": {"a": INTS, "b": ONE_HOT}, "loss": {"b": CATEGORICAL, "a": SPARSE}},),
    (
        {
            "x": X,
            "y": np.array([0, 255, 2, 0, 1, 2]),
            "output_shape": OUT,
            "loss": keras.losses.SparseCategoricalCrossentropy(ignore_class=255),
        },
    ),
    ({"x": tf.ones((6, 3)), "y": tf.constant(INTS), "loss": SPARSE, "output_shape": OUT},),
    ({"x": tf.cast(X, "bfloat16")},),
    ({"x": tf.ragged.constant([[1.0], [2.0, 3.0]])},),
    ({"x": np.array(["a", "b"], object)},),
    (
        {
            "x": np.zeros((2, 4), int),
            "y": np.zeros((2, 4), int),
            "loss": SPARSE,
            "output_shape": (None, 4, 9),
        },
    ),
]


@pytest.mark.parametrize("arguments", [case[0] for case in GOOD])
def test_good_data_pass(arguments):
    look_once(**arguments)


BAD = [
    ({"x": X[:0]}, "there must be samples. Received: arrays with 0 rows"),
    ({"x": X, "y": INTS[:5]}, "x has 6, y has 5"),
    ({"x": X, "y": INTS, "sample_weight": np.ones(4)}, "sample_weight has 4"),
    (
        {"x": spoilt(X, (2, 1), np.nan)},
        r"x, where 1 value is NaN or infinite, the first at \[2, 1\]",
    ),
    ({"x": spoilt(X, slice(4, 6), np.inf)}, r"x, where 6 values are NaN .* at \[4, 0\]"),
    ({"x": {"a": X, "b": spoilt(X, 1, np.nan)}}, r"x\['b'\], where 3 values"),
    ({"x": tf.constant(spoilt(X, (5, 0), np.nan), tf.bfloat16)}, r"at \[5, 0\]"),
    (
        {"x": X, "y": spoilt(INTS, 3, np.nan)},
        "y, where 1 value is NaN or infinite, the first at row 3",
    ),
    ({"x": np.array([1.0, None], object)}, "x of dtype object"),
    (
        {"x": X, "input_shapes": (None, 4)},
        r"shape \(n, 4\), which .* Received: x of shape \(6, 3\)",
    ),
    ({"x": X, "input_shapes": (None, 8, 8, 1)}, r"shape \(n, 8, 8, 1\)"),
    ({"x": X, "input_shapes": [(None, 3), (None, 3)]}, "1 for 2. Give a list or a dict"),
    ({"x": {"a": X}, "input_shapes": {"a": (None, 3), "b": (None, 3)}}, "Received: a. Add b"),
    (
        {"x": X, "y": INTS + 1, "loss": SPARSE, "output_shape": OUT},
        "labels must be from 0 to 2 for the 3 outputs of the model. Received: y from 1 to 3, the "
        "first outside at row 2",
    ),
    (
        {"x": X, "y": INTS - 1, "loss": SPARSE, "output_shape": OUT},
        "from -1 to 1, the first outside at row 0",
    ),
    ({"x": X, "y": INTS - 1, "loss": SPARSE}, "labels must not be negative"),
    ({"x": X, "y": INTS + 1, "loss": SmoothedCrossentropy(), "output_shape": OUT}, "from 0 to 2"),
    (
        {"x": X, "y": ONE_HOT, "loss": SPARSE, "output_shape": OUT},
        "one-hot .* use categorical_crossentropy",
    ),
    (
        {"x": X, "y": INTS * 0.5, "loss": SPARSE, "output_shape": OUT},
        "where 2 are not, the first at row 1",
    ),
    (
        {"x": X, "y": np.zeros((6, 2, 2)), "loss": SPARSE, "output_shape": OUT},
        r"the shape \(n,\) for a sparse",
    ),
    (
        {"x": X, "y": INTS, "loss": CATEGORICAL, "output_shape": OUT},
        "Use sparse_categorical_crossentropy",
    ),
    ({"x": X, "y": INTS, "loss": keras.losses.CategoricalCrossentropy()}, "labels must be one-hot"),
    (
        {"x": X, "y": INTS[:, None], "loss": CATEGORICAL, "output_shape": OUT},
        "labels must be one-hot",
    ),
    (
        {"x": X, "y": ONE_HOT, "loss": CATEGORICAL, "output_shape": (None, 4)},
        r"the shape \(n, 4\) of the model",
    ),
    ({"x": X, "y": -ONE_HOT, "loss": CATEGORICAL, "output_shape": OUT}, "must not be negative"),
    (
        {"x": X, "y": INTS, "loss": "bce", "output_shape": (None, 1)},
        "labels must be from 0 to 1 .* at row 2",
    ),
    ({"x": X, "y": INTS, "loss": smoothed("bce").loss}, "labels must be from 0 to 1"),
    (
        {"x": X, "y": INTS, "loss": "mse", "output_shape": OUT},
        r"the shape \(n, 3\) of the model's output",
    ),
    (
        {"x": X, "y": ONE_HOT, "loss": "mse", "output_shape": (None, 1)},
        r"Received: y of shape \(6, 3\)",
    ),
    ({"x": X, "y": np.array(list("abcabc")), "loss": SPARSE}, "labels must be numbers"),
    (
        {
            "x": X,
            "y": {"a": INTS, "b": INTS},
            "loss": SPARSE,
            "output_shape": {"a": OUT, "b": (None, 2)},
        },
        r"from 0 to 1 for the 2 outputs of the model. Received: y\['b'\]",
    ),
    ({"x": X, "y": [INTS, INTS], "loss": [SPARSE, CATEGORICAL]}, r"Received: y\[1\] of shape"),
    ({"x": X, "y": INTS, "sample_weight": INTS - 1}, "where 2 are, the first at row 0"),
    (
        {"x": X, "y": INTS, "sample_weight": spoilt(INTS, 4, np.nan)},
        "sample_weight, where 1 value is NaN",
    ),
    ({"x": X, "y": INTS, "sample_weight": np.zeros(6)}, "sample_weight, all 0"),
    ({"x": X, "y": INTS, "sample_weight": np.array(list("abcabc"))}, "weights must be numbers"),
]


@pytest.mark.parametrize(("arguments", "sentence"), BAD)
def test_bad_data_get_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        look_once(**arguments, where="training data")
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("training data: ")


def test_large_arrays_are_looked_at_in_pieces(monkeypatch):
    monkeypatch.setattr(checks, "CHUNK_BYTES", 40)
    x = spoilt(np.zeros((100, 2)), ([57, 99], [1, 0]), np.nan)
    with pytest.raises(ValueError, match=r"2 values are .* the first at \[57, 1\]"):
        look_once(x)
