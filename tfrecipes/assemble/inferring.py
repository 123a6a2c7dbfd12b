"""The loss that `recipe.compile` was not given: told from the first batch of the first `fit`."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfrecipes.callbacks.step import StepCallback
from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import Fit
from tfrecipes.training.inferred_loss import infer_loss, infer_metrics

# Where a model keeps, past Keras's tracking, what `compile` needs once the labels are seen.
_HOLDER = "_tfrecipes_compile"


def leave_loss_open(model: keras.Model, arguments: Mapping[str, Any]) -> None:
    """Remember the arguments of `model.compile` until there are labels.

    Args:
        model: The model, compiled without a loss.
        arguments: Of `model.compile`, the optimizer apart.
    """
    keras_seams.set_holder(model, dict(arguments), _HOLDER)


class InferredLoss(StepCallback):
    """Gives a model that `recipe.compile` compiled without a loss the one that its labels mean.

    It does nothing for any other model, nor for data without labels: then the model's own losses
    are minimised.
    """

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        """Compile the model once more, before its step is built; it wants nothing of the plan."""
        arguments = keras_seams.holder_of(self.model, _HOLDER)
        if arguments is None or keras_seams.has_compiled_loss(self.model):
            return {}
        if fit.data_are_one_shot:
            raise ValueError(
                "recipe.compile: `loss` cannot be told from a source that is read once. Received: "
                "loss=None, and a generator in fit. Pass `loss` to recipe.compile."
            )
        labels = self._labels(next(fit.batches()))
        if labels is None:
            return {}
        loss, reason = infer_loss(labels, self.model)
        metrics = arguments["metrics"]
        arguments["metrics"] = infer_metrics(loss) if metrics is None else metrics
        self.model.compile(optimizer=self.model.optimizer, loss=loss, **arguments)
        print(f"Loss: {reason}.")
        return {}

    def _labels(self, batch: Any) -> Any:
        _, y, _ = keras.utils.unpack_x_y_sample_weight(batch)
        if y is None:
            return None
        # Under a strategy a batch is in parts, one a replica.
        parts = self.model.distribute_strategy.experimental_local_results
        return keras.tree.map_structure(lambda leaf: np.asarray(parts(leaf)[0]), y)
