"""What every test may count on: two CPU devices, the same start, one tiny problem."""

import os
import random
import subprocess
import sys

import numpy as np
import pytest

from tests import tiny
from tests.contracts.tree import ROOT


def test_there_are_two_cpu_devices():
    import tensorflow as tf

    assert len(tf.config.list_logical_devices("CPU")) == 2


@pytest.mark.parametrize("turn", [1, 2])
def test_a_test_starts_with_the_same_seeds_names_and_policy_whatever_ran_before(turn):
    import keras

    assert keras.config.dtype_policy().name == "float32"
    assert random.random() == 0.8444218515250481
    assert np.random.random() == 0.5488135039273248
    assert keras.layers.Dense(1).name == "dense"
    keras.config.set_dtype_policy("mixed_bfloat16")


def test_pictures_are_drawn_without_a_screen():
    assert os.environ["MPLBACKEND"] == "Agg"


@pytest.mark.parametrize("build", [tiny.model, tiny.dense_model])
def test_the_tiny_fit_learns_and_is_the_same_every_time(build):
    first, second = build(), build()
    history = tiny.fit(first, epochs=5)
    tiny.fit(second, epochs=5)
    assert history.history["loss"][-1] < history.history["loss"][0]
    for value, again in zip(tiny.weights(first), tiny.weights(second), strict=True):
        np.testing.assert_array_equal(value, again)


def test_tiny_data_of_another_seed_are_other_samples_of_one_problem():
    (x, y), (other, _) = tiny.data(), tiny.data(seed=1)
    assert x.shape == other.shape == (tiny.SAMPLES, tiny.FEATURES)
    assert not np.array_equal(x, other)
    assert set(y) == set(range(tiny.CLASSES))
    np.testing.assert_array_equal(np.argmax(tiny.one_hot(y), axis=1), y)


def test_the_tests_refuse_another_backend_in_one_sentence():
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", __file__],
        cwd=ROOT,
        env=os.environ | {"KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == pytest.ExitCode.USAGE_ERROR
    assert "KERAS_BACKEND must be tensorflow. Received: KERAS_BACKEND='jax'." in run.stderr
