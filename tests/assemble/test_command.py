"""`assemble.train`: a target or the demo, to an exit code."""

import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny
from tfrecipes.assemble import command, running
from tfrecipes.callbacks.resume import Preempted
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import read_run
from tfrecipes.training.targets import TargetError

RECIPE = tfr.Recipe.load("tiny").replace(
    **{"train.epochs": 1, "train.batch_size": 32, "step.jit": False}
)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "write_report", lambda path: None)


@pytest.fixture
def target(tmp_path):
    """Writes a target's file and gives its words."""

    def write(body, name="make"):
        path = tmp_path / "target.py"
        path.write_text(f"import keras, numpy as np\nfrom tests import tiny\n{body}\n")
        return f"{path}:{name}"

    return write


def archive(path, **changes):
    x, y = tiny.data()
    np.savez(path, **({"x_train": x, "y_train": y} | changes))
    return path


def train(*arguments, recipe=RECIPE, **named):
    return command.train(recipe, *arguments, **({"verbose": 0} | named))


def test_a_target_brings_model_data_and_validation_data(target, tmp_path):
    words = target("def make(): return tiny.dense_model(), tiny.data(), tiny.data(seed=1)")
    assert train(words, out=tmp_path / "run") == 0
    assert "val_accuracy" in read_run(tmp_path / "run").epochs


def test_data_of_a_target_are_not_split(target, tmp_path):
    assert train(target("def make(): return tiny.dense_model(), tiny.data()"), out="run") == 0
    assert "val_loss" not in read_run(tmp_path / "run").epochs
    assert read_run(tmp_path / "run").steps["samples"].sum() == tiny.SAMPLES


def test_an_archive_beats_the_targets_data_and_is_split(target, tmp_path):
    words = target("def make(): return tiny.dense_model(), 'nothing that fits'")
    assert train(words, data=archive(tmp_path / "file.npz"), out="run") == 0
    run = read_run(tmp_path / "run")
    assert run.steps["samples"].sum() == round(0.9 * tiny.SAMPLES)
    assert "val_accuracy" in run.epochs


def test_a_target_is_called_under_the_recipes_seed_and_precision(target, tmp_path):
    words = target(
        "def make():\n"
        "    print(keras.config.dtype_policy().name, np.random.rand())\n"
        "    return tiny.dense_model(), tiny.data()"
    )
    recipe = RECIPE.replace(**{"step.precision": "bfloat16", "train.seed": 5})
    assert train(words, recipe=recipe, out="one") == 0
    np.random.rand(3)
    assert train(words, recipe=recipe, out="two") == 0
    one, two = read_run(tmp_path / "one"), read_run(tmp_path / "two")
    assert one.environment["precision"] == "mixed_bfloat16"
    assert one.epochs["loss"].tolist() == two.epochs["loss"].tolist()


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("def other(): pass", "must have a function make"),
        ("def make(): return 3", "must return a Keras model"),
        ("def make(): return tiny.data()", "must return a Keras model"),
        ("def make(): raise KeyError('gone')", "KeyError: 'gone'"),
        ("def make(): return tiny.dense_model()", "returns a model without data"),
        ("import not_there", "not_there"),
    ],
)
def test_a_target_that_gives_something_else_is_one_sentence(target, body, sentence, tmp_path):
    with pytest.raises(TargetError, match=sentence) as refused:
        train(target(body))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "runs").exists()


def test_the_demos_data_are_split_by_the_seed(monkeypatch):
    seen = {}

    def look(recipe, model, data, **named):
        seen[recipe.train.seed] = data[0], named["validation_data"][0]
        return running.Outcome(None, 0)

    monkeypatch.setattr(command, "run", look)
    for seed in (0, 1):
        assert train(recipe=RECIPE.replace(**{"train.seed": seed})) == 0
    (x, x_val), (other, _) = seen[0], seen[1]
    assert (len(x), len(x_val)) == (1438, 359)
    assert not np.array_equal(x, other)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (Preempted("SIGTERM", None), 75, "Stopped by SIGTERM"),
        (RunWriteError("run/model.keras", OSError(28, "No space left on device")), 1, "No space"),
    ],
)
def test_ends_that_are_no_success_have_their_code(error, code, said, target, monkeypatch, capsys):
    def end(*_, **__):
        raise error

    monkeypatch.setattr(command, "run", end)
    assert train(target("def make(): return tiny.dense_model(), tiny.data()")) == code
    assert said in capsys.readouterr().out


def test_the_code_is_4_when_training_was_not_finite(target, tmp_path):
    words = target(
        "import tensorflow as tf\n"
        "def make():\n"
        "    x, y = tiny.data()\n"
        "    return tiny.dense_model(), tf.data.Dataset.from_tensor_slices((x * np.nan, y)).batch(8)"
    )
    recipe = RECIPE.replace(**{"step.max_bad_steps": 3})
    assert train(words, recipe=recipe, out="run") == 4
    assert read_run(tmp_path / "run").findings[0]["rule"] == "not_finite"


@pytest.mark.slow
def test_the_demo_learns_its_digits(tmp_path):
    accuracies = []
    for seed in range(5):
        recipe = tfr.Recipe.load("default").replace(**{"train.seed": seed})
        assert train(recipe=recipe, out=tmp_path / str(seed)) == 0
        accuracies.append(read_run(tmp_path / str(seed)).epochs["val_accuracy"][-1])
    # Ten seeds gave 98.6 to 99.7 %.
    assert np.mean(accuracies) >= 0.98
    assert np.min(accuracies) >= 0.975
