"""The command line: verbs, sentences, exit codes, and no TensorFlow where none is needed."""

import json
import os
import subprocess
import sys
import types

import pytest
from typer.testing import CliRunner

import tfrecipes
from tfrecipes import cli
from tfrecipes.recipe.files import saved_recipes
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.folder import RunFolder

HEAVY = ("tensorflow", "keras", "torch", "matplotlib", "numpy", "rich")


def run(*arguments):
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments])


def a_run(path, losses=(2.3, 2.0, 4.0, 9.0, 30.0), rate=0.1):
    """A run folder with epochs alone; the losses diverge."""
    with RunFolder.open(path) as folder:
        folder.write_recipe(f'name = "mine"\n[schedule]\npeak_learning_rate = {rate}\n')
        for loss in losses:
            folder.append_epoch({"loss": loss, "val_loss": loss})
        folder.write_state("finished", epochs=len(losses), exit_code=0)
    return path


@pytest.fixture
def assembled(monkeypatch):
    """What `train` hands over; `assemble.train` itself is tested with `assemble`."""
    calls = []
    fake = types.ModuleType("tfrecipes.assemble")
    fake.outcome = 0

    def train(recipe, **named):
        calls.append((recipe, named))
        if isinstance(fake.outcome, BaseException):
            raise fake.outcome
        return fake.outcome

    fake.train = train
    fake.run_check = train
    fake.calls = calls
    monkeypatch.setitem(sys.modules, "tfrecipes.assemble", fake)
    monkeypatch.setattr(tfrecipes, "assemble", fake, raising=False)
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    return fake


