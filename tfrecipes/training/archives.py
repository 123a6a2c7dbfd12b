"""`--data file.npz`: arrays from a file that nobody vouches for."""

import math
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from tfrecipes.training.data import count

# NumPy reads and writes headers of up to 10,000 bytes; longer ones could be slow to parse.
MAX_HEADER_BYTES = 10_000


class Archive(NamedTuple):
    """The arrays of a file.

    Args:
        x: `x_train`.
        y: `y_train`.
        validation: (x_val, y_val), else (x_test, y_test), else None.
    """

    x: np.ndarray
    y: np.ndarray
    validation: tuple[np.ndarray, np.ndarray] | None


def load_npz(path: str | Path, limit: int | None = None) -> Archive:
    """Read `x_train, y_train` and, when there, `x_val, y_val` or `x_test, y_test` from a .npz file.

    Nothing in the file is executed, and no memory is taken before every array's header has been
    held against the size of what is stored and against `limit`.

    Args:
        path: The file.
        limit: Largest size of all arrays together [bytes]. None: half of the memory that is free,
            as training holds the arrays once more.

    Returns:
        The arrays.

    Raises:
        ValueError: For whatever is wrong with the file, in one sentence.
    """
    path = Path(path)
    where = str(path)
    limit = _free_memory() // 2 if limit is None else limit
    try:
        with zipfile.ZipFile(path) as archive:
            stored = {i.filename.removesuffix(".npy"): i for i in archive.infolist()}
            names = _wanted(stored, where)
            total = sum(stored[name].file_size for name in names)
            if total > limit:
                raise ValueError(
                    f"{where}: the arrays must fit into memory twice. Received: {total:,} bytes, "
                    f"at most {limit:,} can be held. Give the data as a tf.data.Dataset in a "
                    "target."
                )
            arrays = {
                name: _read(archive.open(stored[name]), stored[name].file_size, f"{where}: {name}")
                for name in names
            }
    except FileNotFoundError:
        raise ValueError(f"{where}: there is no such file. Check the path.") from None
    except OSError as error:
        raise ValueError(
            f"{where}: cannot be read. Received: {error.strerror or error}. Check the path and its "
            "permissions."
        ) from None
    except (zipfile.BadZipFile, zlib.error, RuntimeError, EOFError) as error:
        # RuntimeError is an encrypted member or a compression that zipfile does not know.
        raise ValueError(
            f"{where}: must be a .npz file. Received: {error}. Write it with numpy.savez."
        ) from None
    x, y, *validation = (arrays[name] for name in names)
    count(x, y, where=where)
    if validation:
        count(*validation, where=f"{where}: {names[2]}, {names[3]}")
        return Archive(x, y, (validation[0], validation[1]))
    return Archive(x, y, None)


def _wanted(stored: dict, where: str) -> list[str]:
    """Return the names to read: two, or four with validation data."""
    missing = [name for name in ("x_train", "y_train") if name not in stored]
    if missing:
        there = ", ".join(sorted(stored)[:8]) or "nothing"
        raise ValueError(
            f"{where}: must hold x_train and y_train. Received: {there}. "
            f"Add {' and '.join(missing)} with numpy.savez."
        )
    names = ["x_train", "y_train"]
    for part in ("val", "test"):
        pair = [f"x_{part}", f"y_{part}"]
        there = [name for name in pair if name in stored]
        if len(there) == 1:
            raise ValueError(
                f"{where}: {pair[0]} and {pair[1]} belong together. Received: {there[0]} alone. "
                "Add the other one."
            )
        if there and len(names) == 2:
            names += pair
    return names


def _read(file: IO[bytes], size: int, where: str) -> np.ndarray:
    """Read one member of `size` bytes, whose header is looked at before its numbers are."""
    headers: dict[tuple[int, int], Callable] = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with file:
        try:
            version = np.lib.format.read_magic(file)
            if version not in headers:
                raise ValueError(f"format {version}")
            shape, fortran, dtype = headers[version](file, max_header_size=MAX_HEADER_BYTES)
        except (ValueError, SyntaxError) as error:
            raise ValueError(
                f"{where}: must be an array. Received: {_first_line(error)}. Write it with "
                "numpy.savez."
            ) from None
        if dtype.hasobject or dtype.kind not in "biufSU":
            raise ValueError(
                f"{where}: must be numbers or strings. Received: dtype {dtype}. Convert it before "
                "saving; Python objects are never loaded."
            )
        body = math.prod(shape) * dtype.itemsize
        if body != size - file.tell():
            raise ValueError(
                f"{where}: is damaged. Received: {size - file.tell():,} bytes for shape {shape}, "
                f"which takes {body:,}. Write the file again."
            )
        data = file.read(body)
        # Past the end, so that zipfile compares the checksum.
        if len(data) != body or file.read(1):
            raise ValueError(f"{where}: is damaged. Received: {len(data):,} bytes of {body:,}.")
    array = np.frombuffer(bytearray(data), dtype).reshape(shape, order="F" if fortran else "C")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__


def _free_memory() -> int:
    """Return how much memory a process may still take [bytes]: the machine's or its container's."""
    found = [2**40]  # what is assumed where the system does not say
    meminfo, limit = Path("/proc/meminfo"), Path("/sys/fs/cgroup/memory.max")
    if meminfo.is_file():
        rows = dict(line.split(":") for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in rows:
            found.append(int(rows["MemAvailable"].split()[0]) * 1024)
    if limit.is_file() and (text := limit.read_text().strip()).isdigit():
        used = Path("/sys/fs/cgroup/memory.current")
        found.append(int(text) - (int(used.read_text()) if used.is_file() else 0))
    return max(0, min(found))
