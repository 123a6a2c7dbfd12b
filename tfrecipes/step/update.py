"""THE order of one update. The train step and `optimizer.apply` both come here, nobody else.

    unscale -> norm -> verdict -> clip -> decay and update -> average -> commit or nothing
            -> loss scale -> telemetry

Gradients that arrive are those of the whole step: summed over micro-batches, replicas and
workers. A clip or a verdict before that sum is a different algorithm on every number of devices.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import keras
import tensorflow as tf

from tfrecipes.arithmetic import averaging, loss_scale, norms, telemetry
from tfrecipes.step import keras_seams, watch
from tfrecipes.step.keras_seams import local
from tfrecipes.step.plan import Averaging, StepPlan
from tfrecipes.step.state import StepState, read_all

Optimizer = keras.optimizers.Optimizer


@runtime_checkable
class PureOptimizer(Protocol):
    """An optimizer whose update is a pure function over lists of tensors; ours are."""

    def slot_variables(
        self, variables: Sequence[keras.Variable]
    ) -> list[tuple[keras.Variable, ...]]: ...

    def new_values(
        self,
        grads: Sequence[tf.Tensor | None],
        weights: Sequence[tf.Tensor],
        slots: Sequence[tuple[tf.Tensor, ...]],
        variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[list[tf.Tensor], list[tuple[tf.Tensor, ...]]]: ...


def split_scaler(
    optimizer: Optimizer,
) -> tuple[Optimizer, keras.optimizers.LossScaleOptimizer | None]:
    """The optimizer that updates, and the loss-scale wrapper around it, ours or Keras's."""
    if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        return optimizer.inner_optimizer, optimizer
    return optimizer, None


def current_scale(optimizer: Optimizer) -> tf.Tensor | None:
    """What the loss is multiplied by before the backward pass, float32, or None."""
    inner, scaler = split_scaler(optimizer)
    if scaler is not None:
        return local(scaler.dynamic_scale).read_value()
    if inner.loss_scale_factor is not None:
        return tf.constant(inner.loss_scale_factor, tf.float32)
    return None


def apply_gradients(
    optimizer: Optimizer,
    gradients: Sequence[norms.Gradient],
    variables: Sequence[keras.Variable],
) -> None:
    """`optimizer.apply` in a replica context: reduce over replicas, then `update`."""
    update(optimizer, all_reduce(dense_all(gradients)), variables)


def dense_all(gradients: Sequence[norms.Gradient]) -> list[tf.Tensor | None]:
    return [norms.dense(g) for g in gradients]


def all_reduce(tensors: list[tf.Tensor | None]) -> list[tf.Tensor | None]:
    """Sums over replicas and workers, in one collective of one packed vector.

    Tensors must be float32; None must be None on every replica.
    """
    context = tf.distribute.get_replica_context()
    if context is None:
        raise RuntimeError(
            "optimizer.apply: must be called in a replica context. Call it inside `strategy.run`."
        )
    if context.num_replicas_in_sync == 1:
        return tensors
    present = [t for t in tensors if t is not None]
    if not present:
        return tensors
    flat = context.all_reduce("sum", tf.concat([tf.reshape(t, [-1]) for t in present], 0))
    parts = iter(tf.split(flat, [tf.size(t) for t in present], num=len(present)))
    return [None if t is None else tf.reshape(next(parts), tf.shape(t)) for t in tensors]


