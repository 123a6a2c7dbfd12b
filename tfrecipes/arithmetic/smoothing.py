"""Label smoothing for integer and one-hot labels, in training and not in evaluation."""

import sys
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import keras
from keras import ops

# Names of Keras's two steps, and what autograph calls them when it converts them.
_TRAINING = frozenset({"train_step", "tf__train_step"})
_EVALUATION = frozenset({"test_step", "tf__test_step"})


def evaluating() -> bool:
    """Say whether a loss is being computed by Keras's `test_step`.

    Keras computes the same loss object in `train_step` and `test_step` and tells it nothing of
    which, so the call stack is asked: the innermost of the two decides, and without either it is
    training. It costs nothing on the hot path, as compiled steps call a loss while being traced.
    """
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_name
        if name in _EVALUATION:
            return True
        if name in _TRAINING:
            return False
        frame = frame.f_back
    return False


def check_smoothing(label_smoothing: Any, where: str) -> float:
    """Return `label_smoothing` as a float, or raise a ValueError if it is not in [0, 1)."""
    number = isinstance(label_smoothing, (int, float)) and not isinstance(label_smoothing, bool)
    if not number or not 0 <= label_smoothing < 1:
        raise ValueError(
            f"{where}: `label_smoothing` must be in [0, 1). Received: "
            f"label_smoothing={label_smoothing!r}. 0 turns it off."
        )
    return float(label_smoothing)


@keras.saving.register_keras_serializable(package="tfrecipes")
class SmoothedCrossentropy(keras.losses.Loss):
    """Cross-entropy with label smoothing, for integer, one-hot and soft labels.

        loss = -sum_k q_k log p_k,   q_k = (1 - a) y_k + a / K

    with y the one-hot or soft label over K classes and a = `label_smoothing`. Integer labels are
    never made one-hot: the loss is (1 - a) times the cross-entropy of the label plus a times the
    mean of that of all classes. The arithmetic is float32 (float64 where Keras's float type is).

    Unlike `keras.losses.CategoricalCrossentropy(label_smoothing=...)` it takes integer labels,
    decided by shape, and smooths in training alone: `evaluate` and validation report the plain
    cross-entropy, comparable between runs. A direct call smooths.

    Args:
        label_smoothing: a, in [0, 1).
        from_logits: Whether predictions are logits, not probabilities.
        ignore_class: An integer label that counts nothing, nor in the mean; None for none.
        axis: The axis of the classes in the predictions.
        reduction: As in `keras.losses.Loss`.
        name: Name of the loss.
        dtype: As in `keras.losses.Loss`.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1); at the first call, for shapes that fit
            neither integer nor one-hot labels.

    Example:
        >>> loss = SmoothedCrossentropy(0.1, from_logits=True)
        >>> logits = [[2.0, 0.0, 0.0], [0.0, 3.0, 0.0]]
        >>> integers, one_hot = [0, 1], [[1, 0, 0], [0, 1, 0]]
        >>> round(float(loss(integers, logits)), 4), round(float(loss(one_hot, logits)), 4)
        (0.3339, 0.3339)

    References:
        Szegedy et al., Rethinking the Inception Architecture, 2016.
        https://arxiv.org/abs/1512.00567 (section 7)
    """

    def __init__(
        self,
        label_smoothing: float = 0.1,
        from_logits: bool = False,
        ignore_class: int | None = None,
        axis: int = -1,
        reduction: Any = "sum_over_batch_size",
        name: str = "smoothed_crossentropy",
        dtype: Any = None,
    ):
        super().__init__(name=name, reduction=reduction, dtype=dtype)
        self.label_smoothing = check_smoothing(label_smoothing, "SmoothedCrossentropy")
        self.from_logits = from_logits
        self.ignore_class = ignore_class
        self.axis = axis
        self._with_mask = _WithMask(dtype="float32", autocast=False)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss a prediction: the shape of `y_pred` without the axis of the classes."""
        a = 0.0 if evaluating() else self.label_smoothing
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        if y_pred.dtype not in ("float32", "float64"):
            y_pred = ops.cast(y_pred, "float32")
        if self._are_integers(y_true, y_pred):
            return self._of_integers(y_true, y_pred, a)
        if self.ignore_class is not None:
            raise ValueError(
                f"{self.name}: `ignore_class` is for integer labels. Received: labels of shape "
                f"{tuple(y_true.shape)}. Give integers, or weigh such samples 0."
            )
        y_true = ops.cast(y_true, y_pred.dtype)
        if y_true.shape[self.axis] is None:  # else (n, 1) would be broadcast, not refused
            y_true = ops.reshape(y_true, ops.shape(y_pred))
        if a:
            y_true = (1.0 - a) * y_true + a / y_pred.shape[self.axis]
        # Keras's own operation: it finds the logits of a softmax, and has one kernel for both.
        return ops.categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits, axis=self.axis
        )

    def _are_integers(self, y_true: Any, y_pred: Any) -> bool:
        """Decide by the shapes: Keras has turned integer labels into floats before `call`."""
        labels, predictions = _shape(y_true), _shape(y_pred)
        if labels is not None and predictions:
            classes = predictions[self.axis]
            if classes is not None and classes > 1:
                if len(labels) == len(predictions) - 1:
                    return True
                if len(labels) == len(predictions):
                    if labels[self.axis] == 1:
                        return True
                    if labels[self.axis] in (classes, None):
                        return False
        raise ValueError(
            f"{self.name}: labels must be integers (...,) or one-hot (..., classes) for "
            f"predictions (..., classes) of at least 2 classes. Received: labels of shape "
            f"{_shown(labels)}, predictions of shape {_shown(predictions)}. Check the model's last "
            "layer; for one output use keras.losses.BinaryCrossentropy(label_smoothing=...)."
        )

    def _of_integers(self, y_true: Any, y_pred: Any, a: float) -> Any:
        if len(y_true.shape) == len(y_pred.shape):
            y_true = ops.squeeze(y_true, axis=self.axis)
        if self.axis not in (-1, len(y_pred.shape) - 1):
            y_pred = ops.moveaxis(y_pred, self.axis, -1)
        kept = None
        if self.ignore_class is not None:
            kept = ops.not_equal(y_true, ops.cast(self.ignore_class, y_true.dtype))
            y_true = ops.where(kept, y_true, ops.zeros_like(y_true))
        loss: Any = ops.sparse_categorical_crossentropy(
            y_true, y_pred, from_logits=self.from_logits
        )
        if a:
            # The mean over classes is the cross-entropy of the uniform distribution. As a second
            # call of the fused kernel it is stable, and quicker than log-softmax with a gather
            # (1024 x 8192, two cores: 44 and 73 ms; under XLA 10 and 11).
            uniform = ops.full_like(y_pred, 1.0 / y_pred.shape[-1])
            mean: Any = ops.categorical_crossentropy(uniform, y_pred, from_logits=self.from_logits)
            loss = (1.0 - a) * loss + a * mean
        if kept is not None:
            loss = self._with_mask((ops.where(kept, loss, ops.zeros_like(loss)), kept))
        return loss

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this loss again."""
        return {
            **super().get_config(),
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
            "ignore_class": self.ignore_class,
            "axis": self.axis,
        }