PROBE = f"""
import json, runpy, sys
sys.argv = json.loads(sys.argv[1])
code = 0
try:
    runpy.run_module("tfrecipes", run_name="__main__", alter_sys=True)
except SystemExit as stop:
    code = stop.code
loaded = [name for name in {HEAVY!r} if name in sys.modules]
print(json.dumps([code, loaded]), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["recipes"],
        ["recipes", "--help"],
        ["show", "default", "--set", "ema=off"],
        ["show", "--help"],
        ["copy", "tiny", "mine.toml"],
        ["copy", "--help"],
        ["validate", "default", "tiny"],
        ["validate", "--help"],
        ["train", "--help"],
        ["check", "--help"],
        ["find-lr", "--help"],
        ["find-batch", "--help"],
        ["search", "--help"],
        ["diagnose", "--help"],
        ["report", "--help"],
        ["compare", "--help"],
    ],
    ids=" ".join,
)
def test_verbs_that_do_not_train_import_nothing_heavy(arguments, tmp_path, pytestconfig):
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(["tfrecipes", *arguments])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(pytestconfig.rootpath), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert json.loads(ran.stderr.splitlines()[-1]) == [0, []]
    assert ran.stdout


@pytest.mark.parametrize("verb", ["diagnose", "report", "compare"])
def test_verbs_that_look_at_runs_import_no_tensorflow(verb, tmp_path, pytestconfig):
    for name in ("a", "b"):
        a_run(tmp_path / name)
    arguments = ["tfrecipes", verb, "a", *(["b"] if verb == "compare" else [])]
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)],
        cwd=tmp_path,
        env={"PYTHONPATH": str(pytestconfig.rootpath), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    code, loaded = json.loads(ran.stderr.splitlines()[-1])
    assert code == 0, ran.stderr
    assert not {"tensorflow", "keras", "torch", "rich"} & set(loaded)


def test_a_bad_recipe_is_refused_by_train_before_anything_heavy_is_imported(tmp_path, pytestconfig):
    ran = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(["tfrecipes", "train", "--epochs", "0"])],
        cwd=tmp_path,
        env={"PYTHONPATH": str(pytestconfig.rootpath), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    sentence, probe = ran.stderr.splitlines()
    assert sentence == "default: train.epochs: must be a whole number >= 1. Received: 0."
    assert json.loads(probe) == [2, []]


def test_recipes_lists_all_with_their_summaries():
    ran = run("recipes")
    assert ran.exit_code == 0
    assert len(ran.stdout.splitlines()) == 10
    assert "default      The default: AdamW" in ran.stdout


def test_show_prints_a_recipe_that_loads():
    ran = run("show", "default", "--set", "schedule.warmup=7%", "--set", "ema=off")
    assert ran.exit_code == 0
    shown = Recipe.from_toml(ran.stdout)
    assert shown.schedule.warmup == "7%"
    assert shown.ema is None


def test_copy_gives_a_file_and_refuses_a_second_time(tmp_path):
    path = tmp_path / "mine.toml"
    assert run("copy", "swa", str(path)).stdout == f"{path}\n"
    again = run("copy", "swa", str(path))
    assert again.exit_code == 2
    assert again.stderr == (f"{path}: exists already. Remove it, or copy to another path.\n")


def test_validate_reads_every_file_and_prints_every_error(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("version = 1\n[train]\nepochs = 0\nseeed = 1\n")
    good = saved_recipes() / "tiny.toml"
    ran = run("validate", str(bad), str(tmp_path / "none.toml"), str(good))
    assert ran.exit_code == 2
    assert ran.stdout == f"{good}: valid\n"
    assert ran.stderr == (
        f"{bad}: 3 errors\n"
        '  schedule.peak_learning_rate: is missing. It must be a number > 0 or "find".\n'
        "  train.seeed: unknown field. Did you mean `seed`?\n"
        "  train.epochs: must be a whole number >= 1. Received: 0.\n"
        f"{tmp_path / 'none.toml'}: no such file.\n"
    )
    assert run("validate", str(good)).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "defualt"],
        ["show"],
        ["show", "default", "--set", "ema"],
        ["show", "default", "--set", "ema=on"],
        ["show", "default", "--nonsense"],
        ["show", "/"],
        ["copy", "default", "/no/such/folder/x.toml"],
        ["nonsense"],
        ["train", "--epochs", "many"],
        ["train", "--resume", "perhaps"],
        ["train", "--epochs", "3", "--set", "train.epochs=4"],
        ["train", "--set", "train.epochs=3", "--set", "train.epochs=4"],
        ["train", "--devices", "0"],
        ["train", "--recipe", "nowhere.toml"],
    ],
    ids=" ".join,
)
def test_bad_input_is_one_sentence_and_2(arguments):
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "Traceback" not in ran.stderr


def test_debug_shows_where_bad_input_was_found():
    for arguments in (["show", "defualt", "--debug"], ["--debug", "show", "defualt"]):
        ran = run(*arguments)
        assert ran.exit_code == 2
        assert "Traceback" in ran.stderr
        assert "RecipeNotFoundError" in ran.stderr
    assert "Traceback" not in run("show", "defualt").stderr


def test_train_hands_over_the_resolved_recipe(assembled):
    ran = run(
        *("train", "my.module:build", "--recipe", "tiny", "--epochs", "7", "--batch-size", "32"),
        *("--seed", "5", "--devices", "2", "--data", "d.npz", "--out", "runs/x"),
        *("--resume", "must", "--quiet", "--set", "ema=off", "--set", "schedule.warmup=5%"),
    )
    assert ran.exit_code == 0, ran.output
    ((recipe, named),) = assembled.calls
    assert (recipe.name, recipe.ema, recipe.schedule.warmup) == ("tiny", None, "5%")
    train = recipe.train
    assert (train.epochs, train.batch_size, train.seed, train.devices) == (7, 32, 5, 2)
    assert {key: str(value) for key, value in named.items()} == {
        "target": "my.module:build",
        "data": "d.npz",
        "out": "runs/x",
        "resume": "must",
        "verbose": "0",
    }


def test_train_alone_is_the_default_recipe_and_the_demo(assembled):
    assert run("train").exit_code == 0
    ((recipe, named),) = assembled.calls
    assert recipe == Recipe.load("default")
    assert named == {
        "target": None,
        "data": None,
        "out": None,
        "resume": "auto",
        "verbose": "auto",
    }


def test_check_hands_over_the_resolved_recipe_and_exits_with_its_code(assembled):
    assembled.outcome = 1
    ran = run("check", "m.py:f", "--data", "d.npz", "--seed", "3", "--devices", "cpu", "--json")
    assert ran.exit_code == 1, ran.output
    ((recipe, named),) = assembled.calls
    assert (recipe.train.seed, recipe.train.devices) == (3, "cpu")
    assert {key: str(value) for key, value in named.items()} == {
        "target": "m.py:f",
        "data": "d.npz",
        "as_json": "True",
    }


@pytest.mark.parametrize("code", [0, 4, 75, 1])
def test_train_exits_with_the_code_of_the_run(assembled, code):
    assembled.outcome = code
    assert run("train").exit_code == code


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x: must be y. Received: z."),
        FileNotFoundError(2, "No such file or directory", "d.npz"),
        PermissionError(13, "Permission denied", "runs/x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_bad_input_that_the_run_finds_is_one_sentence_too(assembled, error):
    assembled.outcome = error
    ran = run("train")
    assert ran.exit_code == 2
    assert len(ran.stderr.splitlines()) == 1
    assert ran.stderr.startswith(str(getattr(error, "filename", None) or "x: must be y"))


def test_any_other_error_keeps_its_traceback_and_is_1(assembled):
    assembled.outcome = RuntimeError("a fault")
    ran = run("train")
    assert ran.exit_code == 1
    assert ran.exception is assembled.outcome


def test_an_interrupt_before_the_run_is_1(assembled):
    assembled.outcome = KeyboardInterrupt()
    ran = run("train")
    assert ran.exit_code == 1
    assert ran.stderr == "Interrupted.\n"


def test_a_reader_that_goes_away_is_no_traceback(pytestconfig):
    ran = subprocess.run(
        f"{sys.executable} -m tfrecipes show default | true",
        shell=True,
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.stderr == ""


QUIET = """
import os, sys
from tfrecipes.cli.program import quiet_import
os.environ.pop("TF_CPP_MIN_LOG_LEVEL", None)
try:
    with quiet_import():
        os.write(2, b"noise of a library\\n")
        if len(sys.argv) > 1:
            raise ImportError(sys.argv[1])
