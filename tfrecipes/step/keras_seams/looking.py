"""What it takes to run a model without anything staying behind: fresh losses, seeds kept."""

import contextlib
import copy
import random
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.src.backend.common import global_state
from keras.src.trainers.compile_utils import CompileLoss
from tensorflow.python.eager import context
from tensorflow.python.ops import stateful_random_ops

_NAMES = "object_name_uids"
_SEEDS = "global_seed_generator"


def given_loss(model: keras.Model) -> tuple[Any, Any]:
    """What `compile` was given for a loss and for its weights; (None, None) without."""
    compiled = model._compile_loss
    return (None, None) if compiled is None else (compiled._user_loss, compiled._user_loss_weights)


def fresh_loss(model: keras.Model, loss: Any, weights: Any = None) -> Callable[..., Any]:
    """A loss f(y, y_pred, sample_weight) as `compile` would make it, with trackers of its own."""
    names = getattr(model, "output_names", None)
    made = CompileLoss(loss, weights, output_names=names)

    def compute(y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        listed = isinstance(y_pred, (list, tuple)) or isinstance(loss, (list, tuple))
        if listed and isinstance(y, Mapping) and names and set(names) == set(y):
            # Labels by name for outputs in a list: `fit` would line them up so before it builds.
            y, y_pred, sample_weight = (
                [part[name] for name in names] if isinstance(part, Mapping) else part
                for part in (y, y_pred, sample_weight)
            )
        if not made.built:
            with tf.init_scope():
                made.build(y, y_pred)
        return made(y, y_pred, sample_weight)

    return compute


@contextlib.contextmanager
def kept_randomness() -> Iterator[None]:
    """Put every generator of random numbers back that a model or data may draw from.

    Python's, NumPy's and torch's (where it is there), TensorFlow's eager seeds and its global
    generator, Keras's global seed generator; and Keras's counters of names, which are not random
    but move in the same way.
    """
    python, numpy = random.getstate(), np.random.get_state()
    torch = sys.modules.get("torch")
    torch_state = None if torch is None else torch.get_rng_state()
    eager = getattr(context.context(), "_rng", None)  # not there until a seed was set or used
    eager_state = None if eager is None else eager.getstate()
    generator = stateful_random_ops.global_generator
    generator_state = None if generator is None else tf.identity(generator.state)
    seeds = global_state.get_global_attribute(_SEEDS)
    seed_state = None if seeds is None else tf.identity(seeds.state.value)
    names = global_state.get_global_attribute(_NAMES)
    counters = None if names is None else dict(names)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(torch_state)
        if eager is not None:
            eager.setstate(eager_state)
        if generator is not None:
            generator.state.assign(generator_state)
        stateful_random_ops.global_generator = generator
        if seeds is not None:
            seeds.state.assign(seed_state)
        global_state.set_global_attribute(_SEEDS, seeds)
        if names is not None:
            names.clear()
            names.update(counters)


@contextlib.contextmanager
def kept_compilation(model: keras.Model) -> Iterator[None]:
    """Put back what `compile`, `fit` and callbacks leave on a model, its variables apart.

    Optimizer, loss, metrics, train functions, `history`, `stop_training`, shadowed methods and
    what was put aside on it: every attribute of the model is the same object again, and lists and
    dicts among them hold what they held.
    """
    attributes = dict(model.__dict__)
    held = {k: copy.copy(v) for k, v in attributes.items() if type(v) in (list, dict, set)}
    try:
        yield
    finally:
        model.__dict__.clear()
        model.__dict__.update(attributes)
        for name, before in held.items():
            now = attributes[name]
            now.clear()
            now.extend(before) if isinstance(now, list) else now.update(before)


@contextlib.contextmanager
def kept_leftovers(model: keras.Model) -> Iterator[None]:
    """Put back what a call leaves on a model: its last losses, and variables that Keras does not know.

    Keras's own variables need no keeping where the call runs in a `keras.StatelessScope`.
    """
    layers = [model, *model._flatten_layers(include_self=False)]
    losses = [(layer, list(layer._losses), set(layer._loss_ids)) for layer in layers]
    plain = {
        id(v): v for layer in layers for v in vars(layer).values() if isinstance(v, tf.Variable)
    }
    values = {key: tf.identity(v) for key, v in plain.items()}
    called = [(layer, getattr(layer, "_called", False)) for layer in layers]
    try:
        yield
    finally:
        for layer, own, ids in losses:
            layer._losses[:] = own
            layer._loss_ids.clear()
            layer._loss_ids.update(ids)
        for key, v in plain.items():
            v.assign(values[key])
        for layer, was in called:
            layer._called = was
