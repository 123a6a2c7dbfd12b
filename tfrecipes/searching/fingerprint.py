"""What data are, cheaply: enough to refuse a folder whose search saw other ones."""

import hashlib
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.training.data import understand

# Rows of each array that are looked at, evenly spread.
_ROWS = 64


def fingerprint(data: Any, sample_weight: Any = None) -> str:
    """A short text, equal for equal data.

    Of arrays: shapes, types and 64 rows. Of a stream: its kind, its element's form and its length;
    nothing is read from it.

    Args:
        data: What `fit` takes.
        sample_weight: As in `fit`.

    Raises:
        ValueError: For a generator: a search trains many times.

    Example:
        >>> x = np.arange(12.0).reshape(6, 2)
        >>> fingerprint(x) == fingerprint(x.copy()), fingerprint(x) == fingerprint(x + 1)
        (True, False)
    """
    given = understand(data, sample_weight)
    if given.kind == "generator":
        raise ValueError(
            "search: data must be readable more than once, for each trial. Received: a generator. "
            "Give arrays, a tf.data.Dataset, a PyDataset or a DataLoader."
        )
    if given.kind != "arrays":
        form = str(given.x.element_spec) if isinstance(given.x, tf.data.Dataset) else ""
        return f"{given.kind} {form} {given.steps} batches".replace("  ", " ")
    digest, shapes = hashlib.sha256(), []
    for leaf in keras.tree.flatten((given.x, given.y, given.sample_weight)):
        if leaf is None:
            continue
        shapes.append(f"{leaf.dtype}{tuple(leaf.shape)}".replace(" ", ""))
        every = max(1, int(leaf.shape[0]) // _ROWS)
        if isinstance(leaf, tf.RaggedTensor):
            digest.update(str(leaf[:_ROWS].to_list()).encode())
        else:
            rows = leaf.to_numpy()[::every] if hasattr(leaf, "iloc") else leaf[::every]
            digest.update(np.ascontiguousarray(np.asarray(rows)).tobytes())
    return f"{' '.join(shapes)} {digest.hexdigest()[:16]}"
