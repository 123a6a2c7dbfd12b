"""Data as `check` looks at them: all of what is in memory, a bounded part of a stream.

Nothing is taken from what the caller will train on: a tf.data pipeline is read through a copy of
its own, with shuffles of its own, so that the order of the first epoch stays what it was.
"""

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.training.copies import copied
from tfrecipes.training.data import Understood, understand

MOST_ROWS = 10_000  # rows that statistics are made of
MOST_VALUES = 20_000_000  # numbers that statistics of one array are made of
STREAM_ROWS = 4_096
STREAM_BATCHES = 64
STREAM_SECONDS = 2.0


@dataclass
class Sampled:
    """What was looked at of some data.

    Args:
        kind: As `understand` has it.
        x: The inputs: arrays in memory whole, or the rows that were read of a stream.
        y: The labels, of the same rows, or None.
        sample_weight: Their weights, or None.
        rows: Rows in `x`.
        is_whole: Whether these are all rows.
        batch_size: Rows of a stream's first batch; None for arrays.
        label_batches: A stream's labels, batch by batch, where there is one output.
        repeats_its_order: Whether a second pass over a stream began with the same batch; None
            where that was not tried.
        endless: Whether the stream never ends, so that its rows come again by themselves.
        moved_on: Whether the stream could only be read itself, so that a shuffle in it moved on.
    """

    kind: str
    x: Any
    y: Any
    sample_weight: Any
    rows: int
    is_whole: bool
    batch_size: int | None = None
    label_batches: list[np.ndarray] = field(default_factory=list)
    repeats_its_order: bool | None = None
    moved_on: bool = False
    endless: bool = False

    def inputs(self) -> dict[str, np.ndarray]:
        """Inputs that hold numbers, one row a sample, by name."""
        return numbers("x", self.x)

    def labels(self) -> dict[str, np.ndarray]:
        """Labels that hold numbers, by name."""
        return numbers("y", self.y)

    def take(self, rows: np.ndarray) -> tuple[Any, Any, Any]:
        """Some rows of inputs, labels and weights, as `fit` would hand them to the model."""
        x, y, weight = (
            None if part is None else keras.tree.map_structure(lambda a: _rows(a, rows), part)
            for part in (self.x, self.y, self.sample_weight)
        )
        return x, y, weight


def sampled(data: Any, where: str = "data") -> Sampled:
    """Look at data, without changing what a later `fit` sees of them.

    Args:
        data: What `fit` takes.
        where: What the data are called in an error.

    Raises:
        ValueError: For what `fit` does not take, no samples, or a source that is read once.
    """
    given = understand(data, where=where)
    if given.kind == "generator":
        raise ValueError(
            f"{where}: a generator can be read only once, and what is looked at here would be "
            "missing in training. Received: a generator. Give arrays, a tf.data.Dataset, a "
            "PyDataset or a DataLoader; or check some batches of it: check(model, (x, y))."
        )
    if isinstance(given.x, tf.distribute.DistributedDataset):
        raise ValueError(
            f"{where}: must be the dataset before it is distributed. Received: a "
            "DistributedDataset. Give the tf.data.Dataset that it was made from."
        )
    if given.kind == "arrays":
        return Sampled(
            "arrays", given.x, given.y, given.sample_weight, given.samples or 0, is_whole=True
        )
    return _from_stream(given, where)


def numbers(name: str, part: Any) -> dict[str, np.ndarray]:
    """Arrays of numbers in a structure, by their place in it: x, x['a'], y[0]."""
    found: dict[str, np.ndarray] = {}
    if part is None:
        return found
    for path, leaf in keras.tree.flatten_with_path(part):
        if isinstance(leaf, tf.RaggedTensor):
            continue
        array = np.asarray(leaf)
        if array.dtype.name == "bfloat16":
            array = array.astype(np.float32)
        if array.dtype.kind in "biuf" and array.ndim and array.size:
            found[name + "".join(f"[{key!r}]" for key in path)] = array
    return found


