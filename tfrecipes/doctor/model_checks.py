"""What can be wrong with a model before its first step: outputs, gradients, units, samples."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfrecipes.doctor.references import References
from tfrecipes.doctor.rules import Finding, Severity
from tfrecipes.doctor.traced import Result, Traced
from tfrecipes.step import keras_seams
from tfrecipes.step.state import host_value

# A fresh net is as wrong as one that knows nothing; much more is confidence in the wrong answer.
HIGH_LOSS = 2.0
DEAD_SHARE = 0.75
VANISHED = 1e-5
EXPLODED = 1e4
DROPPED = 0.8
_MIXED = 1e-3


def sixteen_bits(traced: Traced) -> Finding | None:
    """Outputs of 16 bits, from which the loss would be computed."""
    short = [d for d in traced.seen.output_dtypes if d in ("float16", "bfloat16")]
    if not short:
        return None
    return Finding(
        "output_16_bits",
        "warning",
        f"The model's output is {short[0]}: "
        f"{'11' if short[0] == 'float16' else '8'} bits of a number are kept.",
        "Under a mixed policy every layer computes in 16 bits, the last one too, and a softmax or "
        "a logarithm of such numbers loses what the loss needs.",
        'Give the last layer float32: Dense(n, dtype="float32").',
    )


def not_finite(traced: Traced, result: Result) -> Finding | None:
    """NaN or infinite values in a first pass over finite inputs."""
    bad = np.flatnonzero(result.stats[:, 3] > 0) if len(result.stats) else []
    if not len(bad) and np.isfinite(result.loss):
        return None
    where = (
        f"layer {traced.seen.stats[bad[0]][0]} gives {result.stats[bad[0], 3]:.1%} NaN or infinite "
        "values for finite inputs"
        if len(bad)
        else f"the loss of the first batch is {result.loss}"
    )
    return Finding(
        "not_finite_at_start",
        "error",
        f"Before any step, {where}.",
        "A logarithm, a root or a quotient without a floor, or weights that are too large.",
        "Look at that layer's output alone: keras.Model(model.input, "
        "model.get_layer(name).output)(x[:8]).",
    )


def loss_at_start(result: Result, known: References) -> Finding | None:
    """A loss at initialisation far above that of a prediction that knows nothing."""
    loss, even = result.data_loss, known.unknowing
    if not np.isfinite(loss) or loss <= HIGH_LOSS * max(even, known.constant) + 1.0:
        return None
    return Finding(
        "initial_loss",
        "warning",
        f"The loss of the first batch is {loss:.4g}; knowing nothing costs {even:.4g} (log(K) for "
        "K classes, the mean square of the targets for a regression).",
        "Before it has learnt anything the model is sure of wrong answers: initial weights that "
        "are too large, inputs that are not normalised, or a loss that does not fit the output.",
        "Look at the spread of the outputs, np.std(model.predict(x[:64])); it should be about 1 or "
        'less: Dense(n, kernel_initializer="glorot_uniform"), and normalised inputs.',
    )


def without_gradient(traced: Traced) -> Finding | None:
    """Trainable weights that the loss does not depend on at all."""
    if not traced.seen.connected:
        return None
    paths = traced.weight_paths()
    lost = [p for p, on in zip(paths, traced.seen.connected, strict=True) if not on]
    if not lost:
        return None
    return Finding(
        "no_gradient",
        "error" if len(lost) == len(paths) else "warning",
        f"{len(lost)} of {len(paths)} trainable weights have no gradient: {_some(lost)}.",
        "The loss is not computed from them: a layer that is made and not called, a branch that is "
        "left out, an argmax, a rounding or a tf.stop_gradient between.",
        f"Call the layer, or freeze it on purpose: model.get_layer(...).trainable = False for "
        f"{lost[0].rpartition('/')[0] or lost[0]}.",
    )


def vanishing(traced: Traced, result: Result) -> Finding | None:
    """Gradients that fade on their way to the first layers, or activations that explode."""
    kernels = [
        (path, float(g))
        for path, g in zip(traced.weight_paths(), result.gradients, strict=True)
        if path.rpartition("/")[2] == "kernel" and g > 0 and np.isfinite(g)
    ]
    if len(kernels) > 2:
        first, largest = kernels[0], max(kernels, key=lambda k: k[1])
        if first[1] < VANISHED * largest[1]:
            return Finding(
                "vanishing_gradients",
                "warning",
                f"The first layer's gradient, {first[0]}, is {first[1] / largest[1]:.1g} of the "
                f"largest, {largest[0]} (root mean squares {first[1]:.2g} and {largest[1]:.2g}).",
                "Each saturating layer on the way multiplies by less than 1.",
                "Use relu or gelu instead of sigmoid or tanh in hidden layers, add "
                "keras.layers.BatchNormalization() or LayerNormalization(), or skip connections.",
            )
    spread = result.stats[:-1, 0] if len(result.stats) else np.zeros(0)
    if len(spread) and spread.max() > EXPLODED:
        at = int(spread.argmax())
        return Finding(
            "exploding_initialisation",
            "warning",
            f"Layer {traced.seen.stats[at][0]} gives values with a standard deviation of "
            f"{spread[at]:.3g} before any step; about 1 is usual.",
            "Initial weights that are too large for the layer's width, layer upon layer.",
            'Use kernel_initializer="he_normal" with relu, "glorot_uniform" else; or normalise.',
        )
    return None


def dead_units(traced: Traced, result: Result, samples: int) -> Finding | None:
    """ReLU layers most of whose units give 0 for every sample."""
    dead = [
        (name, float(row[2]))
        for (name, relu), row in zip(traced.seen.stats, result.stats, strict=True)
        if relu and row[2] > DEAD_SHARE and row[4] > 0
    ]
    if not dead:
        return None
    name, share = max(dead, key=lambda d: d[1])
    return Finding(
        "dead_layers",
        "warning",
        f"In layer {name}, {share:.1%} of the units give 0 for all {samples} samples"
        + (f"; {len(dead)} layers are like that" if len(dead) > 1 else "")
        + ".",
        "A ReLU that is never above 0 has no gradient: biases that are too negative, or inputs "
        "that are not centred.",
        'Start from bias_initializer="zeros" and kernel_initializer="he_normal"; normalise the '
        "inputs; or use leaky_relu.",
    )


def frozen(traced: Traced) -> Finding | None:
    """Layers that will not be trained, though they never were."""
    model = traced.model
    layers = [
        layer
        for layer in keras_seams.all_layers(model)
        if not layer.trainable and layer.variables and not isinstance(layer, keras.Model)
    ]
    nothing = not model.trainable_variables and bool(model.variables)
    if not layers and not nothing:
        return None
    frozen_weights = sum(int(np.prod(v.shape)) for v in model.non_trainable_variables)
    every = frozen_weights + sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    # Training moves biases and statistics off the numbers that they start from.
    plain = [
        v
        for layer in layers
        for v in layer.variables
        if len(v.shape) == 1 and keras.backend.is_float_dtype(v.dtype)
    ]
    fresh = bool(plain) and not any((np.asarray(host_value(v)) % 1).any() for v in plain)
    named = _some([layer.name for layer in layers])
    severity: Severity = "error" if nothing else "warning" if fresh else "info"
    return Finding(
        "frozen_layers",
        severity,
        f"{'All weights' if nothing else f'{len(layers)} layers'} are frozen, "
        f"{frozen_weights:,} of {every:,} numbers{f': {named}' if named else ''}."
        + (" All their biases are as a fresh layer has them." if fresh else ""),
        "trainable = False was set on layers that have learnt nothing yet: what follows has to do "
        "with random features."
        if fresh
        else "trainable = False was set, as in fine-tuning.",
        "for layer in model.layers: layer.trainable = True; then compile again. Or load the "
        "weights that were meant: model.load_weights(path).",
    )


def dropout(traced: Traced) -> Finding | None:
    """Dropout that leaves next to nothing."""
    high = [
        (layer.name, float(layer.rate))
        for layer in keras_seams.all_layers(traced.model)
        if isinstance(layer, keras.layers.Dropout) and layer.rate >= DROPPED
    ]
    if not high:
        return None
    name, rate = max(high, key=lambda one: one[1])
    return Finding(
        "dropout_too_high",
        "warning",
        f"Layer {name} drops {rate:.0%} of its inputs: of 100 units {100 - 100 * rate:.0f} are "
        "left.",
        "Keras's `rate` is the share that is dropped, not the share that is kept.",
        f"keras.layers.Dropout({min(0.5, 1 - rate):.2g}); .1 to .5 is usual.",
    )


def samples_mixed(traced: Traced, x: Any) -> Finding | None:
    """One sample's output changes with another sample of the batch.

        d out_i / d x_j != 0 for some j != i

    is looked for with a whole sample replaced, in inference mode, where BatchNorm uses its moving
    statistics; and in training mode too, where no layer is a BatchNorm.
    """
    size = len(keras.tree.flatten(x)[0])
    if size < 3:
        return None
    changed = keras.tree.map_structure(_with_another_first, x)
    modes: list[tuple[str, Callable[[Any], list[np.ndarray]]]] = [("inference", traced.predict)]
    kinds = [type(layer).__name__ for layer in keras_seams.all_layers(traced.model)]
    if not any("Batch" in kind for kind in kinds):
        y, weight = traced.batch[1:]
        modes.append(("training", lambda inputs: traced.look((inputs, y, weight)).outputs))
    for mode, run in modes:
        for before, after in zip(run(x), run(changed), strict=True):
            if before.shape[:1] != (size,):
                return _rows_lost(before.shape, size)
            moved = abs(after - before).reshape(size, -1).max(1)
            scale = max(float(before.std()), 1e-6)
            others = float(moved[1:].max())
            if others > _MIXED * scale and others > _MIXED * float(moved[0]):
                return Finding(
                    "samples_mixed",
                    "warning",
                    f"In {mode} mode, with another first sample the outputs of "
                    f"{int((moved[1:] > _MIXED * scale).sum())} of {size - 1} other samples change, "
                    f"by up to {others:.3g} (their standard deviation is {scale:.3g}).",
                    "The model mixes the samples of a batch: a reshape or transpose that moves the "
                    "batch axis, a softmax, mean or attention over axis 0.",
                    "Keep the first axis alone: keras.layers.Reshape, Permute and Flatten do; "
                    "axis=-1 instead of axis=0.",
                )
    return None


def _rows_lost(shape: tuple[int, ...], size: int) -> Finding:
    return Finding(
        "samples_mixed",
        "error",
        f"The model gives an output of shape {shape} for {size} samples.",
        "A reshape, mean or concatenation moved the batch axis: an output belongs to no sample.",
        "Keep the first axis alone: keras.layers.Reshape and Flatten do; axis=-1 instead of axis=0.",
    )


def _with_another_first(leaf: Any) -> Any:
    array = np.array(leaf)
    flat = array.reshape(len(array), -1)
    if flat.dtype.kind not in "biuf":
        return leaf
    away = abs(flat[1:].astype(np.float64) - flat[:1]).sum(1)
    array[0] = array[1 + int(away.argmax())]
    return array


def batch_norm_of_one(traced: Traced, batch_size: int | None) -> Finding | None:
    """BatchNorm over batches of one or two samples."""
    if batch_size is None or batch_size > 2:
        return None
    calls = [
        call
        for call in traced.seen.calls
        if isinstance(call.layer, keras.layers.BatchNormalization) and call.layer.trainable
    ]
    if not calls:
        return None
    # Where there are no positions to average over, what is left of one sample is 0.
    nothing_left = batch_size == 1 and any(c.outputs[0].shape.rank == 2 for c in calls)
    return Finding(
        "batch_norm_tiny",
        "error" if nothing_left else "warning",
        f"{len(calls)} BatchNormalization layers (first: {calls[0].layer.name}) are given batches "
        f"of {batch_size}.",
        "They normalise by the batch's own mean and variance; of one sample the variance is 0, and "
        "of two it is noise.",
        "Batch more samples, ds.unbatch().batch(32); or use "
        "keras.layers.GroupNormalization or LayerNormalization.",
    )


def memory(traced: Traced, batch_size: int, size: int) -> Finding:
    """An estimate of what a training step holds, in bytes."""
    weights = sum(int(np.prod(v.shape)) * 4 for v in traced.model.trainable_variables)
    frozen = sum(int(np.prod(v.shape)) * 4 for v in traced.model.non_trainable_variables)
    kept = 0
    for call in traced.seen.calls:
        for out in call.outputs:
            shape = out.shape.as_list() if out.shape.rank is not None else []
            kept += int(np.prod([s or 1 for s in shape])) * out.dtype.size
    activations = kept // max(1, size) * batch_size
    total = frozen + 4 * weights + activations
    return Finding(
        "memory",
        "info",
        f"A step with AdamW and {batch_size} samples holds about {_bytes(total)}: weights "
        f"{_bytes(weights + frozen)}, gradients {_bytes(weights)}, moments {_bytes(2 * weights)}, "
        f"activations {_bytes(activations)} ({_bytes(kept // max(1, size))} a sample).",
        "Each layer's output is kept for the backward pass; temporary buffers come on top.",
        "If it does not fit: recipe.fit with step.gradient_accumulation_steps = 2, or "
        "tfr.MicroBatch(size).",
    )


def _bytes(n: float) -> str:
    for unit in ("B", "KB", "MB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} GB"


def _some(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
