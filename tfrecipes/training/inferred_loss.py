"""The loss that is meant when none is given: from the labels and the model's last activation."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfrecipes.training.labels import class_ids

# Layers and operations that hand on what they are given, in another shape or format.
_TRANSPARENT = {"Reshape", "Flatten", "Dropout", "Identity", "Cast", "Squeeze", "ExpandDims"}


def infer_loss(y: Any, model: keras.Model) -> tuple[Any, str]:
    """Choose a loss for the labels and the model's last activation.

        whole numbers                        sparse categorical cross-entropy
        one-hot rows                         categorical cross-entropy
        0 and 1, one output or sigmoids      binary cross-entropy
        other floats                         mean squared error

    Cross-entropies are from logits unless the last activation is a softmax, or a sigmoid for the
    binary one.

    Args:
        y: The labels, or those of one batch: an array, or a list, tuple or dict of one an output.
        model: The model, built or not.

    Returns:
        The loss, in a list or dict where there are several outputs, and a sentence for the summary.
        Without labels the loss is None: the model's own losses are what is minimised.

    Raises:
        ValueError: Where the labels and the model leave it open; the sentence asks for `loss=`.

    Example:
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> loss, reason = infer_loss(np.array([0, 2, 1]), model)
        >>> reason
        'sparse categorical cross-entropy from logits: the labels are whole numbers'
    """
    if y is None:
        return None, "none: there are no labels, the model's own losses are minimised"
    outputs = _outputs(model)
    if not keras.tree.is_nested(y):
        if len(outputs) > 1:
            raise _open(f"labels of one output for a model of {len(outputs)}")
        return _choose(np.asarray(y), *_look(next(iter(outputs.values()), None), model))
    keys = list(y) if isinstance(y, Mapping) else list(range(len(y)))
    if isinstance(y, Mapping) and all(key in outputs for key in keys):
        matched = {key: outputs[key] for key in keys}
    elif not isinstance(y, Mapping) and len(keys) == len(outputs):
        matched = dict(zip(keys, outputs.values(), strict=True))
    else:
        raise _open(
            f"labels {keys} for a model whose outputs are "
            f"{list(outputs) if outputs else 'not known beforehand'}"
        )
    if any(keras.tree.is_nested(y[key]) for key in keys):
        raise _open("labels that are nested more than once")
    chosen = {key: _choose(np.asarray(y[key]), *_look(matched[key], model)) for key in keys}
    reason = "; ".join(f"{key}: {why}" for key, (_, why) in chosen.items())
    if isinstance(y, Mapping):
        return {key: loss for key, (loss, _) in chosen.items()}, reason
    return [loss for loss, _ in chosen.values()], reason


def infer_metrics(loss: Any) -> Any:
    """Return what to watch beside a loss: accuracy where it is a classification.

    Unlike the word "accuracy" alone, it puts the threshold of a binary loss from logits at 0, and
    counts each of several sigmoids.

    Args:
        loss: As `infer_loss` or a user gave it; a list or dict gives metrics of that form.

    Returns:
        A list of metrics; empty for a regression or an unknown loss.

    Example:
        >>> infer_metrics("sparse_categorical_crossentropy"), infer_metrics("mse")
        (['accuracy'], [])
    """
    if isinstance(loss, Mapping) and "class_name" not in loss:
        return {key: infer_metrics(part) for key, part in loss.items()}
    if isinstance(loss, (list, tuple)):
        return [infer_metrics(part) for part in loss]
    loss = getattr(loss, "loss", loss)  # the plain one inside a smoothed binary cross-entropy
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", type(loss).__name__)
    plain = name.lower().replace("_", "")
    if plain == "bce" or (plain.startswith("binary") and plain.endswith("crossentropy")):
        threshold = 0.0 if getattr(loss, "from_logits", False) else 0.5
        return [keras.metrics.BinaryAccuracy(name="accuracy", threshold=threshold)]
    return ["accuracy"] if plain.endswith("crossentropy") else []


def last_activation(model: keras.Model) -> tuple[int | None, str | None]:
    """Width and last activation of the model's first output; None for what cannot be seen.

    Example:
        >>> net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, "softmax")])
        >>> last_activation(net)
        (3, 'softmax')
    """
    return _look(next(iter(_outputs(model).values()), None), model)


def _choose(y: np.ndarray, units: int | None, activation: str | None) -> tuple[Any, str]:
    losses = keras.losses
    zero_one = bool(np.isin(y, (0, 1)).all()) if y.dtype.kind in "biuf" else False
    softmax, sigmoid = activation == "softmax", activation == "sigmoid"
    scale = "from probabilities" if softmax else "from logits"
    if y.dtype.kind not in "biuf":
        raise _open(f"labels of dtype {y.dtype}")
    wide = y.ndim >= 2 and y.shape[-1] > 1 and units in (y.shape[-1], None)
    if wide and zero_one and (y.sum(-1) == 1).all() and not sigmoid:
        # Whole rows of one class: maps of 0 and 1 would hardly sum to 1 everywhere.
        return (
            losses.CategoricalCrossentropy(from_logits=not softmax),
            f"categorical cross-entropy {scale}: the labels are one-hot",
        )
    if zero_one and (units == 1 or (wide and sigmoid)):
        return (
            losses.BinaryCrossentropy(from_logits=not sigmoid),
            "binary cross-entropy "
            f"{'from probabilities' if sigmoid else 'from logits'}: the labels are 0 and 1 for "
            f"{'one output' if units == 1 else 'sigmoids'}",
        )
    if wide and softmax and y.dtype.kind == "f":
        return (
            losses.CategoricalCrossentropy(from_logits=False),
            "categorical cross-entropy from probabilities: the labels are shares of classes",
        )
    whole = y.dtype.kind in "biu" or (class_ids(y) is not None and units not in (None, 1))
    if not whole:
        return losses.MeanSquaredError(), "mean squared error: the labels are floats"
    if units == 1:
        raise _open("whole numbers other than 0 and 1 for one output")
    if units is None and zero_one:
        raise _open("labels 0 and 1 for a model whose output is not known beforehand")
    if sigmoid or (y.ndim >= 2 and wide and units is not None):
        raise _open(f"whole numbers of shape {y.shape} that are not one-hot for {units} outputs")
    return (
        losses.SparseCategoricalCrossentropy(from_logits=not softmax),
        f"sparse categorical cross-entropy {scale}: the labels are whole numbers",
    )


def _open(received: str) -> ValueError:
    return ValueError(
        f"loss: cannot be told from the labels and the model. Received: {received}. Give it: "
        "loss=..., a Keras loss."
    )


def _outputs(model: keras.Model) -> dict[Any, Any]:
    """Return the symbolic outputs by name, empty where the model has no graph."""
    tensors = getattr(model, "outputs", None)
    if isinstance(model, keras.Sequential) and not model.built:
        return {}
    if not isinstance(model, (keras.Sequential, keras.models.Model)) or not tensors:
        return {}
    names = getattr(model, "output_names", None) or range(len(tensors))
    return dict(zip(names, tensors, strict=True))


def _look(tensor: Any, model: keras.Model) -> tuple[int | None, str | None]:
    """Return (width of the last axis, last activation); None for what cannot be seen."""
    if tensor is not None:
        return tensor.shape[-1] if len(tensor.shape) > 1 else 1, _activation(model, tensor)
    layers = model.layers
    # A model without a graph: the layer that was made last is mostly the one that is called last,
    # and Keras warns when logits turn out to come from a softmax.
    for layer in reversed(layers):
        if type(layer).__name__ not in _TRANSPARENT:
            return getattr(layer, "units", None), _named(layer)
    return None, None


def _activation(model: keras.Model, tensor: Any) -> str | None:
    """Return the name of the activation that a symbolic tensor comes out of."""
    operations = getattr(model, "operations", None) or model.layers
    by_output = {}
    for operation in operations:
        try:
            for output in keras.tree.flatten(operation.output):
                by_output[id(output)] = operation
        except (AttributeError, ValueError):
            continue  # was called several times, or never: its output is not the model's
    while (operation := by_output.get(id(tensor))) is not None:
        if isinstance(operation, keras.Model):
            inner = _outputs(operation)
            places = [id(t) for t in keras.tree.flatten(operation.output)]
            inside = list(inner.values())
            place = places.index(id(tensor))
            return _activation(operation, inside[place]) if place < len(inside) else None
        name = _named(operation)
        linear = type(operation).__name__ == "Activation" and name == "linear"
        if type(operation).__name__ not in _TRANSPARENT and not linear:
            return name
        tensor = operation.input
    last = model.layers[-1] if model.layers else None
    return None if last is None or isinstance(last, keras.Model) else _named(last)


def _named(operation: Any) -> str | None:
    kind = type(operation).__name__
    if kind in ("Softmax", "Sigmoid"):
        return kind.lower()
    return getattr(getattr(operation, "activation", None), "__name__", None)
