"""Whether outputs, last activation, labels and loss belong together."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.recording import quiet
from tfrecipes.doctor.references import from_logits
from tfrecipes.doctor.rules import Finding
from tfrecipes.doctor.sampled import some_rows
from tfrecipes.doctor.traced import Result, Traced

_REACHABLE = {
    "relu": (0.0, np.inf),
    "relu6": (0.0, 6.0),
    "softplus": (0.0, np.inf),
    "sigmoid": (0.0, 1.0),
    "softmax": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "log_softmax": (-np.inf, 0.0),
}


def outputs_and_loss(
    output: Output, prediction: np.ndarray, activation: str | None, is_probabilities: bool
) -> Iterator[Finding]:
    """Whether the last activation and the loss belong together.

    Args:
        output: The labels, with the loss.
        prediction: The output for a batch.
        activation: What it comes out of, where the graph tells.
        is_probabilities: Whether each row of it is not negative and sums to 1.
    """
    name = "" if output.name == "y" else f" for {output.name}"
    said = activation or ("probabilities" if is_probabilities else "unknown")
    width = prediction.shape[-1] if prediction.ndim > 1 else 1
    if activation == "softmax" and width == 1:
        yield Finding(
            "softmax_of_one",
            "error",
            f"The model ends in a softmax over 1 output{name}: it is 1 whatever the weights are.",
            "A softmax shares 1 among its outputs; one of them gets all of it.",
            "Use Dense(1) with keras.losses.BinaryCrossentropy(from_logits=True), or "
            'Dense(1, activation="sigmoid").',
        )
        return
    if activation == "softmax" and not is_probabilities and np.isfinite(prediction).all():
        sums = prediction.sum(-1)
        yield Finding(
            "activation_and_loss",
            "error",
            f"The output{name} ends in a softmax, and over its last axis, the classes, it sums to {sums.min():.3g} to "
            f"{sums.max():.3g}.",
            "The softmax runs over another axis: over time or over the samples of the batch, which then share 1.",
            "Give it axis=-1: keras.layers.Softmax(axis=-1), tf.nn.softmax(x, axis=-1).",
        )
        return
    logits = from_logits(output.loss)
    if output.kind in ("sparse", "one-hot", "binary") and logits is not None:
        yield from _cross_entropy(output, prediction, said, is_probabilities, logits, name)
    elif output.kind == "regression" and activation in _REACHABLE:
        low, high = _REACHABLE[activation]
        y = np.asarray(output.y, np.float64)
        outside = float(((y < low - 1e-6) | (y > high + 1e-6)).mean())
        if outside > 0:
            yield Finding(
                "activation_and_loss",
                "error" if outside > 0.5 else "warning",
                f"The output{name} ends in {activation}, which gives {low:g} to {high:g}; "
                f"{outside:.1%} of the targets ({y.min():.4g} to {y.max():.4g}) are outside.",
                "These targets cannot be reached, whatever the weights are.",
                "Leave the last layer linear for a regression: Dense(n) without activation; or "
                "scale the targets into its range.",
            )


def sigmoids_for_classes(output: Output) -> Finding | None:
    """A binary cross-entropy for each class, where every sample is of exactly one."""
    y = some_rows(np.asarray(output.y))
    if output.kind != "binary" or y.ndim < 2 or y.shape[-1] < 3 or len(y) < 64:
        return None
    if not np.isin(y, (0, 1)).all() or not (y.sum(-1) == 1).all():
        return None
    return Finding(
        "loss_for_labels",
        "warning",
        f"data: each of {len(y):,} samples is of exactly one of {y.shape[-1]} classes, and the loss "
        "is a binary cross-entropy of each class by itself.",
        "Sigmoids do not know that classes exclude each other; most of the loss comes from the "
        f"{y.shape[-1] - 1} classes that a sample is not.",
        "Dense(n) without activation and keras.losses.CategoricalCrossentropy(from_logits=True).",
    )


def _cross_entropy(
    output: Output,
    prediction: np.ndarray,
    activation: str,
    is_probabilities: bool,
    logits: bool,
    name: str,
) -> Iterator[Finding]:
    binary = output.kind == "binary"
    right = "sigmoid" if binary else "softmax"
    loss = type(output.loss).__name__ if not isinstance(output.loss, str) else output.loss
    inside = bool(((prediction >= 0) & (prediction <= 1)).all())
    if logits and (activation == right or (not binary and is_probabilities)):
        yield Finding(
            "logits_mismatch",
            "warning",
            f"The output{name} is probabilities already (it ends in {right}: {prediction.min():.3g} "
            f"to {prediction.max():.3g}), and the loss, {loss}, is from_logits=True.",
            f"The loss applies a second {right}: with probabilities between 0 and 1 for logits, no "
            "prediction can become sure, gradients are small and the loss stays high.",
            "Leave the activation out of the last layer, Dense(n), or say from_logits=False.",
        )
    elif not logits and activation != right and not (is_probabilities if not binary else inside):
        if activation in ("sigmoid", "softmax") or (activation == "tanh" and inside):
            yield _odd(output, prediction, activation, loss, name)
            return
        yield Finding(
            "logits_mismatch",
            "error",
            f"The output{name} is no probabilities ({activation}: {prediction.min():.3g} to "
            f"{prediction.max():.3g}), and the loss, {loss}, is from_logits=False.",
            "The loss takes the logarithm of the outputs as they are: negative ones are cut off at "
            "1e-7 and get no gradient.",
            f'Say so: {_class_of(output.kind)}(from_logits=True); or end in activation="{right}".',
        )
    elif activation in ("sigmoid", "softmax") and activation != right:
        yield _odd(output, prediction, activation, loss, name)
    elif logits and activation in ("relu", "relu6", "tanh", "softplus", "sigmoid"):
        low, high = _REACHABLE[activation]
        yield Finding(
            "activation_and_loss",
            "warning",
            f"The logits{name} come out of {activation}, which gives {low:g} to {high:g}.",
            "Logits go from minus to plus infinity; cut off, some answers cannot be given.",
            "Leave the last layer linear: Dense(n) without activation.",
        )


def _odd(output: Output, prediction: np.ndarray, activation: str, loss: str, name: str) -> Finding:
    fits = "sigmoid" if output.kind == "binary" else "softmax"
    return Finding(
        "activation_and_loss",
        "warning",
        f"The output{name} ends in {activation} ({prediction.min():.3g} to {prediction.max():.3g}), and "
        f"the loss, {loss}, is made for {fits}.",
        "A softmax makes classes exclude each other, sigmoids do not: the loss asks for the other.",
        f'End in activation="{fits}", or take the loss that belongs to {activation}.',
    )


def _class_of(kind: str | None) -> str:
    return {
        "sparse": "keras.losses.SparseCategoricalCrossentropy",
        "one-hot": "keras.losses.CategoricalCrossentropy",
    }.get(kind or "", "keras.losses.BinaryCrossentropy")


def is_probabilities(prediction: np.ndarray) -> bool:
    """Whether each row is not negative and sums to 1, over at least two outputs."""
    if prediction.ndim < 2 or prediction.shape[-1] < 2:
        return False
    return bool((prediction >= 0).all() and (abs(prediction.sum(-1) - 1) < 1e-3).all())


def loss_broadcasts(loss: Callable[..., Any], y: Any, prediction: np.ndarray) -> Finding | None:
    """A loss that sets every label against every prediction, for their shapes differ by an axis.

        d loss / d y_pred_i must not change with y_j

    Keras's own losses line such shapes up; a `keras.losses.Loss` with a `call` of one's own does
    not: (n,) - (n, 1) is (n, n).
    """
    y = np.asarray(y)
    if y.shape == prediction.shape or y.size != prediction.size or len(y) < 3:
        return None
    other = y.copy()
    other[0] = y[int(abs(y.reshape(len(y), -1)[:, 0].astype(float) - float(y.flat[0])).argmax())]
    gradients = []
    with quiet():
        for labels in (y, other):
            guess = tf.Variable(prediction)
            with tf.GradientTape() as tape:
                value = loss(tf.constant(labels), tf.convert_to_tensor(guess))
            gradient = tape.gradient(value, guess)
            if gradient is None:
                return None
            gradients.append(np.asarray(tf.convert_to_tensor(gradient)).reshape(len(y), -1))
    before, after = gradients
    if abs(after - before)[1:].max() <= 1e-4 * max(abs(before).max(), 1e-12):
        return None
    return Finding(
        "loss_broadcasts",
        "error",
        f"Labels of shape (n,{'' if y.ndim == 1 else ' 1'}) and outputs of shape "
        f"(n,{'' if prediction.ndim == 1 else ' 1'}): with another first label, the gradient of "
        f"{int((abs(after - before)[1:] > 0).any(1).sum())} of {len(y) - 1} other outputs changes.",
        "The loss subtracts one from the other as (n, n): each output is pulled to the mean of "
        "all labels.",
        "Give both one shape: y = y.reshape(-1, 1), or keras.ops.squeeze(y_pred, -1) in the loss.",
    )


def softmax_twice(traced: Traced, first: Result) -> Finding | None:
    """A softmax of a softmax."""
    if not traced.seen.twice_softmax:
        return None
    low, high = float(first.outputs[0].min()), float(first.outputs[0].max())
    return Finding(
        "softmax_twice",
        "warning",
        f"The output is a softmax of a softmax: {low:.3g} to {high:.3g} over "
        f"{first.outputs[0].shape[-1]} classes.",
        "The second one is given numbers between 0 and 1, and answers almost evenly whatever the "
        "first one says.",
        "Take one of them out: the last Dense layer without activation before a Softmax layer.",
    )
