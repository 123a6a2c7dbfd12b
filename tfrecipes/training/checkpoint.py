"""Checkpoints that a kill, a full disk or a flipped bit cannot turn into wrong weights.

A checkpoint is a folder `checkpoint-<number>` of three files: `arrays.safetensors`, `manifest.json` (format
version, every array's dtype and shape, the size and sha256 of the arrays, the caller's `meta`) and
`manifest.sha256`, which `sha256sum -c` reads. It is made under another name, synced to the disk and then
renamed, so that a folder of that name is complete. Reading verifies every byte before an array is made.
"""

import json
import os
import re
import secrets
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfrecipes.runs.atomic import RunWriteError, sync_directory
from tfrecipes.training.checkpoint_files import (
    CheckpointError,
    read_files,
    storable,
    write_files,
)

_NAME = re.compile(r"checkpoint-(\d{6,12})")
_ANY_NAME = re.compile(r"checkpoint-(\d{6,12})(\.\d+)?(\.corrupt)?")
_TEMPORARY = re.compile(r"\.checkpoint-[0-9a-f]{8}\.tmp")


class CheckpointWarning(UserWarning):
    """A broken checkpoint was set aside, or an old one could not be removed."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every byte was verified.

    Attributes:
        path: Its folder.
        number: Counts up with every save in that directory; 0 for a folder that was renamed.
        arrays: Name to array.
        meta: What was handed to `save`.
        set_aside: A sentence for each newer checkpoint that `latest` found broken.
    """

    path: Path
    number: int
    arrays: dict[str, np.ndarray]
    meta: dict[str, Any]
    set_aside: tuple[str, ...] = ()


def save(
    directory: str | os.PathLike[str],
    arrays: Mapping[str, np.ndarray],
    meta: Mapping[str, Any],
    keep: int = 3,
) -> Path:
    """Writes a checkpoint, verifies it from the disk, and only then removes old ones.

    One process writes in a directory at a time (the run folder's lock sees to that): leftovers of a
    killed `save` are removed first.

    Args:
        directory: Where the checkpoints lie; made where it is missing.
        arrays: Name to array: bool, integers, float16, bfloat16, float32, float64. A 0-d array stays one.
        meta: JSON-able facts: step, epoch, callbacks' state. Non-finite numbers are kept.
        keep: How many of the newest stay, this one counted. 1 or more.

    Returns:
        The new checkpoint's folder.

    Raises:
        ValueError: If an argument cannot be stored.
        RunWriteError: If the system refuses; earlier checkpoints are as they were.
        CheckpointError: If what came back from the disk is not what was written; it is set aside.

    Example:
        >>> import tempfile
        >>> where = tempfile.mkdtemp()
        >>> path = save(where, {"w": np.float32([1, 2])}, {"step": 7}, keep=2)
        >>> latest(where).meta, latest(where).arrays["w"].tolist()
        ({'step': 7}, [1.0, 2.0])
    """
    directory = Path(directory)
    if isinstance(keep, bool) or not isinstance(keep, int) or keep < 1:
        raise ValueError(f"checkpoint: `keep` must be an integer >= 1. Received: keep={keep!r}.")
    plain = {name: storable(name, array) for name, array in arrays.items()}
    try:
        meta = dict(meta)
        json.dumps(meta)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"checkpoint: `meta` must be JSON-able ({error}). Received: meta={meta!r}."
        ) from error

    temporary = directory / f".checkpoint-{secrets.token_hex(4)}.tmp"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(directory)
        path = directory / f"checkpoint-{_next_number(directory):06d}"
        temporary.mkdir()
        write_files(temporary, plain, meta)
        os.rename(temporary, path)
        sync_directory(directory)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            raise RunWriteError(directory, error) from error
        raise
    try:
        read_files(path, make_arrays=False)
    except CheckpointError as error:
        raise CheckpointError(_set_aside(path, error)) from error
    _prune(directory, keep)
    return path


def latest(
    directory: str | os.PathLike[str], on_broken: Callable[[str], None] | None = None
) -> Checkpoint | None:
    """The newest checkpoint that verifies; broken ones before it are renamed to `*.corrupt`.

    A symbolic link is neither followed nor touched.

    Args:
        directory: Where the checkpoints lie.
        on_broken: Called with one sentence for each broken checkpoint, as a decision to start
            anew must not be silent. None issues a CheckpointWarning.

    Returns:
        The checkpoint, or None where there is none that can be trusted.
    """
    directory = Path(directory)
    reasons: list[str] = []
    for path in reversed(_checkpoints(directory)):
        try:
            arrays, meta = read_files(path)
        except CheckpointError as error:
            reasons.append(str(error) if path.is_symlink() else _set_aside(path, error))
            if on_broken is None:
                warnings.warn(reasons[-1], CheckpointWarning, stacklevel=2)
            else:
                on_broken(reasons[-1])
        else:
            return Checkpoint(path, _number(path), arrays, meta, tuple(reasons))
    return None


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Reads the checkpoint at `path`: that one or an error, never another.

    Raises:
        CheckpointError: If it is missing, a symbolic link, incomplete, altered, or of a version
            that this code does not know.
    """
    path = Path(path)
    arrays, meta = read_files(path)
    return Checkpoint(path, _number(path), arrays, meta)


def _entries(directory: Path, pattern: re.Pattern[str]) -> list[tuple[re.Match[str], Path]]:
    if not directory.is_dir():
        return []
    found = ((pattern.fullmatch(entry.name), entry) for entry in directory.iterdir())
    return [(match, entry) for match, entry in found if match]


def _number(path: Path) -> int:
    match = _ANY_NAME.fullmatch(path.name)
    return int(match[1]) if match else 0  # a folder that its owner renamed has none


def _checkpoints(directory: Path) -> list[Path]:
    """Folders named as checkpoints, oldest first."""
    numbered = _entries(directory, _NAME)
    return [path for _, path in sorted(numbered, key=lambda entry: int(entry[0][1]))]


def _next_number(directory: Path) -> int:
    # Broken ones count, so that no name is ever used twice.
    return 1 + max((int(match[1]) for match, _ in _entries(directory, _ANY_NAME)), default=0)


def _set_aside(path: Path, error: CheckpointError) -> str:
    """Renames a broken checkpoint. Returns the sentence that says so."""
    target = path.with_name(f"{path.name}.corrupt")
    count = 1
    while target.exists():
        count += 1
        target = path.with_name(f"{path.name}.{count}.corrupt")
    try:
        os.rename(path, target)
    except OSError as refusal:
        return f"{error} It could not be set aside ({refusal.strerror})."
    return f"{error} It was set aside as {target.name}."


def _remove_leftovers(directory: Path) -> None:
    for _, path in _entries(directory, _TEMPORARY):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)


def _prune(directory: Path, keep: int) -> None:
    """Removes all but the newest, by way of a temporary's name: a kill leaves no half checkpoint."""
    real = [path for path in _checkpoints(directory) if not path.is_symlink()]
    for path in real[:-keep]:
        doomed = directory / f".checkpoint-{secrets.token_hex(4)}.tmp"
        try:
            os.rename(path, doomed)
            shutil.rmtree(doomed)
        except OSError as error:
            # The new checkpoint is safe, which is what `save` was asked for.
            warnings.warn(
                f"{path}: could not be removed ({error}).", CheckpointWarning, stacklevel=3
            )
