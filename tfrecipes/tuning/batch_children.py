"""A try in a child process: watched while it runs, killed where it must be, and read as an answer.

A child that is out of memory, by its own word or by a kill, is an answer. Any other end is an
error with the child's own last words.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from tfrecipes.tuning.batch_search import Tried

# Between two looks at a child's memory [s]: at some GB a second it passes the limit by little.
_LOOK_EVERY = 0.01
_ANSWER, _BEGUN, _WORDS = "answer.json", "begun", "words.txt"
_LAST_WORDS = 2000  # characters
# What C++ says of memory, in an exception of another type or before it aborts.
_OUT_OF_MEMORY = ("std::bad_alloc", "RESOURCE_EXHAUSTED", "CUDA_ERROR_OUT_OF_MEMORY")
_PROGRAM = "from tfrecipes.tuning.batch_children import main; main()"


class TrialError(RuntimeError):
    """A try ended by something else than memory; with the child's own last words."""


def attempt(
    work: str,
    folder: Path,
    size: int,
    *,
    limit: int | None,
    seconds: float,
    environment: Mapping[str, str] | None = None,
    tick: Callable[[int], None] = lambda peak: None,
) -> Tried:
    """Run a child and say whether its size fits.

    Args:
        work: The module whose `train(folder, size)` the child calls.
        folder: What the child is given; its answer and what it prints are kept there too.
        size: What is tried.
        limit: Bytes of resident memory at which the child is killed; None = it is not watched.
        seconds: How long it may take before it counts as hung [s].
        environment: Its environment; None = this process's.
        tick: Called with the highest memory seen so far, many times a second.

    Raises:
        TrialError: If the child hangs, or ends by anything but memory.
        ValueError: If it reaches the limit before its first step: no size can fit.
    """
    for name in (_ANSWER, _BEGUN):
        (folder / name).unlink(missing_ok=True)
    began, peak, stopped = time.monotonic(), 0, False
    with open(folder / _WORDS, "wb") as words:
        child = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, work, str(folder), str(size)],
            stdin=subprocess.PIPE,
            stdout=words,
            stderr=subprocess.STDOUT,
            env=None if environment is None else dict(environment),
            # Ctrl-C is for this process, and what the child starts is killed with it.
            start_new_session=True,
        )
        try:
            while child.poll() is None:
                peak = max(peak, resident(child.pid))
                if limit is not None and peak > limit:
                    stopped = True
                    break
                if time.monotonic() - began > seconds:
                    raise TrialError(
                        f"find_batch_size: a try must end within {seconds:g} seconds. Received: a "
                        f"micro-batch of {size} that was still running. It hangs, or needs more "
                        f"time: give `try_seconds`. Its last words: {_last_words(folder)}"
                    )
                tick(peak)
                time.sleep(_LOOK_EVERY)
        finally:
            _end(child)
    took = time.monotonic() - began
    if limit is not None and peak > limit and not (folder / _BEGUN).exists():
        raise ValueError(
            "find_batch_size: `memory` must leave room for training. Received: "
            f"{in_words(limit)}, of which TensorFlow, the model and the data took all before the "
            "first step. Give more: it bounds the whole process."
        )
    if stopped:
        return Tried(size, False, peak, took, f"stopped at {in_words(peak)}")
    return _read(child.returncode, folder, size, limit, peak, took)


