"""What can be wrong with labels: their range, order and balance, and their fit to the outputs."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import keras
import numpy as np

from tfrecipes.doctor.checks import kind_of, looks, per_output
from tfrecipes.doctor.rules import Finding, Severity
from tfrecipes.doctor.sampled import Sampled, some_rows
from tfrecipes.training.labels import class_ids

# The rarest class has less than this share of an equal share (cleanlab's and DeepChecks' default).
RARE = 0.1
DOMINANT = 0.9
# More classes than this are words, items, pixels: their counts differ by nature.
_MANY_CLASSES = 200
LARGE_TARGET = 50.0
TINY_TARGET = 1e-3
_ENOUGH = 32

_CAUSES = {
    "input_shape": "The data are not what the model was made for.",
    "label_shape": "Labels, last layer and loss do not belong together: Keras broadcasts or refuses such "
    "shapes, and the loss would be computed from the wrong numbers.",
    "label_range": "Labels, last layer and loss do not belong together: the loss would be NaN, "
    "or be computed from the wrong numbers.",
    "sample_weight": "The weights multiply the loss of each sample.",
}


class Output(NamedTuple):
    """One output's labels, and what is known about the output.

    Args:
        name: The labels' name: y, y['a'].
        y: The labels.
        shape: The output's shape, or None.
        loss: Its loss, or None.
        kind: What the loss asks of labels: "sparse", "one-hot", "binary", "regression"; None
            where that is not known.
    """

    name: str
    y: np.ndarray
    shape: tuple[int | None, ...] | None
    loss: Any
    kind: str | None

    @property
    def classes(self) -> int | None:
        """Classes that the output distinguishes, where its loss is over classes."""
        if self.kind not in ("sparse", "one-hot") or not self.shape:
            return None
        return self.shape[-1]

    def ids(self) -> np.ndarray | None:
        """Each sample's class, where there is one label a sample."""
        if self.kind == "regression" or self.y.dtype.kind not in "biuf":
            return None
        if self.y.dtype.kind == "f" and self.kind is None and self.y.ndim == 1:
            return None
        return class_ids(self.y)


def outputs(y: Any, shapes: Any, loss: Any) -> list[Output]:
    """Labels by output, each with its shape and its loss."""
    return [
        Output(name, array, shape, part, kind_of(part, array, shape))
        for name, array, shape, part in per_output(y, shapes, loss)
        if array.dtype.kind in "biuf" and array.ndim
    ]


def with_shape(output: Output, shape: tuple[int, ...]) -> Output:
    """The same labels for an output whose shape is known by now."""
    return output._replace(shape=shape, kind=kind_of(output.loss, output.y, shape))


def refusals(
    sample: Sampled, input_shapes: Any, output_shapes: Any, loss: Any, where: str
) -> Iterator[Finding]:
    """What `fit` by a recipe refuses: shapes, label range, weights. One finding a rule."""
    seen: set[str] = set()
    for look, run in looks(
        sample.x,
        sample.y,
        sample.sample_weight,
        input_shapes=input_shapes,
        output_shape=output_shapes,
        loss=loss,
        where=where,
    ):
        if look == "not_finite" or look in seen:
            continue
        try:
            run()
        except ValueError as error:
            if "finite" in str(error):
                continue
            seen.add(look)
            yield refused(str(error), _rule(look, str(error)))


def _rule(look: str, sentence: str) -> str:
    if look == "labels":
        rule = sentence.partition("Received: ")[0]
        return "label_shape" if "shape" in rule or "one-hot for" in rule else "label_range"
    return "sample_weight" if look == "sample_weight" else "input_shape"


def refused(sentence: str, rule: str) -> Finding:
    """A finding from an error's sentence: rule, what was received, and what to do."""
    start = sentence.find("Received: ")
    end = sentence.find(". ", start if start >= 0 else 0)
    evidence, advice = (sentence, "") if end < 0 else (sentence[: end + 1], sentence[end + 2 :])
    return Finding(rule, "error", evidence, _CAUSES.get(rule, ""), advice)


