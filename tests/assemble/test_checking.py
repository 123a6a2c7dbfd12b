"""`assemble.run_check`: a target or the demo, to printed findings and an exit code."""

import json

import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny
from tfrecipes.assemble import run_check
from tfrecipes.training.targets import TargetError

RECIPE = tfr.Recipe.load("tiny")


@pytest.fixture
def target(tmp_path, monkeypatch):
    """Writes a target's file and gives its words."""
    monkeypatch.chdir(tmp_path)

    def write(body):
        path = tmp_path / "target.py"
        path.write_text(f"import numpy as np\nfrom tests import tiny\n{body}\n")
        return f"{path}:make"

    return write


def test_the_demo_is_healthy(capsys):
    assert run_check(RECIPE) == 0
    assert "Nothing stands against training." in capsys.readouterr().out


def test_an_error_of_a_target_is_printed_and_is_exit_code_1(target, capsys):
    words = target(
        "def make():\n    x, y = tiny.data(400)\n    return tiny.dense_model(), (x, y + 1)"
    )
    assert run_check(RECIPE, words) == 1
    out = capsys.readouterr().out
    assert out.startswith("Error (label_range): data: labels must be from 0 to 2")
    assert "findings to look into before training" in out


def test_an_archive_stands_for_the_targets_data_and_json_can_be_read(target, tmp_path, capsys):
    x, y = tiny.data(400)
    np.savez(tmp_path / "data.npz", x_train=x * 100, y_train=y)
    words = target("def make(): return tiny.dense_model(), None")
    assert run_check(RECIPE, words, data=tmp_path / "data.npz", as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found[0]["rule"] == "inputs_not_normalised"
    assert not (tmp_path / "runs").exists()


def test_a_model_without_data_is_bad_input(target):
    with pytest.raises(TargetError, match="without data"):
        run_check(RECIPE, target("def make(): return tiny.dense_model()"))
