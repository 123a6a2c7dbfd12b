"""Faults of the data: labels, inputs, validation, and how batches come."""

import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from parts.faults import LEARNS_NOTHING, UNSTABLE, Fault
from parts.programs import Program

NUMBERS = ("image", "table")  # families whose inputs are numbers, not characters
LABELS = "label|target"


def _labels_shuffled(one: Program) -> None:
    one.y = one.rng.permutation(one.y)
    if one.family == "text":  # characters too, or half a window would still fit
        one.y = one.rng.permuted(one.y, axis=1)
    one.y_val = one.rng.permutation(one.y_val)


def _labels_noisy(one: Program) -> None:
    for name in ("y", "y_val"):
        y = getattr(one, name).copy()
        wrong = one.rng.random(y.shape) < 0.6
        y[wrong] = one.rng.integers(0, one.classes, wrong.sum())
        setattr(one, name, y)


def _inputs_not_normalised(one: Program) -> None:
    low, high = one.x.min(), one.x.max()
    one.x, one.x_val = ((x - low) / (high - low) * 255 for x in (one.x, one.x_val))
    one.net.norm = False


def _feature_huge(one: Program) -> None:
    one.x, one.x_val = one.x.copy(), one.x_val.copy()
    for x in (one.x, one.x_val):
        x[..., x.shape[-1] // 2] *= 1e4
    one.net.norm = False


def _inputs_constant(one: Program) -> None:
    one.x, one.x_val = np.zeros_like(one.x), np.zeros_like(one.x_val)


def _inputs_nan(one: Program) -> None:
    one.x = one.x.copy()
    bad = one.rng.random(len(one.x)) < 0.02
    one.x.reshape(len(one.x), -1)[bad, 0] = np.nan


def _class_dominates(one: Program) -> None:
    # Nineteen in twenty: a class, or for characters padding that nobody masked.
    for x, y in (("x", "y"), ("x_val", "y_val")):
        inputs, labels = getattr(one, x), getattr(one, y)
        if one.family == "text":
            labels = labels.copy()
            labels[one.rng.random(labels.shape) < 0.95] = 0
        else:
            common = np.flatnonzero(labels == 3)
            rare = np.flatnonzero(labels != 3)[: max(9, len(common) // 19)]
            chosen = np.concatenate([np.resize(common, 19 * len(rare)), rare])
            chosen = one.rng.permutation(chosen)
            inputs, labels = inputs[chosen], labels[chosen]
        setattr(one, x, inputs)
        setattr(one, y, labels)


def _data_sorted(one: Program) -> None:
    order = np.argsort(one.y, kind="stable")
    one.x, one.y = one.x[order], one.y[order]
    one.shuffled = False
    if one.way == "recipe":  # which shuffles arrays, whatever their order
        one.stream = in_order


def _validation_elsewhere(one: Program) -> None:
    if one.family == "text":  # another language: the letters have changed places
        places = one.rng.permutation(one.classes)
        one.x_val, one.y_val = places[one.x_val].astype("int32"), places[one.y_val].astype("int32")
    else:
        one.x_val = one.x_val[:, ::-1] * -1.5 + 1.0


def _validation_labels_off_by_one(one: Program) -> None:
    one.y_val = (one.y_val + 1) % one.classes


def _validation_leaked(one: Program) -> None:
    # All of the validation data were trained on, and more than half of the training data are it.
    held = len(one.x_val)
    chosen = one.rng.permutation(len(one.x))[: 2 * held]
    one.x, one.y = one.x[chosen], one.y[chosen]
    one.x_val, one.y_val = one.x[:held], one.y[:held]
    one.epochs *= 2


def _validation_tiny(one: Program) -> None:
    few = 12 if one.family != "text" else 1
    one.x_val, one.y_val = one.x_val[:few], one.y_val[:few]
    one.peak, one.decays = 2 * one.peak, False
    one.epochs = 12


def _duplicates(one: Program) -> None:
    few = len(one.x) // 20
    chosen = one.rng.integers(0, few, len(one.x))
    one.x, one.y = one.x[chosen], one.y[chosen]


def _too_few_samples(one: Program) -> None:
    few = {"image": 200, "text": 60, "table": 60}[one.family]
    one.x, one.y = one.x[:few], one.y[:few]
    one.epochs, one.batch_size = 40, 16
    one.weight_decay, one.decays, one.peak = 0.0, False, one.peak / 2
    one.changes = {"loss.label_smoothing": 0.0, "ema": None}


def _bad_batches(one: Program) -> None:
    one.stream = spoiled
    one.clipnorm = None if one.way == "stock" else 1.0


def _slow_pipeline(one: Program) -> None:
    one.stream = Slow
    one.epochs = 3
    keep = one.batch_size * 30
    one.x, one.y = one.x[:keep], one.y[:keep]


def in_order(one: Program) -> tf.data.Dataset:
    """The arrays as they lie, in batches."""
    options = tf.data.Options()
    options.autotune.enabled = False  # it would sleep away the time of small steps
    return (
        tf.data.Dataset.from_tensor_slices((one.x, one.y))
        .batch(one.batch_size)
        .with_options(options)
    )


def spoiled(one: Program) -> tf.data.Dataset:
    """Every 45th batch is spoiled: numbers a thousand times too large, or a text of noise."""
    order = one.rng.permutation(len(one.x))
    one.x, one.y = one.x[order].copy(), one.y[order].copy()
    first = np.arange(20, one.steps_per_epoch, 45) * one.batch_size
    for start in first:
        rows = slice(start, start + one.batch_size)
        if one.family == "text":
            one.x[rows] = one.rng.integers(0, one.classes, one.x[rows].shape)
            one.y[rows] = one.rng.integers(0, 3, one.y[rows].shape)
        else:
            one.x[rows] *= 1e3
            one.y[rows] = one.rng.permutation(one.y[rows])
    return in_order(one)


class Slow(keras.utils.PyDataset):
    """Batches that each take 40 ms to get."""

    def __init__(self, one: Program) -> None:
        """Of a program's arrays."""
        super().__init__()
        self.x, self.y, self.size = one.x, one.y, one.batch_size

    def __len__(self) -> int:
        """Batches."""
        return len(self.x) // self.size

    def __getitem__(self, index: int) -> Any:
        """One batch, in its time."""
        time.sleep(0.04)
        rows = slice(index * self.size, (index + 1) * self.size)
        return self.x[rows], self.y[rows]


FAULTS = (
    Fault(
        "labels_shuffled",
        "labels of other samples",
        _labels_shuffled,
        (
            "labels_unrelated",
            f"loss_not_falling~{LABELS}",
            f"plateau~{LABELS}",
            f"predicting_prior~{LABELS}",
            f"validation_gap~{LABELS}",
        ),
        "nothing can be learnt but the labels' own frequencies, and each rule that sees that must say labels",
        (*LEARNS_NOTHING, "validation_gap", "validation_not_representative"),
        checked=True,
    ),
    Fault(
        "labels_noisy",
        "three labels in five at random",
        _labels_noisy,
        (
            "labels_unrelated",
            f"plateau~{LABELS}|data",
            f"predicting_prior~{LABELS}",
            f"loss_not_falling~{LABELS}",
            f"falling_slowly~{LABELS}",
        ),
        "the loss stays near that of guessing while the net is fine: labels or data must be named",
        (*LEARNS_NOTHING, "validation_gap"),
        checked=True,
    ),
    Fault(
        "inputs_not_normalised",
        "inputs from 0 to 255",
        _inputs_not_normalised,
        ("inputs_not_normalised",),
        "the range of the inputs is the cause; what it does to the loss are consequences",
        (*UNSTABLE, "initial_loss"),
        NUMBERS,
        checked=True,
    ),
    Fault(
        "feature_huge",
        "one feature 10,000 times larger",
        _feature_huge,
        ("inputs_not_normalised",),
        "as above",
        (*UNSTABLE, "initial_loss"),
        NUMBERS,
        checked=True,
    ),
    Fault(
        "inputs_constant",
        "inputs all zero",
        _inputs_constant,
        (
            "constant_features",
            "inputs_ignored",
            "predicting_prior~input|data|feature",
            "loss_not_falling~input|data|feature",
            "plateau~input|data|feature",
            "dead_layers~input|data|feature",
        ),
        "the net can only learn the prior; the inputs must be named",
        (
            *LEARNS_NOTHING,
            "dead_layers",
            "vanishing_gradients",
            "duplicate_samples",
            "labels_unrelated",
            "batch_not_fitted",
            "no_gradient",
            "validation_leak",
        ),
        checked=True,
    ),
    Fault(
        "inputs_nan",
        "NaN in one sample of fifty",
        _inputs_nan,
        ("not_finite~input|data",),
        "skipped steps are the trace, the data the cause",
        ("loss_not_falling", "falling_slowly"),
        NUMBERS,
        way="stock",  # recipe.fit refuses such arrays
        checked=True,
    ),
    Fault(
        "class_dominates",
        "one class is 95 % of the data",
        _class_dominates,
        ("class_collapse", "imbalanced_classes"),
        "balance of the labels or collapse onto one class",
        (
            "predicting_prior",
            "plateau",
            "saturated_early",
            "duplicate_samples",
            "validation_leak",
            "noisy_validation",
            "one_class",
        ),
        checked=True,
    ),
    Fault(
        "data_sorted",
        "sorted by class, not shuffled",
        _data_sorted,
        ("labels_sorted", "unshuffled_stream", "oscillating~shuffl|order|sort"),
        "order is the cause; the saw-tooth that it makes counts if order is named",
        (*UNSTABLE, "validation_gap", "validation_not_representative", "falling_slowly"),
        NUMBERS,
        checked=True,
    ),
    Fault(
        "validation_elsewhere",
        "validation of another distribution",
        _validation_elsewhere,
        (
            "validation_not_representative",
            "validation_gap~represent|distribut",
        ),
        "worse than training from the first epoch on, which is no overfitting",
        ("validation_gap", "noisy_validation"),
        checked=True,
    ),
    Fault(
        "validation_labels_off_by_one",
        "validation labels one class on",
        _validation_labels_off_by_one,
        (
            "validation_not_representative",
            "validation_gap~represent|distribut|label",
        ),
        "the two halves do not mean the same",
        ("validation_gap", "noisy_validation"),
    ),
    Fault(
        "validation_leaked",
        "validation data were trained on",
        _validation_leaked,
        ("validation_leak", "validation_not_representative~leak|train"),
        "the same samples on both sides",
        ("duplicate_samples", "saturated_early"),
        checked=True,
    ),
    Fault(
        "validation_tiny",
        "a dozen validation samples",
        _validation_tiny,
        ("noisy_validation", "validation_not_representative~few|small|more"),
        "few samples jump from epoch to epoch",
        ("validation_gap", "validation_not_representative", "oscillating"),
        ("image", "table", "text"),
    ),
    Fault(
        "duplicates",
        "each sample twenty times",
        _duplicates,
        ("duplicate_samples", "validation_gap~duplicat|copies"),
        "a twentieth of the data, learnt by heart",
        ("validation_gap", "saturated_early"),
        checked=True,
    ),
    Fault(
        "too_few_samples",
        "few samples, no decay, many epochs",
        _too_few_samples,
        ("validation_gap",),
        "overfitting",
        ("saturated_early", "noisy_validation", "few_samples"),
    ),
    Fault(
        "bad_batches",
        "some batches spoiled",
        _bad_batches,
        ("loss_spike", "gradient_spike", "not_finite~batch|data|input"),
        "spikes at the steps of those batches",
        ("mostly_clipped", "oscillating", "diverged", "update_ratio", "falling_slowly"),
    ),
    Fault(
        "slow_pipeline",
        "a batch takes 40 ms to come",
        _slow_pipeline,
        ("input_bound",),
        "the device waits",
        (),
    ),
)
