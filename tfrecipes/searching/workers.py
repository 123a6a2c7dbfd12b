"""Several processes for one search: Keras Tuner's chief and its workers, started and ended here."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pynvml

from tfrecipes.searching.files import Record, SearchFolder
from tfrecipes.searching.process import BAD_INPUT

# Between two looks at the processes [s].
_LOOK = 0.2
# What a training that was told to end may take for its checkpoint [s].
_GRACE = 20.0
# A worker that dies outside of any training so often in a row will not come up.
_MOST_STARTS = 3


class WorkersError(RuntimeError):
    """The processes of a search cannot go on; it can be resumed."""


class _Process:
    """The chief or a worker."""

    def __init__(self, name: str, folder: SearchFolder, environment: Mapping[str, str]) -> None:
        self.name = name
        self._folder = folder
        self._environment = {**environment, "KERASTUNER_TUNER_ID": name}
        self.deaths = 0
        self.start()

    def start(self) -> None:
        log = self._folder.log_path(self.name)
        log.parent.mkdir(exist_ok=True)
        with open(log, "ab") as out:
            self._popen = subprocess.Popen(
                [sys.executable, "-m", "tfrecipes.searching.process", str(self._folder.path)],
                env=self._environment,
                stdin=subprocess.PIPE,  # closes when this process is gone
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # a terminal's Ctrl-C is told once, by us
            )

    @property
    def code(self) -> int | None:
        return self._popen.poll()

    def ask_to_end(self) -> None:
        if self.code is None:
            self._popen.terminate()

    def end(self, until: float) -> None:
        """Waits till then, and kills."""
        try:
            self._popen.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
        if self._popen.stdin is not None:
            self._popen.stdin.close()

    def last_words(self) -> str:
        text = self._folder.log_path(self.name).read_text(encoding="utf-8", errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1] if lines else "it printed nothing"


def train_by_workers(
    folder: SearchFolder, workers: int, told: Callable[[Record], None], say: Callable[[str], None]
) -> None:
    """Runs a search's trainings in processes of their own, until there is nothing more to train.

    A worker that dies is started again and takes the same training up from its checkpoint; a
    training in which workers died twice counts as crashed. Whatever ends this function ends every
    process.

    Args:
        folder: The search's, begun.
        workers: How many, >= 2.
        told: Called with each record as it comes.
        say: Called with a sentence where a worker died.

    Raises:
        ValueError: If a worker says that the input cannot be used.
        WorkersError: If the chief died, or a worker does not come up.
        KeyboardInterrupt: After Ctrl-C or SIGTERM, when every process has ended.
    """
    environment = _environment(workers)
    known = {record.name for record in _records(folder)}
    with _sigterm_as_interrupt():
        chief = _Process("chief", folder, environment)
        team: list[_Process] = []
        try:
            team += [
                _Process(f"worker{n}", folder, _own_device(environment, n)) for n in range(workers)
            ]
            while any(one.code != 0 for one in team):
                _tell_new(folder, known, told)
                if chief.code:
                    raise WorkersError(
                        f"search: the chief ended with {chief.code}: {chief.last_words()} See "
                        f"{folder.log_path('chief')}; start the search again to go on."
                    )
                if chief.code == 0:  # everybody was told that there is nothing more to train
                    break
                for one in team:
                    if one.code:
                        _after_death(one, folder, say)
                time.sleep(_LOOK)
            _tell_new(folder, known, told)
        finally:
            for one in team:
                one.ask_to_end()
            until = time.monotonic() + _GRACE
            for one in team:
                one.end(until)
            # Its files are whole at every instant, and it waits long for workers that died.
            chief.ask_to_end()
            chief.end(time.monotonic() + 1.0)


def _after_death(one: _Process, folder: SearchFolder, say: Callable[[str], None]) -> None:
    """Starts a worker again, unless it is the input's fault or it does not come up."""
    code = one.code or 0
    if code == BAD_INPUT:
        raise ValueError(one.last_words())
    words = f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    name = folder.note_death(one.name, words)
    one.deaths = one.deaths + 1 if name is None else 0
    if one.deaths >= _MOST_STARTS:
        raise WorkersError(
            f"search: {one.name} ended {one.deaths} times before it trained ({words}): "
            f"{one.last_words()} See {folder.log_path(one.name)}."
        )
    where = "between two trainings" if name is None else f"in training {name}"
    say(f"{one.name} died {where} ({words}) and is started again.")
    one.start()


def _tell_new(folder: SearchFolder, known: set[str], told: Callable[[Record], None]) -> None:
    for record in _records(folder):
        if record.name not in known:
            known.add(record.name)
            told(record)


def _records(folder: SearchFolder) -> list[Record]:
    repeats = [folder.record(f"{name}-{number}") for name, number in sorted(folder.repeats())]
    return [*folder.trials(), *(record for record in repeats if record is not None)]


def _environment(workers: int) -> dict[str, str]:
    """What the processes share: where the chief is, and each worker its part of the cores."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    may_use = getattr(os, "sched_getaffinity", None)  # Linux; elsewhere all processors
    cores = len(may_use(0)) if may_use else os.cpu_count() or 1
    each = str(max(1, cores // workers))
    return {
        "TF_NUM_INTRAOP_THREADS": each,
        "OMP_NUM_THREADS": each,
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        **os.environ,
        "PYTHONUNBUFFERED": "1",
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
    }


def _own_device(environment: Mapping[str, str], number: int) -> dict[str, str]:
    """One GPU a worker, in turn, where there are several.

    Example:
        >>> _own_device({"CUDA_VISIBLE_DEVICES": "2,5"}, 3)["CUDA_VISIBLE_DEVICES"]
        '5'
    """
    named = environment.get("CUDA_VISIBLE_DEVICES")
    found = _gpus() if named is None else [one.strip() for one in named.split(",") if one.strip()]
    if len(found) < 2:
        return dict(environment)
    return {**environment, "CUDA_VISIBLE_DEVICES": found[number % len(found)]}


def _gpus() -> list[str]:
    """Numbers of NVIDIA's GPUs, without TensorFlow, which would take them."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:  # no driver
        return []
    try:
        return [str(number) for number in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()


@contextlib.contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """SIGTERM ends the processes as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
