"""`peak_learning_rate = "find"`: found before the run, told, saved, and kept on resume."""

import json

import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.runs.folder import read_run

FAST = {
    "schedule.peak_learning_rate": "find",
    "train.epochs": 2,
    "train.batch_size": 32,
    "step.jit": False,
    "step.precision": "float32",
}


def recipe(**changes):
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return tfr.Recipe.load("default").replace(**(FAST | keys))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """One run that found its rate."""
    folder = tmp_path_factory.mktemp("found") / "run"
    net = tiny.model()
    recipe().fit(net, tiny.data(), directory=folder, verbose=0)
    return folder, tiny.weights(net)


def test_the_found_rate_is_in_the_runs_recipe_and_trains(run):
    folder, weights = run
    found = json.loads((folder / "learning_rate.json").read_text())
    saved = tfr.Recipe.load(folder / "recipe.toml")
    assert saved.schedule.peak_learning_rate == found["suggestion"]
    assert "found by 3 sweeps" in (folder / "recipe.toml").read_text()
    assert (folder / "learning_rate.png").read_bytes()[:4] == b"\x89PNG"
    assert max(read_run(folder).steps["learning_rate"]) <= found["suggestion"] * (1 + 1e-6)
    # The same run with the number written down is the same run.
    net = tiny.model()
    number = {"schedule.peak_learning_rate": found["suggestion"]}
    recipe().replace(**number).fit(net, tiny.data(), directory=folder.parent / "again", verbose=0)
    for a, b in zip(weights, tiny.weights(net), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_finished_run_is_not_searched_again(run, capsys):
    folder, weights = run
    net = tiny.model()
    recipe().fit(net, tiny.data(), directory=folder, verbose=0)
    assert "finished" in capsys.readouterr().out
    np.testing.assert_array_equal(weights[0], tiny.weights(net)[0])


def test_a_resumed_run_keeps_what_was_found(tmp_path, run):
    """A run that is cut after its first epoch goes on with its own rate, to the same weights."""
    import keras

    class Cut(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("cut")

    _, weights = run
    keys = {"resume__every": "1ep"}
    with pytest.raises(RuntimeError, match="cut"):
        recipe(**keys).fit(
            tiny.model(), tiny.data(), directory=tmp_path / "run", callbacks=[Cut()], verbose=0
        )
    found = (tmp_path / "run" / "learning_rate.json").read_text()
    net = tiny.model()
    recipe(**keys).fit(net, tiny.data(), directory=tmp_path / "run", verbose=0)
    assert (tmp_path / "run" / "learning_rate.json").read_text() == found
    for a, b in zip(weights, tiny.weights(net), strict=True):
        np.testing.assert_array_equal(a, b)


def test_it_is_said_in_the_summary(capsys):
    recipe().fit(tiny.dense_model(), tiny.data(), verbose=2)
    out = " ".join(capsys.readouterr().out.split())
    assert "the learning rate was found by 3 sweeps: from" in out


def test_compile_cannot_find(tmp_path):
    with pytest.raises(ValueError, match=r"Use recipe\.fit, or give the number"):
        recipe().compile(tiny.model(), total_steps=10, loss=tiny.loss())


def test_a_generator_is_refused_before_anything_is_trained(tmp_path):
    batches = (tiny.data() for _ in range(3))
    with pytest.raises(ValueError, match="readable more than once"):
        recipe().fit(tiny.model(), batches, steps_per_epoch=2, directory=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    assert len(list(batches)) == 3


def test_a_stream_is_searched_and_class_weights_count():
    x, y = tiny.data()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    history = recipe(train__epochs=1).fit(
        tiny.dense_model(), data, class_weight={0: 1.0, 1: 2.0, 2: 1.0}, verbose=0
    )
    assert np.isfinite(history.history["loss"][0])
