"""What a loss is worth: for a prediction that knows nothing, for the best constant, for the truth."""

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np

from tfrecipes.doctor.label_checks import Output

_LEAST = 1e-6
_HALF = 0.5


class References(NamedTuple):
    """The loss of three predictions that need no model.

    Args:
        unknowing: Every class alike, or 0 for a regression: log(K), or the mean of y squared.
        constant: The best that is the same for all samples: the labels' entropy, or variance.
        perfect: The labels themselves: 0, or what label smoothing leaves.
    """

    unknowing: float
    constant: float
    perfect: float


def references(
    outputs: list[Output],
    y: Any,
    predictions: Any,
    activations: list[str | None],
    loss: Callable[..., Any],
) -> References | None:
    """Compute them with the loss itself; None where a loss's labels are not known.

    Args:
        outputs: The labels of the batch, in the order of `y`.
        y: The same labels, as the loss takes them.
        predictions: The model's outputs for the batch, in the structure that the loss takes.
        activations: What each output comes out of.
        loss: f(y, y_pred).
    """
    flat = keras.tree.flatten(predictions)
    if len(outputs) != len(flat) or any(output.kind is None for output in outputs):
        return None
    values = []
    for made in (_unknowing, _constant, _perfect):
        guessed = [
            made(output, np.asarray(p, np.float32), _is_from_logits(output, activation))
            for output, p, activation in zip(outputs, flat, activations, strict=True)
        ]
        if any(g is None for g in guessed):
            return None
        packed = keras.tree.pack_sequence_as(predictions, guessed)
        values.append(float(np.asarray(loss(y, packed), np.float32)))
    return References(*values) if np.isfinite(values).all() else None


def from_logits(loss: Any) -> bool | None:
    """Whether a cross-entropy is from logits; None for what is no cross-entropy of Keras."""
    inner = getattr(loss, "loss", loss)
    said = getattr(inner, "from_logits", None)
    if said is not None:
        return bool(said)
    name = inner if isinstance(inner, str) else getattr(inner, "__name__", "")
    plain = name.lower().replace("_", "")
    return False if plain.endswith("crossentropy") or plain == "bce" else None


def _is_from_logits(output: Output, activation: str | None) -> bool:
    said = from_logits(output.loss)
    return activation not in ("softmax", "sigmoid") if said is None else said


def _shares(output: Output, prediction: np.ndarray) -> np.ndarray | None:
    """The labels as shares of classes, in the prediction's shape."""
    y = np.asarray(output.y)
    k = prediction.shape[-1]
    if output.kind == "sparse":
        ids = y.reshape(prediction.shape[:-1]) if y.size == prediction[..., 0].size else None
        if ids is None:
            return None
        inside = (ids >= 0) & (ids < k)
        shares = np.eye(k, dtype=np.float32)[np.where(inside, ids, 0).astype(int)]
        return np.where(inside[..., None], shares, 1 / k)
    if y.size != prediction.size:
        return None
    return y.reshape(prediction.shape).astype(np.float32)


def _as_prediction(shares: np.ndarray, kind: str | None, logits: bool) -> np.ndarray:
    if not logits:
        return np.asarray(shares, np.float32)
    safe = np.clip(shares, _LEAST, 1 - _LEAST)
    return np.log(safe / (1 - safe) if kind == "binary" else safe).astype(np.float32)


def _unknowing(output: Output, prediction: np.ndarray, logits: bool) -> np.ndarray | None:
    if output.kind == "regression" or logits:
        return np.zeros_like(prediction)
    share = _HALF if output.kind == "binary" else 1 / prediction.shape[-1]
    return np.full_like(prediction, share)


def _constant(output: Output, prediction: np.ndarray, logits: bool) -> np.ndarray | None:
    shares = _shares(output, prediction)
    if shares is None:
        return None
    if output.kind == "regression":
        mean = shares.mean(0, keepdims=True)
        return np.broadcast_to(mean, prediction.shape).astype(np.float32)
    mean = shares.reshape(-1, shares.shape[-1]).mean(0)
    constant = np.broadcast_to(mean, prediction.shape)
    return _as_prediction(constant, output.kind, logits)


def _perfect(output: Output, prediction: np.ndarray, logits: bool) -> np.ndarray | None:
    shares = _shares(output, prediction)
    if shares is None or output.kind == "regression":
        return shares
    inner = getattr(output.loss, "loss", output.loss)
    smoothing = float(
        getattr(output.loss, "label_smoothing", 0) or getattr(inner, "label_smoothing", 0) or 0
    )
    even = _HALF if output.kind == "binary" else 1 / prediction.shape[-1]
    return _as_prediction((1 - smoothing) * shares + smoothing * even, output.kind, logits)