def one_class(output: Output, where: str) -> Finding | None:
    """Labels that are all the same."""
    y = some_rows(output.y)
    if len(y) < 2 or not np.isfinite(y).all() or (y != y[:1]).any():
        return None
    value = f"{y[0].item():g}" if y[0].size == 1 else f"one row of shape {y.shape[1:]}"
    return Finding(
        "one_class",
        "error",
        f"{where}: {output.name} is {value} in all {len(output.y):,} samples.",
        "There is nothing to tell apart: a constant output is right everywhere.",
        "Look at how the labels are made, or read; check: np.unique(y, return_counts=True).",
    )


def balance(output: Output, where: str) -> Finding | None:
    """Classes that are much rarer than others."""
    ids = output.ids()
    whole = output.y.dtype.kind in "biu"
    a_map = ids is None and output.kind == "sparse" and output.y.ndim > 1 and whole
    if a_map:  # a label for every position
        ids = some_rows(output.y).reshape(-1)
    if ids is None or len(ids) < _ENOUGH:
        return None
    classes, counts = np.unique(ids, return_counts=True)
    if len(classes) < 2 or len(classes) > _MANY_CLASSES or counts.mean() < 8:
        return None
    rarest, largest = int(counts.argmin()), int(counts.argmax())
    top = counts[largest] / len(ids)
    rare = counts[rarest] * len(classes) <= RARE * len(ids)
    # Words and pixels are rare by nature; one that is nearly everything is not.
    if not ((rare and not a_map) or top >= DOMINANT):
        return None
    weights = {
        int(c): round(len(ids) / (len(classes) * int(n)), 2)
        for c, n in zip(classes, counts, strict=True)
    }
    shown = weights if len(weights) <= 6 else "{class: len(y) / (classes * count), ...}"
    return Finding(
        "imbalanced_classes",
        "warning",
        f"{where}: of {len(ids):,} {'positions' if a_map else 'samples'}, {counts[largest]:,} ({top:.1%}) are of class "
        f"{classes[largest]} and {counts[rarest]:,} of class {classes[rarest]}; answering "
        f"{classes[largest]} every time is right in {top:.1%}.",
        "The classes are not balanced: a loss over all samples hardly feels the rare one, and "
        "accuracy hides that.",
        f"Weigh the classes: recipe.fit(..., class_weight={shown}), or "
        "model.fit(..., class_weight=...); and judge by precision and recall, not by accuracy.",
    )


def order(sample: Sampled, output: Output, where: str) -> Finding | None:
    """Labels that come sorted, or in blocks."""
    if sample.kind != "arrays" and sample.batch_size == 1:
        return None
    ids = output.ids()
    y = output.y.reshape(len(output.y), -1)
    if len(y) < _ENOUGH:
        return None
    if ids is None:
        if output.kind == "sparse" or y.shape[1] != 1 or y.dtype.kind == "b":
            return None
        steps = np.diff(y[:, 0].astype(np.float64))
        if not (steps != 0).any() or not ((steps >= 0).all() or (steps <= 0).all()):
            return None
        evidence = f"{output.name} only ever {'rises' if steps.sum() > 0 else 'falls'}"
    else:
        shares = np.unique(ids, return_counts=True)[1] / len(ids)
        expected = (len(ids) - 1) * (1 - float((shares**2).sum()))
        changes = int((np.diff(ids) != 0).sum())
        if expected < 16 or changes > 0.25 * expected:
            return None
        evidence = (
            f"the class changes {changes:,} times from one of {len(ids):,} samples to the next; in "
            f"a random order it would about {expected:,.0f} times"
        )
    stream = sample.kind != "arrays"
    return Finding(
        "labels_sorted",
        "warning" if stream else "info",
        f"{where}: {evidence}.",
        "The samples are in the order of their labels: batches of one class pull the weights to "
        "and fro, and the last rows are no fair validation part."
        + ("" if stream else " `fit` shuffles arrays unless it is told not to."),
        "Shuffle before batching: ds = ds.shuffle(buffer_size=number_of_samples).batch(n)."
        if stream
        else "Leave shuffle=True in fit; do not use validation_split, which cuts off the end: "
        "order = np.random.default_rng(0).permutation(len(y)); x, y = x[order], y[order].",
    )


