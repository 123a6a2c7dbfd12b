"""The benchmarks run, at tiny sizes; what they measure is for a quiet machine, not for a test."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.contracts.tree import ROOT

NAMES = sorted(path.stem for path in (ROOT / "benchmarks").glob("[a-z]*.py"))
# More than the quick runs take, so that the text's last tenth still fills a batch.
CHARACTERS = 10_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random images and letters, in the files and forms of the real ones."""
    import tensorflow as tf

    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    parts = {}
    for part, count in (("train", 256), ("test", 128)):
        images = rng.integers(0, 256, (count, 32, 32, 3), dtype="uint8")
        jpegs = [tf.io.encode_jpeg(image).numpy() for image in images]
        parts[f"{part}_jpeg"] = np.frombuffer(b"".join(jpegs), "uint8")
        parts[f"{part}_offsets"] = np.cumsum([0, *map(len, jpegs)])
        parts[f"{part}_labels"] = rng.integers(0, 10, count).astype("uint8")
    np.savez(folder / "cifar10_jpeg.npz", **parts)
    letters = rng.choice(list("abcdefgh \n"), CHARACTERS)
    (folder / "tinyshakespeare.txt").write_text("".join(letters), encoding="utf-8")
    return folder


def run(name, folder, out):
    return subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick", "--out", str(out)],
        cwd=out.parent,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TFRECIPES_DATA": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_benchmark_prints_its_table_and_writes_its_numbers(name, folder, tmp_path):
    done = run(name, folder, tmp_path / "numbers.json")
    assert done.returncode == 0, done.stdout + done.stderr
    written = json.loads((tmp_path / "numbers.json").read_text(encoding="utf-8"))
    assert written["name"] == name
    assert written["command"] == f"python benchmarks/{name}.py --quick"
    assert written["results"]
    assert len(done.stdout.splitlines()) > 3


@pytest.mark.slow
def test_data_that_are_not_there_are_one_sentence(tmp_path):
    done = run("default_against_stock", tmp_path, tmp_path / "numbers.json")
    assert done.returncode == 2
    said = [line for line in done.stderr.splitlines() if line.startswith("benchmarks:")]
    assert len(said) == 1
    assert "TFRECIPES_DATA" in said[0]
    assert "Traceback" not in done.stderr


def test_there_are_benchmarks_to_run():
    assert len(NAMES) >= 4
