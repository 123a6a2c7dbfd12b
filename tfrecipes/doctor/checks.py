"""One look at in-memory data before training: what cannot be right gets one sentence."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import numpy as np

from tfrecipes.training.data import count

# Rows are looked at in pieces of this size, so that no copy of a large array is made.
CHUNK_BYTES = 1 << 24

_REGRESSIONS = {
    "mse",
    "mae",
    "mape",
    "msle",
    "meansquarederror",
    "meanabsoluteerror",
    "meanabsolutepercentageerror",
    "meansquaredlogarithmicerror",
    "huber",
    "logcosh",
}
_ONE_HOT = {"categoricalcrossentropy", "categoricalfocalcrossentropy"}
_BINARY = {"bce", "binarycrossentropy", "binaryfocalcrossentropy"}


def look_once(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    input_shapes: Any = None,
    output_shape: Any = None,
    loss: Any = None,
    where: str = "data",
) -> None:
    """Look at every number of in-memory data once, and refuse what cannot be trained on.

    Args:
        x: An array, or a dict, list or tuple of arrays.
        y: Labels of the same form, or None.
        sample_weight: Weights of the same form as the labels, or None.
        input_shapes: The model's `input_shape`: one with the batch axis, or a list or dict; None
            where it is not known.
        output_shape: The model's `output_shape`, of the same forms; None where it is not known.
        loss: What the model is compiled with: a name, function or object, or a list or dict of
            them. What is no Keras loss asks nothing of the labels.
        where: What the data are called in an error.

    Raises:
        ValueError: For no data, lengths or shapes that do not fit, values that are not finite,
            labels that the loss cannot take, or weights that are negative or all zero.

    Example:
        >>> look_once(np.ones((2, 3)), np.array([0, 4]), output_shape=(None, 3),
        ...           loss="sparse_categorical_crossentropy")
        Traceback (most recent call last):
        ...
        ValueError: data: labels must be from 0 to 2 for the 3 outputs of the model. Received: y \
from 0 to 4, the first outside at row 1. Number the classes from 0, or give the last layer as many \
outputs as there are classes.
    """
    for _, look in looks(
        x,
        y,
        sample_weight,
        input_shapes=input_shapes,
        output_shape=output_shape,
        loss=loss,
        where=where,
    ):
        look()


def looks(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    input_shapes: Any = None,
    output_shape: Any = None,
    loss: Any = None,
    where: str = "data",
) -> Iterator[tuple[str, Callable[[], None]]]:
    """Yield (rule, look) for all that `look_once` asks; a look raises a ValueError, or nothing.

    The rules are "arrays", "not_finite", "input_shape", "labels" and "sample_weight".
    """

    def arrays() -> None:
        if count(x, y, sample_weight, where) == 0:
            raise ValueError(f"{where}: there must be samples. Received: arrays with 0 rows.")

    yield "arrays", arrays
    for label, leaf in _leaves("x", x):
        yield "not_finite", partial(_finite, label, leaf, where)
    yield "input_shape", partial(_features, x, input_shapes, where)
    for label, leaf in _leaves("y", y):
        yield "not_finite", partial(_finite, label, leaf, where)
    for label, leaf, shape, part in per_output(y, output_shape, loss):
        yield "labels", partial(_labels, label, leaf, shape, part, where)
    for label, leaf in _leaves("sample_weight", sample_weight):
        yield "sample_weight", partial(_weights, label, leaf, where)


def _leaves(name: str, part: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield (label, numbers) of each array that holds numbers; NumPy reads a tensor in place."""
    if part is None:
        return
    for path, leaf in keras.tree.flatten_with_path(part):
        numbers = np.asarray(getattr(leaf, "flat_values", leaf))  # a ragged tensor's
        yield name + "".join(f"[{key!r}]" for key in path), numbers


