"""A model run on one batch, with weights of its own: nothing that it does reaches the model.

Every variable is read and written through a `keras.StatelessScope`, so the given model's weights,
statistics, seeds and states are never assigned: an exception or Ctrl-C finds them as they were.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.doctor import graph_walks
from tfrecipes.doctor.recording import Call, quiet, recorded
from tfrecipes.step import keras_seams
from tfrecipes.step.state import host_value

# Layers that bring their input to another scale: what comes before them need not be normalised.
_RESCALING = (
    "Normalization",
    "Rescaling",
    "BatchNormalization",
    "LayerNormalization",
    "GroupNormalization",
    "RMSNormalization",
    "UnitNormalization",
    "SpectralNormalization",
)
_BETA_1, _BETA_2, _EPSILON = 0.9, 0.99, 1e-8


@dataclass
class Seen:
    """What tracing the model told, beside its numbers.

    Args:
        calls: Layers in the order in which they were called.
        activations: By output, the activation that it comes out of; None = not known.
        twice_softmax: Whether an output is a softmax of a softmax.
        output_dtypes: By output.
        connected: Whether each trainable weight has a gradient at all.
        first_inputs: (input's name, layer's name, place in `reaching`) for each layer with weights
            that is the first to be reached from an input.
        stats: (layer's name, whether it ends in a ReLU) for each row of `stats`.
    """

    calls: list[Call] = field(default_factory=list)
    activations: list[str | None] = field(default_factory=list)
    twice_softmax: bool = False
    output_dtypes: list[str] = field(default_factory=list)
    connected: list[bool] = field(default_factory=list)
    first_inputs: list[tuple[str, keras.Layer, int]] = field(default_factory=list)
    stats: list[tuple[str, bool]] = field(default_factory=list)


@dataclass
class Result:
    """The numbers of one pass.

    Args:
        loss: With penalties and the model's own losses.
        data_loss: Without them.
        outputs: The model's outputs, float32.
        gradients: Root mean square of each weight's gradient.
        largest: Largest absolute value of each weight's gradient.
        stats: (layers, 5): standard deviation, largest absolute value, share of units that are 0
            for the whole batch, share of values that are not finite, largest absolute input.
        reaching: What reaches the first layers with weights.
    """

    loss: float
    data_loss: float
    outputs: list[np.ndarray]
    gradients: np.ndarray
    largest: np.ndarray
    stats: np.ndarray
    reaching: list[np.ndarray]


class Traced:
    """A model with weights of its own that one small AdamW or SGD can train.

    Args:
        model: A built model; it is only ever read.
        batch: (x, y, sample_weight), y None without labels.
        loss: f(y, y_pred, sample_weight), or None where there is none.
    """

    def __init__(
        self, model: keras.Model, batch: tuple[Any, Any, Any], loss: Callable[..., Any] | None
    ) -> None:
        self.model = model
        self.batch = batch
        self.seen = Seen()
        self.seconds = 0.0  # of the latest pass
        self._loss = loss
        self._fixed = [
            (v, host_value(v)) for v in model.variables if not _is_in(v, model.trainable_variables)
        ]
        self._initial = [host_value(v) for v in model.trainable_variables]
        self._weights = [tf.Variable(value) for value in self._initial]
        self._moments: list[list[tf.Variable]] = []
        self._count = tf.Variable(0.0)
        self._scale = _scale(model)
        in_graph = not getattr(model, "run_eagerly", False)
        wrap = _Compiled if in_graph else lambda f: f
        self._step = wrap(self._one_step)
        self._infer = wrap(self._inference)

    def restart(self) -> None:
        """Begin again from the model's weights."""
        for weight, value in zip(self._weights, self._initial, strict=True):
            weight.assign(value)
        for moments in self._moments:
            for moment in moments:
                moment.assign(tf.zeros_like(moment))
        self._count.assign(0.0)

    def look(self, batch: tuple[Any, Any, Any] | None = None) -> Result:
        """One pass in training mode, without an update; seeds are the same each time."""
        return self._run(batch, 0.0, plain=False, move=False)

    def step(
        self, rate: float, batch: tuple[Any, Any, Any] | None = None, plain: bool = False
    ) -> Result:
        """One pass and one update of AdamW, or of SGD where `plain`."""
        return self._run(batch, rate, plain=plain, move=True)

    def predict(self, x: Any) -> list[np.ndarray]:
        """Outputs in inference mode."""
        with quiet():
            return [np.asarray(o) for o in self._infer(_tensors(x))]

    def weight_paths(self) -> list[str]:
        """Paths of the trainable weights."""
        return [v.path for v in self.model.trainable_variables]

    def weights(self) -> list[np.ndarray]:
        """Their values before training."""
        return [np.asarray(v) for v in self._initial]

    def trained(self, place: int) -> np.ndarray:
        """A weight's value now."""
        return np.asarray(self._weights[place])

    # -- inside ----------------------------------------------------------------------------------

    def _run(self, batch: Any, rate: float, plain: bool, move: bool) -> Result:
        x, y, weight = self.batch if batch is None else batch
        if not self._moments:
            self._moments = [
                [tf.Variable(tf.zeros(w.shape, tf.float32)) for w in self._weights] for _ in "mv"
            ]
        began = time.monotonic()
        with quiet():
            out = self._step(
                _tensors(x),
                None if y is None else _tensors(y),
                None if weight is None else _tensors(weight),
                tf.constant(rate, tf.float32),
                tf.constant(plain),
                tf.constant(move),
            )
            result = Result(
                float(out[0]),
                float(out[1]),
                [np.asarray(o) for o in out[2]],
                np.asarray(out[3]),
                np.asarray(out[4]),
                np.asarray(out[5]),
                [np.asarray(o) for o in out[6]],
            )
        self.seconds = time.monotonic() - began
        return result

    def _forward(self, x: Any, training: bool) -> tuple[Any, list[Any], list[Call]]:
        mapping = [*zip(self.model.trainable_variables, self._weights, strict=True), *self._fixed]
        with keras.StatelessScope(mapping, collect_losses=True), recorded() as calls:
            outputs = keras_seams.call(self.model, x, training=training)
            own = [tf.reduce_sum(tf.cast(one, tf.float32)) for one in self.model.losses]
        return outputs, own, calls

    def _inference(self, x: Any) -> list[Any]:
        outputs, _, _ = self._forward(x, training=False)
        return [tf.cast(o, tf.float32) for o in keras.tree.flatten(outputs)]

    def _one_step(self, x: Any, y: Any, weight: Any, rate: Any, plain: Any, move: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs, own, calls = self._forward(x, training=True)
            data_loss = tf.zeros(())
            if self._loss is not None and y is not None:
                data_loss = tf.cast(self._loss(y, outputs, weight), tf.float32)
            loss = tf.add_n([data_loss, *own])
            scaled = loss * self._scale
        gradients = tape.gradient(scaled, self._weights) if self._weights else []
        self._note(x, outputs, calls, gradients)
        gradients = [
            tf.zeros(w.shape)
            if g is None
            else tf.cast(tf.convert_to_tensor(g), tf.float32) / self._scale
            for g, w in zip(gradients, self._weights, strict=True)
        ]
        if gradients:
            tf.cond(move, lambda: self._update(gradients, rate, plain), lambda: tf.constant(0.0))
        rms = [tf.sqrt(tf.reduce_mean(tf.square(g))) for g in gradients]
        largest = [tf.reduce_max(tf.abs(g)) for g in gradients]
        return (
            loss,
            data_loss,
            [tf.cast(o, tf.float32) for o in keras.tree.flatten(outputs)],
            tf.stack(rms) if rms else tf.zeros((0,)),
            tf.stack(largest) if largest else tf.zeros((0,)),
            self._statistics(calls),
            self._reaching,
        )

    def _update(self, gradients: list[Any], rate: Any, plain: Any) -> Any:
        count = self._count.assign_add(1.0)
        for w, g, m, v in zip(self._weights, gradients, *self._moments, strict=True):
            m.assign(_BETA_1 * m + (1 - _BETA_1) * g)
            v.assign(_BETA_2 * v + (1 - _BETA_2) * tf.square(g))
            mean = m / (1 - tf.pow(_BETA_1, count))
            square = v / (1 - tf.pow(_BETA_2, count))
            step = tf.where(plain, g, mean / (tf.sqrt(square) + _EPSILON))
            w.assign_sub(tf.cast(rate * step, w.dtype))
        return tf.constant(0.0)

    def _note(self, x: Any, outputs: Any, calls: list[Call], gradients: list[Any]) -> None:
        flat = keras.tree.flatten(outputs)
        here = getattr(flat[0], "graph", None)
        calls = [c for c in calls if all(getattr(t, "graph", None) is here for t in c.outputs)]
        seen = Seen(
            calls=calls,
            activations=[graph_walks.last_activation(o) for o in flat],
            twice_softmax=any(graph_walks.is_softmax_of_softmax(o) for o in flat),
            output_dtypes=[o.dtype.name for o in flat],
            connected=[g is not None for g in gradients],
        )
        self._reaching = []
        if graph_walks.is_graph_tensor(flat[0]):
            self._note_first(x, calls, seen)
        self.seen = seen

    def _note_first(self, x: Any, calls: list[Call], seen: Seen) -> None:
        sources = {
            leaf.name: "x" + "".join(f"[{key!r}]" for key in path)
            for path, leaf in keras.tree.flatten_with_path(x)
        }
        weighted = [
            c for c in calls if c.layer.variables and type(c.layer).__name__ not in _RESCALING
        ]
        walls = {t.name for c in weighted for t in c.outputs}
        for call in weighted:
            for tensor in call.inputs:
                if getattr(tensor, "graph", None) is not call.outputs[0].graph:
                    continue
                for name in sorted(graph_walks.reaches(tensor, sources, walls)):
                    seen.first_inputs.append((name, call.layer, len(self._reaching)))
                    self._reaching.append(tensor)

    def _statistics(self, calls: list[Call]) -> Any:
        rows: list[Any] = []
        self.seen.stats = []
        for call in self.seen.calls:
            for out in call.outputs:
                if not out.dtype.is_floating or out.shape.rank is None or out.shape.rank < 2:
                    continue
                values = tf.cast(out, tf.float32)
                zero = tf.reduce_all(values == 0, axis=list(range(out.shape.rank - 1)))
                finite = tf.math.is_finite(values)
                kept = tf.where(finite, values, 0.0)
                rows.append(
                    tf.stack(
                        [
                            tf.math.reduce_std(kept),
                            tf.reduce_max(tf.abs(kept)),
                            tf.reduce_mean(tf.cast(zero, tf.float32)),
                            1.0 - tf.reduce_mean(tf.cast(finite, tf.float32)),
                            _largest(call.inputs),
                        ]
                    )
                )
                self.seen.stats.append((call.layer.name, graph_walks.is_relu(out)))
        return tf.stack(rows) if rows else tf.zeros((0, 5))


def _largest(inputs: list[Any]) -> Any:
    floats = [t for t in inputs if t.dtype.is_floating]
    return tf.reduce_max(tf.abs(tf.cast(floats[0], tf.float32))) if floats else tf.ones(())


def _is_in(variable: Any, variables: list[Any]) -> bool:
    return any(variable is v for v in variables)


class _Compiled:
    """A function traced once for each form of its arguments.

    Not called as a tf.function: TensorFlow counts its traces over all models that are checked, and
    warns of them.
    """

    def __init__(self, f: Callable[..., Any]) -> None:
        self._f = f
        self._made: dict[Any, Any] = {}

    def __call__(self, *given: Any) -> Any:
        flat = keras.tree.flatten(given)
        form = tuple(str(tf.type_spec_from_value(t)) for t in flat if t is not None)
        tensors = [t for t in flat if t is not None]

        def on_tensors(*tensors: Any) -> Any:
            left = iter(tensors)
            return self._f(
                *keras.tree.pack_sequence_as(given, [t if t is None else next(left) for t in flat])
            )

        if form not in self._made:
            traced = tf.function(on_tensors, autograph=False)
            self._made[form] = traced.get_concrete_function(*tensors)
        return self._made[form](*tensors)


def _scale(model: keras.Model) -> float:
    """Float16 gradients vanish below 6e-8 without a loss scale."""
    half = any(layer.compute_dtype == "float16" for layer in keras_seams.all_layers(model))
    return 1024.0 if half else 1.0


def _tensors(part: Any) -> Any:
    return keras.tree.map_structure(
        lambda leaf: (
            leaf
            if tf.is_tensor(leaf) or isinstance(leaf, tf.RaggedTensor)
            else tf.convert_to_tensor(leaf)
        ),
        part,
    )
