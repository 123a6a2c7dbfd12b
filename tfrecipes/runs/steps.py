"""`steps.csv` and its like: a table that grows by rows, whole rows at every instant."""

import contextlib
import csv
import os
import re
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from tfrecipes.runs.atomic import RunWriteError, write_atomically

# What a step's row has besides a user's own columns.
TELEMETRY = frozenset(
    {
        "step",
        "learning_rate",
        "loss",
        "grad_norm",
        "param_norm",
        "update_norm",
        "update_ratio",
        "grad_param_ratio",
        "clipped",
        "overflow",
        "loss_scale",
        "samples",
    }
)
INTEGER_COLUMNS = frozenset({"step", "samples", "clipped", "overflow"})
SYSTEM_INTEGERS = frozenset({"step", "epoch", "host_memory", "gpu_memory"})

_NAN_CELL = re.compile(r"(?<![^,\n])nan(?![^,\n])")

# Rows that could not be written wait for the next append; past this much they are dropped, so that
# a full disk never becomes a full memory. 4 MiB is about 40,000 rows of the twelve columns.
_MOST_WAITING_BYTES = 4 * 2**20


def _cells(values: np.ndarray, integer: bool) -> np.ndarray:
    """A column's cells: integers plainly, the rest as the shortest text that gives the float32 back.

    Bytes (rows,), each filled up with zeros as numpy keeps them.
    """
    with np.errstate(over="ignore"):  # a float64 past float32's range is inf there as well
        singles = values.astype(np.float32)
    whole = integer and bool((np.abs(values) < 2.0**63).all())  # false of a NaN
    if integer and not whole:
        return np.array(
            [(str(int(v)) if np.isfinite(v) else str(v)).encode() for v in values.tolist()]
        )
    kept = values.astype(np.int64) if whole else singles
    if (kept == kept[0]).all() and (whole or kept[0]):  # not 0: -0 equals it
        return np.full(len(kept), str(kept[0]).encode())
    if whole:
        return kept.astype("S20")
    # numpy writes a whole column in two thirds of the time of its values' own `str`.
    return singles.astype("S16")


def _lines(cells: Sequence[np.ndarray], count: int) -> str:
    """Columns of cells as lines, each with its newline."""
    # All of them at once: the zeros that fill the cells up are taken out at the end.
    bytes_of = [np.ascontiguousarray(c).view(np.uint8).reshape(count, -1) for c in cells]
    parts = [np.empty((count, 0), np.uint8)]
    for place, cell in enumerate(bytes_of, 1):
        end = ord("," if place < len(bytes_of) else "\n")
        parts += [cell, np.full((count, 1), end, np.uint8)]
    return np.concatenate(parts, axis=1).tobytes().replace(b"\0", b"").decode()


def format_rows(
    columns: Sequence[str], rows: np.ndarray, integers: Collection[str] = INTEGER_COLUMNS
) -> str:
    """The rows as CSV lines, each with its newline."""
    if not len(rows):
        return ""
    cells = [_cells(rows[:, i], column in integers) for i, column in enumerate(columns)]
    return _lines(cells, len(rows))


