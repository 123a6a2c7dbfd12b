"""Which of a model's outputs a label belongs to."""

from collections.abc import Mapping
from typing import Any

import keras


def output_shapes(model: keras.Model, y: Any) -> Any:
    """The model's output shapes in the form of its labels; None where the model is not built.

    Args:
        model: The model.
        y: Labels. Where they are a dict, so are the shapes: by the outputs' names, or by the keys of
            the dict of outputs that the model returns, which Keras flattens in sorted order.

    Example:
        >>> import numpy as np
        >>> i = keras.Input((4,))
        >>> outputs = {"price": keras.layers.Dense(1)(i), "kind": keras.layers.Dense(3)(i)}
        >>> output_shapes(keras.Model(i, outputs), {"price": np.ones(8), "kind": np.ones(8)})
        {'kind': (None, 3), 'price': (None, 1)}
    """
    shapes = getattr(model, "output_shape", None) if model.built else None
    if not isinstance(y, Mapping) or not isinstance(shapes, list):
        return shapes
    names = getattr(model, "output_names", None) or []
    if len(shapes) != len(names) or not all(key in names for key in y):
        names = sorted(y)
    return dict(zip(names, shapes, strict=True)) if len(names) == len(shapes) else None
