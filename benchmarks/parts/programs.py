"""A training program as a person writes it, whole and changeable, and how it is run.

A fault changes one thing of a `Program`; everything else stays as in the healthy one. Half of the
programs are stock Keras, `compile` and `fit` with `tfr.Monitor`, half go through `recipe.fit`.
"""

import functools
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfrecipes as tfr
from parts import data, fault_nets
from parts.fault_nets import Net
from tfrecipes.demo import digits

FAMILIES = ("image", "text", "table")
CONTEXT = {"derive": 32, "report": 24}
IMAGES = {"derive": (3000, 600), "report": (2000, 800)}
WINDOWS = {"derive": (2400, 400), "report": (1800, 500)}
EPOCHS = {"image": 7, "text": 6, "table": 10}
BATCH = {
    "derive": {"image": 64, "text": 64, "table": 32},
    "report": {"image": 32, "text": 32, "table": 24},
}


@dataclass
class Program:
    """One run: data, net, rate, and the ways in which people get them wrong.

    Attributes:
        family: image, text or table.
        split: derive or report: which data and which architecture.
        seed: Of weights, order and choice of data.
        way: "stock" or "recipe".
        x, y, x_val, y_val: Arrays.
        classes: Outputs.
        epochs, batch_size: As in `fit`.
        optimizer: adamw or sgd.
        peak: Peak learning rate.
        warmup: Share of the run.
        decays: Whether the rate falls after it.
        total_steps: What the schedule is told; None = the run's own length. Stock alone.
        weight_decay, clipnorm: The optimizer's.
        loss: Instead of the cross-entropy of logits.
        net: What the net is like.
        model: Makes another model than the family's.
        after_build: Called with the model before it is compiled.
        callbacks: Beside the monitor.
        shuffled: Whether `fit` shuffles the arrays.
        stream: Makes what `fit` is given, of the program; None = the arrays.
        accumulate: Parts that a step's batch is cut into on the device.
        precision: float32 or float16.
        loss_weights: As in `compile`. Stock alone.
        loss_scaling: Whether float16 has it. Stock alone.
        recipe: Saved recipe that the way "recipe" starts from.
        as_is: Whether that recipe is left as it is, but for its seed.
        changes: Of the recipe, by dotted keys.
        own_optimizer: Makes another optimizer, with its own rate. Stock alone.
    """

    family: str
    split: str
    seed: int
    way: str
    x: Any = None
    y: Any = None
    x_val: Any = None
    y_val: Any = None
    classes: int = 10
    epochs: int = 8
    batch_size: int = 64
    optimizer: str = "adamw"
    peak: float = 4e-3
    warmup: float = 0.1
    decays: bool = True
    total_steps: int | None = None
    weight_decay: float = 0.05
    clipnorm: float | None = 1.0
    loss: Any = None
    net: Net = field(default_factory=Net)
    model: Callable[[], keras.Model] | None = None
    after_build: list[Callable[[keras.Model], None]] = field(default_factory=list)
    callbacks: list[keras.callbacks.Callback] = field(default_factory=list)
    shuffled: bool = True
    stream: Callable[["Program"], Any] | None = None
    accumulate: int = 1
    precision: str = "float32"
    loss_weights: Any = None
    loss_scaling: bool = True
    recipe: str = "default"
    as_is: bool = False
    changes: dict[str, Any] = field(default_factory=dict)
    own_optimizer: Callable[[], Any] | None = None

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return -(-len(self.x) // self.batch_size)

    @property
    def rng(self) -> np.random.Generator:
        """Fresh dice, the same for the same seed."""
        return np.random.default_rng([self.seed, 14])

    def build(self) -> keras.Model:
        """The model, before it is compiled."""
        if self.model is not None:
            model = self.model()
        elif self.family == "image":
            model = fault_nets.image(self.split, self.net, self.classes)
        elif self.family == "text":
            model = fault_nets.text(self.split, self.net, self.classes, self.x.shape[1])
        else:
            model = fault_nets.table(self.split, self.net, self.classes, self.x.shape[1])
        for change in self.after_build:
            change(model)
        return model

    def loss_object(self) -> Any:
        """The loss that it trains with."""
        return self.loss or keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def program(family: str, split: str, seed: int, way: str) -> Program:
    """The healthy program of a family."""
    (x, y), (x_val, y_val), classes = _data(family, split, seed)
    return Program(
        family,
        split,
        seed,
        way,
        x,
        y,
        x_val,
        y_val,
        classes,
        EPOCHS[family],
        BATCH[split][family],
    )


def _data(family: str, split: str, seed: int) -> tuple[data.Arrays, data.Arrays, int]:
    """Training data, validation data, classes; derive and report share no sample but of digits."""
    rng, late = np.random.default_rng(seed), split == "report"
    if family == "image":
        (x, y), (x_val, y_val) = _images()
        count, held = IMAGES[split]
        own = rng.permutation(len(x) // 2)[:count] + late * (len(x) // 2)
        other = rng.permutation(len(x_val) // 2)[:held] + late * (len(x_val) // 2)
        return (x[own], y[own]), (x_val[other], y_val[other]), 10
    if family == "text":
        (x, y), (x_val, y_val), alphabet = _characters(CONTEXT[split])
        count, held = WINDOWS[split]
        own = rng.permutation(len(x) // 2)[:count] + late * (len(x) // 2)
        other = rng.permutation(len(x_val) // 2)[:held] + late * (len(x_val) // 2)
        return (x[own], y[own]), (x_val[other], y_val[other]), alphabet
    x, y = digits.load()
    x = x.reshape(len(x), -1)
    order, held = rng.permutation(len(x)), len(x) // 5
    x, y = (x[order] - x.mean()) / x.std(), y[order]
    return (x[held:], y[held:]), (x[:held], y[:held]), 10


@functools.cache
def _images() -> tuple[data.Arrays, data.Arrays]:
    """CIFAR-10 at half its resolution."""
    (x, y), (x_val, y_val) = data.cifar10(7000, 1700)
    return (_halved(x), y), (_halved(x_val), y_val)


def _halved(x: np.ndarray) -> np.ndarray:
    return x.reshape(len(x), 16, 2, 16, 2, 3).mean((2, 4))


@functools.cache
def _characters(context: int) -> tuple[data.Arrays, data.Arrays, int]:
    return data.shakespeare(context)


def run(one: Program, folder: Path) -> dict[str, Any]:
    """Train it into a run folder.

    Returns:
        Seconds, steps, and the last value of each of Keras's own metrics.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(one.seed)
    began = time.monotonic()
    history = _by_recipe(one, folder) if one.way == "recipe" else _by_stock(one, folder)
    values = history.history
    last = {
        key: float(values[key][-1])
        for key in ("loss", "accuracy", "val_loss", "val_accuracy")
        if values.get(key)
    }
    return {"seconds": round(time.monotonic() - began, 2), "epochs": len(values["loss"]), **last}


def source(one: Program) -> tuple[Any, ...]:
    """What `fit` is given to train on: (x, y), or (stream,)."""
    return (one.x, one.y) if one.stream is None else (one.stream(one),)


def held_out(one: Program) -> Any:
    """What `fit` is given to validate with."""
    return None if one.x_val is None else (one.x_val, one.y_val)


def _by_stock(one: Program, folder: Path) -> keras.callbacks.History:
    policy = "mixed_float16" if one.precision == "float16" else "float32"
    keras.config.set_dtype_policy(policy)
    try:
        model = one.build()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(
        _optimizer(one),
        one.loss_object(),
        loss_weights=one.loss_weights,
        metrics=_metrics(one),
        auto_scale_loss=one.precision == "float16" and one.loss_scaling,
    )
    parts: Sequence[keras.callbacks.Callback] = ()
    if one.accumulate > 1:
        parts = (tfr.MicroBatch(max(1, one.batch_size // one.accumulate)),)
    arrays = one.stream is None
    return model.fit(
        *source(one),
        batch_size=one.batch_size if arrays else None,
        epochs=one.epochs,
        shuffle=one.shuffled,
        validation_data=held_out(one),
        callbacks=[tfr.Monitor(folder), *parts, *one.callbacks],
        verbose=0,
    )


def _metrics(one: Program) -> list[str]:
    return ["accuracy"] if one.classes > 1 else []


def _optimizer(one: Program) -> keras.optimizers.Optimizer:
    if one.own_optimizer is not None:
        return one.own_optimizer()
    total = one.total_steps or one.steps_per_epoch * one.epochs
    warmup = round(one.warmup * total)
    if one.decays:
        rate = tfr.WarmupCosine(one.peak, total, warmup, one.peak / 100)
    else:
        rate = tfr.WarmupConstant(one.peak, warmup)
    if one.optimizer == "sgd":
        ours = tfr.SGD if one.seed % 2 else keras.optimizers.SGD
        return ours(rate, momentum=0.9, global_clipnorm=one.clipnorm)
    ours = tfr.AdamW if one.seed % 2 else keras.optimizers.AdamW
    return ours(rate, weight_decay=one.weight_decay, global_clipnorm=one.clipnorm)


def _by_recipe(one: Program, folder: Path) -> keras.callbacks.History:
    recipe = tfr.Recipe.load(one.recipe).replace(**{"train.seed": one.seed, **_changes(one)})

    def build() -> keras.Model:
        return one.build()

    given = source(one)
    return recipe.fit(
        build,
        given if one.stream is None else given[0],
        validation_data=held_out(one),
        loss=one.loss,
        metrics=_metrics(one),
        directory=folder,
        callbacks=one.callbacks,
        verbose=0,
    )


def _changes(one: Program) -> dict[str, Any]:
    """What the program says, in the recipe's words."""
    if one.as_is:
        return one.changes
    changes: dict[str, Any] = {
        "optimizer.name": one.optimizer,
        "schedule.name": "warmup_cosine" if one.decays else "warmup_constant",
        "schedule.peak_learning_rate": one.peak,
        "schedule.warmup": f"{100 * one.warmup:g}%",
        "step.global_clipnorm": one.clipnorm,
        "step.gradient_accumulation_steps": one.accumulate,
        "step.precision": one.precision,
        "step.jit": False,  # compiling takes longer than such a run
        "train.epochs": one.epochs,
        "train.batch_size": one.batch_size,
    }
    if one.decays:
        changes["schedule.end_learning_rate"] = one.peak / 100
    if one.optimizer == "adamw":
        changes["optimizer.weight_decay"] = one.weight_decay
    if one.loss is not None:
        changes["loss.label_smoothing"] = 0.0
    return {**changes, **one.changes}