def chunks(array: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yield (first row, rows) in pieces."""
    rows = max(1, CHUNK_BYTES // max(1, array[:1].nbytes))
    for start in range(0, len(array), rows):
        yield start, array[start : start + rows]


def _first_bad(array: np.ndarray, good: Any) -> tuple[int, tuple[int, ...]] | None:
    """Return (how many are not good, where the first one is), or None."""
    bad, first = 0, ()
    for start, chunk in chunks(array):
        wrong = ~good(chunk)
        if wrong.any():
            if not bad:
                place = np.unravel_index(int(wrong.argmax()), wrong.shape)
                first = (start + int(place[0]), *(int(i) for i in place[1:]))
            bad += int(wrong.sum())
    return (bad, first) if bad else None


def _place(index: tuple[int, ...]) -> str:
    return f"row {index[0]}" if len(index) == 1 else f"[{', '.join(map(str, index))}]"


def _finite(label: str, array: np.ndarray, where: str) -> None:
    if array.dtype.kind == "O" and not all(isinstance(item, (str, bytes)) for item in array.flat):
        raise ValueError(
            f"{where}: must be numbers. Received: {label} of dtype object. Convert it, or fill "
            "what is missing."
        )
    if array.dtype.kind not in "fc" and array.dtype.name != "bfloat16":
        return
    found = _first_bad(array, np.isfinite)
    if found:
        many = f"{found[0]:,} values are" if found[0] > 1 else "1 value is"
        raise ValueError(
            f"{where}: all values must be finite. Received: {label}, where {many} NaN or infinite, "
            f"the first at {_place(found[1])}. Remove or replace such rows."
        )


def _features(x: Any, input_shapes: Any, where: str) -> None:
    if input_shapes is None:
        return
    if isinstance(x, Mapping) and isinstance(input_shapes, Mapping):
        missing = [key for key in input_shapes if key not in x]
        if missing:
            raise ValueError(
                f"{where}: there must be an array for every input of the model. Received: "
                f"{', '.join(map(str, x))}. Add {', '.join(map(str, missing))}."
            )
        pairs = [(f"x[{key!r}]", x[key], shape) for key, shape in input_shapes.items()]
    else:
        shapes = _flat_shapes(input_shapes)
        flat = list(keras.tree.flatten_with_path(x))
        if len(shapes) != len(flat):
            raise ValueError(
                f"{where}: there must be an array for every input of the model. Received: "
                f"{len(flat)} for {len(shapes)}. Give a list or a dict of arrays."
            )
        pairs = [
            ("x" + "".join(f"[{key!r}]" for key in path), leaf, shape)
            for (path, leaf), shape in zip(flat, shapes, strict=True)
        ]
    for label, leaf, shape in pairs:
        given, wanted = tuple(leaf.shape), tuple(shape)
        # A model adds or drops a last axis of 1 by itself.
        forms = {given, (*given, 1)} | ({given[:-1]} if given[-1] == 1 else set())
        if not any(_fits(form, wanted) for form in forms):
            raise ValueError(
                f"{where}: inputs must have the shape {_shape(wanted)}, which the model was made "
                f"for. Received: {label} of shape {given}. Reshape them, or change the model's "
                "Input."
            )


def _fits(given: tuple, wanted: tuple) -> bool:
    return len(given) == len(wanted) and all(
        w is None or g is None or g == w for g, w in zip(given[1:], wanted[1:], strict=True)
    )


def per_output(
    y: Any, output_shape: Any, loss: Any
) -> Iterator[tuple[str, np.ndarray, tuple | None, Any]]:
    """Yield (label, numbers, output's shape, loss) for each output whose partners are plain."""
    leaves = list(_leaves("y", y))
    keys = list(y) if isinstance(y, Mapping) else list(range(len(leaves)))
    if len(keys) != len(leaves):
        return  # nested deeper: only the numbers were looked at
    if isinstance(y, Mapping):
        by_key = {key: np.asarray(getattr(y[key], "flat_values", y[key])) for key in keys}
        leaves = [(f"y[{key!r}]", by_key[key]) for key in keys]
    shapes = _partner(output_shape, keys, _is_shape)
    if isinstance(output_shape, Mapping) and isinstance(loss, (list, tuple)):
        loss = dict(zip(output_shape, loss, strict=False))  # a list of losses is in outputs' order
    losses = _partner(loss, keys, lambda part: not isinstance(part, (list, tuple, Mapping)))
    yield from (
        (label, leaf, shape, part)
        for (label, leaf), shape, part in zip(leaves, shapes, losses, strict=True)
    )


def _partner(given: Any, keys: list, is_one: Callable[[Any], bool]) -> list:
    """Return what belongs to each label: the same for all, its own, or None where that is open."""
    if is_one(given):
        alone = _is_shape(given) and len(keys) > 1  # one shape cannot be that of several outputs
        return [None if alone else given] * len(keys)
    if isinstance(given, Mapping):
        return [given.get(key) for key in keys]
    if isinstance(given, Sequence) and len(given) == len(keys):
        return list(given)
    return [None] * len(keys)


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(
        item is None or isinstance(item, (int, np.integer)) for item in value
    )


def _flat_shapes(shapes: Any) -> list[tuple]:
    if _is_shape(shapes):
        return [tuple(shapes)]
    parts = shapes.values() if isinstance(shapes, Mapping) else shapes
    return [flat for part in parts for flat in _flat_shapes(part)]


def _labels(label: str, y: np.ndarray, shape: tuple | None, loss: Any, where: str) -> None:
    kind = kind_of(loss, y, shape)
    if kind is None or y.dtype.kind not in "biuf":
        if kind is not None:
            raise ValueError(
                f"{where}: labels must be numbers. Received: {label} of dtype {y.dtype}. Number "
                "the classes from 0."
            )
        return
    classes = shape[-1] if shape and len(shape) > 1 else None
    if kind == "sparse":
        _sparse(label, y, shape, classes, getattr(loss, "ignore_class", None), where)
    elif kind == "one-hot":
        _one_hot(label, y, shape, classes, where)
    else:
        _same_shape(label, y, shape, where)
        found = _first_bad(y, lambda part: (part >= 0) & (part <= 1)) if kind == "binary" else None
        if found:
            raise ValueError(
                f"{where}: labels must be from 0 to 1 for a binary cross-entropy. Received: "
                f"{label}, where {found[0]:,} are not, the first at {_place(found[1])}. Give 0 "
                "and 1, or another loss."
            )


def kind_of(loss: Any, y: np.ndarray, shape: tuple | None) -> str | None:
    """Return what a loss asks of its labels, None for what is not known."""
    if loss is None:
        return None
    loss = getattr(loss, "loss", loss)  # the plain one inside a smoothed binary cross-entropy
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    plain = name.lower().replace("_", "")
    if plain == "smoothedcrossentropy":  # takes both: the shapes decide, as in its `call`
        if shape is not None and y.ndim == len(shape) and y.shape[-1] == shape[-1]:
            return "one-hot"
        return "sparse"
    if plain == "sparsecategoricalcrossentropy":
        return "sparse"
    if plain in _ONE_HOT:
        return "one-hot"
    if plain in _BINARY:
        return "binary"
    return "regression" if plain in _REGRESSIONS else None


def _sparse(
    label: str,
    y: np.ndarray,
    shape: tuple | None,
    classes: int | None,
    ignored: int | None,
    where: str,
) -> None:
    if shape is not None and y.ndim == len(shape) and y.shape[-1] != 1:
        raise ValueError(
            f"{where}: labels must be whole numbers for a sparse loss. Received: {label} of shape "
            f"{y.shape}, one-hot or shares of classes. Give whole numbers, or use "
            "categorical_crossentropy."
        )
    if shape is not None and y.ndim not in (len(shape) - 1, len(shape)):
        raise ValueError(
            f"{where}: labels must have the shape {_shape(shape[:-1])} for a sparse loss. "
            f"Received: {label} of shape {y.shape}. Reshape them."
        )
    if y.dtype.kind == "f":
        found = _first_bad(y, lambda part: part == np.floor(part))
        if found:
            raise ValueError(
                f"{where}: labels must be whole numbers for a sparse loss. Received: {label}, "
                f"where {found[0]:,} are not, the first at {_place(found[1])}. Use "
                "mean_squared_error for quantities, categorical_crossentropy for shares."
            )

    def inside(part: np.ndarray) -> np.ndarray:
        good = part >= 0 if classes is None else (part >= 0) & (part < classes)
        return good if ignored is None else good | (part == ignored)

    found = _first_bad(y.astype("int8") if y.dtype.kind == "b" else y, inside)
    if found:
        rule = (
            "must not be negative"
            if classes is None
            else f"must be from 0 to {classes - 1} for the {classes} outputs of the model"
        )
        raise ValueError(
            f"{where}: labels {rule}. Received: {label} from {y.min():g} to {y.max():g}, the first "
            f"outside at {_place(found[1])}. Number the classes from 0, or give the last layer as "
            "many outputs as there are classes."
        )


def _one_hot(
    label: str, y: np.ndarray, shape: tuple | None, classes: int | None, where: str
) -> None:
    flat = y.ndim == 1 or (shape is not None and y.ndim == len(shape) - 1)
    if flat or (y.shape[-1] == 1 and classes not in (None, 1)):
        raise ValueError(
            f"{where}: labels must be one-hot for a categorical cross-entropy. Received: {label} "
            f"of shape {y.shape}, {y.dtype}. Use sparse_categorical_crossentropy for whole "
            "numbers."
        )
    if shape is not None and not _fits(y.shape, shape):
        raise ValueError(
            f"{where}: one-hot labels must have the shape {_shape(shape)} of the model's output. "
            f"Received: {label} of shape {y.shape}. Give the last layer as many outputs as there "
            "are classes."
        )
    found = _first_bad(y, lambda part: part >= 0) if y.dtype.kind in "if" else None
    if found:
        raise ValueError(
            f"{where}: one-hot labels must not be negative. Received: {label}, where {found[0]:,} "
            f"are, the first at {_place(found[1])}. Give the share of each class."
        )


def _same_shape(label: str, y: np.ndarray, shape: tuple | None, where: str) -> None:
    if shape is None:
        return
    forms = {y.shape, (*y.shape, 1)} | ({y.shape[:-1]} if y.shape[-1] == 1 else set())
    # Keras broadcasts the rest: (n,) labels for (n, 3) outputs train on the wrong numbers.
    if not any(_fits(form, shape) for form in forms):
        raise ValueError(
            f"{where}: labels must have the shape {_shape(shape)} of the model's output. Received: "
            f"{label} of shape {y.shape}. Reshape them, or change the last layer."
        )


def _weights(label: str, weights: np.ndarray, where: str) -> None:
    if weights.dtype.kind not in "biuf":
        raise ValueError(
            f"{where}: weights must be numbers. Received: {label} of dtype {weights.dtype}."
        )
    _finite(label, weights, where)
    found = _first_bad(weights, lambda part: part >= 0) if weights.dtype.kind in "if" else None
    if found:
        raise ValueError(
            f"{where}: weights must not be negative. Received: {label}, where {found[0]:,} are, "
            f"the first at {_place(found[1])}. 0 leaves a sample out."
        )
    if not any(chunk.any() for _, chunk in chunks(weights)):
        raise ValueError(
            f"{where}: some weight must be above 0. Received: {label}, all 0. There would be "
            "nothing to learn from."
        )


def _shape(shape: Sequence[int | None]) -> str:
    """Write a shape with n for the batch axis: (n, 28, 28)."""
    inner = [str(size) if size is not None else "any" for size in shape[1:]]
    return f"({', '.join(['n', *inner])}{',' if not inner else ''})"
