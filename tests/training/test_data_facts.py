"""Facts of arrays: what rules read of the data, with nothing changed."""

import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.training import data_facts as module
from tfrecipes.training.data_facts import data_facts


def facts(x, y=None):
    found = data_facts(x, y)
    assert found is not None
    return found[0]


def test_inputs_are_described_by_what_is_finite():
    x = np.array([[1.0, 7.0], [3.0, 7.0], [np.nan, 7.0]], "float32")
    (one,) = facts(x)["inputs"]
    assert (one["name"], one["shape"], one["dtype"]) == ("x", [2], "float32")
    assert (one["min"], one["max"], one["not_finite"]) == (1.0, 7.0, 1)
    assert one["mean"] == pytest.approx(np.mean([1, 3, 7, 7, 7]))
    assert one["constant_features"] == 1


def test_several_inputs_have_their_names_and_rows_repeat_only_as_a_whole():
    x = {"a": np.array([[1], [1], [1]]), "b": np.array([0.0, 1.0, 0.0])}
    found = facts(x)
    assert [one["name"] for one in found["inputs"]] == ["a", "b"]
    assert found["repeated"] == 1


@pytest.mark.parametrize(
    ("y", "kind", "classes", "counts", "is_sorted"),
    [
        (np.array([0, 2, 1, 2]), "integer", 3, [1, 1, 2], False),
        (np.array([[0], [0], [1], [2]]), "integer", 3, [2, 1, 1], True),
        (np.array([0.0, 1.0, 1.0, 0.0]), "binary", 2, [2, 2], False),
        (np.eye(3)[[0, 2, 2, 0]], "one-hot", 3, [2, 0, 2], False),
        (np.array([[0, 5], [1, 1], [1, 2], [0, 0]]), "integer", 6, [3, 3, 1, 0, 0, 1], False),
        (np.array([0.5, -1.0, 2.0, 0.1]), "real", None, None, False),
        (np.array([0.5, np.nan, 2.0, 0.1]), "real", None, None, False),
        (np.array([-1, 0, 1, 1]), "real", None, None, False),
    ],
)
def test_labels_are_of_a_kind(y, kind, classes, counts, is_sorted):
    found = facts(np.arange(4.0), y)["labels"]
    assert found["kind"] == kind
    assert (found["classes"], found["counts"], found["sorted"]) == (classes, counts, is_sorted)


def test_equal_rows_of_two_arrays_have_equal_numbers_whatever_their_floats():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3)).astype("float32")
    _, train = data_facts(x)
    _, validation = data_facts(np.concatenate([x[2:4].astype("float64"), x[:1] + 1]))
    assert len(train & validation) == 2


def test_only_so_many_rows_are_looked_at_evenly(monkeypatch):
    monkeypatch.setattr(module, "MOST_ROWS", 10)
    found = facts(np.arange(100.0), np.repeat(np.arange(10), 10))
    assert (found["samples"], found["looked_at"]) == (100, 10)
    assert found["inputs"][0]["max"] == 90.0
    assert found["labels"]["counts"] == [1] * 10


def test_wide_rows_are_fewer(monkeypatch):
    monkeypatch.setattr(module, "MOST_BYTES", 8 * 100)
    assert facts(np.zeros((1000, 10)))["looked_at"] == 10


def test_tensors_are_arrays_and_nothing_is_changed():
    x = np.random.default_rng(0).normal(size=(5, 2))
    before, state = x.copy(), np.random.get_state()[1].copy()
    assert facts(tf.constant(x))["samples"] == 5
    facts(x)
    assert np.array_equal(x, before)
    assert np.array_equal(np.random.get_state()[1], state)


@pytest.mark.parametrize("x", [np.array(["a", "b"]), tf.ragged.constant([[1], [1, 2]]), 3])
def test_what_is_no_array_of_numbers_has_no_facts(x):
    assert data_facts(x) is None
