"""What answers at once imports no TensorFlow: 4 to 6 s that a question need not wait for."""

import json
import os
import subprocess
import sys

import pytest

from tests.contracts.tree import ROOT

HEAVY = ("tensorflow", "keras", "keras_tuner", "tensorboard", "matplotlib", "torch")

# The checkout itself, from a folder that is not the checkout.
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}

PROBE = """
import json, runpy, sys
sys.argv = ["tfrecipes", *json.loads(sys.argv[1])]
try:
    runpy.run_module("tfrecipes", run_name="__main__", alter_sys=False)
    code = 0
except SystemExit as end:
    code = end.code or 0
heavy = [name for name in json.loads(sys.stdin.read()) if name in sys.modules]
sys.stdout.flush()
print("\\n" + json.dumps({"code": code, "heavy": heavy}))
"""


def ask(*arguments, folder):
    """Run `python -m tfrecipes` with `arguments`.

    Returns:
        (its exit code, the heavy modules that it imported, its output).
    """
    run = subprocess.run(
        [sys.executable, "-c", PROBE, json.dumps(arguments)],
        input=json.dumps(HEAVY),
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    *output, last = run.stdout.splitlines()
    seen = json.loads(last)
    return seen["code"], seen["heavy"], "\n".join(output)


@pytest.mark.parametrize("arguments", [("--help",), ("recipes",), ("show", "default")])
def test_a_question_imports_no_tensorflow(arguments, tmp_path):
    code, heavy, output = ask(*arguments, folder=tmp_path)
    assert code == 0
    assert heavy == []
    assert output.strip()


def test_validate_imports_no_tensorflow(tmp_path):
    recipe = ROOT / "saved_recipes" / "default.toml"
    code, heavy, _ = ask("validate", str(recipe), folder=tmp_path)
    assert code == 0
    assert heavy == []


VERBS = ("recipes", "show", "copy", "validate", "train", "check", "diagnose", "report", "compare")
VERBS += ("find-lr", "find-batch", "search")


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_a_verb_imports_no_tensorflow(verb, tmp_path):
    code, heavy, output = ask(verb, "--help", folder=tmp_path)
    assert code == 0
    assert heavy == []
    assert verb in output


def test_import_tfrecipes_imports_no_tensorflow(tmp_path):
    run = subprocess.run(
        [sys.executable, "-c", "import sys, tfrecipes; print(*sys.modules)"],
        cwd=tmp_path,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not set(run.stdout.split()) & set(HEAVY)
