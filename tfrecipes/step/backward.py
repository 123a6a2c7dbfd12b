"""Loss and gradients of one step's batch, whole or in micro-batches.

What the batch's parts are is a question of memory only: each part's loss terms are weighted by
its share of the term's denominator, counted over the whole step before the first backward pass,
so the sum of the parts' gradients is the gradient of the batch.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.arithmetic import losses, norms
from tfrecipes.arithmetic.smoothing import smoothed
from tfrecipes.step import keras_seams
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.update import all_reduce

Batch = tuple[Any, Any, Any]  # x, y, sample_weight


@dataclass(frozen=True)
class Backward:
    """This replica's share of the step's gradients and objective, summed over its parts.

    Sums over replicas are the whole step's.

    Attributes:
        gradients: One a trainable weight, float32, times the loss scale; None where none flows.
        loss: The objective, unscaled, float32.
        samples: Samples of the step over all replicas, float32.
        local_samples: Samples of the step on this replica, float32.
        logs: What the model's own `compute_metrics` returned, where the batch was not cut.
        terms: Each compiled loss's value, in Keras's order, unweighted.
        trackers: Keras's Mean metric of each term, or None.
    """

    gradients: list[tf.Tensor | None]
    loss: tf.Tensor
    samples: tf.Tensor
    local_samples: tf.Tensor
    terms: list[tf.Tensor]
    trackers: list[keras.metrics.Metric | None]
    logs: dict[str, Any]


def batch_size(batch: Any) -> tf.Tensor:
    """Samples in a batch: the first axis of its first tensor, int32."""
    return tf.shape(next(t for t in keras.tree.flatten(batch) if t is not None))[0]


class BackwardPass:
    """Forward and backward of one model under one plan; traced once into the step."""

    def __init__(self, model: keras.Model, plan: StepPlan) -> None:
        self._model = model
        self._plan = plan
        self._replicas = model.distribute_strategy.num_replicas_in_sync
        self._cut = plan.micro_batch is not None or plan.micro_batches > 1 or plan.accumulate > 1
        self._own_loss = keras_seams.has_own_compute_loss(model)
        # Filled while the pass is traced: they are structure, not values.
        self._missing: list[bool] = []
        self._trackers: list[keras.metrics.Metric | None] = []
        self._logs: dict[str, Any] = {}

    def __call__(self, batch: Batch, size: tf.Tensor | None, scale: tf.Tensor | None) -> Backward:
        """The step's gradients.

        Args:
            batch: This replica's share of the whole step.
            size: Samples of a micro-batch, int32; None = the batch at once.
            scale: Loss scale, or None.
        """
        local = tf.cast(batch_size(batch), tf.float32)
        if size is None and self._replicas == 1:
            gradients, loss, terms = self._part(batch, None, None, scale)
            return self._result(gradients, loss, terms, local, local)
        self._refuse_unknown_denominators()
        if size is None:
            # One pass in a loop: a replica that got no sample of an uneven batch makes none, and
            # its BatchNorm does not divide by zero.
            size = tf.maximum(batch_size(batch), 1)
        *denominators, samples = _reduced([*self._denominators(batch, size), local])
        share = [tf.math.divide_no_nan(1.0, d) for d in denominators]
        gradients, loss, terms = self._sum_over_parts(batch, size, scale, share, samples)
        return self._result(gradients, loss, terms, samples, local)

    def _result(
        self,
        gradients: list[tf.Tensor | None],
        loss: tf.Tensor,
        terms: list[tf.Tensor],
        samples: tf.Tensor,
        local: tf.Tensor,
    ) -> Backward:
        logs = {}
        if (
            not self._cut
            and self._replicas == 1
            and keras_seams.has_own_compute_metrics(self._model)
        ):
            logs = dict(self._logs)
        return Backward(gradients, loss, samples, local, terms, list(self._trackers), logs)

    # -- one part ------------------------------------------------------------------------------

    def _part(
        self,
        batch: Batch,
        shares: Sequence[tf.Tensor] | None,
        samples: tf.Tensor | None,
        scale: tf.Tensor | None,
    ) -> tuple[list[tf.Tensor | None], tf.Tensor, list[tf.Tensor]]:
        """Gradients, loss and terms of one part.

        Without `shares` the part is the whole step, and its arithmetic is Keras's own, bit for
        bit; with them each term is weighted by the part's share of the whole.
        """
        x, y, sample_weight = batch
        model = self._model
        weights = model.trainable_variables
        with tf.GradientTape() as tape:
            y_pred = keras_seams.call(model, x, training=True)
            if self._own_loss:
                loss = tf.cast(
                    keras_seams.whole_loss(model, x, y, y_pred, sample_weight), tf.float32
                )
                if samples is not None:
                    loss = loss * (tf.cast(batch_size(batch), tf.float32) / samples)
                terms: list[tf.Tensor] = []
            else:
                loss, terms = self._loss(batch, y_pred, shares, samples)
            loss = tf.reduce_sum(loss)
            scaled = loss if scale is None else loss * scale
        _refuse_late_weights(model, weights)
        gradients = tape.gradient(scaled, [keras_seams.local(w) for w in weights])
        self._logs = keras_seams.compute_metrics(model, x, y, y_pred, sample_weight)
        return [norms.dense(g) for g in gradients], loss, terms

    def _loss(
        self,
        batch: Batch,
        y_pred: Any,
        shares: Sequence[tf.Tensor] | None,
        samples: tf.Tensor | None,
    ) -> tuple[tf.Tensor, list[tf.Tensor]]:
        _, y, sample_weight = batch
        model = self._model
        terms: list[tf.Tensor] = []
        parts: list[tf.Tensor] = []
        found = self._terms(y, y_pred, sample_weight)
        self._trackers = [term.tracker for term in found]
        for i, term in enumerate(found):
            # A loss without a reduction is summed, as its gradient is.
            value = tf.reduce_sum(keras_seams.loss_value(term, self._training_loss(term)))
            if shares is not None and term.loss.reduction not in losses.SUMS:
                denominator, one_number = self._denominator(term, batch)
                if not one_number:
                    value = keras_seams.undistributed(value)
                value = value * (denominator * shares[i])
            terms.append(value)
            parts.append(value if term.weight is None else value * term.weight)
        added = keras_seams.added_losses(model)
        penalties = keras_seams.weight_penalties(model)
        if samples is not None:
            # What `add_loss` adds is taken for a mean over the samples that it saw, as Keras
            # takes activity regularisers; a penalty on weights counts once a step.
            share = tf.cast(batch_size(batch), tf.float32) / samples
            added = [one * share for one in added]
            penalties = [one * share for one in penalties]
        parts += [*added, *penalties]
        if not parts:
            raise ValueError(
                "TrainStep: there is no loss. Received: loss=None in `compile` and no `add_loss`. "
                "Pass `loss=` to `model.compile`."
            )
        return (parts[0] if len(parts) == 1 else tf.reduce_sum(tf.stack(parts))), terms

    def _terms(self, y: Any, y_pred: Any, sample_weight: Any) -> list[keras_seams.LossTerm]:
        if not keras_seams.has_compiled_loss(self._model):
            return []
        return keras_seams.loss_terms(self._model, y, y_pred, sample_weight)

    def _training_loss(self, term: keras_seams.LossTerm) -> keras.losses.Loss:
        """The term's loss in training: smoothed where the plan says so and the loss can be."""
        if not self._plan.label_smoothing:
            return term.loss
        return smoothed(term.loss, self._plan.label_smoothing).loss or term.loss

    # -- denominators --------------------------------------------------------------------------

    def _denominator(self, term: keras_seams.LossTerm, batch: Batch) -> tuple[tf.Tensor, bool]:
        """The term's denominator over a part, and whether the loss gave just one number."""
        values, mask = keras_seams.elementwise(term)
        if losses.is_scalar_loss(values):
            if not losses.declared_mean(term.loss):
                raise ValueError(
                    f"TrainStep: loss {term.loss.name!r} returns one number for a batch, so parts "
                    "of a batch cannot be added up exactly. Received: a scalar. Return one value "
                    "a sample, or say that it is a mean with `loss.mean_over_samples = True`."
                )
            return tf.cast(batch_size(batch), tf.float32), True
        return losses.denominator(values, term.sample_weight, mask, term.loss.reduction), False

    def _denominators(self, batch: Batch, size: tf.Tensor) -> list[tf.Tensor]:
        """Each term's denominator over this replica's share of the step, counted first.

        The forward pass that masks and shapes need is pruned from the graph down to them.
        """

        if self._own_loss:
            return []

        def count(part: Batch) -> list[tf.Tensor]:
            x, y, sample_weight = part
            # Nothing that the model assigns in this pass may last: a stateful layer moves on
            # once a step.
            with keras.StatelessScope():
                y_pred = keras_seams.call(self._model, x, training=False)
                terms = self._terms(y, y_pred, sample_weight)
                return [self._denominator(term, part)[0] for term in terms]

        terms = keras_seams.term_count(self._model, batch[1])
        return _sum_over(batch, size, count, [tf.zeros(())] * terms)

    def _refuse_unknown_denominators(self) -> None:
        if self._own_loss and not getattr(self._model, "mean_over_samples", False):
            what = "micro-batches" if self._cut else "several replicas"
            raise ValueError(
                f"TrainStep: {type(self._model).__name__} has its own `compute_loss`, a scalar "
                f"whose parts cannot be added up exactly. Received: {what}. Give `compile` a "
                "loss with one value a sample, or say that `compute_loss` is a mean over the "
                "samples with `model.mean_over_samples = True`."
            )

    # -- the loop ------------------------------------------------------------------------------

    def _sum_over_parts(
        self,
        batch: Batch,
        size: tf.Tensor,
        scale: tf.Tensor | None,
        shares: Sequence[tf.Tensor],
        samples: tf.Tensor,
    ) -> tuple[list[tf.Tensor | None], tf.Tensor, list[tf.Tensor]]:
        weights = self._model.trainable_variables

        def backward(part: Batch) -> list[tf.Tensor]:
            gradients, loss, terms = self._part(part, shares, samples, scale)
            self._missing = [g is None for g in gradients]
            present = [
                # Over one feature TensorFlow does not infer the shape of a kernel's gradient.
                tf.zeros(w.shape) if g is None else tf.ensure_shape(g, w.shape)
                for g, w in zip(gradients, weights, strict=True)
            ]
            return [*present, loss, *terms]

        zeros = [tf.zeros(w.shape) for w in weights]
        sums = _sum_over(batch, size, backward, [*zeros, *[tf.zeros(())] * (1 + len(shares))])
        gradients = [
            None if missing else g
            for missing, g in zip(self._missing, sums[: len(weights)], strict=True)
        ]
        return gradients, sums[len(weights)], sums[len(weights) + 1 :]