def update(
    optimizer: Optimizer,
    gradients: Sequence[tf.Tensor | None],
    variables: Sequence[keras.Variable],
    *,
    plan: StepPlan | None = None,
    state: StepState | None = None,
    loss: tf.Tensor | None = None,
    samples: tf.Tensor | None = None,
    undo: Sequence[tuple[tf.Variable, tf.Tensor]] = (),
) -> None:
    """Update weights, optimizer, average, loss scale and telemetry from one step's gradients.

        g <- g / s                                    s: loss scale
        ok = |g| is finite (and the loss is, where known)
        g <- g min(1, c / |g|)                        c: global_clipnorm
        w <- optimizer(w, g, lr(t));  t <- t + 1;  a <- c(n) a + (1 - c(n)) w
        or, where not ok: nothing, and what the forward pass moved goes back

    Args:
        optimizer: Any Keras optimizer, ours, or a loss-scale wrapper around either; built.
        gradients: One a variable, float32 and dense, summed over the whole step, times the loss
            scale; None where the loss does not depend on the variable, which is then left alone.
        variables: The weights.
        plan: What to do beyond the update; None = nothing.
        state: The plan's variables; None = no counters, average or telemetry.
        loss: The step's objective, unscaled.
        samples: The step's samples over all replicas.
        undo: Variables that the forward pass moved with their values before it.
    """
    plan = plan or StepPlan()
    notes = None if state is None else watch.Notes(plan, state, variables)
    inner, scaler = split_scaler(optimizer)
    scale = current_scale(optimizer)
    if scale is not None:
        gradients = [None if g is None else g / scale for g in gradients]
    halves = norms.halves(gradients)
    norm = tf.sqrt(tf.reduce_sum(2.0 * halves))
    finite = tf.math.is_finite(norm)
    if loss is not None:
        finite = tf.logical_and(finite, tf.math.is_finite(loss))
    running = tf.constant(True)
    if state is not None:
        # The host sees a stop only after the whole call; until then no step may undo it.
        running = tf.logical_not(local(state.halted).read_value())
    taken = tf.logical_and(finite, running)

    rate = keras_seams.scheduled_rate(inner)
    if plan.average is not None and state is not None:
        rate = plan.average.rate(_since_start(inner, state), rate)

    view = telemetry.StepView(
        number=tf.zeros((), tf.int64) if state is None else local(state.attempts).read_value(),
        loss=tf.zeros(()) if loss is None else loss,
        learning_rate=rate,
        gradients=gradients,
        finite=taken,
        loss_scale=tf.ones(()) if scale is None else scale,
        samples=tf.zeros(()) if samples is None else samples,
        clip_limit=math.inf if inner.global_clipnorm is None else inner.global_clipnorm,
        gradient_norm=norm,
    )

    def commit() -> list[tf.Tensor]:
        old = read_all(variables)
        clipped = _clip(inner, gradients, norm)
        new = _step(inner, clipped, variables, old, rate)
        if plan.average is not None and state is not None:
            move_average(plan.average, state, inner)
        return [] if notes is None else notes.of_update(view, old, new)

    def skip() -> list[tf.Tensor]:
        for variable, value in undo:
            variable.assign(value)
        if state is not None:
            watch.bad_step(state, gradients, halves, loss)
        return [] if notes is None else notes.of_no_update(view, read_all(variables))

    noted = tf.cond(taken, commit, skip)
    if notes is not None:
        notes.write(view, halves, noted)
    if scaler is not None:
        _rescale(scaler, finite, running)
    if state is not None:
        at_floor = scaler is None or scale is None or scale <= loss_scale.FLOOR
        counts = _Counts(state, finite, at_floor)
        tf.cond(running, counts.move, lambda: tf.zeros(()))


def _clip(
    inner: Optimizer, gradients: Sequence[tf.Tensor | None], norm: tf.Tensor
) -> list[tf.Tensor | None]:
    if inner.global_clipnorm is not None:
        return norms.scaled(gradients, norms.clip_factor(norm, inner.global_clipnorm))
    return norms.clipped_each(gradients, inner.clipnorm, inner.clipvalue)