def _read(code: int, folder: Path, size: int, limit: int | None, seen: int, took: float) -> Tried:
    """What a child that ended by itself, or by the system, has answered."""
    answer: dict[str, Any] = {}
    if (folder / _ANSWER).is_file():
        answer = json.loads((folder / _ANSWER).read_text(encoding="utf-8"))
    peak = max(seen, answer.get("peak") or 0)
    device_peak = answer.get("device_peak")
    if code == 0 and answer.get("fits"):
        if limit is not None and peak > limit:
            return Tried(size, False, peak, took, f"needed {in_words(peak)}")
        return Tried(size, True, device_peak or peak, took)
    if answer.get("out_of_memory"):
        return Tried(size, False, device_peak or peak, took, answer["out_of_memory"])
    words = _last_words(folder)
    if "error" not in answer:
        if code == -getattr(signal, "SIGKILL", 9):
            return Tried(size, False, peak, took, "killed by the system, which ran out of memory")
        if any(word in words for word in _OUT_OF_MEMORY):
            return Tried(size, False, peak, took, "aborted when it could have no more memory")
    raise TrialError(
        f"find_batch_size: the try of a micro-batch of {size} failed, and not for want of memory. "
        f"Received: {answer.get('error') or f'exit code {code}. Its last words: {words}'}"
    )


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what still runs, with everything that it started, and wait until it is gone."""
    if child.poll() is None:
        if hasattr(os, "killpg"):
            try:
                os.killpg(child.pid, signal.SIGKILL)
            except (ProcessLookupError, PermissionError):  # it ends just now
                child.kill()
        else:
            child.kill()
    child.wait()
    if child.stdin is not None:
        child.stdin.close()


def _last_words(folder: Path) -> str:
    """The end of what the child printed, on one line."""
    path = folder / _WORDS
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return " ".join(text[-_LAST_WORDS:].split()) or "none."


def resident(pid: int | None = None) -> int:
    """Bytes of memory that a process holds now; 0 where it is gone."""
    try:
        return psutil.Process(pid).memory_info().rss
    except psutil.Error:
        return 0


def in_words(amount: float) -> str:
    """Bytes as people write them.

    Example:
        >>> in_words(1_932_000_000), in_words(812_300_000)
        ('1.93 GB', '812 MB')
    """
    return f"{amount / 1e9:.3g} GB" if amount >= 1e9 else f"{amount / 1e6:.3g} MB"


# -- in the child ----------------------------------------------------------------------------------


def main() -> None:
    """A child's whole life: `MODULE FOLDER SIZE` are its arguments."""
    work, folder, size = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    _end_with_parent(folder)
    _be_killed_first()
    try:
        module = importlib.import_module(work)  # TensorFlow with it
        answer = module.train(folder, size)
    except Exception as error:
        traceback.print_exc()
        words = f"{type(error).__name__}: {' '.join(str(error).split())}"
        own_word = isinstance(error, MemoryError) or any(w in words for w in _OUT_OF_MEMORY)
        if own_word or "ResourceExhausted" in type(error).__name__:
            _say(folder, fits=False, out_of_memory=_first_sentence(words))
        else:
            # A sentence of ours stands for itself.
            ours = isinstance(error, ValueError) and "Received:" in words
            _say(folder, error=str(error) if ours else words[:_LAST_WORDS])
        sys.exit(1)
    _say(folder, fits=True, peak=_peak_resident(), **answer)


def begin(folder: Path) -> None:
    """Say that the first step comes next: what is taken until now, every size takes."""
    (folder / _BEGUN).touch()


def _first_sentence(words: str) -> str:
    return words[:200].split(" [", 1)[0].rstrip(".")


def _say(folder: Path, **answer: Any) -> None:
    """Write the child's answer, whole or not at all."""
    partial = folder / f"{_ANSWER}.partial"
    partial.write_text(json.dumps(answer), encoding="utf-8")
    os.replace(partial, folder / _ANSWER)


def _peak_resident() -> int:
    """The most resident memory that this process has had [bytes]; now, where no system tells."""
    status = Path("/proc/self/status")
    if status.is_file():  # `getrusage` would count what this process was before its exec too
        for line in status.read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    info = psutil.Process().memory_info()
    return getattr(info, "peak_wset", info.rss)  # Windows; elsewhere the parent's looks count


def _end_with_parent(folder: Path) -> None:
    """End this process, and remove its folder, as soon as the process that started it is gone.

    The pipe at standard input ends with whoever holds its other end, however that one ended.
    """

    def wait() -> None:
        while os.read(0, 1):  # nobody writes: it returns b"" when the pipe is closed
            continue
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _be_killed_first() -> None:
    """Where the system runs out of memory, this process is to be killed and not its parent."""
    path = Path("/proc/self/oom_score_adj")
    if sys.platform == "linux" and path.is_file():
        try:
            path.write_text("1000", encoding="ascii")
        except PermissionError as error:  # some sandboxes: then the system chooses by size
            print(error, file=sys.stderr)
