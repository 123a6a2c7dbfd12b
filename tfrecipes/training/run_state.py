"""Everything a run needs to go on, as named arrays, and back; checked whole before it is put in."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.installed import InstalledStep
from tfrecipes.step.keras_seams import local


def _named(model: keras.Model, step: InstalledStep) -> dict[str, Any]:
    """Each variable of the run by a name that a new process gives it too."""
    named: dict[str, Any] = {}
    for group, variables in (
        ("model", model.variables),
        ("optimizer", model.optimizer.variables),
        ("metric", model.metrics_variables),
        ("recurrent", keras_seams.recurrent_states(model)),
    ):
        # By place and last name: layers' own names count on through a process.
        named |= {f"{group}/{i}/{v.name}": v for i, v in enumerate(variables)}
    named |= {f"step/{name}": v for name, v in step.state.variables().items()}
    return named


def arrays(model: keras.Model, step: InstalledStep) -> dict[str, np.ndarray]:
    """Host copies of every variable; raw weights where the model shows an average."""
    raw = {
        id(v): value
        for v, value in zip(step.state.averaged_variables, step.swap.raw_values(), strict=True)
    }
    return {
        name: np.asarray(raw.get(id(v), local(v))) if id(v) in raw else np.asarray(local(v).numpy())
        for name, v in _named(model, step).items()
    }


def differences(model: keras.Model, step: InstalledStep, saved: Mapping[str, np.ndarray]) -> str:
    """In words, how the run that was saved differs from this one; empty where it fits."""
    here = {name: (tuple(v.shape), _dtype(v)) for name, v in _named(model, step).items()}
    there = {name: (array.shape, str(array.dtype)) for name, array in saved.items()}
    if missing := [name for name in here if name not in there]:
        return f"{len(missing)} variables of this run are not in it, first {missing[0]!r}"
    if extra := [name for name in there if name not in here]:
        return f"{len(extra)} variables in it are not in this run, first {extra[0]!r}"
    for name, wanted in here.items():
        if there[name] != wanted:
            return f"{name!r} is {there[name]} in it and {wanted} in this run"
    return ""


def restore(model: keras.Model, step: InstalledStep, saved: Mapping[str, np.ndarray]) -> None:
    """Put saved values into the variables; `differences` must have been empty."""
    for name, variable in _named(model, step).items():
        raw = variable.value if isinstance(variable, keras.Variable) else variable
        raw.assign(tf.convert_to_tensor(saved[name], dtype=raw.dtype))


def _dtype(variable: Any) -> str:
    return tf.as_dtype(variable.dtype).as_numpy_dtype().dtype.name


def make_variables(model: keras.Model, step: InstalledStep, batch: Any) -> None:
    """Have every variable before the first step, so that there is something to restore into."""
    keras_seams.build(model, batch)
    step.state.make(model, step.plan)
