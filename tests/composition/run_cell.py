"""One cell of the matrix: as tfrecipes trains it, and as the reference computes it."""

from contextlib import nullcontext
from dataclasses import dataclass

import keras
import numpy as np

import tfrecipes as tfr
from tests import tiny
from tests.composition import reference
from tests.strategies import mirrored
from tfrecipes.step.installed import compile_with, step_of
from tfrecipes.step.keras_seams import local
from tfrecipes.step.plan import StepPlan
from tfrecipes.training.labels import class_weights

EPOCHS = 2
# Samples of each step of an epoch, and of fit's batches where two of them make a step.
STEPS = {"even": (16, 16, 16), "ragged_last": (16, 16, 3), "ragged_first": (11, 16, 16)}
HALVES = {
    "even": (8, 8, 8, 8, 8, 8),
    "ragged_last": (8, 8, 8, 8, 3),
    "ragged_first": (5, 6, 8, 8, 8, 8),
}
# Steps of an epoch in which one sample is NaN.
BAD_STEPS = {"none": (), "one": (1,), "two_in_a_row": (1, 2)}
CLASS_WEIGHT = {0: 2.0, 1: 0.5}
PEAK = {"adamw": 2e-2, "sgd": 0.2}
DECAY, L2, SMOOTHING = 0.1, 0.01, 0.1
CLIP = 0.3  # binds in some steps and not in others
SWA = {"swa": (1, None, None), "swa_rate": (1, 0.03, None), "swa_cycle": (1, 0.03, 2)}


@dataclass
class Outcome:
    """What training left.

    Attributes:
        weights: What the model holds.
        raw: The trained weights, where the model holds their average.
        losses: History's, one an epoch.
        updates: `optimizer.iterations`.
        rows: Telemetry by column, or None.
    """

    weights: list
    raw: list
    losses: list
    updates: int
    rows: dict | None


# ---------------------------------------------------------------------------------------- the data


def arrays(cell):
    """x, y and sample weights or None, of one epoch, in order."""
    sizes = STEPS[cell.batches]
    x, y = tiny.data(sum(sizes))
    for step in BAD_STEPS[cell.nonfinite]:
        x[sum(sizes[:step])] = np.nan
    weights = None
    if cell.sample_weight == "on":
        weights = np.random.default_rng(1).choice([0.0, 0.5, 1.0, 3.0], len(x)).astype("float32")
    return x, y, weights


class Batches(keras.utils.PyDataset):
    """Batches of given sizes."""

    def __init__(self, parts, sizes):
        super().__init__()
        self.parts, self.sizes = parts, sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        start = sum(self.sizes[:i])
        return tuple(part[start : start + self.sizes[i]] for part in self.parts)


def fit_arguments(cell):
    """The data as `fit` takes them."""
    x, y, weights = arrays(cell)
    labels = tiny.one_hot(y) if cell.labels == "one_hot" else y
    arguments = {}
    if cell.class_weight == "on" and weights is None:
        arguments["class_weight"] = CLASS_WEIGHT
    elif cell.class_weight == "on":  # Keras's `fit` refuses both together
        weights = class_weights(labels, CLASS_WEIGHT, weights)
    sizes = (STEPS if cell.accumulate == 1 else HALVES)[cell.batches]
    if cell.batches == "ragged_first":
        parts = (x, labels) if weights is None else (x, labels, weights)
        return {"x": Batches(parts, sizes), **arguments}
    return {"x": x, "y": labels, "sample_weight": weights, "batch_size": sizes[0], **arguments}


# ----------------------------------------------------------------------------------- as we train


def make_model(cell):
    keras.utils.set_random_seed(0)
    penalty = keras.regularizers.L2(L2) if cell.l2 == "on" else None
    biases = keras.initializers.RandomNormal(stddev=0.1, seed=3)

    def dense(units, name, activation=None):
        return keras.layers.Dense(
            units, activation, name=name, kernel_regularizer=penalty, bias_initializer=biases
        )

    inputs = keras.Input((tiny.FEATURES,))
    outputs = dense(tiny.CLASSES, "logits")(dense(16, "hidden", "tanh")(inputs))
    return keras.Model(inputs, outputs)


def peak(cell):
    return PEAK[cell.optimizer.split("_")[1]]


def make_optimizer(cell):
    schedule = tfr.WarmupCosine(peak(cell), 8, warmup_steps=2, end_learning_rate=0.1 * peak(cell))
    arguments = {
        "learning_rate": schedule,
        "weight_decay": 0.0 if cell.decay == "off" else DECAY,
        "global_clipnorm": CLIP if cell.clip == "on" else None,
    }
    library, name = cell.optimizer.split("_")
    if name == "adamw":
        arguments["epsilon"] = reference.EPSILON
    else:
        arguments["momentum"] = 0.9
    if library == "tfr":
        if cell.decay == "all":
            arguments["exclude"] = None
        optimizer = {"adamw": tfr.AdamW, "sgd": tfr.SGD}[name](**arguments)
    else:
        optimizer = {"adamw": keras.optimizers.AdamW, "sgd": keras.optimizers.SGD}[name](
            **arguments
        )
        if cell.decay == "excluded":
            optimizer.exclude_from_weight_decay(var_names=["bias"])
    if cell.loss_scale == "off":
        return optimizer
    wrapper = {"tfr": tfr.LossScaleOptimizer, "keras": keras.optimizers.LossScaleOptimizer}
    return wrapper[cell.loss_scale](optimizer, initial_scale=1024.0, dynamic_growth_steps=2)


