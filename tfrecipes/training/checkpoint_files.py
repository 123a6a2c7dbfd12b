"""One checkpoint's three files: written with their digests, read with every byte verified."""

import errno
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import safetensors

from tfrecipes.runs.atomic import sync_directory, write_whole

FORMAT = "tfrecipes-checkpoint"
VERSION = 1

ARRAYS, MANIFEST, DIGEST = "arrays.safetensors", "manifest.json", "manifest.sha256"

_DTYPES: dict[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "U8": np.dtype(np.uint8),
    "I8": np.dtype(np.int8),
    "U16": np.dtype(np.uint16),
    "I16": np.dtype(np.int16),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "U32": np.dtype(np.uint32),
    "I32": np.dtype(np.int32),
    "F32": np.dtype(np.float32),
    "U64": np.dtype(np.uint64),
    "I64": np.dtype(np.int64),
    "F64": np.dtype(np.float64),
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}

_CHUNK_BYTES = 2**22
# The manifest names the variables; 64 MiB is some 500,000 of them.
_MOST_MANIFEST_BYTES = 64 * 2**20


class CheckpointError(ValueError):
    """A checkpoint cannot be trusted or read; the message says which and why."""


def storable(name: str, array: np.ndarray) -> np.ndarray:
    """The array as it is stored: little-endian, in C order."""
    if not isinstance(name, str) or not name or name == "__metadata__":
        raise ValueError(f"checkpoint: an array's name must be a text. Received: name={name!r}.")
    array = np.asarray(array)
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    if array.dtype not in _CODES:
        raise ValueError(
            f"checkpoint: array {name!r} must be of bools, integers or floats. Received: dtype={array.dtype}."
        )
    # np.ascontiguousarray would make a 0-d array 1-d.
    return np.asarray(array, order="C")


def write_files(directory: Path, arrays: Mapping[str, np.ndarray], meta: Any) -> None:
    """Writes and syncs the three files into an empty directory.

    Args:
        directory: Where; it is synced too.
        arrays: As `storable` returned them.
        meta: JSON-able.

    Raises:
        OSError: If the system refuses.
    """
    size, digest = _write_arrays(directory / ARRAYS, arrays)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "files": {ARRAYS: {"bytes": size, "sha256": digest}},
        "arrays": {n: {"dtype": _CODES[a.dtype], "shape": a.shape} for n, a in arrays.items()},
        "meta": meta,
    }
    text = json.dumps(manifest, indent=1).encode()
    _write_file(directory / MANIFEST, text)
    _write_file(directory / DIGEST, _digest_line(text))
    sync_directory(directory)


def _write_file(path: Path, *parts: bytes | memoryview) -> tuple[int, str]:
    """Writes and syncs a new file. Returns its size and the sha256 of what was meant to be in it."""
    digest, size = hashlib.sha256(), 0
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        for part in parts:
            view = memoryview(part).cast("B")
            for start in range(0, len(view), _CHUNK_BYTES):
                chunk = view[start : start + _CHUNK_BYTES]
                digest.update(chunk)
                size += len(chunk)
                write_whole(descriptor, chunk)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return size, digest.hexdigest()


def _write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> tuple[int, str]:
    """Writes the safetensors format (header length, JSON header, bytes of the arrays in order).

    Written here and not by the library because that makes two more copies of the state in memory, and
    cannot take the digest of what it was handed on the way.
    """
    # Wide types first keeps every array aligned to its item size, as readers by memory map want it.
    names = sorted(arrays, key=lambda name: (-arrays[name].dtype.itemsize, name))
    header: dict[str, Any] = {}
    offset = 0
    for name in names:
        array = arrays[name]
        end = offset + array.nbytes
        header[name] = {
            "dtype": _CODES[array.dtype],
            "shape": list(array.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    buffers = (arrays[name].reshape(-1).view(np.uint8).data for name in names if arrays[name].size)
    return _write_file(path, len(text).to_bytes(8, "little"), text, *buffers)


def _digest_line(manifest: bytes) -> bytes:
    return f"{hashlib.sha256(manifest).hexdigest()}  {MANIFEST}\n".encode()


def _open_plain(path: Path) -> int:
    """Opens a regular file for reading; a link is refused, not followed."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK)
    mode = os.fstat(descriptor).st_mode
    if mode & 0o170000 != 0o100000:
        os.close(descriptor)
        raise OSError(errno.EINVAL, f"{path.name} is no regular file")
    return descriptor


def _read_small(path: Path) -> bytes:
    with os.fdopen(_open_plain(path), "rb") as file:
        data = file.read(_MOST_MANIFEST_BYTES + 1)
    if len(data) > _MOST_MANIFEST_BYTES:
        raise OSError(errno.EFBIG, f"{path.name} is larger than {_MOST_MANIFEST_BYTES} bytes")
    return data


def read_files(
    path: Path, make_arrays: bool = True
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Checks every byte of a checkpoint against its digests.

    Args:
        path: Its folder.
        make_arrays: False verifies the bytes and makes nothing of them.

    Returns:
        The arrays and `meta`.

    Raises:
        CheckpointError: If anything is missing, altered, a link, or of an unknown version.
    """

    def broken(reason: object) -> CheckpointError:
        return CheckpointError(f"{path}: the checkpoint cannot be used: {reason}.")

    if path.is_symlink():
        raise broken("it is a symbolic link, which is not followed")
    try:
        text = _read_small(path / MANIFEST)
        if _read_small(path / DIGEST) != _digest_line(text):
            raise broken(f"{MANIFEST} and {DIGEST} do not agree")
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise broken(f"its format is {manifest['format']!r}")
        if manifest["version"] != VERSION:
            raise broken(
                f"its version is {manifest['version']!r}, and this release reads {VERSION}; "
                "use the release that wrote it"
            )
        expected = manifest["files"][ARRAYS]
        data = _checked_bytes(path / ARRAYS, expected["bytes"], expected["sha256"], make_arrays)
        arrays = _arrays(data, manifest["arrays"]) if make_arrays else {}
        meta = manifest["meta"]
    except OSError as error:
        where = f"{Path(error.filename).name}: " if error.filename else ""
        raise broken(f"{where}{error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError, safetensors.SafetensorError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise broken(f"its content is not what this release writes ({error!r})") from error
    return arrays, meta


def _checked_bytes(path: Path, size: int, digest: str, keep: bool) -> bytes:
    """The file's bytes, digest checked; with `keep` False they are read in pieces and dropped."""
    actual = hashlib.sha256()
    with os.fdopen(_open_plain(path), "rb") as file:
        length = os.fstat(file.fileno()).st_size
        if length != size:
            raise OSError(errno.EINVAL, f"{path.name} has {length} bytes of {size}")
        data = file.read() if keep else b""
        actual.update(data)
        while chunk := file.read(_CHUNK_BYTES):
            actual.update(chunk)
    if actual.hexdigest() != digest:
        raise OSError(errno.EINVAL, f"the sha256 of {path.name} is not the one in its manifest")
    return data


def _arrays(data: bytes, described: Mapping[str, Any]) -> dict[str, np.ndarray]:
    stored = dict(safetensors.deserialize(data))
    if set(stored) != set(described):
        raise ValueError("the arrays are not those of the manifest")
    arrays = {}
    for name, facts in described.items():
        tensor = stored[name]
        if (tensor["dtype"], list(tensor["shape"])) != (facts["dtype"], list(facts["shape"])):
            raise ValueError(f"array {name!r} is not the manifest's")
        flat = np.frombuffer(tensor["data"], dtype=_DTYPES[facts["dtype"]])
        arrays[name] = flat.reshape(facts["shape"])
    return arrays
