import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.training.labels import class_ids, class_weights, split


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 4), min_size=10, max_size=80),
    share=st.sampled_from([0.1, 0.2, 0.25, 0.5]),
    seed=st.integers(0, 2**32),
    one_hot=st.booleans(),
)
def test_split_is_a_partition_stratified_to_within_one_sample(labels, share, seed, one_hot):
    labels = np.array(labels)
    y = np.eye(5)[labels] if one_hot else labels
    (x, _), (x_val, y_val) = split(np.arange(len(labels)), y, share, seed)
    np.testing.assert_array_equal(np.sort(np.concatenate([x, x_val])), np.arange(len(labels)))
    assert len(x_val) == round(share * len(labels))
    assert (np.diff(x) > 0).all()
    np.testing.assert_array_equal(class_ids(y_val), labels[x_val])
    wanted = np.bincount(labels, minlength=5) * len(x_val) / len(labels)
    assert (np.abs(np.bincount(labels[x_val], minlength=5) - wanted) < 1).all()


def test_split_depends_on_the_seed_alone():
    x, y = np.arange(100), np.arange(100) % 3
    assert np.array_equal(split(x, y, 0.2, 1)[1][0], split(x, y, 0.2, 1)[1][0])
    assert not np.array_equal(split(x, y, 0.2, 1)[1][0], split(x, y, 0.2, 2)[1][0])


def test_split_takes_structures_and_labels_of_any_kind():
    x = {"a": np.arange(10), "b": [np.arange(10) * 2]}
    (kept, y), (held, y_val) = split(x, np.linspace(0, 1, 10), 0.3, 0)
    np.testing.assert_array_equal(kept["b"][0], 2 * kept["a"])
    assert (len(held["a"]), len(y), len(y_val)) == (3, 7, 3)
    assert split(np.arange(10), None, 0.3, 0)[1][1] is None


@pytest.mark.parametrize("share", [0, 1, -0.1, 1.5, float("nan"), "10%", True])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="`share` must be between 0 and 1"):
        split(np.arange(10), None, share)


def test_a_part_without_samples_is_refused():
    with pytest.raises(ValueError, match="both parts must have samples"):
        split(np.arange(3), None, 0.1)


@pytest.mark.parametrize(
    "y",
    [
        np.array([2, 0, 1]),
        np.array([[2], [0], [1]]),
        np.array([2.0, 0.0, 1.0]),
        np.eye(3, dtype="float32")[[2, 0, 1]],
        np.eye(3, dtype="uint8")[[2, 0, 1]],
    ],
)
def test_class_weights_of_integer_and_one_hot_labels(y):
    np.testing.assert_array_equal(class_weights(y, {0: 3.0, 2: 0.5}), [0.5, 3, 1])
    np.testing.assert_array_equal(class_weights(y, {0: 3.0}, [1, 2, 4]), [1, 6, 4])
    np.testing.assert_array_equal(class_weights(y, {0: 3.0}, [[1], [2], [4]]), [1, 6, 4])
    assert class_weights(y, {7: 2}).dtype == np.float32


@pytest.mark.parametrize(
    ("y", "weights", "sample_weight", "sentence"),
    [
        (np.array([[0.9, 0.1]]), {0: 1.0}, None, "soft labels of shape"),
        (np.zeros((2, 4, 4), int), {0: 1.0}, None, "label maps of shape"),
        (np.zeros((2, 4), int), {0: 1.0}, None, "label maps of shape"),
        (np.array([0.5, 1.0]), {0: 1.0}, None, "labels that are not classes"),
        ([np.zeros(2, int)] * 2, {0: 1.0}, None, "labels of 2 outputs"),
        (None, {0: 1.0}, None, "no labels"),
        (np.array([-1, 0]), {0: 1.0}, None, "Received: label -1"),
        (np.array([0, 1]), [1.0, 2.0], None, "must be a dict"),
        (np.array([0, 1]), {}, None, "must be a dict"),
        (np.array([0, 1]), {"0": 1.0}, None, "class '0'"),
        (np.array([0, 1]), {-1: 1.0}, None, "class -1"),
        (np.array([0, 1]), {0: float("nan")}, None, "finite number >= 0. Received: nan"),
        (np.array([0, 1]), {0: -1}, None, "Received: -1 for class 0"),
        (np.array([0, 1]), {0: 1.0}, np.ones((2, 3)), "must have the shape"),
    ],
)
def test_class_weights_refuse_in_a_sentence(y, weights, sample_weight, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        class_weights(y, weights, sample_weight)
    assert "\n" not in str(caught.value)


def test_data_made_from_the_same_seed_are_split_at_random_all_the_same():
    x = np.random.default_rng(0).random(1000)
    (train, _), (held_out, _) = split(x, share=0.2, seed=0)
    # The mean of 200 uniform numbers: 5 standard errors are 0.1.
    assert abs(held_out.mean() - train.mean()) < 0.1
