"""docs/search.md: its program runs, and what it names is there."""

import re

import pytest
from typer.testing import CliRunner

from tests import tiny
from tests.contracts.tree import ROOT
from tfrecipes import cli

PAGE = (ROOT / "docs" / "search.md").read_text(encoding="utf-8")


# Keras Tuner 1.4.8 asks for a thread's name as Python before 3.10 did.
@pytest.mark.filterwarnings("ignore:currentThread:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:getName:DeprecationWarning")
def test_the_program_of_a_keras_tuner_user_runs(tmp_path):
    (program,) = [p for p in re.findall(r"```python\n(.*?)```", PAGE, re.S) if "HyperModel" in p]
    (x, y), (x_val, y_val) = tiny.data(), tiny.data(seed=1)
    names = {"x": x, "y": y, "x_val": x_val, "y_val": y_val, "folder": str(tmp_path)}
    exec(program, names)
    assert set(names["best"].values) == {"peak", "weight_decay", "width"}
    assert len(names["tuner"].oracle.trials) == 2
    assert {t.status for t in names["tuner"].oracle.trials.values()} == {"COMPLETED"}


def test_the_options_that_the_page_names_are_the_command_s():
    said = CliRunner().invoke(cli.app, ["search", "--help"]).output
    for option in set(re.findall(r"--[a-z]+", PAGE)):
        assert option in said


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--dimension", "a.b"], "--dimension: must be field=low:high:log"),
        (["--dimension", "a.b=1:2", "--dimension", "a.b=1:3"], "a.b is given twice"),
        (["--dimension", "optimizer.wait=1:2"], "space: optimizer.wait: unknown field"),
        (["--trials", "0"], "`trials` must be a whole number >= 1"),
        (["--method", "best"], "'best' is not one of"),
        (["--objective", "val_f1"], "Say direction='min' or 'max'"),
        (["no/such.py:make"], "there is no file no/such.py"),
    ],
)
def test_bad_words_are_one_sentence_and_2(words, sentence, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli.app, ["search", *words])
    assert done.exit_code == 2
    assert sentence in done.output
    assert list(tmp_path.iterdir()) == []
