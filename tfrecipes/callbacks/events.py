"""TensorBoard's events of a run: scalars named `group/key`, written by the block."""

import os
import platform
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

# Step scalars: beyond this many every second is left out, then every third, ...
EVENT_ROWS = 10_000

_Event: Any = tf.compat.v1.Event


class Events:
    """One event file, opened when the first value comes.

    The bytes of a step's event are always the same but for its number, its time and its values,
    so that a block of steps is filled in at once: 3 us a step, where an operation of `tf.summary`
    takes .2 ms, a third of a small step.

    Args:
        path: The folder for it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._made: Any = None
        self._form: _Form | None = None
        self._names: tuple[str, ...] = ()
        self._row = 0

    def _writer(self) -> Any:
        if self._made is None:
            tf.io.gfile.makedirs(str(self._path))
            now = time.time()
            name = f"events.out.tfevents.{int(now)}.{platform.node()}.{os.getpid()}.{id(self)}.v2"
            self._made = tf.io.TFRecordWriter(str(self._path / name))
            first = _Event(wall_time=now, file_version="brain.Event:2")
            self._made.write(first.SerializeToString())
        return self._made

    def steps(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        """Write steps' rows as `step/<column>`; beyond EVENT_ROWS fewer, and it says so."""
        held = [i for i, name in enumerate(columns) if name != "step"]
        if self._form is None or self._names != columns:
            self._form, self._names = _Form([f"step/{columns[i]}" for i in held]), columns
        order = self._row + np.arange(len(rows))
        kept = order % (1 + order // EVENT_ROWS) == 0
        numbers = rows[:, columns.index("step")] if "step" in columns else order
        writer = self._writer()
        for record in self._form.filled(numbers[kept], rows[kept][:, held]):
            writer.write(record)
        if self._row < EVENT_ROWS <= self._row + len(rows):
            print(
                f"Monitor: TensorBoard has every step up to {EVENT_ROWS}, fewer from here on; "
                "steps.csv has them all."
            )
        self._row += len(rows)

    def values(self, named: Mapping[str, float], step: int) -> None:
        """Write values that carry their group already; NaN says that nothing is known, and is left out."""
        known = {tag: value for tag, value in named.items() if value == value}
        if known:
            event = _Event(
                wall_time=time.time(), step=step, summary=_scalars(list(known), known.values())
            )
            self._writer().write(event.SerializeToString())

    def flush(self) -> None:
        """Hand what was written to the system."""
        if self._made is not None:
            self._made.flush()

    def close(self) -> None:
        """Let go of the file."""
        if self._made is not None:
            self._made.close()
            self._made = None


class _Form:
    """The bytes of an event of these scalars, and where its number, time and values stand."""

    _WALL_TIME, _STEP, _SUMMARY = b"\x09", b"\x10", b"\x2a"  # an Event's fields with their kinds
    _NUMBER_BYTES = 10  # a number of 64 bits in sevens; shorter ones are filled up with zeros

    def __init__(self, tags: Sequence[str]) -> None:
        marks = [float(np.uint32(0x7B000001 + i).view(np.float32)) for i in range(len(tags))]
        summary = _scalars(tags, marks).SerializeToString()
        head = self._WALL_TIME + bytes(8) + self._STEP + bytes(self._NUMBER_BYTES)
        head += self._SUMMARY + _varint(len(summary))
        self._bytes = np.frombuffer(head + summary, np.uint8)
        self._places = [len(head) + summary.index(struct.pack("<f", mark)) for mark in marks]

    def filled(self, numbers: np.ndarray, values: np.ndarray) -> list[bytes]:
        """An event for each number (rows,) with its values (rows, tags)."""
        records = np.tile(self._bytes, (len(numbers), 1))
        records[:, 1:9] = np.frombuffer(struct.pack("<d", time.time()), np.uint8)
        rest = numbers.astype(np.uint64)
        for i in range(self._NUMBER_BYTES):
            more = 0x80 if i < self._NUMBER_BYTES - 1 else 0
            records[:, 10 + i] = (rest & np.uint64(0x7F)).astype(np.uint8) | more
            rest = rest >> np.uint64(7)
        with np.errstate(over="ignore"):
            floats = np.ascontiguousarray(values.astype("<f4"))
        for i, place in enumerate(self._places):
            records[:, place : place + 4] = floats[:, i : i + 1].view(np.uint8)
        return [record.tobytes() for record in records]


def _varint(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def _scalars(tags: Sequence[str], values: Any) -> Any:
    """A summary of scalars, as `tf.summary.scalar` writes each."""
    summary = tf.compat.v1.Summary()
    for tag, number in zip(tags, values, strict=True):
        value = summary.value.add(tag=tag, tensor=tf.make_tensor_proto(float(number), tf.float32))
        value.metadata.plugin_data.plugin_name = "scalars"
    return summary
