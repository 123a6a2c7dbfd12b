"""The embedded demo: 1,797 real handwritten digits and a small convolutional net."""

from importlib import resources

import keras
import numpy as np

CLASSES = 10
BRIGHTEST = 16  # a pixel counts the inked ones of a 4 x 4 block


def load() -> tuple[np.ndarray, np.ndarray]:
    """Return the digits that ship with the package; CREDIT.md beside them says whose they are.

    Returns:
        Images, float32 in [0, 1] (1797, 8, 8, 1), and labels, int64 (1797,).

    Example:
        >>> x, y = load()
        >>> x.shape, int(y.max())
        ((1797, 8, 8, 1), 9)
    """
    with resources.files("tfrecipes.demo").joinpath("digits.npz").open("rb") as file:
        archive = np.load(file, allow_pickle=False)
        images, labels = archive["x"], archive["y"]
    return (images / np.float32(BRIGHTEST))[..., np.newaxis], labels.astype(np.int64)


def model() -> keras.Model:
    """Return a small convolutional net for the digits, which ends in logits.

    The logits are float32 under every precision policy, as the loss wants them.
    """
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            *_block(16),
            *_block(32),
            layers.MaxPooling2D(),
            *_block(64),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, dtype="float32", name="logits"),
        ],
        name="digits",
    )


def _block(filters: int) -> list[keras.Layer]:
    # Momentum .9, not Keras's .99: a run has a few hundred steps, and the statistics that
    # evaluation uses must have arrived by then.
    return [
        keras.layers.Conv2D(filters, 3, padding="same", use_bias=False),
        keras.layers.BatchNormalization(momentum=0.9),
        keras.layers.ReLU(),
    ]