def some_rows(array: np.ndarray, most: int = MOST_ROWS) -> np.ndarray:
    """At most so many rows of an array, evenly spaced, and no more than MOST_VALUES numbers."""
    width = max(1, array[:1].size)
    most = max(2, min(most, MOST_VALUES // width))
    if len(array) <= most:
        return array
    return array[np.linspace(0, len(array) - 1, most).astype(np.int64)]


def _rows(leaf: Any, rows: np.ndarray) -> Any:
    if isinstance(leaf, tf.RaggedTensor):
        return tf.gather(leaf, rows)
    array = np.asarray(leaf)
    taken = array[rows]
    if hasattr(leaf, "to_numpy") and taken.ndim == 1:
        taken = taken[:, None]  # a pandas column, as `fit` reads it
    return taken.astype(keras.config.floatx()) if taken.dtype == np.float64 else taken


def _from_stream(given: Understood, where: str) -> Sampled:
    source, moved_on = copied(given.x) if given.kind == "tf.data" else (given.x, False)
    batches: list[tuple[Any, ...]] = []
    rows, ended, began = 0, False, time.monotonic()
    for batch in itertools.islice(_batches(given, source), STREAM_BATCHES):
        parts = keras.utils.unpack_x_y_sample_weight(batch)
        parts = tuple(None if p is None else _on_host(p) for p in parts)
        size = len(_first_leaf(parts[0]))
        if size == 0:
            continue
        batches.append(parts)
        rows += size
        if rows >= STREAM_ROWS or time.monotonic() - began > STREAM_SECONDS:
            break
    else:
        ended = len(batches) < STREAM_BATCHES
    if not batches:
        raise ValueError(f"{where}: there must be samples. Received: an empty {given.kind}.")
    alike = [parts for parts in batches if _form(parts) == _form(batches[0])]
    x, y, weight = _joined(alike)
    again = next(_batches(given, source), None) if given.kind == "tf.data" else None
    return Sampled(
        given.kind,
        x,
        y,
        weight,
        rows=len(_first_leaf(x)),
        is_whole=ended and len(alike) == len(batches),
        batch_size=len(_first_leaf(batches[0][0])),
        label_batches=[
            np.asarray(parts[1])
            for parts in batches
            if parts[1] is not None and not keras.tree.is_nested(parts[1])
        ],
        repeats_its_order=None if again is None else _same(again, batches[0]),
        moved_on=moved_on,
        endless=given.endless,
    )


def _batches(given: Understood, source: Any) -> Iterator[Any]:
    if given.kind == "PyDataset":
        steps = itertools.count() if given.steps is None else range(given.steps)
        return (source[step] for step in steps)
    return iter(source)


def _on_host(part: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: leaf if isinstance(leaf, tf.RaggedTensor) else np.asarray(leaf), part
    )


def _first_leaf(part: Any) -> Any:
    leaf = keras.tree.flatten(part)[0]
    return leaf if not isinstance(leaf, tf.RaggedTensor) else range(int(leaf.nrows()))


def _form(parts: tuple[Any, ...]) -> list[Any]:
    return [
        (leaf.dtype, tuple(leaf.shape[1:]))
        for part in parts
        if part is not None
        for leaf in keras.tree.flatten(part)
    ]


def _joined(batches: list[tuple[Any, ...]]) -> tuple[Any, ...]:
    def join(*leaves: Any) -> Any:
        if isinstance(leaves[0], tf.RaggedTensor):
            return tf.concat(leaves, 0)
        return np.concatenate(leaves) if leaves[0].ndim else leaves[0]

    return tuple(
        None if parts[0] is None else keras.tree.map_structure(join, *parts)
        for parts in zip(*batches, strict=True)
    )


def _same(batch: Any, parts: tuple[Any, ...]) -> bool:
    x = _on_host(keras.utils.unpack_x_y_sample_weight(batch)[0])
    pairs = zip(keras.tree.flatten(x), keras.tree.flatten(parts[0]), strict=True)
    return all(
        not isinstance(a, tf.RaggedTensor)
        and a.shape == b.shape
        and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")
        for a, b in pairs
    )
