"""BatchNorm's statistics for weights that no step has run with: computed anew over the data."""

import itertools

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import Fit, local


def batch_norm_layers(model: keras.Model) -> list[keras.layers.BatchNormalization]:
    """The model's BatchNorm layers whose statistics move in training."""
    return [
        layer
        for layer in keras_seams.all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]


def refuse_one_shot(model: keras.Model, fit: Fit) -> None:
    """Say so at the start where the data cannot be read again at the end.

    Raises:
        ValueError: If the source is a generator that is read once and the model has BatchNorm.
    """
    if fit.data_are_one_shot and batch_norm_layers(model):
        raise ValueError(
            "SWA: BatchNorm's statistics are computed at the end over the training data, and a "
            "generator can be read only once. Received: a generator. Pass arrays, a tf.data "
            "dataset or a PyDataset."
        )


def recalibrate(model: keras.Model, fit: Fit) -> None:
    """Set each BatchNorm's moving statistics to their mean over one epoch's batches.

        mean <- (1/B) sum_b mean_b,   variance <- (1/B) sum_b variance_b        b: batches

    as torch's `update_bn` does it, with batches weighted equally. Dropout is on, as in training.
    A model without BatchNorm is left alone.
    """
    layers = batch_norm_layers(model)
    if not layers:
        return
    moving = keras_seams.moving_statistics_of(layers)
    others = [v for v in model.non_trainable_variables if not any(v is m for m in moving)]
    kept = [local(v).read_value() for v in others]
    sums = [tf.zeros(v.shape) for v in moving]
    momenta = [layer.momentum for layer in layers]
    count = 0
    try:
        for layer in layers:
            layer.momentum = 0.0  # a pass then leaves the batch's own statistics

        @tf.function(reduce_retracing=True)
        def forward(x: object) -> None:
            keras_seams.call(model, x, training=True)

        for batch in itertools.islice(fit.batches(), fit.batches_an_epoch):
            forward(keras.utils.unpack_x_y_sample_weight(batch)[0])
            count += 1
            sums = [s + tf.cast(local(v), tf.float32) for s, v in zip(sums, moving, strict=True)]
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        for variable, value in zip(others, kept, strict=True):
            local(variable).assign(value)
    for variable, total in zip(moving, sums, strict=True):
        if count:
            variable.assign(total / count)
