"""A model tried on one batch: what `check` finds out by running it, and in which order."""

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.doctor import data_checks, label_checks, model_checks, output_checks, short_fits
from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.recording import quiet
from tfrecipes.doctor.references import References, references
from tfrecipes.doctor.rules import Finding
from tfrecipes.doctor.sampled import Sampled
from tfrecipes.doctor.stand_ins import stand_in
from tfrecipes.doctor.telling import pairs, telling
from tfrecipes.doctor.told import not_told, told_but
from tfrecipes.doctor.traced import Result, Traced
from tfrecipes.step import keras_seams

BATCH = 32
_BATCH_VALUES = 1 << 20  # numbers of inputs in the batch that the model is tried on
_MOST_PARAMETERS = 200_000_000  # more, and four copies of them would not fit beside the model
_FIT_SECONDS = 4.0
_TELL_SECONDS = 2.0
# A first fit of fewer steps than this many says nothing, so it is not begun.
_WORTH_BEGINNING = 20


class Trial:
    """One model on one batch; `findings` is walked once.

    Args:
        model: As the user gave it; it is only read.
        sample: The training data.
        held: The validation data, or None.
        outputs: Its labels.
        loss: What `compile` takes, or None where it is not known or cannot be computed.
        loss_weights: Of several outputs.
        own_step: Whether the model trains itself by a step or a loss of its own.
        ends_at: When to be done, of `time.monotonic`.
        is_doomed: Whether nothing can be learnt from the data, so that fitting them tells nothing.

    Attributes:
        skipped: What was not looked at, and why.
        sizes: By output, the root mean square of what the model gives before training.
        far: By input, whether what reaches the first weights is far from unit scale.
    """

    def __init__(
        self,
        model: keras.Model,
        sample: Sampled,
        held: Sampled | None,
        outputs: list[Output],
        loss: Any,
        loss_weights: Any,
        own_step: bool,
        ends_at: float,
        is_doomed: bool = False,
    ) -> None:
        self.model = model
        self.sample = sample
        self.held = held
        self.outputs = outputs
        self.loss = loss
        self.loss_weights = loss_weights
        self.own_step = own_step
        self.ends_at = ends_at
        self.is_doomed = is_doomed
        self.skipped: list[str] = []
        self.far: dict[str, bool] = {}
        self.sizes: dict[str, float] = {}
        self.units_are_dead = False

    def findings(self) -> Iterator[Finding]:
        """Try the model, from what costs least to what costs most."""
        rows = self._rows()
        if not len(rows):
            self.skipped.append("the model: there are too few finite samples for a batch")
            return
        batch = self.sample.take(rows)
        net = stand_in(self.model, batch[0])
        if net is None:
            self.skipped.append(
                "the model: it is not built, and cannot be made from its config. Build it first: "
                "model(x[:1])"
            )
            return
        parameters = sum(int(np.prod(v.shape)) for v in net.trainable_variables)
        if parameters > _MOST_PARAMETERS:
            self.skipped.append(f"the model: {parameters:,} parameters are too many to copy")
            return
        computes = self._computed(net)
        traced = Traced(net, batch, computes)
        try:
            first = traced.look()
        except Exception as error:
            if self.own_step:
                self.skipped.append(f"the model: called on the inputs alone it raises {error}")
            else:
                yield _fails(error, len(rows))
            return
        self._note_ranges(traced, first)
        yield from self._at_start(traced, first, batch)
        if computes is None or not net.trainable_variables:
            if self.own_step:
                self.skipped.append(
                    "gradients and a first fit: the model has a step or a loss of its own"
                )
            yield from _there(model_checks.samples_mixed(traced, batch[0]))
            yield from self._of_telling(None, len(rows))
            return
        yield from self._of_gradients(traced, first, batch)

    def _computed(self, net: keras.Model) -> Callable[..., Any] | None:
        """The loss as f(y, y_pred, sample_weight); None where it cannot be computed."""
        if self.sample.y is None and not self.own_step:
            return lambda y, y_pred, weight=None: tf.zeros(())  # the model's own losses are added
        return None if self.loss is None else self._fresh_loss(net)

    def _fresh_loss(self, net: keras.Model) -> Callable[..., Any]:
        return keras_seams.fresh_loss(net, self.loss, self.loss_weights)

    def _note_ranges(self, traced: Traced, first: Result) -> None:
        for name, layer, place in traced.seen.first_inputs:
            array = first.reaching[place]
            is_id = "Embedding" in type(layer).__name__ or array.dtype.kind != "f"
            far = not is_id and len(array) > 1 and data_checks.range_of(array) is not None
            self.far[name] = self.far.get(name, False) or far

    # -- one pass ----------------------------------------------------------------------------------

    def _at_start(self, traced: Traced, first: Result, batch: Any) -> Iterator[Finding]:
        size = len(first.outputs[0])
        units = model_checks.dead_units(traced, first, size)
        self.units_are_dead = units is not None
        yield from _there(
            model_checks.not_finite(traced, first),
            output_checks.softmax_twice(traced, first),
            model_checks.sixteen_bits(traced),
            model_checks.batch_norm_of_one(traced, self.sample.batch_size),
            units,
            model_checks.dropout(traced),
            model_checks.frozen(traced),
            model_checks.memory(traced, self.sample.batch_size or BATCH, size),
        )
        for output, place in self._places(traced, first, batch):
            prediction = first.outputs[place]
            self.sizes[output.name] = float(np.sqrt(np.mean(np.square(prediction))))
            yield from output_checks.outputs_and_loss(
                output,
                prediction,
                traced.seen.activations[place],
                output_checks.is_probabilities(prediction),
            )
            if self.loss is not None and len(first.outputs) == 1:
                yield from _there(
                    output_checks.loss_broadcasts(
                        self._fresh_loss(traced.model), batch[1], prediction
                    )
                )

    def _places(self, traced: Traced, first: Result, batch: Any) -> list[tuple[Output, int]]:
        """The batch's labels, each with the place of its output among the model's."""
        labels = label_checks.outputs(batch[1], None, self.loss)
        if len(labels) != len(first.outputs):
            return []
        names = list(getattr(traced.model, "output_names", None) or [])
        keys = [output.name[3:-2] for output in labels]
        named = len(labels) > 1 and all(key in names for key in keys)
        if isinstance(batch[1], Mapping) and not named:
            names, named = sorted(keys), True  # a dict of outputs, which Keras flattens sorted
        places = [names.index(key) for key in keys] if named else range(len(labels))
        return [
            (label_checks.with_shape(output, first.outputs[place].shape), place)
            for output, place in zip(labels, places, strict=True)
        ]

    def _references(self, traced: Traced, first: Result, batch: Any) -> References | None:
        places = self._places(traced, first, batch)
        if not places or self.loss is None:
            return None
        if isinstance(batch[1], Mapping):  # a dict is flattened in sorted order
            places.sort(key=lambda place: place[0].name)
        predictions = [first.outputs[place] for _, place in places]
        nested = keras.tree.is_nested(batch[1])
        with quiet():
            return references(
                [output for output, _ in places],
                batch[1],
                keras.tree.pack_sequence_as(batch[1], predictions) if nested else predictions[0],
                [traced.seen.activations[place] for _, place in places],
                self._fresh_loss(traced.model),
            )

    # -- a first fit -------------------------------------------------------------------------------

    def _of_gradients(self, traced: Traced, first: Result, batch: Any) -> Iterator[Finding]:
        size = len(first.outputs[0])
        if self.sample.y is None and not any(traced.seen.connected):
            yield _no_labels(self.sample.rows)
            return
        yield from _there(
            model_checks.without_gradient(traced), model_checks.vanishing(traced, first)
        )
        known = self._references(traced, first, batch)
        if known is not None:
            yield from _there(model_checks.loss_at_start(first, known))
        if not np.isfinite(first.loss) or self.is_doomed:
            self.skipped.append("a first fit: it cannot succeed, as another finding says")
            return
        traced.look()  # the first pass was traced; this one is timed
        left = self.ends_at - time.monotonic()
        fit = None
        if traced.seconds * _WORTH_BEGINNING < left:
            ends_at = min(self.ends_at, time.monotonic() + _FIT_SECONDS)
            fit = short_fits.fit_one_batch(traced, known, ends_at)
            if fit.ended_early and (fit.left is None or fit.left > short_fits.NOT_FITTED):
                self.skipped.append(
                    f"whether one batch can be fitted: there was time for {fit.steps} steps, "
                    f"{short_fits.ENOUGH_STEPS} are needed"
                )
        else:
            self.skipped.append(
                "one batch fitted, inputs zeroed and the learning rate tried: a pass takes "
                f"{traced.seconds:.1f} s, and {max(left, 0):.0f} s were left"
            )
        yield from _there(model_checks.samples_mixed(traced, batch[0]))
        if fit is not None:
            ignored = short_fits.ignored_inputs(traced, fit)
            # Nothing comes in, so nothing moves: the weights are not to blame, unless they are 0.
            dead = short_fits.dead_weights(traced, first, fit, nothing_comes_in=ignored is not None)
            if self.units_are_dead:
                dead = None  # the layer was named already
            yield from _there(dead, ignored, short_fits.not_fitted(fit, known, size))
        yield from _there(short_fits.learning_rate(self.model, traced, fit, known, self.ends_at))
        yield from self._of_telling(None if fit is None else traced, size)

    def _of_telling(self, traced: Traced | None, size: int) -> Iterator[Finding]:
        held = (
            {o.name: o for o in label_checks.outputs(self.held.y, None, self.loss)}
            if self.held is not None
            else {}
        )
        for output in self.outputs:
            other = held.get(output.name)
            other_pairs = (
                None
                if other is None or self.held is None
                else pairs(self.held, other._replace(kind=output.kind))
            )
            told = telling(self.sample, output, other_pairs)
            if told.told is None:
                self.skipped.append(
                    f"whether {output.name} can be told from shuffled labels: {told.why}"
                )
                continue
            if told.told:
                yield from told_but(told, output)
                continue
            by_model = None
            if traced is not None and len(self.outputs) == 1:
                ends_at = time.monotonic() + _TELL_SECONDS
                by_model = short_fits.told_by_model(traced, self.sample, output, size, ends_at)
            if by_model is None or not by_model[0]:
                yield not_told(told, by_model, output)

    def _rows(self) -> np.ndarray:
        """Rows of the batch that the model is tried on: finite, drawn by a fixed seed."""
        sample = self.sample
        rng = np.random.default_rng(0)
        rows = np.arange(sample.rows)
        if sample.rows > 4096:
            rows = np.sort(rng.choice(sample.rows, 4096, replace=False))
        good = np.ones(len(rows), bool)
        for array in (sample.inputs() | sample.labels()).values():
            if array.dtype.kind == "f" and len(array) == sample.rows:
                good &= np.isfinite(array[rows]).reshape(len(rows), -1).all(1)
        width = sum(int(np.prod(a.shape[1:])) for a in sample.inputs().values()) or 1
        size = max(4, min(BATCH, _BATCH_VALUES // width))
        fixed = _fixed_batch(self.model)
        rows = rng.permutation(rows[good])[: fixed or size]
        return rows if fixed is None or len(rows) == fixed else rows[:0]


def _there(*found: Finding | None) -> Iterator[Finding]:
    return (one for one in found if one is not None)


def _fixed_batch(model: keras.Model) -> int | None:
    """The batch size that the model was made for, where it was made for one."""
    tensors = (getattr(model, "inputs", None) or ()) if model.built else ()
    return next((int(t.shape[0]) for t in tensors if t.shape[0] is not None), None)


def _no_labels(rows: int) -> Finding:
    return Finding(
        "label_shape",
        "error",
        f"data: {rows:,} samples have no labels, and the model has no losses of its own.",
        "Nothing says what is to be learnt.",
        "Give (x, y); for an autoencoder (x, x).",
    )


def _fails(error: BaseException, size: int) -> Finding:
    words = " ".join(str(error).split())
    return Finding(
        "model_fails",
        "error",
        f"Model and loss cannot be computed for {size} samples of the data: "
        f"{type(error).__name__}: {words[:400]}",
        "Shapes or types of data, model and loss do not fit.",
        "Call them by hand: y_pred = model(x[:4]); then the loss with y[:4].",
    )