class Rows(tfr.Monitor):
    """Monitor, keeping the rows that its files would get."""

    def sealed(self, step):
        super().sealed(step)
        self.blocks = []
        step.add_sink(lambda columns, rows: self.blocks.append(rows))

    @property
    def by_column(self):
        return dict(zip(self.names, np.concatenate(self.blocks).T, strict=True))


def make_average(cell):
    if cell.average in ("ema", "ema_flat"):
        return tfr.EMA(0.6, warmup=cell.average == "ema")
    start, rate, cycle = SWA[cell.average]
    return tfr.SWA(start=start, learning_rate=rate, cycle=cycle)


def make_callbacks(cell):
    found = [tfr.TrainStep(cell.on_nonfinite, cell.max_bad_steps)]
    if cell.micro_batch is not None:
        found.append(tfr.MicroBatch(cell.micro_batch))
    if cell.accumulate > 1:
        found.append(tfr.GradientAccumulation(cell.accumulate))
    if cell.average != "off":
        found.append(make_average(cell))
    if cell.columns == "all" or cell.layers is not None:
        columns = tfr.COLUMNS if cell.columns == "all" else ()
        found.append(Rows(columns=columns, layers=cell.layers))
    return found[::-1] if cell.callbacks == "reversed" else found


def trained(cell):
    """Train the cell's model; also gives the weights that it began with."""
    with mirrored().scope() if cell.replicas > 1 else nullcontext():
        net = make_model(cell)
        net.compile(
            make_optimizer(cell),
            (
                keras.losses.CategoricalCrossentropy
                if cell.labels == "one_hot"
                else keras.losses.SparseCategoricalCrossentropy
            )(from_logits=True),
            jit_compile=cell.jit,
            steps_per_execution=cell.steps_per_execution,
        )
    if cell.micro_batches > 1 or cell.label_smoothing:
        # Without a callback of their own: a recipe sets them.
        base = StepPlan(micro_batches=cell.micro_batches, label_smoothing=cell.label_smoothing)
        compile_with(net, base)
    start = net.get_weights()
    callbacks = make_callbacks(cell)
    history = net.fit(
        **fit_arguments(cell), epochs=EPOCHS, shuffle=False, verbose=0, callbacks=callbacks
    )
    raw = net.get_weights()
    if cell.average != "off":
        raw = [np.array(v) for v in step_of(net).swap.raw_values()]
    watching = [one for one in callbacks if isinstance(one, Rows) and one.columns]
    outcome = Outcome(
        weights=net.get_weights(),
        raw=raw,
        losses=history.history["loss"],
        updates=int(local(net.optimizer.iterations)),
        rows=watching[0].by_column if watching else None,
    )
    return start, outcome


# ------------------------------------------------------------------------------------ as it is


def computed(cell, start):
    """The reference's result from the weights `start`."""
    x, y, weights = arrays(cell)
    x, s = x.astype(np.float64), np.ones(len(x)) if weights is None else weights.astype(np.float64)
    if cell.class_weight == "on":
        s = s * np.array([CLASS_WEIGHT.get(label, 1.0) for label in y])
    sizes = STEPS[cell.batches]
    ends = np.cumsum(sizes)
    epoch = [(x[e - n : e], y[e - n : e], s[e - n : e]) for n, e in zip(sizes, ends, strict=True)]
    at_once = cell.on_nonfinite == "stop" and cell.loss_scale == "off"
    library, name = cell.optimizer.split("_")
    run = reference.Run(
        rate=reference.warmup_cosine(peak(cell), 8, 2, 0.1 * peak(cell)),
        adam=name == "adamw",
        keras=library == "keras",
        decay=0.0 if cell.decay == "off" else DECAY,
        decay_all=cell.decay == "all",
        clip=CLIP if cell.clip == "on" else None,
        smoothing=cell.label_smoothing,
        l2=L2 if cell.l2 == "on" else 0.0,
        ema=(0.6, cell.average == "ema") if cell.average in ("ema", "ema_flat") else None,
        swa=SWA.get(cell.average),
        bad_limit=1 if at_once else cell.max_bad_steps,
    )
    return reference.train(run, start, [epoch] * EPOCHS)


def held(cell, result):
    """The weights that the model holds after `fit`: an EMA always, a mean unless it was stopped."""
    if result.average is None or (cell.average in SWA and result.stopped):
        return result.raw
    return result.average
