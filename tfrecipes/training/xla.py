"""Whether the step is compiled by XLA: a rule that is printed, not a clock."""

from typing import Literal, NamedTuple

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams

_CONVOLUTIONS = (
    keras.layers.Conv1D,
    keras.layers.Conv2D,
    keras.layers.Conv3D,
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
    keras.layers.DepthwiseConv1D,
    keras.layers.DepthwiseConv2D,
    keras.layers.SeparableConv1D,
    keras.layers.SeparableConv2D,
)


class Jit(NamedTuple):
    """What `model.compile(jit_compile=...)` is given, and why.

    Attributes:
        value: True, False, or "auto" for Keras's own rule.
        reason: One clause.
    """

    value: bool | Literal["auto"]
    reason: str


def choose_jit(model: keras.Model, wish: bool | str, shapes_vary: bool = False) -> Jit:
    """The rule for XLA.

    On a CPU it takes .76 of the time for a transformer and 1.84 for a convolutional net
    (KERAS_FACTS, "What a running spike met"), so it is on without convolutions and off with them.
    Elsewhere Keras decides.

    Args:
        model: The model.
        wish: The recipe's `[step] jit`: True, False or "auto".
        shapes_vary: Whether batches differ beyond the first axis: XLA compiles each shape anew.
    """
    if isinstance(wish, bool):
        return Jit(wish, "the recipe says so")
    if tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("TPU"):
        return Jit("auto", "as Keras decides")
    if model.distribute_strategy.num_replicas_in_sync > 1:
        return Jit(False, "TensorFlow cannot under a strategy on a CPU")
    if shapes_vary:
        return Jit(False, "batches differ in length, and each length would be compiled")
    layers = keras_seams.all_layers(model)
    if any(isinstance(layer, _CONVOLUTIONS) for layer in layers):
        return Jit(False, "convolutions are slower with it on a CPU")
    if any(isinstance(layer, keras.layers.RNN) for layer in layers):
        return Jit(False, "recurrent loops are slower with it on a CPU")
    if not all(layer.supports_jit for layer in layers):
        return Jit(False, "a layer does not support it")
    if keras_seams.is_deterministic():
        return Jit(False, "deterministic operations were asked for")
    return Jit(True, "no convolutions, on a CPU")