def _sum_over(
    batch: Batch,
    size: tf.Tensor,
    part: Callable[[Batch], list[tf.Tensor]],
    zeros: list[tf.Tensor],
) -> list[tf.Tensor]:
    """sum of `part` over the batch cut into pieces of `size` along the first axis.

    One loop body serves every full piece, so memory is that of one piece; a smaller last piece
    is a second body, as XLA wants to know each shape. Nothing runs beside the loop:
    two pieces' activations at once would be what micro-batches are there to avoid.
    """
    total = batch_size(batch)
    full = total // size
    left_over = total - full * size

    def piece(start: tf.Tensor, extent: tf.Tensor) -> Any:
        return keras.tree.map_structure(
            lambda t: None if t is None else _slice(t, start, extent), batch, none_is_leaf=True
        )

    def body(i: tf.Tensor, *sums: tf.Tensor) -> list[tf.Tensor]:
        new = part(piece(i * size, size))
        return [i + 1, *(s + n for s, n in zip(sums, new, strict=True))]

    _, *sums = tf.while_loop(
        lambda i, *_: i < full, body, [tf.constant(0), *zeros], parallel_iterations=1
    )

    def rest() -> list[tf.Tensor]:
        new = part(piece(full * size, left_over))
        return [s + n for s, n in zip(sums, new, strict=True)]

    known = tf.get_static_value(left_over)
    if known is not None:
        return rest() if known else list(sums)
    return tf.cond(left_over > 0, rest, lambda: list(sums))


