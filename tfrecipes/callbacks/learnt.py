"""What a Monitor learns at a fit's start: facts.json, which rules and the report read."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import Fit, local
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.state import StepState
from tfrecipes.step.update import split_scaler
from tfrecipes.training.data_facts import data_facts
from tfrecipes.training.inferred_loss import last_activation

# Points of the schedule that are kept.
MOST_POINTS = 200


def facts_of(model: keras.Model, fit: Fit, plan: StepPlan, state: StepState) -> dict[str, Any]:
    """Facts of optimizer, loss, model and length; of the layers only once their weights are there."""
    inner, scaler = split_scaler(model.optimizer)
    total = fit.total_steps
    replicas = model.distribute_strategy.num_replicas_in_sync
    size = _batch_size(fit, plan)
    micro = plan.micro_batch
    if plan.accumulate > 1 and size:
        micro = size // plan.accumulate
    elif plan.micro_batches > 1 and size:
        micro = -(-size // replicas // plan.micro_batches)
    facts: dict[str, Any] = {
        "optimizer": _optimizer(inner, scaler),
        "schedule": _schedule(model, inner, state, total),
        "total_steps": total,
        "steps_per_epoch": fit.steps,
        "epochs": fit.epochs - fit.initial_epoch,
        "batch_size": size,
        "micro_batch": micro,
        "replicas": replicas,
        "precision": _precision(model),
        "average": _average(plan),
        "first_bad": None,
        "weighted": fit.weighted or _gives_weights(fit.x),
        "first_step": int(local(state.attempts)),
        **_losses(model, plan),
    }
    return facts | layers_of(model, state)


def shapes_known(model: keras.Model) -> bool:
    """Whether the model has its weights, so that its layers can be counted."""
    return keras_seams.is_built_for_training(model)


def data_of(x: Any, y: Any, validation: Any) -> dict[str, Any]:
    """Facts of arrays that were given to `fit`: `data` and `validation`, null where they were not.

    Args:
        x: The inputs, or a stream.
        y: The labels.
        validation: What `fit` calls validation_data.
    """
    trained = data_facts(x, y) if x is not None else None
    x_val, y_val = (None, None)
    if isinstance(validation, (tuple, list)) and validation:
        x_val, y_val, _ = keras.utils.unpack_x_y_sample_weight(tuple(validation))
    validated = data_facts(x_val, y_val) if x_val is not None else None
    found: dict[str, Any] = {
        "data": None if trained is None else trained[0],
        "validation": None if validated is None else dict(validated[0]),
    }
    if trained is not None and validated is not None:
        found["validation"]["shared"] = len(trained[1] & validated[1])
    return found


def _gives_weights(x: Any) -> bool:
    """Whether a dataset's elements are (inputs, labels, weights)."""
    spec = getattr(x, "element_spec", None)
    return isinstance(spec, tuple) and len(spec) == 3


def _batch_size(fit: Fit, plan: StepPlan) -> int | None:
    size = fit.batch_size
    if size is None and fit.reads_arrays:
        size = 32  # Keras's default
    if size is None:
        spec = getattr(fit.x, "element_spec", None)
        leaves = [] if spec is None else keras.tree.flatten(spec)
        shape = getattr(leaves[0], "shape", None) if leaves else None
        size = shape[0] if shape is not None and shape.rank else None
    return None if size is None else int(size) * plan.accumulate


def _optimizer(inner: Any, scaler: Any) -> dict[str, Any]:
    numbers = {
        name: value
        for name, value in inner.get_config().items()
        if isinstance(value, (bool, int, float, str)) and name not in ("name", "learning_rate")
    }
    found = {"name": type(inner).__name__, **numbers}
    if keras_seams.schedule(inner) is None:
        found["learning_rate"] = float(keras_seams.scheduled_rate(inner))
    if scaler is not None:
        found["loss_scale"] = type(scaler).__name__
    return found


