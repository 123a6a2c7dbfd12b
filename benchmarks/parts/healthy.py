"""Healthy programs, on which nothing above info may be said: every saved recipe, and stock Keras.

A recipe runs as it is, but for its seed and where the data are so few that its length does not fit
them: those changes stand here.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn import datasets

import tfrecipes as tfr
from parts.faults_data import in_order
from parts.programs import Program, program
from tfrecipes.demo import digits

layers = keras.layers


@dataclass(frozen=True)
class Healthy:
    """One healthy program.

    Attributes:
        name: Its folder.
        make: Makes it, of split and seed.
    """

    name: str
    make: Callable[[str, int], Program]


def _split(x: np.ndarray, y: np.ndarray, seed: int) -> tuple[np.ndarray, ...]:
    order, held = np.random.default_rng(seed).permutation(len(x)), len(x) // 5
    x, y = x[order], y[order]
    return x[held:], y[held:], x[:held], y[:held]


def _demo(split: str, seed: int) -> Program:
    """The demo of `tfrecipes train`."""
    return Program(
        "table", split, seed, "recipe", *_split(*digits.load(), seed), model=digits.model
    )


def by_recipe(name: str, tasks: tuple[str, str], **changes: Any) -> Healthy:
    """A saved recipe: with one task on odd seeds, another on even ones."""

    def make(split: str, seed: int) -> Program:
        task = tasks[seed % 2]
        one = _demo(split, seed) if task == "demo" else program(task, split, seed, "recipe")
        one.recipe, one.as_is, one.changes = name, True, changes
        return one

    return Healthy(f"recipe_{name}", make)


def _finetune(split: str, seed: int) -> Program:
    """A net that knows clean digits learns noisy ones."""
    one = _demo(split, seed)
    clean = one.x, one.y
    rng = one.rng
    one.x, one.x_val = (
        (x + rng.normal(0, 0.35, x.shape)).astype("float32") for x in (one.x, one.x_val)
    )

    def trained() -> keras.Model:
        model = digits.model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(3e-3), loss)
        model.fit(*clean, batch_size=64, epochs=4, verbose=0)
        return model

    one.model, one.recipe, one.as_is = trained, "finetune", True
    return one


def _diffusion(split: str, seed: int) -> Program:
    """A denoiser: which noise was laid over a digit, of one strength drawn for each."""
    one = _demo(split, seed)
    rng = one.rng

    def noisy(x: np.ndarray, copies: int) -> tuple[np.ndarray, np.ndarray]:
        clean = np.tile(2 * x.reshape(len(x), -1) - 1, (copies, 1))
        share = rng.uniform(0.1, 0.9, (len(clean), 1))
        noise = rng.normal(size=clean.shape)
        laid = np.sqrt(1 - share) * clean + np.sqrt(share) * noise
        return np.concatenate([laid, share], 1).astype("float32"), noise.astype("float32")

    (one.x, one.y), (one.x_val, one.y_val) = noisy(one.x, 4), noisy(one.x_val, 2)

    def denoiser() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input((65,)),
                layers.Dense(128, activation="gelu"),
                layers.Dense(128, activation="gelu"),
                layers.Dense(64),
            ]
        )

    one.model, one.recipe, one.as_is, one.classes = denoiser, "diffusion", True, 1
    one.loss = keras.losses.MeanSquaredError()
    one.changes = {"train.epochs": 30, "schedule.warmup": "5%"}  # 5,000 steps are longer than that
    return one


def stock(name: str, family: str, **fields: Any) -> Healthy:
    """A stock program of a family with other values of its fields."""

    def make(split: str, seed: int) -> Program:
        one = program(family, split, seed, "stock")
        for key, value in fields.items():
            if not hasattr(one, key):
                raise ValueError(f"healthy: a program has no field {key!r}.")
            setattr(one, key, value() if key in ("callbacks", "net") else value)
        return one

    return Healthy(f"stock_{name}", make)


def _plain(name: str, family: str, optimizer: Callable[[], Any], **fields: Any) -> Healthy:
    return stock(name, family, own_optimizer=optimizer, **fields)


def _cancer(split: str, seed: int) -> Program:
    """Two classes, 30 features: one sigmoid."""
    found = datasets.load_breast_cancer()
    x = ((found.data - found.data.mean(0)) / found.data.std(0)).astype("float32")

    def model() -> keras.Model:
        return keras.Sequential(
            [
                keras.Input((30,)),
                layers.Dense(16, activation="relu"),
                layers.Dense(1, activation="sigmoid"),
            ]
        )

    y = found.target.astype("float32")[:, None]
    parts = _split(x, y, seed)
    one = Program("table", split, seed, "stock", *parts, classes=2, model=model, epochs=12)
    one.loss, one.batch_size, one.peak = keras.losses.BinaryCrossentropy(), 16, 2e-3
    one.own_optimizer = lambda: keras.optimizers.Adam(2e-3)
    return one


def _diabetes(split: str, seed: int) -> Program:
    """A number to predict, of ten features."""
    found = datasets.load_diabetes()
    x = (found.data / found.data.std(0)).astype("float32")
    y = ((found.target - found.target.mean()) / found.target.std()).astype("float32")[:, None]

    def model() -> keras.Model:
        return keras.Sequential(
            [keras.Input((10,)), layers.Dense(16, activation="relu"), layers.Dense(1)]
        )

    parts = _split(x, y, seed)
    one = Program("table", split, seed, "stock", *parts, classes=1, model=model, epochs=12)
    one.loss, one.batch_size = keras.losses.MeanSquaredError(), 16
    one.own_optimizer = lambda: keras.optimizers.Adam(3e-3)
    return one


def _trained_on(split: str, seed: int) -> Program:
    """A net that is trained already is trained on at a small rate."""
    one = program("table", split, seed, "stock")
    fresh = one.build

    def trained() -> keras.Model:
        one.model = None
        model = fresh()
        one.model = trained
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(2e-3), loss)
        model.fit(one.x, one.y, batch_size=32, epochs=6, verbose=0)
        return model

    one.model = trained
    one.own_optimizer, one.epochs = lambda: keras.optimizers.Adam(3e-4), 6
    return one


def _shuffled_stream(one: Program) -> tf.data.Dataset:
    data = tf.data.Dataset.from_tensor_slices((one.x, one.y))
    return data.shuffle(len(one.x), seed=one.seed).batch(one.batch_size)


def every() -> tuple[Healthy, ...]:
    """All healthy programs."""
    adam, sgd = keras.optimizers.Adam, keras.optimizers.SGD
    return (
        by_recipe("default", ("image", "text"), **{"train.epochs": 7}),
        by_recipe("tiny", ("demo", "table")),
        by_recipe("one_cycle", ("image", "demo")),
        by_recipe("constant", ("demo", "text"), **{"train.epochs": 6}),
        by_recipe("cnn_cosine", ("demo", "demo")),
        by_recipe("cnn_sgd", ("demo", "image"), **{"train.epochs": 12}),
        by_recipe("swa", ("demo", "demo")),
        by_recipe("transformer", ("text", "text"), **{"train.epochs": 6}),
        Healthy("recipe_finetune", _finetune),
        Healthy("recipe_diffusion", _diffusion),
        _plain("image_adam", "image", lambda: adam(1e-3), epochs=6),
        _plain("image_sgd", "image", lambda: sgd(0.03, momentum=0.9), epochs=6),
        _plain("text_adam", "text", lambda: adam(3e-3), epochs=6),
        _plain("table_rmsprop", "table", lambda: keras.optimizers.RMSprop(1e-3), x_val=None),
        stock("table_dropout", "table", net=lambda: _dropout(0.3)),
        stock("image_ema", "image", callbacks=lambda: [tfr.EMA(0.99)]),
        stock("image_micro_batches", "image", accumulate=2),
        stock("image_stream", "image", stream=_shuffled_stream),
        stock("text_in_order", "text", stream=in_order),
        stock("table_float16", "table", precision="float16"),
        Healthy("stock_two_classes", _cancer),
        Healthy("stock_regression", _diabetes),
        Healthy("stock_trained_on", _trained_on),
    )


def _dropout(share: float) -> Any:
    from parts.fault_nets import Net

    return Net(dropout=share)