def _refuse_late_weights(model: keras.Model, before: list[keras.Variable]) -> None:
    known = {id(variable) for variable in before}
    late = [v.path for v in model.trainable_variables if id(v) not in known]
    if late:
        raise ValueError(
            f"TrainStep: {len(late)} weights were made only by the first training pass, when "
            f"gradients were already asked for without them. Received: {', '.join(late[:3])}. "
            "Make them in the layer's `build`, or call the model once with `training=True` "
            "before `fit`."
        )


def refuse_what_is_not_dense(tensor: Any) -> None:
    """Parts of a batch are cut from dense tensors, and joined from them."""
    if not isinstance(tensor, tf.Tensor):
        raise ValueError(
            "TrainStep: micro-batches, accumulation and replicas are cut from dense tensors. "
            f"Received: {type(tensor).__name__}. Pad the data, or train without them."
        )


def _slice(tensor: tf.Tensor, start: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    refuse_what_is_not_dense(tensor)
    begin = tf.concat([[start], tf.zeros([tf.rank(tensor) - 1], tf.int32)], 0)
    extent = tf.concat([[size], tf.shape(tensor)[1:]], 0)
    cut = tf.slice(tensor, begin, extent)
    static = tf.get_static_value(size)
    cut.set_shape([None if static is None else int(static), *tensor.shape[1:]])
    return cut


def _reduced(tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    return [t for t in all_reduce(list(tensors)) if t is not None]
