"""What arrays look like: ranges, labels, duplicates, from at most so many of their rows."""

from typing import Any

import keras
import numpy as np

from tfrecipes.training.labels import class_ids

# What is looked at, spread evenly over the rows: about .1 s. A duplicate's twin may lie between.
MOST_ROWS = 10_000
MOST_BYTES = 16 * 2**20
# More classes than this are listed by their number alone.
MOST_CLASSES = 1000


def data_facts(x: Any, y: Any = None) -> tuple[dict[str, Any], set[int]] | None:
    """Facts of arrays, without changing them or any random state.

    Args:
        x: An array, or a dict, list or tuple of arrays.
        y: Labels, the same, or None.

    Returns:
        What facts.json holds of them, JSON-able, and a number for each row that was looked at,
        equal for equal rows. None where a leaf is no array of numbers.

    Example:
        >>> facts, _ = data_facts(np.array([[1.0, 5.0], [2.0, 5.0], [1.0, 5.0]]), np.array([0, 1, 1]))
        >>> facts["inputs"][0]["constant_features"], facts["repeated"], facts["labels"]["counts"]
        (1, 1, [1, 2])
    """
    leaves = [(path, _plain(leaf)) for path, leaf in keras.tree.flatten_with_path(x)]
    if not leaves or not all(_is_numeric(leaf) for _, leaf in leaves):
        return None
    samples = int(leaves[0][1].shape[0])
    row_bytes = max(1, sum(_row_bytes(leaf) for _, leaf in leaves))
    every = max(1, -(-samples // max(2, min(MOST_ROWS, MOST_BYTES // row_bytes))))
    inputs, seen = [], [0] * len(range(0, samples, every))
    for path, leaf in leaves:
        rows = np.asarray(leaf[::every])
        inputs.append(_input("/".join(map(str, path)) or "x", rows))
        flat = _comparable(rows)
        seen = [hash((before, row.tobytes())) for before, row in zip(seen, flat, strict=True)]
    labels = None
    if y is not None and not keras.tree.is_nested(y) and _is_numeric(_plain(y)):
        labels = _labels(np.asarray(_plain(y)[::every]))
    distinct = set(seen)
    facts = {
        "samples": samples,
        "looked_at": len(seen),
        "inputs": inputs,
        "labels": labels,
        "repeated": len(seen) - len(distinct),
    }
    return facts, distinct


def _plain(leaf: Any) -> Any:
    """A table of pandas as an array; anything else as it is."""
    return leaf.to_numpy() if hasattr(leaf, "iloc") else leaf


def _is_numeric(leaf: Any) -> bool:
    dtype, shape = getattr(leaf, "dtype", None), getattr(leaf, "shape", ())
    if dtype is None or len(shape) == 0 or None in tuple(shape):
        return False
    name = getattr(dtype, "name", str(dtype)).removeprefix("torch.")
    return name.startswith(("float", "int", "uint", "bool", "bfloat"))


def _row_bytes(leaf: Any) -> int:
    size = getattr(leaf.dtype, "size", None) or leaf.dtype.itemsize
    return size * int(np.prod(leaf.shape[1:], dtype=np.int64))


def _comparable(rows: np.ndarray) -> np.ndarray:
    """Rows whose bytes are equal where their values are, float64 and float32 alike."""
    if rows.dtype.kind not in "biu":
        rows = rows.astype(np.float32) + np.float32(0.0)  # -0.0 becomes 0.0
    return np.ascontiguousarray(rows.reshape(len(rows), -1))


def _moments(values: np.ndarray) -> dict[str, float | None]:
    """Mean and spread of what is finite."""
    if not values.size:
        return {"mean": None, "std": None}
    return {
        "mean": float(values.mean(dtype=np.float64)),
        "std": float(values.std(dtype=np.float64)),
    }


def _input(name: str, rows: np.ndarray) -> dict[str, Any]:
    wide = rows.astype(np.float32) if rows.dtype.kind not in "biuf" else rows
    values, lost = wide, 0
    if wide.dtype.kind == "f":
        good = np.isfinite(wide)
        lost = int(good.size - good.sum())
        values = wide[good] if lost else wide
    some = values.size > 0
    constant = int((wide == wide[:1]).all(axis=0).sum()) if len(wide) > 1 else 0
    return {
        "name": name,
        "shape": [int(n) for n in rows.shape[1:]],
        "dtype": str(rows.dtype),
        "min": float(values.min()) if some else None,
        "max": float(values.max()) if some else None,
        **_moments(values),
        "not_finite": lost,
        "constant_features": constant,
    }


def _labels(rows: np.ndarray) -> dict[str, Any]:
    values = rows.astype(np.float64)
    finite = values[np.isfinite(values)]
    found: dict[str, Any] = {
        "kind": "real",
        "shape": [int(n) for n in rows.shape[1:]],
        "classes": None,
        "counts": None,
        "sorted": False,
        "min": float(finite.min()) if finite.size else None,
        "max": float(finite.max()) if finite.size else None,
        **_moments(finite),
    }
    if finite.size != values.size or not finite.size:
        return found
    one = values.reshape(len(values)) if values.size == len(values) else None
    zero_one = bool(np.isin(values, (0.0, 1.0)).all())
    whole = rows.dtype.kind in "biu" or (
        class_ids(rows) is not None and len(np.unique(values)) < max(3, len(values) // 2)
    )
    if values.ndim > 1 and one is None and zero_one and (values.sum(-1) == 1).all():
        found["kind"] = "one-hot"
        ids, classes = values.argmax(-1), values.shape[-1]
    elif zero_one:
        found["kind"], ids, classes = "binary", values, 2
    elif whole and values.min() >= 0:
        found["kind"] = "integer"
        ids, classes = values, int(values.max()) + 1
    else:
        return found
    ids = np.asarray(ids, np.int64).ravel()
    found["classes"] = int(classes)
    if classes <= MOST_CLASSES:
        found["counts"] = np.bincount(ids, minlength=classes).tolist()
    if ids.size == len(rows) and len(np.unique(ids)) > 1:
        found["sorted"] = bool((np.diff(ids) >= 0).all())
    return found
