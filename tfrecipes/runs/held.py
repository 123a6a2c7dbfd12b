"""A folder of one's own: made where it is missing, and locked while it is written."""

import os
import weakref
from pathlib import Path

from filelock import FileLock, Timeout

LOCK = ".lock"

# The lock of each folder that this process opened last, by real path, as long as it lives.
_HELD: weakref.WeakValueDictionary[str, FileLock] = weakref.WeakValueDictionary()


def make(path: Path) -> list[Path]:
    """Makes a folder with its parents.

    Returns:
        Those that were missing, the innermost first.

    Raises:
        ValueError: If it is a file, or cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise ValueError(
            f"run folder: must be a folder, and it is a file. Received: directory={str(path)!r}. "
            "Name another one."
        )
    missing = [one for one in (path, *path.parents) if not one.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unusable(path, error) from error
    return missing


def locked(path: Path) -> FileLock:
    """Locks a folder for this process; the system lets go of it when the process ends.

    Raises:
        ValueError: If it cannot be written, or another run holds it.
    """
    if not os.access(path, os.W_OK | os.X_OK):
        raise ValueError(
            f"run folder: a run must be able to write its folder. Received: directory={str(path)!r}. "
            "Name another one, or change its permissions."
        )
    lock = FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise ValueError(
            f"run folder: another run is writing in it. Received: directory={str(path)!r}. "
            "Wait for its end, or name another folder."
        ) from error
    except OSError as error:
        raise unusable(path, error) from error
    _HELD[os.path.realpath(path)] = lock
    return lock


def let_go(path: str | os.PathLike[str]) -> None:
    """Releases what an earlier run of this process holds of a folder."""
    earlier = _HELD.pop(os.path.realpath(path), None)
    if earlier is not None:
        earlier.release(force=True)


def unusable(path: Path, error: OSError) -> ValueError:
    """The sentence for a folder that the system refuses."""
    return ValueError(
        f"run folder: a run must be able to write its folder ({error.strerror or error}). "
        f"Received: directory={str(path)!r}. Name another one."
    )
