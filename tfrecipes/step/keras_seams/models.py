"""A model: its variables, its layers, its metrics."""

from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer
from keras.src.trainers.trainer import Trainer
from tensorflow.python.framework.config import is_op_determinism_enabled


def _is_own(model: keras.Model, name: str, stock: Any) -> bool:
    """Whether a method is not Keras's: its class overrides it, or it was put on the model."""
    return name in model.__dict__ or getattr(type(model), name) is not getattr(stock, name)


def has_own_train_step(model: keras.Model) -> bool:
    return _is_own(model, "train_step", TensorFlowTrainer)


def has_own_compute_loss(model: keras.Model) -> bool:
    return _is_own(model, "compute_loss", Trainer)


def has_own_compute_metrics(model: keras.Model) -> bool:
    return _is_own(model, "compute_metrics", Trainer)


def metrics_result(model: keras.Model) -> dict[str, Any]:
    return model.get_metrics_result()


def compute_metrics(
    model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any
) -> dict[str, Any]:
    """Update the compiled metrics; what it returns counts where the method is the model's own."""
    return model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def track_loss(model: keras.Model, loss: tf.Tensor, samples: tf.Tensor) -> None:
    model._loss_tracker.update_state(loss, sample_weight=samples)


def loss_seen(model: keras.Model) -> tf.Tensor:
    """What the loss's own metric has counted so far."""
    return local(model._loss_tracker.count).read_value()


def saw_nothing(model: keras.Model) -> bool:
    """Whether no step of this epoch counted: the loss's own metric is as it was reset."""
    # A model's own `train_step` need not update it.
    return not has_own_train_step(model) and float(local(model._loss_tracker.count)) == 0


def is_built(model: keras.Model) -> bool:
    """Whether model, optimizer, loss and metrics have their variables."""
    return (
        all(layer.built for layer in model._flatten_layers())
        and model.optimizer.built
        and (model._compile_metrics is None or model._compile_metrics.built)
        and (model._compile_loss is None or model._compile_loss.built)
    )


def build(model: keras.Model, data: Any) -> None:
    """Make every variable that training needs, from a batch that is only looked at."""
    if is_built(model):
        return
    batch = keras.utils.unpack_x_y_sample_weight(data)
    batch = tuple(None if part is None else part for part in batch)
    with tf.init_scope():
        model._symbolic_build(data_batch=batch)


def seed_states(model: keras.Model) -> list[keras.Variable]:
    """The states of the model's seed generators: (2,) integers, a seed and a count."""
    return [v for v in model.non_trainable_variables if v.name == "seed_generator_state"]


def moving_statistics(model: keras.Model) -> list[Any]:
    """BatchNorm's moving means and variances."""
    layers = all_layers(model)
    return moving_statistics_of(
        [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]
    )


def moving_statistics_of(layers: Sequence[keras.layers.BatchNormalization]) -> list[Any]:
    """The moving mean and variance of each layer that is built."""
    return [
        v for layer in layers if layer.built for v in (layer.moving_mean, layer.moving_variance)
    ]


def weights_and_statistics(model: keras.Model) -> list[keras.Variable]:
    """Float weights, frozen ones too, and BatchNorm's moving statistics, each once, in order.

    Other states that move by themselves (counters, a Normalization's mean) are no weights.
    """
    moving = {id(v) for v in moving_statistics(model)}
    found: dict[int, keras.Variable] = {}
    for layer in [model, *all_layers(model)]:
        for variable in (*layer._trainable_variables, *layer._non_trainable_variables):
            made_to_train = any(variable is v for v in layer._trainable_variables)
            is_float = keras.backend.is_float_dtype(variable.dtype)
            if is_float and (made_to_train or id(variable) in moving):
                found.setdefault(id(variable), variable)
    return list(found.values())


def own_weights(layer: keras.Layer) -> list[keras.Variable]:
    """Weights that a layer made to be trained, itself and not its parts, frozen or not."""
    return list(layer._trainable_variables)


def recurrent_states(model: keras.Model) -> list[keras.Variable]:
    """The states of stateful recurrent layers, which Keras keeps out of the model's variables."""
    return [
        state
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.RNN) and layer.stateful
        for state in keras.tree.flatten(layer.states or [])
    ]


def moved_by_forward(model: keras.Model) -> list[keras.Variable]:
    """What a forward pass and the metrics may move: states, seeds, statistics, metrics."""
    return [*model.non_trainable_variables, *recurrent_states(model), *model.metrics_variables]


def compile_token(model: keras.Model) -> Any:
    """An object that is another one after every `compile`."""
    return model._compile_config


def is_deterministic() -> bool:
    """Whether `enable_op_determinism` was called; Keras then turns XLA off too."""
    return is_op_determinism_enabled()


def ends_in_16_bits(model: keras.Model) -> bool:
    """Whether an output of the model is float16 or bfloat16."""
    outputs = getattr(model, "_outputs", None) or getattr(
        getattr(model, "_functional", None), "_outputs", None
    )
    return any(t.dtype in ("float16", "bfloat16") for t in keras.tree.flatten(outputs or []))


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The model's layers at any depth."""
    return list(model._flatten_layers(include_self=False))


def call(model: keras.Model, x: Any, training: bool) -> Any:
    return model(x, training=training) if model._call_has_training_arg else model(x)


def is_built_for_training(model: keras.Model) -> bool:
    """Whether the step's own variables can be made before the first batch is seen."""
    return bool(model.trainable_variables) and is_built(model)


def compiled_loss(model: keras.Model) -> Any:
    return model._compile_loss


def local(variable: Any) -> tf.Variable:
    """This replica's own tf.Variable of a Keras or distributed variable.

    In a replica context its assign is an ordinary assign, so `tf.cond`, scatter and XLA work.
    """
    raw = variable.value if isinstance(variable, keras.Variable) else variable
    return raw._get() if isinstance(raw, tf.distribute.DistributedValues) else raw