def read_table(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Reads a numeric CSV with a header, as a killed writer may have left it.

    A last line without its newline is not read, nor is a line that is no row of numbers.

    Returns:
        Column name to float64 array (rows,); an empty cell is NaN. {} where there is no header.
    """
    header, lines = _complete_lines(Path(path))
    if not header:
        return {}
    table = _numbers(header, lines)[1]
    return {column: table[:, i].copy() for i, column in enumerate(header)}


def _complete_lines(path: Path) -> tuple[list[str], list[str]]:
    text = path.read_bytes().decode(errors="replace")
    lines = text[: text.rfind("\n") + 1].split("\n")[:-1]
    header = next(csv.reader(lines[:1]), [])
    return (header, lines[1:]) if all(header) else ([], [])


def _numbers(header: Sequence[str], lines: list[str]) -> tuple[list[str], np.ndarray]:
    """The lines that are rows of numbers, and those numbers (rows, columns)."""
    if lines:
        # numpy's reader in C serves the ordinary file; it refuses empty cells and broken lines.
        with contextlib.suppress(ValueError):
            table = np.loadtxt(lines, delimiter=",", comments=None, ndmin=2)
            if table.shape == (len(lines), len(header)):
                return lines, table
    good, values = [], []
    for line in lines:
        cells = line.split(",")
        if len(cells) != len(header):
            continue
        try:
            values.append([float(cell) if cell else np.nan for cell in cells])
        except ValueError:
            continue
        good.append(line)
    return good, np.asarray(values, dtype=np.float64).reshape(-1, len(header))


class StepsFile:
    """Appends rows to `steps.csv`.

    Every append is one `os.write` of complete lines to a descriptor opened with O_APPEND, at once:
    nothing waits in a buffer, so the file is never behind what was handed in, and a reader or a
    SIGKILL finds whole rows. A write that the disk takes only in part is cut back.

    A file that exists is continued: a last line that a power cut left incomplete is removed, and
    so are rows from `resume_step` on. Columns that the file does not have yet are added to it;
    earlier rows are empty there.

    Args:
        path: The file.
        resume_step: The step at which the run goes on [optimizer steps]; rows with
            `step >= resume_step` will be written again. None keeps every row.
        integers: Columns whose numbers are whole.
        empty: Write NaN as an empty cell: the column has no value there.

    Raises:
        RunWriteError: If the existing file cannot be repaired.

    Example:
        >>> import tempfile, pathlib
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "steps.csv"
        >>> with StepsFile(path) as steps:
        ...     steps.append(["step", "loss"], np.array([[0, 2.5], [1, 0.1]]))
        >>> path.read_text()
        'step,loss\\n0,2.5\\n1,0.1\\n'
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        resume_step: int | None = None,
        integers: Collection[str] = INTEGER_COLUMNS,
        empty: bool = False,
    ) -> None:
        self.path = Path(path)
        self._integers = integers
        self._empty = empty
        self.dropped_rows = 0  # rows lost for good to a disk that stayed full
        self._descriptor: int | None = None
        self._columns: list[str] = []
        self._waiting = b""
        try:
            if self.path.exists():
                self._repair(resume_step)
        except OSError as error:
            if isinstance(error, RunWriteError):
                raise
            raise RunWriteError(self.path, error) from error

    def append(self, columns: Sequence[str], rows: np.ndarray) -> None:
        """Writes rows.

        Args:
            columns: Their names, in the rows' order.
            rows: float64 (rows, columns).

        Raises:
            ValueError: If the shapes do not fit, or a column is named twice or unreadably.
            RunWriteError: If the system refuses. The rows wait for the next append, up to 4 MiB.
        """
        columns = list(columns)
        rows = np.asarray(rows, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(columns):
            raise ValueError(
                f"{self.path.name}: `rows` must be (rows, {len(columns)}), a number for each of the columns. "
                f"Received: rows.shape={rows.shape!r}."
            )
        bad = [c for c in columns if not c or any(ch in c for ch in ',"\r\n')]
        if bad or len(set(columns)) != len(columns):
            raise ValueError(
                f"{self.path.name}: column names must differ and hold no comma, quote or line break. "
                f"Received: columns={columns!r}."
            )
        if not len(rows):
            return
        if missing := [c for c in columns if c not in self._columns]:
            self._add_columns(missing, len(rows))
        if columns == self._columns:
            text = format_rows(columns, rows, self._integers)
        else:
            text = self._spread(columns, rows)
        if self._empty:
            text = _NAN_CELL.sub("", text)
        self._write(text.encode())

    def flush(self) -> None:
        """Writes what an earlier failure left waiting.

        Raises:
            RunWriteError: If the system still refuses.
        """
        if self._waiting:
            self._write(b"")

    def close(self) -> None:
        """Writes what waits, makes the rows survive a power cut, and lets go of the file.

        Raises:
            RunWriteError: If the system refuses.
        """
        try:
            self.flush()
            if self._descriptor is not None:
                os.fsync(self._descriptor)
        except OSError as error:
            if isinstance(error, RunWriteError):
                raise
            raise RunWriteError(self.path, error) from error
        finally:
            self._let_go()

    def __enter__(self) -> "StepsFile":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _spread(self, columns: list[str], rows: np.ndarray) -> str:
        cells = {c: _cells(rows[:, i], c in self._integers) for i, c in enumerate(columns)}
        empty = np.zeros(len(rows), "S1")
        return _lines([cells.get(column, empty) for column in self._columns], len(rows))

    def _write(self, data: bytes) -> None:
        data = self._waiting + data
        try:
            if self._descriptor is None:
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
                self._descriptor = os.open(self.path, flags, 0o666)
            before = os.fstat(self._descriptor).st_size
            header = b"" if before else f"{','.join(self._columns)}\n".encode()
            whole = header + data
            written = os.write(self._descriptor, whole)
            if written != len(whole):
                os.ftruncate(self._descriptor, before)
                raise OSError(f"the disk took {written} of {len(whole)} bytes")
            self._waiting = b""
        except OSError as error:
            self._keep(data)
            raise RunWriteError(self.path, error) from error

    def _keep(self, data: bytes) -> None:
        if len(data) > _MOST_WAITING_BYTES:
            cut = data.index(b"\n", len(data) - _MOST_WAITING_BYTES - 1) + 1
            self.dropped_rows += data[:cut].count(b"\n")
            data = data[cut:]
        self._waiting = data

    def _repair(self, resume_step: int | None) -> None:
        header, lines = _complete_lines(self.path)
        kept, table = _numbers(header, lines) if header else ([], np.empty((0, 0)))
        if resume_step is not None and "step" in header:
            early = table[:, header.index("step")] < resume_step
            kept = [line for line, keep in zip(kept, early, strict=True) if keep]
        self._columns = header
        self._rewrite(kept)

    def _rewrite(self, lines: list[str]) -> None:
        text = "".join(f"{line}\n" for line in [",".join(self._columns), *lines] if line)
        if text.encode() != self.path.read_bytes():
            write_atomically(self.path, text)

    def _add_columns(self, missing: list[str], rows_at_stake: int) -> None:
        old, self._columns = self._columns, [*self._columns, *missing]
        if not old:  # the header goes out with the first rows, in one write
            return
        commas = "," * len(missing)
        try:
            self._let_go()  # the rename below leaves an open descriptor on the old file
            if self.path.exists():
                self._rewrite([line + commas for line in _complete_lines(self.path)[1]])
        except OSError as error:
            self._columns = old
            self.dropped_rows += rows_at_stake
            if isinstance(error, RunWriteError):
                raise
            raise RunWriteError(self.path, error) from error
        waiting = self._waiting.decode().splitlines()
        self._waiting = "".join(f"{line}{commas}\n" for line in waiting).encode()
