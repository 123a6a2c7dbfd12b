"""Searches of several processes, and searches that are killed."""

import csv
import functools
import os
import signal
import subprocess
import sys
import time

import pytest

from tests.contracts.tree import ROOT

TARGET = """
from tests import tiny

def make(hp=None):
    return tiny.dense_model(), tiny.data(samples=192), tiny.data(seed=1)
"""
WORDS = ("target.py:make", "--recipe", "tiny", "--set", "step.jit=false", "--set", "resume.every=5")
WORDS += ("--dimension", "schedule.peak_learning_rate=1e-3:1:log", "--trials", "3")
WORDS += ("--finalists", "1", "--repeats", "2")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("searches")
    (place / "target.py").write_text(TARGET)
    return place


@pytest.fixture(autouse=True)
def _ctrl_c_arrives():
    """A shell's background job ignores Ctrl-C, and so would what it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def start(place, out, *more):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "COV"))}
    return subprocess.Popen(
        [sys.executable, "-m", "tfrecipes", "search", *WORDS, "--out", out, *more],
        cwd=place,
        env=environment | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def search(place, out, *more):
    process = start(place, out, *more)
    said = process.communicate(timeout=500)[0]
    return process.returncode, said


def table(place, out):
    """The table without the times."""
    with open(place / out / "table.csv", newline="") as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.fixture(scope="module")
def whole(place):
    """A search that nothing interrupted."""
    code, said = search(place, "whole", "--epochs", "8")
    assert code == 0, said
    return table(place, "whole")


def wait_for(condition, process):
    until = time.monotonic() + 200
    while not condition():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < until
        time.sleep(0.01)


def any_checkpoint(run):
    """A complete one: its name has no dot in front."""
    return any(run.glob("checkpoints/checkpoint-*"))


def result(place, out):
    return (place / out / "best.toml").read_text().partition("version")[2]


def others():
    """Ids of processes that take part in a search."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    words = file.read().decode(errors="replace").split("\0")
                cwd = os.readlink(f"/proc/{entry}/cwd")
            except OSError:  # it ended
                continue
            if "tfrecipes.searching.process" in words:
                found.append((int(entry), cwd))
    return found


def ours(place):
    return [number for number, cwd in others() if cwd == str(place)]


@pytest.mark.faults
def test_a_search_killed_in_the_middle_of_a_trial_comes_to_the_same(place, whole):
    for trial in ("1", "2"):
        process = start(place, "killed", "--epochs", "8")
        running = place / "killed" / "trials" / trial
        wait_for(functools.partial(any_checkpoint, running), process)
        process.kill()
        process.communicate()
        assert not (running / "record.json").exists()
    code, said = search(place, "killed", "--epochs", "8")
    assert code == 0, said
    assert "2 of them done" in said
    assert "goes on in epoch" in (running / "log.txt").read_text()
    assert table(place, "killed") == whole
    assert result(place, "killed") == result(place, "whole")
    code, said = search(place, "killed", "--epochs", "8")
    assert (code, "is finished" in said) == (0, True)


@pytest.mark.faults
def test_ctrl_c_ends_it_with_75_and_the_same_command_goes_on(place, whole):
    process = start(place, "stopped", "--epochs", "8")
    wait_for((place / "stopped" / "trials" / "1" / "checkpoints").exists, process)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=100)[0]
    assert process.returncode == 75, said
    assert "to go on" in said
    code, said = search(place, "stopped", "--epochs", "8")
    assert code == 0, said
    assert table(place, "stopped") == whole


@pytest.mark.distributed
def test_two_workers_come_to_the_same_table_though_one_is_killed(place, whole):
    process = start(place, "two", "--epochs", "8", "--workers", "2")
    wait_for((place / "two" / "trials" / "1" / "checkpoints").exists, process)
    team = ours(place)
    assert len(team) == 3  # and the chief
    victims = []
    for number in team:
        with open(f"/proc/{number}/environ", "rb") as file:
            if b"KERASTUNER_TUNER_ID=worker0" in file.read():
                victims.append(number)
    (victim,) = victims
    os.kill(victim, signal.SIGKILL)
    said = process.communicate(timeout=500)[0]
    assert process.returncode == 0, said
    assert "worker0 died in training" in said
    assert "SIGKILL" in said
    assert table(place, "two") == whole
    assert ours(place) == []


@pytest.mark.distributed
def test_the_end_of_the_command_is_the_end_of_its_processes(place):
    for number, code in ((signal.SIGINT, 75), (signal.SIGTERM, 75), (signal.SIGKILL, -9)):
        process = start(place, "ended", "--epochs", "40", "--workers", "2")
        wait_for(lambda: len(ours(place)) == 3, process)
        if number == signal.SIGINT:
            wait_for((place / "ended" / "trials" / "0" / "checkpoints").exists, process)
        process.send_signal(number)
        process.communicate(timeout=100)
        assert process.returncode == code
        until = time.monotonic() + 60
        while ours(place) and time.monotonic() < until:
            time.sleep(0.1)
        assert ours(place) == []


@pytest.mark.distributed
def test_a_target_that_cannot_be_used_is_one_sentence_and_2(place):
    (place / "bad.py").write_text("def make():\n    return 3\n")
    done = subprocess.run(
        [sys.executable, "-m", "tfrecipes", "search", "bad.py:make", "--workers", "2"],
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "target bad.py:make: must return a Keras model" in done.stderr
