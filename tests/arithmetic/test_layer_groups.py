"""Layer groups: every weight in one of them, few enough, and their norms."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.arithmetic import layer_groups, norms

PATHS = st.lists(
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=4).map("/".join), max_size=60
)


@given(PATHS, st.integers(1, 9))
@settings(max_examples=100, deadline=None)
def test_every_weight_is_in_exactly_one_of_few_groups(paths, most):
    found = layer_groups.groups(paths, most)
    assert sorted(place for group in found for place in group.places) == list(range(len(paths)))
    assert len(found) <= most
    assert len({group.name for group in found}) == len(found)


def test_layers_of_one_level_are_joined_with_their_neighbours():
    found = layer_groups.groups([f"dense_{i}/kernel" for i in range(7)], most=3)
    assert [group.name for group in found] == ["dense_0..dense_2", "dense_3..dense_5", "dense_6"]


def test_what_all_paths_begin_with_is_left_out():
    found = layer_groups.groups(["net/a/kernel", "net/a/bias", "net/b/kernel"])
    assert [group.name for group in found] == ["a", "b"]
    (alone,) = layer_groups.groups(["net/a/kernel", "net/a/bias"])
    assert alone.name == "a"


def test_a_name_becomes_a_column_whatever_is_in_it():
    (group,) = layer_groups.groups(['my "layer", odd\n/kernel'])
    assert group.name == "my _layer__ odd_"


def test_norms_are_what_numpy_says_with_a_weight_without_gradient():
    rng = np.random.default_rng(0)
    tensors = [[rng.normal(size=n).astype("float32") for n in (3, 4, 5)] for _ in range(3)]
    gradients, weights, updates = tensors
    found = layer_groups.groups(["a/x", "b/x", "a/y"])
    given_gradients = [tf.constant(gradients[0]), None, tf.constant(gradients[2])]
    sums = layer_groups.sums_of(
        found,
        layer_groups.places_with_gradient(given_gradients),
        norms.halves(given_gradients),
        norms.halves(weights),
        norms.halves(updates),
    )
    (row,) = layer_groups.norms_of(sums.numpy()[None])
    norm = np.linalg.norm
    expected = [
        norm(np.concatenate([gradients[0], gradients[2]])),
        0.0,
        norm(np.concatenate(updates[::2])) / norm(np.concatenate(weights[::2])),
        norm(updates[1]) / norm(weights[1]),
    ]
    assert row == pytest.approx(expected, rel=1e-6)
    assert layer_groups.names(found) == (
        "grad_norm/a", "grad_norm/b", "update_ratio/a", "update_ratio/b",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "first"),
    [([1.0, 2.0], -1), ([1.0, np.nan, np.inf], 1), ([None, np.inf], 1), ([None], -1)],
)
def test_the_first_gradient_that_is_not_finite(values, first):
    gradients = [None if v is None else tf.constant([0.0, v]) for v in values]
    places = layer_groups.places_with_gradient(gradients)
    assert int(layer_groups.first_not_finite(norms.halves(gradients), places)) == first
