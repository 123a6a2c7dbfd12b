"""The one train step, built from a sealed plan and put on a model.

    whole step's batch -> denominators -> forward and backward in micro-batches -> one reduce
    -> update (the order stands in `update`)

What puts it on a model stands in `installed`. Nothing is tracked or saved with the model.
"""

import warnings
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams, replicas
from tfrecipes.step.backward import BackwardPass, batch_size, refuse_what_is_not_dense
from tfrecipes.step.keras_seams import local
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.state import StepState
from tfrecipes.step.update import current_scale, move_average, split_scaler, update


def build_step(
    model: keras.Model, plan: StepPlan, state: StepState
) -> Callable[[Any], dict[str, Any]]:
    """One optimizer step as a function of one batch, or of a tuple of them to be joined."""
    if keras_seams.has_own_train_step(model):
        return _around_own_step(model, plan, state)
    backward = BackwardPass(model, plan)

    def step(data: Any) -> dict[str, Any]:
        data = _joined(data) if plan.accumulate > 1 else (data, None)
        batch, first = data
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
        with tf.control_dependencies(_dense(batch)):
            return one_step(x, y, sample_weight, first)

    def one_step(x: Any, y: Any, sample_weight: Any, first: tf.Tensor | None) -> dict[str, Any]:
        prepare(model, plan, state, (x, y, sample_weight))
        moved = [local(v) for v in keras_seams.moved_by_forward(model)]
        before = [(v, v.read_value()) for v in moved]
        with replicas.distinct_seeds(model):
            result = backward(
                (x, y, sample_weight), _size(plan, x, first), current_scale(model.optimizer)
            )
        if not model.trainable_variables:
            warnings.warn("The model does not have any trainable weights.", stacklevel=2)
        gradients, loss, terms = replicas.whole_step(model, result, before)
        keras_seams.track_loss(model, loss, result.local_samples)
        for tracker, value in zip(result.trackers, terms, strict=True):
            if tracker is not None:
                tracker.update_state(value, sample_weight=result.local_samples)
        update(
            model.optimizer,
            gradients,
            model.trainable_variables,
            plan=plan,
            state=state,
            loss=loss,
            samples=result.samples,
            undo=before,
        )
        return {**result.logs, **keras_seams.metrics_result(model)}

    return step


def _dense(batch: Any) -> list[tf.Tensor]:
    """The batch's tensors, on which everything waits: at the end of data no count may move."""
    return [t for t in keras.tree.flatten(batch) if isinstance(t, tf.Tensor)]


def _around_own_step(
    model: keras.Model, plan: StepPlan, state: StepState
) -> Callable[[Any], dict[str, Any]]:
    """A model's own `train_step`, with the average after it where it updated the weights."""

    def step(data: Any) -> dict[str, Any]:
        prepare(model, plan, state, keras.utils.unpack_x_y_sample_weight(data), own_step=True)
        inner, scaler = split_scaler(model.optimizer)
        count = local(keras_seams.iterations(inner))
        before, seen = count.read_value(), keras_seams.loss_seen(model)
        with keras_seams.watched(model.optimizer, "apply", "scale_loss") as called:
            logs = model.train_step(data)
        if scaler is not None and called == {"apply"}:
            raise ValueError(
                f"{type(model).__name__}: its own `train_step` applies gradients of a loss that it "
                "did not scale, and they are divided by the loss scale. Received: "
                f"optimizer={type(scaler).__name__}. Take the gradients of "
                "`self.optimizer.scale_loss(loss)`."
            )
        _show_own_loss(model, logs, data, seen)
        if plan.average is not None:
            move_average(plan.average, state, inner, count.read_value() > before)
        local(state.attempts).assign_add(1)
        return logs

    return step


def _show_own_loss(model: keras.Model, logs: Any, data: Any, seen: tf.Tensor) -> None:
    """Give the loss's metric what the step returned as "loss", if the step did not itself.

    Keras puts the metric's value, which is then 0, in the place of a log of that name.
    """
    if not isinstance(logs, dict) or "loss" not in logs:
        return
    x, _, _ = keras.utils.unpack_x_y_sample_weight(data)
    missed = keras_seams.loss_seen(model) == seen
    loss = tf.reduce_mean(tf.cast(logs["loss"], tf.float32))
    samples = tf.cast(batch_size(x), tf.float32)
    zero = tf.zeros(())
    keras_seams.track_loss(model, tf.where(missed, loss, zero), tf.where(missed, samples, zero))


def prepare(
    model: keras.Model,
    plan: StepPlan,
    state: StepState,
    batch: tuple[Any, Any, Any],
    own_step: bool = False,
) -> None:
    """Make every variable that the step needs, at trace time; a second call makes none."""
    if own_step:
        if not model.optimizer.built and model.trainable_variables:
            with tf.init_scope():
                model.optimizer.build(model.trainable_variables)
    else:
        keras_seams.build(model, batch)
    state.make(model, plan)


def _joined(batches: tuple[Any, ...]) -> tuple[Any, tf.Tensor]:
    """Several batches as one, and the size of the first: what one pass held in memory."""

    def join(*parts: Any) -> Any:
        if parts[0] is None:
            return None
        refuse_what_is_not_dense(parts[0])
        return parts[0] if len(parts) == 1 else tf.concat(parts, 0)

    joined = keras.tree.map_structure(join, *batches, none_is_leaf=True)
    return joined, batch_size(batches[0])


def _size(plan: StepPlan, x: Any, first: tf.Tensor | None) -> tf.Tensor | None:
    """Samples of a micro-batch on this replica, or None where the batch is not cut."""
    if first is not None:
        return first
    total = batch_size(x)
    if plan.micro_batch is not None:
        return tf.minimum(tf.constant(plan.micro_batch), total)
    if plan.micro_batches > 1:
        return (total + plan.micro_batches - 1) // plan.micro_batches
    return None
