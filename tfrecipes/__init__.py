"""The training recipe for Keras 3 on TensorFlow, made right, fast and visible.

`import tfrecipes as tfr` costs nothing until a name is used: the command line's `--help`,
`recipes`, `show` and `validate` must not wait for TensorFlow. As soon as Keras is imported, by
whomever, our classes are registered with it, so that a saved model that names them loads.
"""

import importlib
import os
from typing import TYPE_CHECKING, Any

import wrapt

__version__ = "0.1.0.dev0"

# Where each public name lives. The block under TYPE_CHECKING says the same to a type checker; a
# test holds the two together.
_HOMES: dict[str, tuple[str, ...]] = {
    "tfrecipes.recipe.recipe": ("Recipe",),
    "tfrecipes.arithmetic.schedules": (
        "WarmupCosine",
        "WarmupLinear",
        "WarmupConstant",
        "StepDecay",
        "WarmupStableDecay",
        "OneCycle",
        "InverseSqrt",
        "CosineRestarts",
        "Polynomial",
    ),
    "tfrecipes.arithmetic.decay_rules": ("DEFAULT_EXCLUDE",),
    "tfrecipes.arithmetic.smoothing": ("SmoothedCrossentropy",),
    "tfrecipes.arithmetic.telemetry": ("COLUMNS",),
    "tfrecipes.arithmetic.precision": ("Precision", "set_precision"),
    "tfrecipes.step.optimizers": ("AdamW", "Adam", "SGD", "decay_report"),
    "tfrecipes.step.loss_scale_optimizer": ("LossScaleOptimizer",),
    "tfrecipes.doctor.rules": ("Finding", "RULES"),
    "tfrecipes.doctor.diagnosis": ("diagnose",),
    "tfrecipes.doctor.checking": ("check",),
    "tfrecipes.views.plots": ("plot_schedule", "plot_run"),
    "tfrecipes.callbacks.step": ("TrainStep", "GradientAccumulation", "MicroBatch"),
    "tfrecipes.callbacks.averages": ("Average", "EMA", "SWA"),
    "tfrecipes.callbacks.loggers": ("to_wandb", "to_mlflow"),
    "tfrecipes.callbacks.monitor": ("Monitor",),
    "tfrecipes.callbacks.progress": ("Progress",),
    "tfrecipes.callbacks.resume": ("Resume",),
    "tfrecipes.searching.search": ("search",),
    "tfrecipes.assemble.finding": ("find_learning_rate",),
    "tfrecipes.assemble.fitting_batch": ("find_batch_size",),
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
# Modules with classes that a saved model may name.
_REGISTERING = (
    "tfrecipes.arithmetic.schedules",
    "tfrecipes.arithmetic.smoothing",
    "tfrecipes.step.optimizers",
    "tfrecipes.step.loss_scale_optimizer",
)
# Rooms that import no Keras: their names are had without it.
_WITHOUT_KERAS = ("tfrecipes.recipe.recipe", "tfrecipes.doctor.rules", "tfrecipes.doctor.diagnosis")

__all__ = ["__version__", *_HOME_OF]  # pyright: ignore[reportUnsupportedDunderAll]

if TYPE_CHECKING:
    from tfrecipes.arithmetic.decay_rules import DEFAULT_EXCLUDE as DEFAULT_EXCLUDE
    from tfrecipes.arithmetic.precision import Precision as Precision
    from tfrecipes.arithmetic.precision import set_precision as set_precision
    from tfrecipes.arithmetic.schedules import CosineRestarts as CosineRestarts
    from tfrecipes.arithmetic.schedules import InverseSqrt as InverseSqrt
    from tfrecipes.arithmetic.schedules import OneCycle as OneCycle
    from tfrecipes.arithmetic.schedules import Polynomial as Polynomial
    from tfrecipes.arithmetic.schedules import StepDecay as StepDecay
    from tfrecipes.arithmetic.schedules import WarmupConstant as WarmupConstant
    from tfrecipes.arithmetic.schedules import WarmupCosine as WarmupCosine
    from tfrecipes.arithmetic.schedules import WarmupLinear as WarmupLinear
    from tfrecipes.arithmetic.schedules import WarmupStableDecay as WarmupStableDecay
    from tfrecipes.arithmetic.smoothing import SmoothedCrossentropy as SmoothedCrossentropy
    from tfrecipes.arithmetic.telemetry import COLUMNS as COLUMNS
    from tfrecipes.assemble.finding import find_learning_rate as find_learning_rate
    from tfrecipes.assemble.fitting_batch import find_batch_size as find_batch_size
    from tfrecipes.callbacks.averages import EMA as EMA
    from tfrecipes.callbacks.averages import SWA as SWA
    from tfrecipes.callbacks.averages import Average as Average
    from tfrecipes.callbacks.loggers import to_mlflow as to_mlflow
    from tfrecipes.callbacks.loggers import to_wandb as to_wandb
    from tfrecipes.callbacks.monitor import Monitor as Monitor
    from tfrecipes.callbacks.progress import Progress as Progress
    from tfrecipes.callbacks.resume import Resume as Resume
    from tfrecipes.callbacks.step import GradientAccumulation as GradientAccumulation
    from tfrecipes.callbacks.step import MicroBatch as MicroBatch
    from tfrecipes.callbacks.step import TrainStep as TrainStep
    from tfrecipes.doctor.checking import check as check
    from tfrecipes.doctor.diagnosis import diagnose as diagnose
    from tfrecipes.doctor.rules import RULES as RULES
    from tfrecipes.doctor.rules import Finding as Finding
    from tfrecipes.recipe.recipe import Recipe as Recipe
    from tfrecipes.searching.search import search as search
    from tfrecipes.step.loss_scale_optimizer import LossScaleOptimizer as LossScaleOptimizer
    from tfrecipes.step.optimizers import SGD as SGD
    from tfrecipes.step.optimizers import Adam as Adam
    from tfrecipes.step.optimizers import AdamW as AdamW
    from tfrecipes.step.optimizers import decay_report as decay_report
    from tfrecipes.views.plots import plot_run as plot_run
    from tfrecipes.views.plots import plot_schedule as plot_schedule


def _refuse_other_backends(backend: str) -> None:
    if backend != "tensorflow":
        raise ImportError(
            "tfrecipes: runs on Keras's TensorFlow backend only. Received: "
            f"KERAS_BACKEND={backend!r}. Set KERAS_BACKEND=tensorflow before Python starts."
        )


_refuse_other_backends(os.environ.get("KERAS_BACKEND", "tensorflow"))


def _register(keras: Any) -> None:
    """Import every module that registers a class with Keras.

    A saved model names our classes by their registered names, and Keras imports no module but
    its own to find them.
    """
    _refuse_other_backends(keras.backend.backend())
    for module in _REGISTERING:
        importlib.import_module(module)
    # Before any callback exists `fit` has failed: this one must stand from the import on.
    importlib.import_module("tfrecipes.step.keras_seams").mend_symbolic_build()


# Called at once where Keras is already there.
wrapt.register_post_import_hook(_register, "keras")


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'tfrecipes' has no attribute {name!r}")
    if _HOME_OF[name] not in _WITHOUT_KERAS:
        importlib.import_module("keras")  # the hook above then imports our modules in order
    value = getattr(importlib.import_module(_HOME_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
