"""Whole files or none: a write that a kill, a full disk or a reader can never catch half done."""

import os
import secrets
from pathlib import Path

# A run folder is read by people, web servers and other accounts, so files get the usual mode,
# not the private one that `tempfile` gives.
_FILE_MODE = 0o666


class RunWriteError(OSError):
    """A file of a run could not be written; what stood there before is intact.

    Args:
        path: The file that was to be written.
        reason: The operating system's words.
    """

    def __init__(self, path: str | os.PathLike[str], reason: object) -> None:
        self.path = Path(path)
        self.reason = str(getattr(reason, "strerror", None) or reason)
        super().__init__(f"{path}: could not be written ({self.reason}). What stood there is kept.")


def write_whole(descriptor: int, data: bytes | memoryview) -> None:
    """Writes every byte of `data`, in as few calls as the system allows.

    Raises:
        OSError: As `os.write` does, or where it takes no byte at all.
    """
    view = memoryview(data).cast("B")
    while view:
        written = os.write(descriptor, view)
        if written == 0:
            raise OSError("the system wrote no byte")
        view = view[written:]


def sync_directory(path: str | os.PathLike[str]) -> None:
    """Makes renames in a directory survive a power cut. Windows has no such call; there it does nothing."""
    if os.name == "nt":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: str | os.PathLike[str], data: bytes | str, sync: bool = True) -> Path:
    """Puts `data` at `path`: temporary file beside it, fsync, rename, fsync of the directory.

    Args:
        path: Where the file shall be. A symbolic link there is replaced, not followed.
        data: The content; text is written as UTF-8.
        sync: Whether to wait for the disk, 5 to 10 ms. Without it a kill or a reader still finds the
            old file or the new one; after a power cut it may be the old one.

    Returns:
        The path.

    Raises:
        RunWriteError: If the system refuses; the old file is intact and the temporary one removed.
    """
    path = Path(path)
    raw = data.encode() if isinstance(data, str) else data
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
        try:
            write_whole(descriptor, raw)
            if sync:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        if sync:
            sync_directory(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise RunWriteError(path, error) from error
        raise
    return path
