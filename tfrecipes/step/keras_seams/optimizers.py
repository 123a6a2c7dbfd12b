"""Optimizers: their count, their rate, one update of a stock one, who owns a weight."""

import contextlib
import gc
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.step.keras_seams.models import local


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
        classes = type(layer).__mro__
        names = tuple(c.__name__ for c in classes[: classes.index(keras.Layer)])
        for variable in getattr(layer, "_trainable_variables", ()):
            # A wrapper (SpectralNormalization) holds its layer's kernel too. The path names the
            # layer that made the weight.
            made_here = variable.path.split("/")[-2:-1] == [layer.name]
            if made_here or id(variable) not in found:
                found[id(variable)] = names
    return [found.get(id(v)) for v in variables]


def iterations(optimizer: keras.optimizers.Optimizer) -> keras.Variable:
    """The count of updates as a variable, whatever `optimizer.iterations` makes of it."""
    return optimizer._iterations


def scheduled_rate(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """The rate of the coming update."""
    return tf.cast(optimizer._get_current_learning_rate(), tf.float32)


def schedule(
    optimizer: keras.optimizers.Optimizer,
) -> keras.optimizers.schedules.LearningRateSchedule | None:
    """The schedule, where the learning rate is one and not a variable."""
    rate = optimizer._learning_rate
    return rate if isinstance(rate, keras.optimizers.schedules.LearningRateSchedule) else None


def settings(optimizer: keras.optimizers.Optimizer) -> tuple[Any, ...]:
    """What a traced function holds of an optimizer as constants: its numbers, and its schedule.

    A learning rate that is a variable is read at every step; one that is a schedule is traced
    (KERAS_FACTS 35).
    """
    inner = getattr(optimizer, "inner_optimizer", None)
    plain = tuple(
        (name, value)
        for name, value in sorted(vars(optimizer).items())
        if not name.startswith("_") and isinstance(value, (bool, int, float, type(None)))
        if name != "built"
    )
    rate = optimizer._learning_rate if inner is None else None
    return (plain, rate if callable(rate) else None, None if inner is None else settings(inner))


@contextlib.contextmanager
def watched(optimizer: keras.optimizers.Optimizer, *names: str) -> Iterator[set[str]]:
    """Which of an optimizer's methods are called inside, by name."""
    called: set[str] = set()

    def watch(name: str, method: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.add(name)
            return method(*args, **kwargs)

        return call

    with _replaced(optimizer, **{name: watch(name, getattr(optimizer, name)) for name in names}):
        yield called


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
    if tf.distribute.get_strategy().num_replicas_in_sync == 1:
        with _replaced(optimizer, **off):
            optimizer.apply(list(gradients), list(variables))
        return
    off |= {
        "assign": lambda variable, value: _on_this_replica(variable, "assign", value),
        "assign_add": lambda variable, value: _on_this_replica(variable, "assign_add", value),
        "assign_sub": lambda variable, value: _on_this_replica(variable, "assign_sub", value),
        "_iterations": local(optimizer._iterations),
    }
    ours = [local(v) for v in variables]
    with _replaced(optimizer, **off), _without_merge_call():
        optimizer.apply(list(gradients), ours)
    for variable, own in zip(variables, ours, strict=True):
        if variable.constraint is not None:
            own.assign(variable.constraint(own.read_value()))


def _on_this_replica(variable: Any, how: str, value: Any) -> None:
    own = local(variable)
    getattr(own, how)(tf.cast(value, own.dtype))


class _ThisReplica:
    """What stands for the strategy where Keras would update every replica's variable from one."""

    @property
    def extended(self) -> "_ThisReplica":
        return self

    def update(self, variable: Any, function: Any, args: Any = (), group: bool = True) -> None:
        function(local(variable), *args)


@contextlib.contextmanager
def _without_merge_call() -> Iterator[None]:
    """Run Keras's cross-replica updates on this replica: a `merge_call` cannot be in a `tf.cond`.

    Gradients are equal on every replica by now, so the replicas stay equal. Replicas are traced
    one after the other and none waits inside, so the replacement is seen by one of them only.
    """
    interim = tf.__internal__.distribute.interim
    kept = interim.maybe_merge_call
    interim.maybe_merge_call = lambda function, strategy, *args: function(_ThisReplica(), *args)
    try:
        yield
    finally:
        interim.maybe_merge_call = kept


def rehomed(optimizer: Any, strategy: tf.distribute.Strategy) -> Any:
    """An equal optimizer whose variables live on every replica, if this one's do not.

    An optimizer that was made outside the strategy's scope has one `iterations` for all replicas,
    which each of them counts up (KERAS_FACTS 24).
    """
    if strategy.num_replicas_in_sync == 1 or isinstance(
        optimizer._iterations.value, tf.distribute.DistributedValues
    ):
        return optimizer
    with strategy.scope():
        again = type(optimizer).from_config(optimizer.get_config())
        if optimizer.built:
            again.build(optimizer._trainable_variables)
    for new, old in zip(again.variables, optimizer.variables, strict=True):
        new.assign(tf.convert_to_tensor(local(old)))
    print("The optimizer was made outside the strategy's scope; it was made anew inside.")
    return again


def built_variables(optimizer: keras.optimizers.Optimizer) -> list[keras.Variable]:
    """The weights that an optimizer was built for."""
    return list(optimizer._trainable_variables)
