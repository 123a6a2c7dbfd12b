"""Faults of the model and of its loss."""

import keras

from parts.faults import LEARNS_NOTHING, UNSTABLE, Fault
from parts.programs import Program

NOTHING_FLOWS = (
    *LEARNS_NOTHING,
    "vanishing_gradients",
    "dead_layers",
    "no_gradient",
    "update_ratio",
    "inputs_ignored",
    "batch_not_fitted",
)


def _too_small(one: Program) -> None:
    one.net.width = 1
    one.net.norm = one.family != "text"
    if one.family != "text":
        one.net.head, one.net.head_activation = 0, "relu"


def _sigmoid_stack(one: Program) -> None:
    one.net.activation, one.net.norm = "sigmoid", False
    one.net.head, one.net.head_activation = 10, "sigmoid"


def _explodes(one: Program) -> None:
    one.net.initializer = keras.initializers.RandomNormal(stddev=3.0)
    one.net.norm = one.family == "text"


def _zeros(one: Program) -> None:
    one.net.initializer = "zeros"


def _dead(one: Program) -> None:
    one.net.head, one.net.head_activation, one.net.head_bias = 2, "relu", -10.0


def _frozen(one: Program) -> None:
    def freeze(model: keras.Model) -> None:
        for layer in model.layers:
            layer.trainable = layer.name == "out"

    one.after_build = [freeze]


def _softmax_as_logits(one: Program) -> None:
    one.net.last = "softmax"
    one.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def _logits_as_probabilities(one: Program) -> None:
    one.loss = keras.losses.SparseCategoricalCrossentropy(from_logits=False)


def _squared_numbers(one: Program) -> None:
    # One number a sample is spread over all outputs: each learns the mean class.
    one.y, one.y_val = (y[..., None].astype("float32") for y in (one.y, one.y_val))
    one.loss = keras.losses.MeanSquaredError()


def _sigmoid_classes(one: Program) -> None:
    one.y, one.y_val = (keras.ops.one_hot(y, one.classes).numpy() for y in (one.y, one.y_val))
    one.net.last, one.loss = "sigmoid", keras.losses.BinaryCrossentropy()


def _dropout(one: Program) -> None:
    one.net.dropout = 0.95


def _batch_norm_of_two(one: Program) -> None:
    one.net.norm = True
    if one.way == "recipe":
        one.batch_size, one.accumulate = 32, 16
        keep = 640
    else:
        one.batch_size, keep = 2, 640
    one.x, one.y, one.epochs = one.x[:keep], one.y[:keep], 6
    if one.family == "table" and one.split == "derive":
        one.model = _normalised_table


def _normalised_table() -> keras.Model:
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(64),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.Dense(10),
        ]
    )


FAULTS = (
    Fault(
        "too_small",
        "a net one channel wide",
        _too_small,
        (
            "plateau~capacity|larger|wider|small",
            "falling_slowly~capacity",
        ),
        "capacity must be named",
        LEARNS_NOTHING,
    ),
    Fault(
        "sigmoid_stack",
        "ten sigmoid layers in a row",
        _sigmoid_stack,
        (
            "vanishing_gradients",
            "dead_layers~sigmoid|vanish|activation",
            "loss_not_falling~vanish",
        ),
        "gradients vanish",
        NOTHING_FLOWS,
        checked=True,
    ),
    Fault(
        "explodes",
        "weights begin at a deviation of 3",
        _explodes,
        (
            "initial_loss",
            "exploding_initialisation",
            "diverged~initiali",
            "loss_spike~initiali",
        ),
        "the loss at the start, far above log K, or the initialisation by name",
        (*UNSTABLE, "falling_slowly", "still_improving", "batch_not_fitted"),
        checked=True,
    ),
    Fault(
        "zeros",
        "all weights begin at zero",
        _zeros,
        (
            "dead_layers",
            "no_gradient",
            "vanishing_gradients",
            "loss_not_falling~initiali|zero",
            "predicting_prior~initiali|zero|gradient",
        ),
        "no gradient reaches but the last bias",
        NOTHING_FLOWS,
        checked=True,
    ),
    Fault(
        "dead",
        "ReLU layers with biases at -10",
        _dead,
        (
            "dead_layers",
            "no_gradient",
            "vanishing_gradients",
            "predicting_prior~dead|gradient",
        ),
        "as above",
        NOTHING_FLOWS,
        checked=True,
    ),
    Fault(
        "frozen",
        "all layers but the last frozen",
        _frozen,
        ("frozen_layers", "dead_layers~trainable|frozen|froze"),
        "frozen weights by name",
        (*LEARNS_NOTHING, "still_improving", "update_ratio", "batch_not_fitted"),
        checked=True,
    ),
    Fault(
        "softmax_as_logits",
        "softmax output, from_logits=True",
        _softmax_as_logits,
        ("logits_mismatch", "softmax_twice"),
        "the pair by name",
        (*LEARNS_NOTHING, "vanishing_gradients", "batch_not_fitted"),
        checked=True,
    ),
    Fault(
        "logits_as_probabilities",
        "linear output, from_logits=False",
        _logits_as_probabilities,
        ("logits_mismatch", "activation_and_loss"),
        "the pair by name",
        (*UNSTABLE, *LEARNS_NOTHING, "initial_loss", "batch_not_fitted", "not_finite_at_start"),
        checked=True,
    ),
    Fault(
        "squared_numbers",
        "squared error of class numbers",
        _squared_numbers,
        ("wrong_loss", "loss_for_labels", "loss_broadcasts", "label_shape"),
        "the loss does not fit the labels",
        (*LEARNS_NOTHING, "initial_loss", "label_range", "targets_not_normalised"),
        way="stock",  # recipe.fit refuses the shapes
        checked=True,
    ),
    Fault(
        "sigmoid_classes",
        "sigmoids for classes that exclude each other",
        _sigmoid_classes,
        ("wrong_loss", "loss_for_labels", "activation_and_loss"),
        "the loss does not fit the labels; it learns all the same, a little worse",
        ("class_imbalance", "predicting_prior", "initial_loss", "plateau"),
        checked=True,
    ),
    Fault(
        "dropout",
        "dropout .95",
        _dropout,
        (
            "dropout_too_high",
            "validation_not_representative~dropout",
            "validation_leak~dropout",
            "falling_slowly~dropout",
            "plateau~dropout",
        ),
        "dropout must be named",
        (*LEARNS_NOTHING, "noisy_validation", "batch_not_fitted"),
        checked=True,
    ),
    Fault(
        "batch_norm_of_two",
        "BatchNorm over two samples",
        _batch_norm_of_two,
        ("batch_norm_tiny",),
        "statistics of two samples",
        ("validation_gap", "noisy_validation", "oscillating", "validation_not_representative"),
        ("image", "table"),
    ),
)