except ImportError as error:
    print(f"said {error}", file=sys.stderr)
print(os.environ["TF_CPP_MIN_LOG_LEVEL"], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("arguments", "heard"), [([], "2\n"), (["x"], "noise of a library\nsaid x\n2\n")]
)
def test_start_up_noise_is_held_back_and_shown_if_the_import_fails(arguments, heard, pytestconfig):
    ran = subprocess.run(
        [sys.executable, "-c", QUIET, *arguments],
        cwd=pytestconfig.rootpath,
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line for line in ran.stderr.splitlines(keepends=True) if "0000 " not in line]
    assert "".join(line for line in lines if "absl::" not in line) == heard
    assert arguments or ran.stderr == heard


def test_report_writes_the_page_anew_and_prints_its_path(tmp_path):
    folder = a_run(tmp_path / "r")
    (folder / "report.html").write_text("old")
    ran = run("report", folder)
    assert (ran.exit_code, ran.stdout) == (0, f"{folder / 'report.html'}\n")
    assert "<!doctype html>" in (folder / "report.html").read_text()


def test_diagnose_says_in_words_what_is_wrong_and_exits_with_0(tmp_path):
    folder = a_run(tmp_path / "r")
    ran = run("diagnose", folder)
    assert ran.exit_code == 0
    assert "1. Error: diverged" in ran.stdout
    assert "What to do: " in ran.stdout
    findings = json.loads(run("diagnose", folder, "--json").stdout)
    assert findings[0]["rule"] == "diverged"
    assert set(findings[0]) == {"rule", "severity", "evidence", "cause", "advice"}


def test_compare_prints_what_differs_and_writes_one_page(tmp_path):
    first = a_run(tmp_path / "first", losses=(2.0, 1.0, 1.5))
    second = a_run(tmp_path / "second", losses=(2.0, 0.5), rate=0.2)
    page = tmp_path / "c.html"
    ran = run("compare", first, second, "--out", page)
    assert ran.exit_code == 0, ran.output
    lines = [" ".join(line.split()) for line in ran.stdout.splitlines()]
    assert lines[0] == "second has the best val_loss: 0.5 in epoch 2."
    assert "loss, best 1 (epoch 2) 0.5 (epoch 2) *" in lines
    assert "loss, last 1.5 0.5" in lines
    assert "schedule.peak_learning_rate 0.1 0.2" in lines
    assert lines[-1] == str(page)
    assert "<!doctype html>" in page.read_text()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["diagnose", "nowhere"], "nowhere: must be a run folder"),
        (["report", "empty"], "empty: holds no file of a run"),
        (["compare", "r", "empty"], "empty: holds no file of a run"),
        (["compare", "r"], "compare: must be given 2 to 32 runs. Received: 1."),
        (["compare", "r", "r", "--out", "empty"], "compare: `--out` must be a file"),
        (["compare", "r", "r", "--out", "no/c.html"], "compare: `--out` must be a file"),
        (["diagnose"], "Missing argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_no_run_is_one_sentence_and_2(arguments, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    a_run(tmp_path / "r")
    (tmp_path / "empty").mkdir()
    ran = run(*arguments)
    assert ran.exit_code == 2
    assert ran.stdout == ""
    assert ran.stderr.startswith(words)
    assert len(ran.stderr.splitlines()) == 1


def test_a_page_that_cannot_be_written_is_one_sentence_and_1(tmp_path, monkeypatch):
    folder = a_run(tmp_path / "r")

    def full(descriptor, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    ran = run("report", folder)
    assert ran.exit_code == 1
    assert ran.stderr.startswith(f"{folder / 'report.html'}: could not be written (No space left")
