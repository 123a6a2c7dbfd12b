"""`recipe.fit`: whatever it is given, one run, one folder, and the same bits each time."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tests.contracts.tree import ROOT
from tfrecipes.assemble import running
from tfrecipes.runs.folder import read_run
from tfrecipes.views.report import write_report

RECIPE = tfr.Recipe.load("tiny").replace(
    **{"train.epochs": 2, "train.batch_size": 32, "train.seed": 3, "step.jit": False}
)
FILES = {
    "recipe.toml",
    "environment.json",
    "state.json",
    "steps.csv",
    "epochs.csv",
    "findings.json",
    "facts.json",
    "system.csv",
    "layers.csv",
    "model.keras",
    "report.html",
    "checkpoints",
    "events",
    ".lock",
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    """In a folder of its own, and without half a second for pictures that no test looks at."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(running, "write_report", lambda path: None)


@pytest.fixture
def reports(monkeypatch):
    monkeypatch.setattr(running, "write_report", write_report)


def fit(model=tiny.dense_model, data=None, recipe=RECIPE, **arguments):
    return recipe.fit(model, tiny.data() if data is None else data, **({"verbose": 0} | arguments))


def trained(*arguments, **named):
    return tiny.weights(fit(*arguments, **named).model)


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def close(first, second, relative=1e-6):
    for a, b in zip(first, second, strict=True):
        assert np.linalg.norm(a - b) <= relative * max(np.linalg.norm(b), 1e-30)


class Batches(keras.utils.PyDataset):
    def __init__(self, *arrays):
        super().__init__()
        self.arrays = arrays

    def __len__(self):
        return 3

    def __getitem__(self, index):
        return tuple(a[32 * index : 32 * index + 32] for a in self.arrays)


def stream():
    batches = Batches(*tiny.data())
    while True:
        for index in range(3):
            yield batches[index]


# -- data -----------------------------------------------------------------------------------------


def test_streams_of_the_same_batches_give_the_same_bits():
    x, y = tiny.data()
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    by_dataset = trained(data=dataset)
    assert same(by_dataset, trained(data=Batches(x, y)))
    assert same(by_dataset, trained(data=stream(), steps_per_epoch=3))


def test_two_runs_give_the_same_bits_and_another_seed_others():
    model = tiny.model
    first = trained(model)
    assert same(first, trained(model))
    assert not same(first, trained(model, recipe=RECIPE.replace(**{"train.seed": 4})))


def test_a_function_is_called_under_the_recipes_seed():
    def build():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])

    keras.utils.set_random_seed(99)
    first = trained(build)
    assert same(first, trained(build))


def test_several_inputs_and_outputs_have_a_loss_each():
    x, y = tiny.data()
    left, right = keras.Input((8,), name="left"), keras.Input((8,), name="right")
    joined = keras.layers.Concatenate()([left, right])
    model = keras.Model(
        {"left": left, "right": right},
        {
            "kind": keras.layers.Dense(3, name="kind")(joined),
            "size": keras.layers.Dense(1, name="size")(joined),
        },
    )
    history = fit(model, ({"left": x, "right": x}, {"kind": y, "size": x[:, :1]}))
    assert "kind_accuracy" in history.history
    assert model.loss["size"].name == "mean_squared_error"


def test_data_of_unknown_length_need_steps_per_epoch():
    with pytest.raises(ValueError, match="Pass `steps_per_epoch`"):
        fit(data=stream())
    unknown = tf.data.Dataset.from_tensor_slices(tiny.data()).batch(32).filter(lambda x, y: True)
    with pytest.raises(ValueError, match="Pass `steps_per_epoch`"):
        fit(data=unknown)
    assert not Path("runs").exists()


@pytest.mark.parametrize("kind", ["arrays", "tf.data", "generator"])
def test_empty_data_are_one_sentence(kind):
    x, y = tiny.data()
    data = {
        "arrays": (x[:0], y[:0]),
        "tf.data": tf.data.Dataset.from_tensor_slices((x[:0], y[:0])).batch(4),
        "generator": (batch for batch in ()),
    }[kind]
    with pytest.raises(ValueError, match="there must be samples") as refused:
        fit(data=data)
    assert str(refused.value).count("\n") == 0
    assert not Path("runs").exists()


# -- weights --------------------------------------------------------------------------------------


