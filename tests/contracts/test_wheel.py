"""The built wheel is what is tested: installed in an empty environment, run from elsewhere."""

import os
import subprocess
import sys
import sysconfig
import zipfile

import pytest

from tests.contracts.tree import PACKAGE, ROOT

pytestmark = pytest.mark.slow


def run(*command, folder, python_path=None):
    """Run a command outside the checkout, so that only what is installed can be found."""
    environment = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    if python_path is not None:
        environment["PYTHONPATH"] = str(python_path)
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the sdist that is built from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, folder=out)
    (found,) = out.glob("tfrecipes-*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder with the python of a new environment that holds the wheel and nothing else of ours.

    The dependencies are those of this environment, by a path file: downloading TensorFlow again
    would test pip. An editable install of the checkout hangs on a path file of its own, which a
    path file does not read, so the checkout cannot be found.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", folder, folder=folder)
    (site,) = folder.glob("lib/python*/site-packages")
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, folder=folder)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return folder


def test_the_wheel_holds_all_of_the_package(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    ours = {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    recipes = {f"tfrecipes/saved_recipes/{path.name}" for path in ROOT.glob("saved_recipes/*.toml")}
    assert "tfrecipes/py.typed" in ours
    assert "tfrecipes/saved_recipes/default.toml" in recipes
    assert ours | recipes <= names
    outside = {n for n in names - ours - recipes if ".dist-info/" not in n}
    assert outside == set()


def test_the_wheel_runs_from_another_folder(installed, tmp_path):
    python = installed / "bin" / "python"
    place = run(python, "-c", "import tfrecipes; print(tfrecipes.__file__)", folder=tmp_path)
    assert place.startswith(str(installed))
    for command in ([python, "-m", "tfrecipes"], [installed / "bin" / "tfrecipes"]):
        listed = run(*command, "recipes", folder=tmp_path)
        for path in ROOT.glob("saved_recipes/*.toml"):
            assert path.stem in listed


def test_the_wheel_loads_a_recipe_and_makes_an_optimizer_from_another_folder(installed, tmp_path):
    program = (
        "import tfrecipes as tfr;"
        "print(tfr.Recipe.load('default').name);"
        "print(type(tfr.AdamW()).__module__)"
    )
    python = installed / "bin" / "python"
    assert run(python, "-c", program, folder=tmp_path).split()[0] == "default"