def unshuffled(sample: Sampled, where: str) -> Finding | None:
    """A stream that gives the same batches in the same order every epoch."""
    if not sample.repeats_its_order or (sample.is_whole and len(sample.label_batches) == 1):
        return None
    return Finding(
        "unshuffled_stream",
        "info",
        f"{where}: a second pass over the {sample.kind} begins with the same batch of "
        f"{sample.batch_size} samples.",
        "The dataset is not shuffled, or not anew each epoch.",
        "Shuffle it before it is batched: ds = ds.shuffle(10_000).batch(n).",
    )


def too_wide(output: Output, where: str) -> Finding | None:
    """An output with many more classes than the labels have."""
    ids, classes = output.ids(), output.classes
    if ids is None or classes is None or not len(ids) or ids.min() < 0:
        return None
    present = len(np.unique(ids))
    if present >= classes or (len(ids) < 8 * classes and present > classes / 2):
        return None
    highest = int(ids.max())
    severity: Severity = "warning" if classes >= 2 * (highest + 1) and len(ids) >= 64 else "info"
    from_one = ids.min() == 1 and highest == classes - 1
    return Finding(
        "unused_outputs",
        severity,
        f"{where}: the model distinguishes {classes} classes, {output.name} has {present}: "
        f"{int(ids.min())} to {highest}.",
        "The classes are numbered from 1, and output 0 is never right."
        if from_one
        else "The last layer is wider than the labels need, or classes are missing from the data.",
        "Number them from 0: y = y - 1, and give the last layer one output less."
        if from_one
        else f"Give the last layer one output a class: Dense({highest + 1}).",
    )


def scale(output: Output, where: str, size: float | None = None) -> Finding | None:
    """Targets of a regression that are far from unit scale.

    Args:
        output: The labels.
        where: What the data are called.
        size: The root mean square of the fresh model's outputs, where it is known: a last Rescaling, or a
            bias set to the targets' mean, may bring them to the targets' scale.
    """
    if output.kind != "regression":
        return None
    y = some_rows(output.y).astype(np.float64)
    y = y[np.isfinite(y)]
    rms = float(np.sqrt((y**2).mean())) if y.size else 0.0
    if not rms or TINY_TARGET <= rms <= LARGE_TARGET:
        return None
    if (
        size
        and TINY_TARGET <= rms / size <= LARGE_TARGET
        and not TINY_TARGET <= size <= LARGE_TARGET
    ):
        return None
    return Finding(
        "targets_not_normalised",
        "warning",
        f"{where}: {output.name} goes from {y.min():.4g} to {y.max():.4g}, root mean square "
        f"{rms:.3g}; a fresh net's outputs are about 1.",
        "The targets were not normalised: the last layer has to travel that far at a rate that "
        "suits weights of about 0.1, and the loss's size sets the gradient's.",
        "Standardise them, and undo it after predict: mean, std = y.mean(), y.std(); "
        "y = (y - mean) / std; prediction = model.predict(x) * std + mean.",
    )


def validation_labels(training: list[Output], validation: list[Output]) -> Iterator[Finding]:
    """Classes that validation has and training has not."""
    theirs = {output.name: output for output in validation}
    for ours in training:
        other = theirs.get(ours.name)
        ids, held = ours.ids(), None if other is None else other.ids()
        if ids is None or held is None or not len(held):
            continue
        missing = np.setdiff1d(held, ids)
        share = float(np.isin(held, missing).mean()) if len(missing) else 0.0
        if not len(missing) or len(np.unique(ids)) > _MANY_CLASSES:
            continue
        yield Finding(
            "validation_not_representative",
            "warning" if share > 0.05 else "info",
            f"validation_data: {len(missing)} classes are not in the training data "
            f"({', '.join(str(int(c)) for c in missing[:5])}): {share:.1%} of the samples.",
            "The data were cut while they were sorted by class, or the classes are numbered "
            "in another way.",
            "Shuffle before the split: order = np.random.default_rng(0).permutation(len(y)).",
        )


def losses_by_output(loss: Any) -> list[Any]:
    """The single losses in what `compile` takes."""
    if isinstance(loss, Mapping) and "class_name" not in loss:
        return [one for part in loss.values() for one in losses_by_output(part)]
    if isinstance(loss, (list, tuple)):
        return [one for part in loss for one in losses_by_output(part)]
    return [] if loss is None else [keras.losses.get(loss) if isinstance(loss, str) else loss]