def test_class_weight_multiplies_sample_weight_from_any_source():
    x, y = tiny.data()
    weights = np.linspace(0.5, 1.5, len(y)).astype("float32")
    by_class = np.where(y == 1, 3.0, 1.0).astype("float32")
    wanted = trained(sample_weight=weights * by_class)
    assert same(wanted, trained(sample_weight=weights, class_weight={1: 3.0}))
    close(trained(data=(x, tiny.one_hot(y), weights), class_weight={1: 3.0}), wanted, 1e-5)
    in_batches = trained(data=Batches(x, y, weights * by_class))
    assert same(in_batches, trained(data=Batches(x, y, weights), class_weight={1: 3.0}))
    weighed = (Batches(x, y, weights)[step % 3] for step in range(9))
    assert same(in_batches, trained(data=weighed, class_weight={1: 3.0}, steps_per_epoch=3))


def soft(y):
    return tiny.one_hot(y) * 0.8 + 0.2 / 3


@pytest.mark.parametrize("kind", ["arrays", "PyDataset", "generator", "tf.data"])
@pytest.mark.parametrize("labels", ["soft", "map"])
def test_class_weight_refuses_soft_labels_and_maps(kind, labels):
    x, y = tiny.data()
    y = soft(y) if labels == "soft" else np.stack([y, y, y], 1)
    data = {
        "arrays": lambda: (x, y),
        "PyDataset": lambda: Batches(x, y),
        "generator": lambda: (Batches(x, y)[0] for _ in range(9)),
        "tf.data": lambda: tf.data.Dataset.from_tensor_slices((x, y)).batch(32),
    }[kind]()
    loss = keras.losses.MeanAbsoluteError()
    with pytest.raises(
        (ValueError, tf.errors.InvalidArgumentError),
        match=r"integer (labels \(samples,\) )?or one-hot",
    ):
        fit(data=data, class_weight={0: 2.0}, loss=loss, steps_per_epoch=3)


# -- arguments ------------------------------------------------------------------------------------


def test_epochs_loss_and_metrics_beat_what_would_be_chosen(tmp_path):
    x, y = tiny.data()
    history = fit(
        data=(x, tiny.one_hot(y)),
        epochs=3,
        loss="mse",
        metrics=[keras.metrics.MeanAbsoluteError(name="mae")],
        directory=tmp_path / "run",
    )
    assert len(history.history["mae"]) == 3
    assert "accuracy" not in history.history
    assert tfr.Recipe.load(tmp_path / "run" / "recipe.toml").train.epochs == 3


def test_validation_is_logged_and_chooses_the_best_model(tmp_path):
    history = fit(validation_data=tiny.data(seed=1), directory=tmp_path / "run")
    assert {"val_loss", "val_accuracy"} <= set(history.history)
    best = keras.saving.load_model(tmp_path / "run" / "best.keras")
    x, y = tiny.data(seed=1)
    loss = best.evaluate(x, y, verbose=0, return_dict=True)["loss"]
    assert loss == pytest.approx(min(history.history["val_loss"]), rel=1e-5)


def test_validation_labels_are_looked_at_too():
    x, y = tiny.data()
    with pytest.raises(ValueError, match=r"^validation_data: labels must be from 0 to 2"):
        fit(validation_data=(x, y + 1))


def test_a_micro_batched_recipe_equals_the_whole_batch():
    parts = RECIPE.replace(**{"step.gradient_accumulation_steps": 3})
    close(trained(recipe=parts), trained())


def test_the_average_is_what_the_model_and_the_file_hold(tmp_path):
    model = fit(directory=tmp_path / "run").model
    file = keras.saving.load_model(tmp_path / "run" / "model.keras")
    assert same(tiny.weights(model)[:4], tiny.weights(file)[:4])
    raw = trained(recipe=RECIPE.replace(ema=None))
    assert not same(tiny.weights(model)[:4], raw[:4])


def test_swa_is_logged_once_and_read_again_so(tmp_path):
    recipe = tfr.Recipe.load("swa").replace(**{"train.epochs": 4, "train.batch_size": 32})
    arguments = {"recipe": recipe, "validation_data": tiny.data(seed=1), "directory": "run"}
    history = fit(tiny.model, **arguments).history
    assert len(history["swa_val_loss"]) == 1
    assert len(history["loss"]) == 4
    again = fit(tiny.model, **arguments).history
    assert again["swa_val_loss"] == history["swa_val_loss"]


def test_silence_where_it_is_wanted(capfd):
    fit(verbose=0, validation_data=tiny.data(seed=1))
    assert capfd.readouterr() == ("", "")


