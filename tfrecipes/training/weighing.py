"""Class weights as sample weights in batches that come ready made, from any source."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.training.data import Understood
from tfrecipes.training.labels import class_weights


def weighed(given: Understood, class_weight: Mapping[int, float]) -> tuple[Any, bool]:
    """A stream whose batches carry class weights, multiplied with weights of their own.

    Keras refuses `class_weight` for most streams and beside sample weights, and takes the largest
    entry of a soft label for its class.

    Args:
        given: A stream.
        class_weight: Weight by class; a class that is not in it weighs 1.

    Returns:
        The stream, and whether it has become endless: a loader is read again and again.

    Raises:
        ValueError: For labels that are not classes of one output; in a later batch than the
            first, as TensorFlow passes it on.
    """
    if isinstance(given.x, tf.data.Dataset):
        return given.x.map(_in_graph(class_weight)), given.endless
    if given.kind == "tf.data":
        raise ValueError(
            "recipe.fit: `class_weight` cannot be put into a distributed dataset. Received: "
            f"{type(given.x).__name__}. Put weights into it before it is distributed."
        )
    if given.kind == "PyDataset":
        return _Weighed(given.x, class_weight), given.endless
    if given.kind == "generator":
        return (_weigh(batch, class_weight) for batch in given.x), True
    return _again_and_again(given.x, class_weight), True


def _weigh(batch: Any, class_weight: Mapping[int, float]) -> tuple[Any, Any, Any]:
    x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
    if y is not None and not keras.tree.is_nested(y):
        y = _array(y)
    if sample_weight is not None:
        sample_weight = _array(sample_weight)
    return keras.tree.map_structure(_array, x), y, class_weights(y, class_weight, sample_weight)


def _array(leaf: Any) -> Any:
    return leaf if tf.is_tensor(leaf) else np.asarray(leaf)


def _again_and_again(loader: Any, class_weight: Mapping[int, float]) -> Iterator[Any]:
    while True:
        empty = True
        for batch in loader:
            empty = False
            yield _weigh(batch, class_weight)
        if empty:
            return


class _Weighed(keras.utils.PyDataset):
    """A PyDataset with class weights in its batches; all else is as in the one it wraps."""

    def __init__(self, inner: keras.utils.PyDataset, class_weight: Mapping[int, float]) -> None:
        super().__init__(
            workers=inner.workers,
            use_multiprocessing=inner.use_multiprocessing,
            max_queue_size=inner.max_queue_size,
        )
        self._inner = inner
        self._class_weight = class_weight

    @property
    def num_batches(self) -> Any:  # int, or None where the source never ends
        return self._inner.num_batches

    def __len__(self) -> int:
        return self._inner.num_batches or 0

    def __getitem__(self, index: int) -> Any:
        return _weigh(self._inner[index], self._class_weight)

    def on_epoch_begin(self) -> None:
        self._inner.on_epoch_begin()

    def on_epoch_end(self) -> None:
        self._inner.on_epoch_end()


def _in_graph(class_weight: Mapping[int, float]) -> Callable[..., tuple[Any, Any, Any]]:
    """Class weights as sample weights, inside a tf.data pipeline."""
    if not class_weight:
        raise ValueError("recipe.fit: `class_weight` must name a class. Received: {}.")
    table = tf.constant([float(class_weight.get(i, 1.0)) for i in range(max(class_weight) + 1)])

    def weigh(x: Any, y: Any = None, sample_weight: Any = None) -> tuple[Any, Any, Any]:
        if y is None or keras.tree.is_nested(y):
            raise ValueError(
                "recipe.fit: `class_weight` is for integer or one-hot labels of one output. "
                "Received: data without such labels. Put weights into the data instead."
            )
        if len(y.shape) == 2 and y.shape[1] not in (None, 1):
            # A soft label's largest entry is not its class.
            check = tf.debugging.assert_equal(
                tf.reduce_max(tf.cast(y, tf.float32), 1),
                1.0,
                message="class_weight is for integer or one-hot labels; these are soft.",
            )
            with tf.control_dependencies([check]):
                classes = tf.argmax(y, 1)
        elif len(y.shape) == 1 or (len(y.shape) == 2 and y.shape[1] == 1):
            classes = tf.cast(tf.reshape(y, [-1]), tf.int64)
        else:
            raise ValueError(
                "recipe.fit: `class_weight` is for integer or one-hot labels. Received: labels of "
                f"shape {tuple(y.shape)}. Put weights into the data instead."
            )
        inside = classes < tf.cast(tf.size(table), tf.int64)
        weights = tf.where(inside, tf.gather(table, tf.where(inside, classes, 0)), 1.0)
        if sample_weight is not None:
            weights = weights * tf.cast(tf.reshape(sample_weight, [-1]), weights.dtype)
        return x, y, weights

    return weigh
