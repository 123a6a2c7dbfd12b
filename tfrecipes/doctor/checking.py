"""`check`: what is wrong with data and model, before the first step is spent on them."""

import time
from collections.abc import Iterator
from typing import Any

import keras

from tfrecipes.doctor import data_checks, label_checks, output_checks
from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.named_outputs import output_shapes
from tfrecipes.doctor.ranking import ranked
from tfrecipes.doctor.rules import Finding
from tfrecipes.doctor.sampled import Sampled, sampled
from tfrecipes.doctor.trials import Trial
from tfrecipes.step import keras_seams
from tfrecipes.training.inferred_loss import infer_loss

SECONDS = 10.0


def check(model: Any, data: Any, validation_data: Any = None, loss: Any = None) -> list[Finding]:
    """Look for what is wrong with data and model, before training.

    Data are looked at first: values, ranges, features, copies, labels, and whether anything tells
    the labels from shuffled ones. Then one batch is run through the model: the loss at the start
    against that of knowing nothing, gradients, dead units, samples that leak into each other, last
    activation against loss. Then the batch is learnt by heart by a small AdamW, with weights of its
    own. It takes about 10 seconds at most beside tracing; what there was no time for is said.

    Model and data are left bit for bit as they were: weights, optimizer, statistics, metrics,
    seeds, and the shuffles of a tf.data pipeline; also where something raises or Ctrl-C comes.

    Args:
        model: A Keras model, compiled or not, built or not; or a function that makes one.
        data: What `fit` takes: arrays (x, y) or (x, y, sample_weight), a tf.data.Dataset, a
            PyDataset, a DataLoader. A generator is refused: it can be read once.
        validation_data: The same, or None.
        loss: What `compile` takes; None = the compiled one, else inferred from the labels and the
            last activation as `recipe.fit` does.

    Returns:
        Findings: errors and warnings in the order data, learning rate, architecture, the rest, then
        what is worth knowing. An error means that training is bound to fail or has no meaning.

    Raises:
        ValueError: For what is no model, or no data that `fit` takes.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> y = (x[:, 0] > 0).astype("int32")
        >>> x[3, 1] = np.nan
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> found = check(model, (x, y))[0]
        >>> found.rule, found.severity
        ('not_finite', 'error')

    References:
        Karpathy, A Recipe for Training Neural Networks, 2019 (loss at the start, one batch,
        zeroed inputs, leaks by gradients). Schoop et al., UMLAUT, CHI 2021. The shares for copies
        and rare classes are the defaults of DeepChecks and cleanlab.
    """
    with keras_seams.kept_randomness():
        net = _made(model)
        try:
            training = sampled(data)
            validation = (
                None if validation_data is None else sampled(validation_data, "validation_data")
            )
        except ValueError as error:
            if not _is_about_rows(data, validation_data):
                raise
            return [label_checks.refused(str(error), "input_shape")]
        if training.rows == 0 or (validation is not None and validation.rows == 0):
            empty = "data" if training.rows == 0 else "validation_data"
            return [
                label_checks.refused(
                    f"{empty}: there must be samples. Received: arrays with 0 rows. Look at how "
                    "they are read.",
                    "input_shape",
                )
            ]
        with keras_seams.kept_leftovers(net):
            return ranked(_Check(net, training, validation, loss).findings())