def test_the_summary_says_what_is_about_to_happen(capsys):
    fit(tiny.model, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    said = {line[:12].strip(): line[12:] for line in lines}
    assert said["Model"].endswith("model.keras")  # the last of two: where it is
    assert lines[0].startswith("Model       tiny, ")
    assert said["Steps"] == "3 an epoch x 2 = 6"
    assert said["Loss"] == (
        "sparse categorical cross-entropy from logits (the labels are whole numbers)"
    )
    assert said["Precision"] == "float32 (the policy that the model was made with)" or (
        said["Precision"].startswith("float32 (no accelerator")
    )
    assert said["Note"] == "best off: there are no validation data."
    assert sum(line.startswith("epoch ") and "step 3/3" in line for line in lines) == 2
    assert said["Report"].endswith("report.html")


# -- precision ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("precision", "policy"), [("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")]
)
def test_sixteen_bits_train_a_model_that_is_made_by_a_function(precision, policy, tmp_path):
    def build():
        return keras.Sequential(
            [
                keras.Input((8,)),
                keras.layers.Dense(16, activation="relu"),
                keras.layers.Dense(3, dtype="float32"),
            ]
        )

    recipe = RECIPE.replace(**{"step.precision": precision, "train.epochs": 6})
    history = fit(build, recipe=recipe, directory=tmp_path / "run")
    model = history.model
    assert model.layers[0].dtype_policy.name == policy
    assert all(v.dtype == "float32" for v in model.trainable_variables)
    assert isinstance(model.optimizer, tfr.LossScaleOptimizer) == (precision == "float16")
    assert history.history["loss"][-1] < history.history["loss"][0]
    assert keras.config.dtype_policy().name == "float32"
    with open(tmp_path / "run" / "environment.json") as file:
        assert json.load(file)["precision"] == policy


LOAD = """
import sys
import tfrecipes
import keras

model = keras.saving.load_model(sys.argv[1])
scaler = model.optimizer
assert isinstance(scaler, tfrecipes.LossScaleOptimizer), scaler
print(keras.config.dtype_policy().name, int(scaler.inner_optimizer.iterations), float(scaler.dynamic_scale))
print(sum(float(keras.ops.sum(keras.ops.abs(v))) for v in scaler.inner_optimizer.variables[2:]) > 0)
"""


def test_a_float16_model_loads_in_a_new_process_with_its_optimizer(tmp_path):
    def build():
        return keras.Sequential([keras.Input((8,)), keras.layers.Dense(3)])

    recipe = RECIPE.replace(**{"step.precision": "float16", "train.epochs": 1})
    fit(build, recipe=recipe, directory=tmp_path / "run")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", LOAD, tmp_path / "run" / "model.keras"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["float32", "3", "32768.0", "True"]


def test_sixteen_bits_on_a_float32_model_are_refused_with_both_ways_out():
    with pytest.raises(ValueError, match="Pass a function") as refused:
        fit(tiny.dense_model(), recipe=RECIPE.replace(**{"step.precision": "bfloat16"}))
    assert "tfr.set_precision('bfloat16')" in str(refused.value)
    assert not Path("runs").exists()


# -- refusals -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"step.on_nonfinite": "rewind"}, "going back to an earlier step is not in this version"),
        ({"schedule.warmup": 1000}, "warmup"),
        ({"train.devices": "gpu:4"}, "gpu:4"),
    ],
    ids=str,
)
def test_what_cannot_be_had_is_one_sentence_and_leaves_nothing(changes, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        fit(recipe=RECIPE.replace(**changes))
    assert "\n" not in str(refused.value)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda x, y: (x, y + 1), "labels must be from 0 to 2"),
        (lambda x, y: (x[:, :5], y), "shape"),
        (lambda x, y: (np.where(x == x[4, 4], np.nan, x), y), "finite"),
        (lambda x, y: (x, y[:-1]), "same number of rows"),
    ],
)
def test_arrays_that_cannot_be_trained_on_are_one_sentence_and_leave_nothing(change, sentence):
    with pytest.raises(ValueError, match=sentence) as refused:
        fit(data=change(*tiny.data()), directory="mine/run")
    assert "\n" not in str(refused.value)
    assert not Path("mine").exists()


