"""A built stand-in for a model that is not built yet, so that the model itself stays unbuilt."""

import inspect
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.step import keras_seams


def stand_in(model: keras.Model, x: Any) -> keras.Model | None:
    """The model where it is built, else a built copy from its config, None where it has none.

    The copy's weights are drawn anew; layers that are built or adapted already keep theirs.

    Args:
        model: Built or not; it is not changed.
        x: A batch of inputs.
    """
    if model.built and all(layer.built for layer in keras_seams.all_layers(model)):
        return model
    kind = type(model)
    scope = {type(layer).__name__: type(layer) for layer in [model, *keras_seams.all_layers(model)]}
    try:
        with keras.saving.custom_object_scope(scope):
            copy = _from_config(kind, model.get_config())
        ours, theirs = keras_seams.all_layers(model), keras_seams.all_layers(copy)
        if [type(one) for one in ours] != [type(one) for one in theirs]:
            return None
        for one, other in zip(ours, theirs, strict=True):
            _take_over(one, other)
        copy(keras.tree.map_structure(tf.convert_to_tensor, x))
    except Exception:  # whatever a user's get_config or call may raise: there is no copy then
        return None
    return copy


def _from_config(kind: type[keras.Model], config: dict[str, Any]) -> keras.Model:
    try:
        return kind.from_config(config)
    except TypeError:
        # A constructor without **kwargs, which Keras's own config does not suit.
        taken = inspect.signature(kind).parameters
        return kind(**{key: value for key, value in config.items() if key in taken})


def _take_over(source: keras.Layer, target: keras.Layer) -> None:
    """Weights of a layer without layers inside, by the methods that saving uses."""
    if not source.built or not source.variables or keras_seams.all_layers(source):
        return
    if not target.built:
        target.build_from_config(source.get_build_config())
    store: dict[str, Any] = {}
    source.save_own_variables(store)
    target.load_own_variables({key: np.asarray(value) for key, value in store.items()})
