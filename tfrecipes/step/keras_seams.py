"""Every private name of Keras and TensorFlow that we touch, and nothing else.

Checked against Keras 3.15 on TensorFlow 2.21. A test looks for private names elsewhere.
"""

import contextlib
import gc
import inspect
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.tensorflow.trainer import TensorFlowTrainer, reduce_per_replica
from keras.src.losses.loss import unscale_loss_for_distribution
from keras.src.trainers.data_adapters.generator_data_adapter import GeneratorDataAdapter
from keras.src.trainers.trainer import Trainer
from tensorflow.python.framework.config import is_op_determinism_enabled

# ---------------------------------------------------------------------------------------- fit


@dataclass(frozen=True)
class Fit:
    """What the running `fit` holds, read from the frame that called `make_train_function`."""

    iterator: Any
    callbacks: keras.callbacks.CallbackList
    epochs: int
    validation_data: Any
    validation_steps: int | None
    validation_batch_size: int | None

    @property
    def steps(self) -> int | None:
        """Calls of the train function an epoch, or None where Keras does not know."""
        return self.iterator.num_batches

    @property
    def steps_were_given(self) -> bool:
        return bool(self.iterator.steps_per_epoch)

    @property
    def data_are_finite(self) -> bool:
        count = self.iterator.data_adapter.num_batches
        return count is not None and count > 0

    def count_updates(self, group: int) -> None:
        """Let this fit count groups of batches: bars, `steps` and the epoch's end."""
        if self.iterator._num_batches is not None:
            self.iterator._num_batches = -(-self.iterator._num_batches // group)
            self.callbacks.set_params({**self.callbacks.params, "steps": self.steps})
        # The end of a source of unknown length is no "ran out of data": the last, partial
        # window was applied.
        self.iterator._interrupted_warning = lambda: None

    @property
    def data_are_one_shot(self) -> bool:
        """Whether a second pass over the training data would find none."""
        return isinstance(self.iterator.data_adapter, GeneratorDataAdapter)

    @property
    def batches_an_epoch(self) -> int | None:
        """Batches of one pass, not updates; None = to the end of the data."""
        return self.iterator.steps_per_epoch or self.iterator.data_adapter.num_batches

    def batches(self) -> Iterator[Any]:
        """The training batches once more, from their start."""
        return iter(self.iterator._get_iterator())

    def call_last(self, callback: keras.callbacks.Callback) -> None:
        """Move a callback to the end of this fit's list."""
        listed = self.callbacks.callbacks
        if any(one is callback for one in listed):
            listed[:] = [*(one for one in listed if one is not callback), callback]


def fit_iterator(model: keras.Model) -> Any | None:
    """The epoch iterator of the `fit` of this model that is calling us, or None."""
    held = _fit_locals(model)
    return None if held is None else held["epoch_iterator"]


def running_fit(model: keras.Model) -> Fit | None:
    """The `fit` of this model that is calling us, its callbacks listed, or None."""
    held = _fit_locals(model)
    if held is None:
        return None
    return Fit(
        iterator=held["epoch_iterator"],
        callbacks=held["callbacks"],
        epochs=held["epochs"],
        validation_data=held["validation_data"],
        validation_steps=held["validation_steps"],
        validation_batch_size=held["validation_batch_size"] or held["batch_size"],
    )


def _fit_locals(model: keras.Model) -> dict[str, Any] | None:
    frame = sys._getframe(2)
    while frame is not None:
        if frame.f_code is _FIT_CODE and frame.f_locals.get("self") is model:
            held = frame.f_locals
            return held if "epoch_iterator" in held else None
        frame = frame.f_back
    return None


# The body of Keras's `fit`, inside the decorator that shortens tracebacks.
_FIT_CODE = inspect.unwrap(TensorFlowTrainer.fit).__code__


def begin_at(model: keras.Model, epoch: int | None) -> None:
    """The epoch at which the running `fit` begins, before its first; None = where it was told."""
    model._initial_epoch = epoch


def has_own_train_step(model: keras.Model) -> bool:
    return type(model).train_step is not TensorFlowTrainer.train_step


def has_own_compute_loss(model: keras.Model) -> bool:
    return type(model).compute_loss is not Trainer.compute_loss


def make_function(model: keras.Model, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Keras's own train function around our step: strategy, XLA, steps_per_execution."""
    return model._make_function(step)


def make_grouped_function(
    model: keras.Model, step: Callable[[Any], Any], group: int
) -> Callable[[Any], Any]:
    """A train function whose step is given a tuple of up to `group` of fit's batches.

    The host pulls them, so that batches of any shape and a partial last group are what they are.
    """

    @tf.autograph.experimental.do_not_convert
    def on_batches(batches: Any) -> Any:
        outputs = model.distribute_strategy.run(step, args=(batches,))
        return reduce_per_replica(outputs, model.distribute_strategy, reduction="auto")

    if not model.run_eagerly:
        on_batches = tf.function(on_batches, reduce_retracing=True, jit_compile=model.jit_compile)
    on_batches = model._autoconvert_optionals(on_batches)

    def function(iterator: Any) -> Any:
        logs = None
        for _ in range(model.steps_per_execution):
            batches = tuple(itertools.islice(iterator, group))
            if not batches:
                break
            _refuse_unequal(batches)
            logs = on_batches(batches)
        if logs is None:
            raise StopIteration
        return logs

    return function


def _refuse_unequal(batches: tuple[Any, ...]) -> None:
    first = [t.shape[1:] for t in keras.tree.flatten(batches[0]) if hasattr(t, "shape")]
    for other in batches[1:]:
        shapes = [t.shape[1:] for t in keras.tree.flatten(other) if hasattr(t, "shape")]
        if shapes != first:
            raise ValueError(
                "GradientAccumulation: the batches of one step must agree beyond the first axis. "
                f"Received: {first} and {shapes}. Pad them to one length."
            )


def metrics_result(model: keras.Model) -> dict[str, Any]:
    return model.get_metrics_result()


def compute_metrics(model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> None:
    """Update the compiled metrics; Keras's method also returns results, which XLA drops."""
    model.compute_metrics(x, y, y_pred, sample_weight=sample_weight)


def track_loss(model: keras.Model, loss: tf.Tensor, samples: tf.Tensor) -> None:
    model._loss_tracker.update_state(loss, sample_weight=samples)


# -------------------------------------------------------------------------------------- build


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


# ------------------------------------------------------------------------------------- losses


@dataclass(frozen=True)
class LossTerm:
    """One of the compiled losses with what it is given."""

    loss: keras.losses.Loss
    y_true: Any
    y_pred: Any
    sample_weight: Any
    weight: float | None
    tracker: keras.metrics.Metric | None


def is_built_for_training(model: keras.Model) -> bool:
    """Whether the step's own variables can be made before the first batch is seen."""
    return bool(model.trainable_variables) and is_built(model)


def compiled_loss(model: keras.Model) -> Any:
    return model._compile_loss


def has_compiled_loss(model: keras.Model) -> bool:
    return model._compile_loss is not None


def loss_terms(model: keras.Model, y: Any, y_pred: Any, sample_weight: Any) -> list[LossTerm]:
    """The compiled loss taken apart: Keras sorts outputs, labels and weights; nothing is computed.

    Its per-output losses are replaced for one call by recorders, and its trackers are hidden:
    the step updates them once, with the whole step's value.
    """
    compiled = model._compile_loss
    if not compiled.built:
        compiled.build(y, y_pred)
    flat, trackers = compiled._flat_losses, compiled._metrics
    found: list[LossTerm] = []

    def recorder(index: int, original: Any) -> Any:
        def record(y_true: Any, predicted: Any, weights: Any = None) -> tf.Tensor:
            tracker = trackers[index] if trackers else None
            found.append(
                LossTerm(
                    original.loss, y_true, predicted, weights, original.loss_weights, tracker
                )
            )
            return tf.zeros(())

        return original._replace(loss=record)

    try:
        object.__setattr__(
            compiled, "_flat_losses", [recorder(i, one) for i, one in enumerate(flat)]
        )
        object.__setattr__(compiled, "_metrics", [None] * len(flat))
        compiled(y, y_pred, sample_weight)
    finally:
        object.__setattr__(compiled, "_flat_losses", flat)
        object.__setattr__(compiled, "_metrics", trackers)
    # With one flat output and a list of losses Keras computes all and uses the first.
    single = not keras.tree.is_nested(y) and not keras.tree.is_nested(y_pred)
    return found[:1] if single else found


def loss_value(term: LossTerm, loss: keras.losses.Loss | None = None) -> tf.Tensor:
    """The term's value as on one replica, unweighted, float32."""
    value = (loss or term.loss)(term.y_true, term.y_pred, term.sample_weight)
    return tf.cast(value, tf.float32)


def undistributed(value: tf.Tensor) -> tf.Tensor:
    """Undo Keras's division by the number of replicas, which it does in some reductions."""
    return unscale_loss_for_distribution(value)


def elementwise(term: LossTerm) -> tuple[tf.Tensor, tf.Tensor | None]:
    """The loss of each element before reduction, and the mask that Keras applies to it."""
    loss = term.loss
    mask = getattr(term.y_pred, "_keras_mask", None)

    def converted(x: Any) -> tf.Tensor:
        return keras.ops.convert_to_tensor(x, dtype=loss.dtype)

    values = loss.call(
        keras.tree.map_structure(converted, term.y_true),
        keras.tree.map_structure(converted, term.y_pred),
    )
    out_mask = getattr(values, "_keras_mask", None)
    if mask is not None and out_mask is not None:
        mask = tf.logical_and(tf.cast(mask, tf.bool), tf.cast(out_mask, tf.bool))
    return values, mask if mask is not None else out_mask


def added_losses(model: keras.Model) -> list[tf.Tensor]:
    """What `add_loss` and activity regularisers left in this forward pass."""
    losses = model._get_own_losses()
    for layer in model._flatten_layers(include_self=False):
        losses.extend(layer._get_own_losses())
    return [tf.reduce_sum(tf.cast(one, tf.float32)) for one in losses]


def weight_penalties(model: keras.Model) -> list[tf.Tensor]:
    """What the weights' regularisers say of the weights as they are."""
    return [
        tf.reduce_sum(tf.cast(one, tf.float32)) for one in model._get_regularization_losses()
    ]


def whole_loss(model: keras.Model, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> tf.Tensor:
    """The loss as the model's own `compute_loss` has it."""
    return model._compute_loss(
        x=x, y=y, y_pred=y_pred, sample_weight=sample_weight, training=True
    )


# ----------------------------------------------------------------------------- variables, replicas


def local(variable: Any) -> tf.Variable:
    """This replica's own tf.Variable of a Keras or distributed variable.

    In a replica context its assign is an ordinary assign, so `tf.cond`, scatter and XLA work.
    """
    raw = variable.value if isinstance(variable, keras.Variable) else variable
    return raw._get() if isinstance(raw, tf.distribute.DistributedValues) else raw


def owners(
    variables: Sequence[keras.Variable], model: keras.Model | None = None
) -> list[tuple[str, ...] | None]:
    """Class names of each variable's owning layer, most derived first; None if nobody owns it.

    An optimizer is given variables only. Without the model the owners are looked for among the
    living layers, once, at build.
    """
    if model is not None:
        layers = list(model._flatten_layers())
    else:
        layers = [o for o in gc.get_objects() if issubclass(type(o), keras.Layer)]
    found: dict[int, tuple[str, ...]] = {}
    for layer in layers:
        names = tuple(
            c.__name__ for c in type(layer).__mro__ if issubclass(c, keras.Layer)
        )
        for variable in getattr(layer, "_trainable_variables", ()):
            found.setdefault(id(variable), names)
    return [found.get(id(v)) for v in variables]


# ---------------------------------------------------------------------------------- optimizers


def iterations(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The count of updates as a variable, whatever `optimizer.iterations` makes of it."""
    return optimizer._iterations


def scheduled_rate(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """The rate of the coming update."""
    return tf.cast(optimizer._get_current_learning_rate(), tf.float32)


def is_decayed_by_keras(optimizer: keras.optimizers.Optimizer, variable: keras.Variable) -> bool:
    return bool(optimizer.weight_decay) and bool(optimizer._use_weight_decay(variable))


@contextlib.contextmanager
def _replaced(target: Any, **values: Any) -> Iterator[None]:
    """Instance attributes for the time of a trace, past Keras's tracking."""
    before = {name: target.__dict__.get(name, _ABSENT) for name in values}
    try:
        for name, value in values.items():
            object.__setattr__(target, name, value)
        yield
    finally:
        for name, value in before.items():
            if value is _ABSENT:
                object.__delattr__(target, name)
            else:
                object.__setattr__(target, name, value)


_ABSENT = object()


def apply_stock(
    optimizer: keras.optimizers.Optimizer,
    gradients: Sequence[tf.Tensor],
    variables: Sequence[keras.Variable],
    rate: tf.Tensor,
) -> None:
    """One update by a Keras optimizer of gradients that are reduced, unscaled and clipped.

    What Keras would do a second time, or at the wrong place, is off for the trace: the reduce,
    every clip, the division by `loss_scale_factor`. Its update runs on this replica's variables.
    """
    off: dict[str, Any] = {
        "clipnorm": None,
        "clipvalue": None,
        "global_clipnorm": None,
        "loss_scale_factor": None,
        "_all_reduce_sum_gradients": lambda grads_and_vars: list(grads_and_vars),
        "_get_current_learning_rate": lambda: rate,
    }
    with _replaced(optimizer, **off):
        optimizer.apply(list(gradients), list(variables))


# ------------------------------------------------------------------------------ instance methods


def set_method(model: keras.Model, name: str, method: Callable[..., Any]) -> None:
    """Shadow a method on one model. Keras neither tracks nor saves it."""
    object.__setattr__(model, name, method)


def clear_method(model: keras.Model, name: str) -> None:
    if name in model.__dict__:
        object.__delattr__(model, name)


def holder_of(model: keras.Model, name: str = "_tfrecipes") -> Any:
    return model.__dict__.get(name)


def set_holder(model: keras.Model, holder: Any, name: str = "_tfrecipes") -> None:
    object.__setattr__(model, name, holder)


EPOCH_END = "_get_metrics_result_or_logs"


def metrics_or_logs(model: keras.Model, logs: Any) -> Any:
    return type(model)._get_metrics_result_or_logs(model, logs)