class _Check:
    """One call of `check`: what is known so far, in the order in which it is found out."""

    def __init__(
        self, model: keras.Model, training: Sampled, validation: Sampled | None, loss: Any
    ) -> None:
        self.model = model
        self.training = training
        self.validation = validation
        self.loss = loss
        self.loss_weights: Any = None
        self.skipped: list[str] = []
        self.ends_at = time.monotonic() + SECONDS
        self.outputs: list[Output] = []

    def findings(self) -> list[Finding]:
        self._loss_and_outputs()
        found = [*self._of_data(), *self._of_labels()]
        wrong = {finding.rule for finding in found if finding.severity == "error"}
        far: dict[str, bool] = {}
        if "input_shape" in wrong:
            self.skipped.append("the model: the data do not fit it")
        else:
            no_loss = bool(wrong & {"label_shape", "label_range"})
            if no_loss:
                self.skipped.append("what depends on the loss: the labels do not fit it")
            trial = Trial(
                self.model,
                self.training,
                self.validation,
                self.outputs,
                None if no_loss else self.loss,
                self.loss_weights,
                self.own_step,
                self.ends_at,
                is_doomed=bool(wrong & {"constant_features", "one_class"}),
            )
            said = {finding.rule for finding in found}
            found += [
                finding
                for finding in trial.findings()
                if finding.rule != "validation_not_representative" or finding.rule not in said
            ]
            self.skipped += trial.skipped
            # Targets are far from unit scale only for a model that begins there.
            meant = {
                o.name: label_checks.scale(o, "data", trial.sizes.get(o.name)) for o in self.outputs
            }
            found = [
                one
                for one in found
                if one.rule != "targets_not_normalised" or one in meant.values()
            ]
            far = trial.far
        for name, problem in data_checks.ranges(self.training):
            # Whole numbers that nothing is known of are ids.
            ids = self.training.inputs()[name].dtype.kind in "iu"
            if far.get(name, not ids):
                found.append(data_checks.not_normalised(name, problem, "data"))
        if self.skipped:
            found.append(
                Finding(
                    "not_looked_at",
                    "info",
                    f"Not looked at: {'; '.join(self.skipped)}.",
                    "There was too little time, or too little to go by.",
                    "",
                )
            )
        return found

    # -- data --------------------------------------------------------------------------------------

    def _loss_and_outputs(self) -> None:
        net, y = self.model, self.training.y
        self.own_step = keras_seams.has_own_train_step(net) or keras_seams.has_own_compute_loss(net)
        if self.loss is None:
            self.loss, self.loss_weights = keras_seams.given_loss(net)
        if self.loss is None and not self.own_step:
            try:
                self.loss, _ = infer_loss(y, net)
            except ValueError as error:
                self.skipped.append(f"what depends on the loss. {str(error).rstrip('.')}")
        self.outputs = label_checks.outputs(y, output_shapes(net, y), self.loss)

    def _of_data(self) -> Iterator[Finding]:
        net, built = self.model, self.model.built
        shapes = {
            "input_shapes": getattr(net, "input_shape", None) if built else None,
            "output_shapes": output_shapes(net, self.training.y),
        }
        for sample, where in ((self.training, "data"), (self.validation, "validation_data")):
            if sample is None:
                continue
            yield from label_checks.refusals(sample, loss=self.loss, where=where, **shapes)
            yield from _there(data_checks.not_finite(sample, where))
            if where == "data":
                yield from _there(
                    data_checks.constant_features(sample, where),
                    data_checks.repeated_samples(sample, where),
                )
            if sample.endless and where == "data":
                self.skipped.append(f"copies in {where}: it repeats without an end")
            if sample.moved_on:
                self.skipped.append(
                    f"the order of {where}: it could not be copied, so it was read itself, and a "
                    "shuffle in it moved on by one epoch"
                )
        if self.validation is not None:
            yield from _there(
                data_checks.shared_samples(self.training, self.validation),
                data_checks.validation_differs(self.training, self.validation),
            )

    def _of_labels(self) -> Iterator[Finding]:
        for output in self.outputs:
            yield from _there(
                label_checks.one_class(output, "data"),
                label_checks.balance(output, "data"),
                label_checks.order(self.training, output, "data"),
                label_checks.scale(output, "data"),
                label_checks.too_wide(output, "data"),
                output_checks.sigmoids_for_classes(output),
            )
        yield from _there(label_checks.unshuffled(self.training, "data"))
        if self.validation is not None:
            held = label_checks.outputs(self.validation.y, None, self.loss)
            yield from label_checks.validation_labels(self.outputs, held)


def _there(*found: Finding | None) -> Iterator[Finding]:
    return (one for one in found if one is not None)


def _made(model: Any) -> keras.Model:
    if not isinstance(model, keras.Model) and callable(model) and not isinstance(model, type):
        model = model()
    if not isinstance(model, keras.Model):
        raise ValueError(
            "check: `model` must be a Keras model or a function that makes one. "
            f"Received: model={model!r}."
        )
    return model


def _is_about_rows(*data: Any) -> bool:
    """Whether arrays of different lengths were given: what fit refuses and a finding says."""
    for one in data:
        if not isinstance(one, tuple):
            continue
        leaves = [leaf for leaf in keras.tree.flatten(one) if getattr(leaf, "shape", ())]
        if len({int(leaf.shape[0]) for leaf in leaves}) > 1:
            return True
    return False
