"""A try in a child: which ends are answers, which are errors, and that nothing stays behind."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from tests.contracts.tree import ROOT
from tfrecipes.tuning import batch_children
from tfrecipes.tuning.batch_children import TrialError

WORK = "tests.tuning.fake_trial"
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
MB = 10**6


def attempt(folder, what, size=7, limit=150 * MB, seconds=30.0, **more):
    (folder / "what").write_text(what)
    return batch_children.attempt(
        WORK, folder, size, limit=limit, seconds=seconds, environment=ENVIRONMENT, **more
    )


def is_gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_until(condition, seconds=20.0):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not come to be"
        time.sleep(0.02)


def test_a_try_that_fits_says_its_peak_and_time(tmp_path):
    tried = attempt(tmp_path, "fits")
    assert (tried.size, tried.fits, tried.why) == (7, True, "")
    assert 5 * MB < tried.peak < 150 * MB
    assert tried.seconds > 0


def test_more_than_the_limit_is_killed_and_is_an_answer(tmp_path):
    seen = []
    tried = attempt(tmp_path, "much", size=400 * MB, tick=seen.append)
    assert not tried.fits
    assert tried.peak > 150 * MB
    assert tried.why.startswith("stopped at ")
    assert seen == sorted(seen)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_a_peak_between_two_looks_counts_too(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_children, "_LOOK_EVERY", 3.0)
    tried = attempt(tmp_path, "briefly", size=300 * MB)
    assert (tried.fits, tried.why) == (False, f"needed {batch_children.in_words(tried.peak)}")
    assert tried.peak > 300 * MB


def test_without_a_limit_nobody_watches(tmp_path):
    assert attempt(tmp_path, "briefly", size=300 * MB, limit=None).fits


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("memory error", "MemoryError: Unable to allocate 9 TiB"),
        ("exhausted", "ResourceExhaustedError: OOM when allocating tensor with shape"),
        ("by its words", "RuntimeError: CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
        ("killed", "killed by the system, which ran out of memory"),
        ("aborts", "aborted when it could have no more memory"),
    ],
)
def test_out_of_memory_by_any_word_is_an_answer(tmp_path, what, why):
    tried = attempt(tmp_path, what)
    assert not tried.fits
    assert tried.why.startswith(why)


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("sentence", "data: must be arrays. Received: a str. Give arrays."),
        ("failure", "KeyError: 'no such layer'"),
        ("crashes", "exit code -6. Its last words: .*assertion failed in a kernel"),
        ("quits", "exit code 3. Its last words: goodbye"),
    ],
)
def test_any_other_end_is_an_error_with_the_childs_own_words(tmp_path, what, words):
    with pytest.raises(TrialError, match=words) as caught:
        attempt(tmp_path, what)
    assert "not for want of memory" in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


def test_an_answer_of_an_earlier_try_is_not_this_ones(tmp_path):
    assert attempt(tmp_path, "fits").fits
    with pytest.raises(TrialError, match="goodbye"):
        attempt(tmp_path, "quits")


def test_a_limit_below_what_every_size_takes_is_refused_at_once(tmp_path):
    with pytest.raises(ValueError, match="`memory` must leave room for training"):
        attempt(tmp_path, "early")


def test_a_hung_child_is_killed_with_a_sentence(tmp_path):
    with pytest.raises(
        TrialError, match=r"must end within 2 seconds. Received: a micro-batch of 7"
    ):
        attempt(tmp_path, "hangs", seconds=2.0)
    assert is_gone(int((tmp_path / "pid").read_text()))


def test_what_a_child_starts_is_killed_with_it(tmp_path):
    with pytest.raises(TrialError, match="must end within"):
        attempt(tmp_path, "family", seconds=3.0)
    wait_until(lambda: is_gone(int((tmp_path / "grandchild").read_text())))


PARENT = """
import signal, sys, tempfile
from pathlib import Path
# A shell's background job ignores Ctrl-C, and so does what it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
from tests.tuning.test_batch_children import attempt
folder = Path(tempfile.mkdtemp(dir=sys.argv[1]))
attempt(folder, "hangs", seconds=60.0)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_parent_that_ends_leaves_no_child_and_a_killed_one_no_folder(tmp_path, how):
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path)],
        env=ENVIRONMENT,
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: list(tmp_path.glob("*/begun")))
    child = int(next(tmp_path.glob("*/pid")).read_text())
    assert not is_gone(child)
    parent.send_signal(how)
    _, said = parent.communicate(timeout=20)
    wait_until(lambda: is_gone(child))
    if how is signal.SIGINT:
        assert "KeyboardInterrupt" in said
    else:
        # Nothing of the parent ran any more: the child itself removes what it was given.
        wait_until(lambda: not list(tmp_path.iterdir()))
