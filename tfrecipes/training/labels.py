"""Labels of in-memory data: a seeded, stratified split, and class weights as sample weights."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfrecipes.training.data import count

_SPLIT = 0x5B117  # tells this stream of numbers from others of the same seed


def split(
    x: Any, y: Any = None, share: float = 0.1, seed: int = 0
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Split arrays into a training and a validation part, seeded and stratified.

    With integer labels, or one-hot ones, each class gives its share, rounded so that the parts add
    up; other labels are split at random. Rows keep their order. It is a pure function of its
    arguments: a run that is resumed has the same validation data.

    Args:
        x: An array, or a dict, list or tuple of arrays.
        y: Labels of the same form, or None.
        share: The validation part's share, 0 < share < 1.
        seed: >= 0.

    Returns:
        (x, y) to train on and (x, y) to validate on.

    Raises:
        ValueError: If the share is no share, or leaves a part without samples.

    Example:
        >>> labels = np.repeat([0, 1], [8, 12])
        >>> (x, y), (x_val, y_val) = split(np.arange(20), labels, share=0.25)
        >>> np.bincount(y).tolist(), np.bincount(y_val).tolist()
        ([6, 9], [2, 3])
    """
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
        raise ValueError(f"split: `share` must be between 0 and 1. Received: share={share!r}.")
    samples = count(x, y)
    if samples == 0:
        raise ValueError("data: there must be samples. Received: arrays with 0 rows.")
    held_out = round(share * samples)
    if not 0 < held_out < samples:
        raise ValueError(
            f"split: both parts must have samples. Received: {samples} samples and share={share!r}."
            " Give more data, or validation data of their own."
        )
    # A stream of its own: who made the data by `default_rng(seed)` would otherwise hold out the
    # rows with the smallest of the very numbers that they are made from.
    stream = np.random.SeedSequence(seed, spawn_key=(_SPLIT,))
    draws = np.random.Generator(np.random.PCG64(stream)).random(samples)
    classes = class_ids(y) if y is not None and not keras.tree.is_nested(y) else None
    groups = np.zeros(samples, np.int64) if classes is None else np.unique(classes, False, True)[1]
    sizes = np.bincount(groups)
    exact = sizes * (held_out / samples)
    # Largest remainders: every class within one sample of its share, the sum exact.
    quota = np.floor(exact).astype(np.int64)
    quota[np.argsort(quota - exact, kind="stable")[: held_out - quota.sum()]] += 1
    by_group = np.lexsort((draws, groups))  # grouped, each group in the order of its draws
    place = np.arange(samples) - np.repeat(np.cumsum(sizes) - sizes, sizes)  # inside the group
    validation = np.zeros(samples, bool)
    validation[by_group] = place < np.repeat(quota, sizes)

    def take(part: Any, rows: np.ndarray) -> Any:
        return keras.tree.map_structure(lambda a: None if a is None else np.asarray(a)[rows], part)

    kept, held = np.flatnonzero(~validation), np.flatnonzero(validation)
    return (take(x, kept), take(y, kept)), (take(x, held), take(y, held))


def class_ids(y: Any) -> np.ndarray | None:
    """Return each sample's class (samples,), or None where the labels are not classes.

    Classes are whole numbers (samples,) or (samples, 1), of any type, or one-hot rows of at least
    two columns.

    Example:
        >>> class_ids(np.eye(3)[[2, 0]]).tolist()
        [2, 0]
        >>> class_ids(np.array([0.3, 0.7])) is None
        True
    """
    labels = np.asarray(y)
    if labels.dtype.kind not in "biuf":
        return None
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim == 1:
        if labels.dtype.kind == "f" and not (labels == np.floor(labels)).all():
            return None
        if labels.dtype.kind == "f" and not np.isfinite(labels).all():
            return None
        return labels.astype(np.int64)
    if labels.ndim == 2 and ((labels == 0) | (labels == 1)).all() and (labels.sum(1) == 1).all():
        return labels.argmax(1)
    return None


def class_weights(y: Any, class_weight: Mapping[int, float], sample_weight: Any = None) -> Any:
    """Turn class weights into sample weights.

        weight(i) = class_weight.get(class(i), 1) * sample_weight(i)

    Unlike `fit`, which takes the largest entry of soft labels for their class and gives a wrong
    shape to label maps, it refuses both; and it multiplies sample weights, which `fit` refuses.

    Args:
        y: Integer labels (samples,) or (samples, 1), or one-hot labels (samples, classes).
        class_weight: Weight by class; a class that is not in it weighs 1. Finite, >= 0.
        sample_weight: Weights to multiply (samples,) or (samples, 1), or None.

    Returns:
        Weights, float32 (samples,).

    Raises:
        ValueError: For labels that are not classes of one output, or weights that are none.

    Example:
        >>> class_weights(np.array([0, 2, 1]), {2: 5.0}).tolist()
        [1.0, 5.0, 1.0]
    """
    where = "class_weight"
    if not isinstance(class_weight, Mapping) or not class_weight:
        raise ValueError(
            f"{where}: must be a dict of weights by class. Received: "
            f"class_weight={class_weight!r}. Write {{0: 1.0, 1: 5.0}}."
        )
    for key, weight in class_weight.items():
        if isinstance(key, bool) or not isinstance(key, (int, np.integer)) or key < 0:
            raise ValueError(
                f"{where}: a class must be a whole number >= 0. Received: class {key!r}."
            )
        number = isinstance(weight, (int, float, np.number)) and not isinstance(weight, bool)
        if not number or not np.isfinite(weight) or weight < 0:
            raise ValueError(
                f"{where}: a weight must be a finite number >= 0. Received: {weight!r} for class "
                f"{int(key)}."
            )
    if y is None or keras.tree.is_nested(y):
        raise ValueError(
            f"{where}: works on the integer or one-hot labels of one output. Received: "
            f"{'no labels' if y is None else f'labels of {len(keras.tree.flatten(y))} outputs'}. "
            "Give sample weights instead."
        )
    classes = class_ids(y)
    if classes is None:
        shape = np.shape(y)
        dtype = np.asarray(y).dtype
        kind = (
            "label maps"
            if dtype.kind in "biu" or len(shape) > 2
            else "soft labels"
            if len(shape) == 2
            else "labels that are not classes"
        )
        raise ValueError(
            f"{where}: works on integer labels (samples,) or one-hot labels (samples, classes). "
            f"Received: {kind} of shape {shape}, {dtype}. Give sample weights instead."
        )
    if classes.size and classes.min() < 0:
        raise ValueError(
            f"{where}: labels must be >= 0. Received: label {classes.min()}. Number the classes "
            "from 0."
        )
    size = int(max(classes.max(initial=0), max(class_weight))) + 1
    table = np.ones(size, np.float32)
    for key, weight in class_weight.items():
        table[key] = weight
    weights = table[classes]
    if sample_weight is None:
        return weights
    given = np.asarray(sample_weight, np.float32)
    if given.shape not in ((len(classes),), (len(classes), 1)):
        raise ValueError(
            f"{where}: `sample_weight` beside it must have the shape ({len(classes)},). Received: "
            f"shape {given.shape}. Multiply the weights yourself."
        )
    return weights * given.reshape(-1)