def _step(
    inner: Optimizer,
    gradients: Sequence[tf.Tensor | None],
    variables: Sequence[keras.Variable],
    old: Sequence[tf.Tensor],
    rate: tf.Tensor,
) -> list[tf.Tensor]:
    """The optimizer's own update, its constraints and its count; the new weights."""
    pairs = [(g, v) for g, v in zip(gradients, variables, strict=True) if g is not None]
    if not variables:
        return []
    if not pairs:
        raise ValueError(
            f"{type(inner).__name__}: the loss depends on none of the {len(variables)} trainable "
            f"weights. First: {', '.join(v.path for v in variables[:3])}. "
            "Check that the loss is computed from the model's outputs."
        )
    if not isinstance(inner, PureOptimizer):
        keras_seams.apply_stock(inner, [g for g, _ in pairs], [v for _, v in pairs], rate)
        return read_all(variables)
    count = local(keras_seams.iterations(inner))
    slots = inner.slot_variables(variables)
    values, new_slots = inner.new_values(
        gradients,
        old,
        [tuple(read_all(s)) for s in slots],
        variables,
        rate,
        count.read_value() + 1,
    )
    new = list(old)
    for place, (variable, value) in enumerate(zip(variables, values, strict=True)):
        if gradients[place] is None:
            continue
        if variable.constraint is not None:
            value = variable.constraint(value)
        target = local(variable)
        new[place] = tf.cast(value, target.dtype)
        target.assign(new[place])
    for variable_slots, values in zip(slots, new_slots, strict=True):
        for slot, value in zip(variable_slots, values, strict=True):
            target = local(slot)
            target.assign(tf.cast(value, target.dtype))
    count.assign_add(1)
    return new


def _since_start(inner: Optimizer, state: StepState) -> tf.Tensor:
    """Updates since this fit began, from which an average's start is counted."""
    count = tf.cast(local(keras_seams.iterations(inner)).read_value(), tf.int64)
    return count - local(state.average_start).read_value()


def move_average(
    average: Averaging,
    state: StepState,
    inner: Optimizer,
    updated: tf.Tensor | None = None,
) -> None:
    """One move of the average, if this update is one that it takes."""
    due = average.due(_since_start(inner, state))
    if updated is not None:
        due = tf.logical_and(due, updated)
    tf.cond(due, lambda: move(average, state), lambda: tf.zeros(()))


def move(average: Averaging, state: StepState) -> tf.Tensor:
    """One move of the average on this replica."""
    n = local(state.averaged)
    values = averaging.averaged(
        read_all(state.averages),
        read_all(state.averaged_variables),
        average.coefficient(n.read_value()),
    )
    for target, value in zip(state.averages, values, strict=True):
        local(target).assign(value)
    n.assign_add(1)
    return tf.zeros(())


def _rescale(
    scaler: keras.optimizers.LossScaleOptimizer, finite: tf.Tensor, running: tf.Tensor
) -> None:
    scale, good = local(scaler.dynamic_scale), local(scaler.step_counter)
    new_scale, new_good = loss_scale.next_scale(
        scale.read_value(), good.read_value(), finite, scaler.dynamic_growth_steps
    )
    scale.assign(tf.where(running, new_scale, scale.read_value()))
    good.assign(tf.where(running, new_good, good.read_value()))
    overflows = getattr(scaler, "overflow_count", None)
    if overflows is not None:
        target = local(overflows)
        overflowed = tf.logical_and(tf.logical_not(finite), running)
        target.assign_add(tf.cast(overflowed, target.dtype))


@dataclass(frozen=True)
class _Counts:
    """What a step leaves in the state: its counts, and whether it was one too many.

    Attributes:
        state: The step's variables.
        finite: The verdict.
        at_floor: Whether the loss scale of this step was the smallest, or there is none.
    """

    state: StepState
    finite: tf.Tensor
    at_floor: tf.Tensor | bool

    def move(self) -> tf.Tensor:
        state, finite = self.state, self.finite
        attempts, bad = local(state.attempts), local(state.bad_in_a_row)
        in_a_row = tf.where(finite, 0, bad.read_value() + 1)
        bad.assign(in_a_row)
        local(state.overflows).assign_add(tf.cast(tf.logical_not(finite), tf.int64))
        attempts.assign_add(1)
        at_once = tf.logical_and(local(state.stops_at_first).read_value(), self.at_floor)
        one_too_many = tf.logical_and(at_once, tf.logical_not(finite))
        too_many = in_a_row >= local(state.bad_limit).read_value()
        local(state.halted).assign(tf.logical_or(one_too_many, too_many))
        return tf.zeros(())