@keras.saving.register_keras_serializable(package="tfrecipes")
class SmoothedInTraining(keras.losses.Loss):
    """A Keras loss that has `label_smoothing` of its own, with it in training alone.

    Args:
        loss: A `keras.losses.BinaryCrossentropy`, `BinaryFocalCrossentropy` or
            `CategoricalFocalCrossentropy`.
        label_smoothing: In [0, 1); for a binary loss, labels are drawn towards 1/2.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1).

    Example:
        >>> loss = SmoothedInTraining(keras.losses.BinaryCrossentropy(from_logits=True), 0.1)
        >>> round(float(loss([[1.0]], [[2.0]])), 4)
        0.2269
    """

    def __init__(self, loss: keras.losses.Loss, label_smoothing: float = 0.1):
        super().__init__(name=loss.name, reduction=loss.reduction, dtype=loss.dtype)
        self.label_smoothing = check_smoothing(label_smoothing, "SmoothedInTraining")
        self.loss = _again(loss, label_smoothing=0.0)
        self._smooth = _again(loss, label_smoothing=self.label_smoothing)

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """Return one loss a prediction."""
        return (self.loss if evaluating() else self._smooth).call(y_true, y_pred)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments that make this loss again."""
        return {
            "loss": keras.saving.serialize_keras_object(self.loss),
            "label_smoothing": self.label_smoothing,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SmoothedInTraining":
        """Make the loss from its configuration."""
        return cls(keras.saving.deserialize_keras_object(config["loss"]), config["label_smoothing"])


class _WithMask(keras.layers.Layer):
    """Gives values a mask, by which `Loss.__call__` knows which of them count.

    A layer's `compute_mask` is the one public way to set a mask.
    """

    def call(self, values_and_mask: Any) -> Any:
        return values_and_mask[0]

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return inputs[1]


class Smoothing(NamedTuple):
    """What became of a loss.

    Args:
        loss: The loss to compile with, or None where nothing can be smoothed.
        reason: A sentence for the summary: what is smoothed, what is not and why.
    """

    loss: Any
    reason: str


def smoothed(loss: Any, label_smoothing: float = 0.1) -> Smoothing:
    """Return the smoothed twin of a Keras cross-entropy: same arguments, name and reduction.

    Args:
        loss: Whatever `compile(loss=...)` takes: a name, a function, an object, a configuration,
            or a list, tuple or dict of these, in which what cannot be smoothed stays as it is.
        label_smoothing: In [0, 1).

    Returns:
        The twin and a sentence; the twin is None where nothing can be smoothed.

    Raises:
        ValueError: If `label_smoothing` is not in [0, 1), or a name is no Keras loss.

    Example:
        >>> smoothed("sparse_categorical_crossentropy").loss.from_logits
        False
        >>> smoothed("mse").reason
        "not smoothed: mse is none of Keras's cross-entropies"
    """
    check_smoothing(label_smoothing, "smoothed")
    if isinstance(loss, Mapping) and "class_name" not in loss:
        twins = {key: smoothed(part, label_smoothing) for key, part in loss.items()}
        return _together(loss, twins, lambda kept: {key: kept[key] for key in loss})
    if isinstance(loss, (list, tuple)):
        twins = {n: smoothed(part, label_smoothing) for n, part in enumerate(loss)}
        return _together(
            dict(enumerate(loss)), twins, lambda kept: type(loss)(kept[n] for n in range(len(loss)))
        )
    if loss is None:
        return Smoothing(None, "not smoothed: there is no loss")
    if label_smoothing == 0:
        return Smoothing(None, "not smoothed: label smoothing is 0")
    if isinstance(loss, str) and loss.lower() in ("crossentropy", "ce"):
        return Smoothing(
            None,
            f"not smoothed: {loss!r} leaves open which cross-entropy it is; name it, such as "
            "'sparse_categorical_crossentropy'",
        )
    found: Any = keras.losses.get(loss)
    name = loss if isinstance(loss, str) else _name(found)
    losses = keras.losses
    if isinstance(found, (SmoothedCrossentropy, SmoothedInTraining)) or getattr(
        found, "label_smoothing", 0
    ):
        return Smoothing(
            None, f"not smoothed: {name} has label_smoothing {found.label_smoothing:g} of its own"
        )
    if not isinstance(found, losses.Loss):
        made = {
            losses.sparse_categorical_crossentropy: losses.SparseCategoricalCrossentropy,
            losses.categorical_crossentropy: losses.CategoricalCrossentropy,
            losses.binary_crossentropy: losses.BinaryCrossentropy,
            losses.binary_focal_crossentropy: losses.BinaryFocalCrossentropy,
            losses.categorical_focal_crossentropy: losses.CategoricalFocalCrossentropy,
        }.get(found)
        if made is None:
            return Smoothing(None, f"not smoothed: {name} is none of Keras's cross-entropies")
        found = made(name=name)
    if type(found) in (losses.SparseCategoricalCrossentropy, losses.CategoricalCrossentropy):
        twin = SmoothedCrossentropy(
            label_smoothing,
            from_logits=getattr(found, "from_logits", False),
            ignore_class=getattr(found, "ignore_class", None),
            axis=getattr(found, "axis", -1),
            reduction=found.reduction,
            name=found.name,
            dtype=found.dtype,
        )
    elif type(found) in (
        losses.BinaryCrossentropy,
        losses.BinaryFocalCrossentropy,
        losses.CategoricalFocalCrossentropy,
    ):
        twin = SmoothedInTraining(found, label_smoothing)
    elif isinstance(found, (losses.CategoricalCrossentropy, losses.BinaryCrossentropy)) or (
        "crossentropy" in type(found).__name__.lower()
    ):
        return Smoothing(None, f"not smoothed: {name} is not Keras's own class")
    else:
        return Smoothing(None, f"not smoothed: {name} is none of Keras's cross-entropies")
    return Smoothing(twin, f"{name} smoothed by {label_smoothing:g}, not in evaluation")


def _together(
    losses: Mapping[Any, Any], twins: Mapping[Any, Smoothing], pack: Callable[[dict], Any]
) -> Smoothing:
    reason = "; ".join(f"{key}: {twin.reason}" for key, twin in twins.items())
    if all(twin.loss is None for twin in twins.values()):
        return Smoothing(None, reason or "not smoothed: there is no loss")
    kept = {key: losses[key] if twin.loss is None else twin.loss for key, twin in twins.items()}
    return Smoothing(pack(kept), reason)


def _again(loss: keras.losses.Loss, **changes: Any) -> keras.losses.Loss:
    return type(loss)(**{**loss.get_config(), "dtype": loss.dtype, **changes})


def _name(loss: Any) -> str:
    if isinstance(loss, keras.losses.Loss):
        return type(loss).__name__
    return getattr(loss, "__name__", type(loss).__name__)


def _shape(tensor: Any) -> tuple | None:
    """Return the static shape, or None where not even the rank is known."""
    shape = tensor.shape
    return None if getattr(shape, "rank", 0) is None else tuple(shape)


def _shown(shape: tuple | None) -> str:
    return "unknown" if shape is None else str(shape)
