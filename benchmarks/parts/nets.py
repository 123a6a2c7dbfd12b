"""The nets that are trained: small enough for two cores, of the kinds that people train."""

import keras

layers = keras.layers


def cnn(classes: int = 10, widths: tuple[int, ...] = (32, 64, 128)) -> keras.Model:
    """Convolution, BatchNorm, ReLU and pooling, a block for each width; logits."""
    inputs = keras.Input((32, 32, 3))
    x = inputs
    for width in widths:
        x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
        x = layers.BatchNormalization()(x)
        x = layers.ReLU()(x)
        x = layers.MaxPooling2D()(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="cnn")


def mlp(features: int = 64, classes: int = 10) -> keras.Model:
    """Two hidden layers of 128: a step so small that only its dispatch is left."""
    inputs = keras.Input((features,))
    x = layers.Dense(128, activation="relu")(inputs)
    x = layers.Dense(128, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(classes)(x), name="mlp")


@keras.saving.register_keras_serializable("tfrecipes_benchmarks")
class Positions(layers.Layer):
    """Adds a learned vector for each place in the window to x (batch, context, width)."""

    def build(self, shape):
        """Make the vectors (context, width), as small as an Embedding's."""
        self.embeddings = self.add_weight(
            name="embeddings", shape=shape[1:], initializer="random_uniform"
        )

    def call(self, x):
        """x plus the vectors."""
        return x + self.embeddings


def transformer(
    alphabet: int, context: int = 64, width: int = 128, depth: int = 2, heads: int = 4
) -> keras.Model:
    """A decoder of pre-norm blocks over characters; logits for the next one at every place."""
    inputs = keras.Input((context,), dtype="int32")
    x = Positions()(layers.Embedding(alphabet, width)(inputs))
    for _ in range(depth):
        y = layers.LayerNormalization()(x)
        y = layers.MultiHeadAttention(heads, width // heads)(y, y, use_causal_mask=True)
        x = layers.Add()([x, y])
        y = layers.LayerNormalization()(x)
        y = layers.Dense(4 * width, activation="gelu")(y)
        x = layers.Add()([x, layers.Dense(width)(y)])
    x = layers.LayerNormalization()(x)
    return keras.Model(inputs, layers.Dense(alphabet)(x), name="transformer")