def _schedule(
    model: keras.Model, inner: Any, state: StepState, total: int | None
) -> dict[str, Any] | None:
    schedule = keras_seams.schedule(inner)
    if schedule is None:
        return None
    found: dict[str, Any] = {
        "name": type(schedule).__name__,
        "config": _plain(schedule.get_config()),
        "points": [],
    }
    if total is None:
        return found
    attempts = int(local(state.attempts))
    count = local(keras_seams.iterations(inner))
    updates = int(count)
    places = np.unique(np.linspace(0, max(0, total - 1), min(total, MOST_POINTS)).astype(np.int64))

    def each(steps: tf.Tensor) -> tf.Tensor:
        return tf.map_fn(
            lambda step: tf.cast(schedule(step), tf.float32), steps, fn_output_signature=tf.float32
        )

    # One small graph and not 200 calls of a schedule's many operations, which take .3 s. A model
    # that runs eagerly may have a schedule that no graph can hold.
    steps = tf.cast(places + updates, count.dtype)
    if not model.run_eagerly:
        # Concrete at once: TensorFlow warns of a new function in every fit, and this one is meant.
        each = tf.function(each, autograph=False).get_concrete_function(steps)
    rates = each(steps)
    found["points"] = [
        [int(place) + attempts, float(rate)]
        for place, rate in zip(places, rates.numpy(), strict=True)
    ]
    return found


def _plain(value: Any) -> Any:
    """A configuration as JSON has it; what is no plain value by its words."""
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return float(value) if isinstance(value, np.number) else str(value)


def _precision(model: keras.Model) -> str:
    """The type that most layers with weights compute in."""
    kinds = Counter(
        str(layer.compute_dtype)
        for layer in keras_seams.all_layers(model)
        if keras_seams.own_weights(layer)
    )
    return kinds.most_common(1)[0][0] if kinds else str(model.compute_dtype)


def _average(plan: StepPlan) -> dict[str, Any] | None:
    if plan.average is None:
        return None
    found: dict[str, Any] = {"name": type(plan.average).__name__}
    decay = getattr(plan.average, "decay", None)
    return found if decay is None else found | {"decay": decay}


def _losses(model: keras.Model, plan: StepPlan) -> dict[str, Any]:
    """`loss`, of the first output where there are several, `last_activation` and `classes`."""
    losses = [one for one in keras.tree.flatten(_unwrapped(model.loss)) if one is not None]
    width, activation = last_activation(model)
    found: dict[str, Any] = {"loss": None, "last_activation": activation, "classes": None}
    found["width"] = width
    if not losses:
        return found
    loss = losses[0]
    if isinstance(loss, str):
        loss = keras.losses.get(loss)
    loss = getattr(loss, "loss", loss)  # inside ours that smooths a plain one
    name = getattr(loss, "__name__", type(loss).__name__)
    as_class = "".join(part.capitalize() for part in name.split("_"))
    if "_" in name and hasattr(keras.losses, as_class):
        name = as_class  # "mse" is a function, and rules know it by its class
    smoothing = float(getattr(loss, "label_smoothing", 0.0) or plan.label_smoothing)
    found["loss"] = {
        "name": name,
        "from_logits": bool(getattr(loss, "from_logits", False)),
        "label_smoothing": smoothing,
        "outputs": len(losses),
    }
    if name.lower().replace("_", "").endswith("crossentropy"):
        binary = name.lower().startswith("binary")
        found["classes"] = 2 if binary and width == 1 else width
    return found


def _unwrapped(loss: Any) -> Any:
    """What `compile` was given; a loss with a config is no structure of losses."""
    if isinstance(loss, Mapping) and "class_name" in loss:
        return keras.losses.get(loss)
    return loss


def layers_of(model: keras.Model, state: StepState) -> dict[str, Any]:
    """Facts of the layers; empty before their weights are there."""
    if not shapes_known(model):
        return {"layers": {}, "groups": []}
    layers = keras_seams.all_layers(model)
    plain = [
        layer for layer in layers if not isinstance(layer, (keras.Model, keras.layers.InputLayer))
    ]
    dropped = [
        float(rate)
        for layer in plain
        for name in ("rate", "dropout", "recurrent_dropout")
        if name != "rate" or "Dropout" in type(layer).__name__
        if isinstance(rate := getattr(layer, name, None), (int, float))
    ]
    trained = {id(v) for v in model.trainable_variables}
    made_to_train = {id(v): v for layer in [model, *layers] for v in keras_seams.own_weights(layer)}
    return {
        "layers": dict(Counter(type(layer).__name__ for layer in plain)),
        "dropout": max(dropped, default=0),
        "parameters": int(model.count_params()),
        "trainable_weights": len(trained),
        "frozen_weights": sum(1 for key in made_to_train if key not in trained),
        "penalty": sum(float(v.regularizer(v)) for v in model.trainable_variables if v.regularizer),
        "groups": [group.name for group in state.groups],
    }