def test_integer_labels_with_a_one_hot_loss_are_one_sentence():
    with pytest.raises(ValueError, match="sparse_categorical_crossentropy") as refused:
        fit(loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model", [3, lambda: 3], ids=["number", "function of a number"])
def test_a_model_must_be_a_model_or_a_function_of_one(model):
    with pytest.raises(ValueError, match=r"^recipe\.fit: .*Keras model"):
        fit(model)


# -- the folder -----------------------------------------------------------------------------------


def test_a_run_leaves_its_folder(tmp_path, reports):
    fit(directory=tmp_path / "run")
    assert {path.name for path in (tmp_path / "run").iterdir()} == FILES
    run = read_run(tmp_path / "run")
    assert run.state == {"status": "finished", "epochs": 2, "exit_code": 0, "reason": None}
    assert run.steps["step"].tolist() == [0, 1, 2, 3, 4, 5]
    assert tfr.Recipe.load(tmp_path / "run" / "recipe.toml") == RECIPE
    assert run.problems == ()


def test_unnamed_runs_get_folders_of_their_own():
    fit()
    fit()
    assert sorted(path.name for path in Path("runs").iterdir()) == ["tiny-1", "tiny-2"]


def snapshot(folder):
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in [folder, *folder.rglob("*")]
    }


def test_a_finished_run_started_again_changes_nothing(tmp_path, reports, capsys):
    folder = tmp_path / "run"
    first = fit(directory=folder, validation_data=tiny.data(seed=1))
    before = snapshot(folder)
    again = fit(directory=folder, validation_data=tiny.data(seed=1))
    assert snapshot(folder) == before
    assert "this run is finished; nothing was changed" in capsys.readouterr().out
    assert again.history == first.history
    assert again.epoch == first.epoch
    assert same(tiny.weights(again.model)[:4], tiny.weights(first.model)[:4])


def test_a_folder_of_another_recipe_is_refused_by_the_name_of_the_field(tmp_path):
    fit(directory=tmp_path / "run")
    with pytest.raises(ValueError, match=r"train\.epochs is 2 there, 5 here"):
        fit(directory=tmp_path / "run", epochs=5)


def test_a_folder_that_cannot_be_written_is_one_sentence():
    Path("file").write_text("")
    for directory in ("file", "file/run", "/proc/run"):
        with pytest.raises(ValueError, match=r"^run folder: ") as refused:
            fit(directory=directory)
        assert "\n" not in str(refused.value)


# -- other ends -----------------------------------------------------------------------------------


class Raises(keras.callbacks.Callback):
    def __init__(self, error):
        super().__init__()
        self.error = error

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            raise self.error


@pytest.mark.parametrize("error", [RuntimeError("mine"), KeyboardInterrupt()], ids=repr)
def test_a_run_that_breaks_off_says_so_in_its_folder(error, tmp_path, reports):
    handler = signal.getsignal(signal.SIGINT)
    recipe = (
        RECIPE.replace(resume={"every": "off"}) if isinstance(error, KeyboardInterrupt) else RECIPE
    )
    with pytest.raises(type(error)) as raised:
        fit(recipe=recipe, directory=tmp_path / "run", callbacks=[Raises(error)])
    assert raised.value is error
    assert signal.getsignal(signal.SIGINT) is handler
    run = read_run(tmp_path / "run")
    assert run.state["status"] == "stopped"
    assert run.state["reason"].startswith(type(error).__name__)
    assert run.steps["step"].tolist() == [0, 1]
    assert (tmp_path / "run" / "report.html").stat().st_size > 1000


def test_the_end_of_a_broken_run_that_cannot_be_written_hides_no_error(
    tmp_path, monkeypatch, capsys
):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(running, "write_report", full)
    with pytest.raises(RuntimeError, match="mine"):
        fit(directory=tmp_path / "run", callbacks=[Raises(RuntimeError("mine"))])
    assert "could not be written" in capsys.readouterr().out


def test_a_stream_that_is_never_finite_ends_the_run_with_a_finding(tmp_path, reports, capsys):
    x, y = tiny.data()
    bad = tf.data.Dataset.from_tensor_slices((x * np.nan, y)).batch(32)
    recipe = RECIPE.replace(**{"step.max_bad_steps": 4})
    history = fit(data=bad, recipe=recipe, directory=tmp_path / "run")
    run = read_run(tmp_path / "run")
    assert run.state["exit_code"] == 4
    assert run.state["status"] == "stopped"
    assert run.findings[0]["rule"] == "not_finite"
    assert len(run.steps["step"]) == 4
    assert all(np.isfinite(w).all() for w in tiny.weights(history.model))
    assert (tmp_path / "run" / "report.html").exists()
    assert "Training stopped" in capsys.readouterr().out
