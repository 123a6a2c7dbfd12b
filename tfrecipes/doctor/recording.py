"""Which layers a model calls, with what and to what: noted while it is called."""

import contextlib
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf


@dataclass
class Call:
    """One call of a layer without layers inside.

    Args:
        layer: The layer.
        inputs: The tensors that it was given.
        outputs: Those that it gave.
    """

    layer: keras.Layer
    inputs: list[Any]
    outputs: list[Any]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without warnings: what Keras and TensorFlow warn of while tracing, a finding says."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def recorded() -> Iterator[list[Call]]:
    """Note every call, in this thread, of a layer that calls no other layer."""
    calls: list[Call] = []
    inside = [0]  # calls of other layers seen by each layer that is being called
    stock, thread = keras.Layer.__call__, threading.get_ident()

    def noted(layer: keras.Layer, *args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != thread:
            return stock(layer, *args, **kwargs)
        inside[-1] += 1
        inside.append(0)
        try:
            outputs = stock(layer, *args, **kwargs)
        finally:
            nested = inside.pop()
        if not nested:
            given = [t for t in keras.tree.flatten((args, kwargs)) if tf.is_tensor(t)]
            made = [t for t in keras.tree.flatten(outputs) if tf.is_tensor(t)]
            if made:
                calls.append(Call(layer, given, made))
        return outputs

    keras.Layer.__call__ = noted  # type: ignore[method-assign]
    try:
        yield calls
    finally:
        keras.Layer.__call__ = stock  # type: ignore[method-assign]
