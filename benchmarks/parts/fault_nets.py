"""Small nets, a family each in two architectures, with a knob for every fault of a model.

What sets thresholds is measured on the architecture `derive`, what is reported on `report`.
"""

from dataclasses import dataclass
from typing import Any

import keras

from parts.nets import Positions

layers = keras.layers


@dataclass
class Net:
    """What a fault can change of a net; the defaults are a healthy one.

    Attributes:
        width: Channels of the narrowest layer; None = the architecture's own.
        activation: Of the hidden layers; None = the architecture's own.
        norm: Whether layers are normalised, where the architecture does.
        dropout: Share dropped before the last layer.
        initializer: Of every kernel and embedding; None = the layers' own.
        head: Dense layers before the last one.
        head_activation: Theirs.
        head_bias: What their biases begin with.
        scale: Factor on what goes into the last layer.
        last: Activation of the last layer.
    """

    width: int | None = None
    activation: str | None = None
    norm: bool = True
    dropout: float = 0.0
    initializer: Any = None
    head: int = 0
    head_activation: str = "relu"
    head_bias: float = 0.0
    scale: float = 1.0
    last: str = "linear"

    def kernel(self, own: str = "glorot_uniform") -> Any:
        """A fresh initializer for one layer."""
        if self.initializer is None:
            return own
        return keras.initializers.get(self.initializer)

    def end(self, x: Any, classes: int) -> Any:
        """The layers from the features to the output, which is float32 under every policy."""
        for number in range(self.head):
            x = layers.Dense(
                32,
                activation=self.head_activation,
                kernel_initializer=self.kernel(),
                bias_initializer=keras.initializers.Constant(self.head_bias),
                name=f"head_{number}",
            )(x)
        if self.scale != 1:
            x = layers.Rescaling(self.scale)(x)
        if self.dropout:
            x = layers.Dropout(self.dropout)(x)
        x = layers.Dense(classes, kernel_initializer=self.kernel(), name="out")(x)
        return layers.Activation(self.last, dtype="float32", name="output")(x)


def image(variant: str, net: Net, classes: int = 10) -> keras.Model:
    """A CNN over 16 x 16 images: pooled and flat, or with strides and shortcuts."""
    inputs = keras.Input((16, 16, 3))
    act = net.activation or "relu"

    def block(x: Any, width: int, strides: int, own: str) -> Any:
        x = layers.Conv2D(
            width,
            3,
            strides,
            padding="same",
            use_bias=not net.norm,
            kernel_initializer=net.kernel(own),
        )(x)
        if net.norm:
            x = layers.BatchNormalization(momentum=0.9)(x)
        return layers.Activation(act)(x)

    x = inputs
    if variant == "derive":
        for factor in (1, 2, 4):
            x = block(x, factor * (net.width or 12), 1, "glorot_uniform")
            x = layers.MaxPooling2D()(x)
        x = layers.GlobalAveragePooling2D()(x)
    else:
        width = net.width or 16
        x = block(x, width, 2, "he_normal")
        x = layers.Add()([x, block(x, width, 1, "he_normal")])
        x = block(x, 2 * width, 2, "he_normal")
        x = layers.Add()([x, block(x, 2 * width, 1, "he_normal")])
        x = layers.AveragePooling2D(2)(x)
        x = layers.Flatten()(x)
    return keras.Model(inputs, net.end(x, classes), name="image")


def text(variant: str, net: Net, classes: int, context: int) -> keras.Model:
    """A decoder over characters: one block with GELU, or two narrower ones with ReLU."""
    depth, width, heads, act = (1, 32, 2, "gelu") if variant == "derive" else (2, 24, 3, "relu")
    width = net.width or width
    heads = min(heads, width)
    act = net.activation or act
    inputs = keras.Input((context,), dtype="int32")
    x = layers.Embedding(classes, width, embeddings_initializer=net.kernel("uniform"))(inputs)
    x = Positions()(x)

    def norm(x: Any) -> Any:
        return layers.LayerNormalization()(x) if net.norm else x

    for _ in range(depth):
        y = norm(x)
        y = layers.MultiHeadAttention(
            heads, max(1, width // heads), kernel_initializer=net.kernel()
        )(y, y, use_causal_mask=True)
        x = layers.Add()([x, y])
        y = layers.Dense(4 * width, activation=act, kernel_initializer=net.kernel())(norm(x))
        x = layers.Add()([x, layers.Dense(width, kernel_initializer=net.kernel())(y)])
    return keras.Model(inputs, net.end(norm(x), classes), name="text")


def table(variant: str, net: Net, classes: int = 10, features: int = 64) -> keras.Model:
    """A net of dense layers: two plain ones, or three that are normalised."""
    depth, width = (2, 64) if variant == "derive" else (3, 48)
    inputs = keras.Input((features,))
    x = inputs
    for _ in range(depth):
        x = layers.Dense(net.width or width, kernel_initializer=net.kernel("he_normal"))(x)
        if net.norm and variant == "report":
            x = layers.BatchNormalization(momentum=0.9)(x)
        x = layers.Activation(net.activation or "relu")(x)
    return keras.Model(inputs, net.end(x, classes), name="table")
