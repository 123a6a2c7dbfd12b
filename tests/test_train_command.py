"""`tfrecipes train` as a person starts it: a process of its own, its words, files and exit code."""

import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.contracts.tree import ROOT
from tfrecipes import cli
from tfrecipes.runs.folder import read_run

TARGET = """
from tests import tiny

def make():
    return tiny.model(), tiny.data(samples=1600), tiny.data(seed=1)
"""


@pytest.fixture
def place(tmp_path):
    (tmp_path / "target.py").write_text(TARGET)
    x, y = np.arange(24, dtype="float32").reshape(12, 2), np.arange(12) % 3
    archives = {
        "empty": (x[:0], y[:0]),
        "nan": (np.where(x == 5, np.nan, x), y),
        "lengths": (x, y[:5]),
        "other": (x, y),
    }
    for name, (a, b) in archives.items():
        np.savez(tmp_path / f"{name}.npz", x_train=a, y_train=b)
    (tmp_path / "text.npz").write_text("no archive")
    return tmp_path


def environment():
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "PYTEST", "COV"))}
    return clean | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def start(place, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "tfrecipes", "train", *arguments],
        cwd=place,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def train(place, *arguments):
    process = start(place, *arguments)
    out, err = process.communicate()
    return process.returncode, out, err


RUN = (
    "target.py:make",
    "--recipe",
    "tiny",
    "--epochs",
    "30",
    "--set",
    "step.jit=false",
    "--seed",
    "1",
)


def test_a_signal_ends_it_with_75_and_the_same_command_goes_on_to_the_same_bits(place, monkeypatch):
    code, _, err = train(place, *RUN, "--out", "whole", "--quiet")
    assert (code, err) == (0, "")
    for number in (signal.SIGINT, signal.SIGTERM):
        process = start(place, *RUN, "--out", "broken")
        for line in process.stdout:
            if line.startswith("epoch "):
                process.send_signal(number)
                break
        out, err = process.communicate()
        assert process.returncode == 75, out + err
        assert f"Stopped by {number.name} after a whole step" in out
        assert err == ""
        assert read_run(place / "broken").state["status"] == "preempted"
        assert (place / "broken" / "report.html").exists()
    code, out, _ = train(place, *RUN, "--out", "broken")
    assert code == 0
    assert "Resume: goes on in epoch" in out
    whole, broken = read_run(place / "whole"), read_run(place / "broken")
    for name in whole.steps:
        assert np.array_equal(whole.steps[name], broken.steps[name]), name
    for name in whole.epochs:
        assert np.array_equal(whole.epochs[name], broken.epochs[name]), name
    # Timestamps apart, the deployed models are the same file.
    assert weights(place / "whole") == weights(place / "broken")

    monkeypatch.chdir(place)
    again = CliRunner().invoke(cli.app, ["train", *RUN, "--out", "broken"])
    assert again.exit_code == 0
    assert again.stdout == "broken: this run is finished; nothing was changed.\n"


def weights(folder):
    with zipfile.ZipFile(folder / "model.keras") as archive:
        return archive.read("model.weights.h5")


def test_the_demo_says_what_it_does_and_nothing_else(place):
    code, out, err = train(place, "--recipe", "tiny", "--epochs", "1", "--out", "run")
    assert (code, err) == (0, "")
    assert "Run folder  run" in out
    assert "accuracy" in read_run(place / "run").epochs
    assert {"model.keras", "report.html", "best.keras"} <= {
        path.name for path in (place / "run").iterdir()
    }


def test_bad_input_of_a_process_is_one_line_and_2(place):
    code, out, err = train(place, "target.py:make", "--data", "nan.npz")
    assert (code, out) == (2, "")
    assert "finite" in err
    assert err.count("\n") == 1
    assert not (place / "runs").exists()


BAD = {
    "empty data": (["target.py:make", "--data", "empty.npz"], "there must be samples"),
    "lengths": (["target.py:make", "--data", "lengths.npz"], "same number of rows"),
    "data for another net": (["--data", "other.npz"], "Name a target"),
    "unreadable data": (["target.py:make", "--data", "text.npz"], "must be a .npz file"),
    "missing data": (["target.py:make", "--data", "none.npz"], "there is no such file"),
    "labels out of range": (["bad.py:labels"], "labels must be from 0 to 2"),
    "NaN": (["bad.py:nan"], "finite"),
    "shapes": (["bad.py:shapes"], "must have the shape"),
    "unknown length": (["bad.py:length"], "steps_per_epoch"),
    "no data": (["bad.py:model"], "returns a model without data"),
    "something else": (["bad.py:number"], "must return a Keras model"),
    "raises": (["bad.py:raises"], "KeyError: 'gone'"),
    "no function": (["bad.py:none"], "must have a function none"),
    "no file": (["none.py:make"], "there is no file none.py"),
    "no module": (["no.such.module:make"], "there is no module"),
    "not importable": (["broken.py:make"], "SyntaxError"),
    "no target": (["target.py"], "Name the function after a colon"),
    "unknown recipe": (["--recipe", "defualt"], "Did you mean `default`"),
    "unreadable recipe": (["--recipe", "text.toml"], "text.toml"),
    "folder is a file": (["--out", "target.py"], "it is a file"),
    "unwritable folder": (["--out", "/proc/run"], "must be able to write"),
    "rate 0": (["--set", "schedule.peak_learning_rate=0"], "must be a number > 0"),
    "rate below 0": (["--set", "schedule.peak_learning_rate=-1"], "must be a number > 0"),
    "rewind": (["--set", "step.on_nonfinite=rewind"], "not in this version"),
    "warmup": (["--set", "schedule.warmup=9000"], "Shorten the warmup"),
    "devices": (["--devices", "gpu:4"], "gpu:4"),
    "no epochs": (["--epochs", "0"], "train.epochs"),
    "precision": (["bad.py:float32", "--set", "step.precision=float16"], "tfr.set_precision"),
    "nothing to go on with": (["--out", "new", "--resume", "must"], "no run to go on with"),
}

BAD_TARGETS = """
import keras, numpy as np, tensorflow as tf
from tests import tiny

x, y = tiny.data()

def labels(): return tiny.dense_model(), (x, y + 1)
def nan(): return tiny.dense_model(), (x * np.nan, y)
def shapes(): return tiny.dense_model(), (x[:, :3], y)
def length():
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8).filter(lambda x, y: True)
    return tiny.dense_model(), data
def model(): return tiny.dense_model()
def number(): return 3
def raises(): raise KeyError("gone")
def float32():
    keras.config.set_dtype_policy("float32")
    return tiny.dense_model(), (x, y)
"""


def test_bad_input_is_one_sentence_and_2(place, monkeypatch, subtests):
    monkeypatch.chdir(place)
    (place / "bad.py").write_text(BAD_TARGETS)
    (place / "broken.py").write_text("def make(:")
    (place / "text.toml").write_text("no recipe")
    before = sorted(place.rglob("*"))
    for name, (arguments, sentence) in BAD.items():
        with subtests.test(name):
            ran = CliRunner().invoke(cli.app, ["train", *arguments])
            assert ran.exit_code == 2, ran.output
            assert sentence in ran.stderr
            assert len(ran.stderr.strip().splitlines()) == 1 or name == "unreadable recipe"
            assert ran.stdout == ""
            left = [p for p in sorted(place.rglob("*")) if "__pycache__" not in p.parts]
            assert left == before
