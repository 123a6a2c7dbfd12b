"""A model that is trained for a moment and is then, bit for bit, what it was before."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.step import keras_seams
from tfrecipes.step.state import host_value


class Snapshot:
    """Values of variables, to be put back as often as one likes.

    Args:
        variables: Keras's or TensorFlow's, on one device or many; strings among them too.
    """

    def __init__(self, variables: list[Any]) -> None:
        self._kept = [(v, tf.identity(host_value(v))) for v in variables]

    def restore(self) -> None:
        """Assign every variable its value from the time of the snapshot."""
        for variable, value in self._kept:
            raw = variable.value if isinstance(variable, keras.Variable) else variable
            raw.assign(value)


def variables_of(model: keras.Model) -> list[Any]:
    """Whatever training a model may move, each once, its compiled optimizer apart.

    Weights, BatchNorm's statistics, seeds, metrics, states of recurrent layers; optimizers that
    the model holds itself, as a GAN does; TensorFlow's variables in a layer's lists and dicts.
    """
    found = [*model.variables, *keras_seams.recurrent_states(model), *model.metrics_variables]
    compiled = getattr(model, "optimizer", None)
    for layer in (model, *keras_seams.all_layers(model)):
        for held in _held(layer):
            if isinstance(held, tf.Variable):
                found.append(held)
            elif isinstance(held, keras.optimizers.Optimizer) and held is not compiled:
                found += held.variables
    return list({id(v): v for v in found}.values())


def _held(layer: keras.Layer) -> Iterator[Any]:
    """Attributes of a layer, and what is in those that are lists, tuples and dicts."""
    for value in list(vars(layer).values()):
        if isinstance(value, (list, tuple)):
            yield from value
        elif isinstance(value, dict):
            yield from value.values()
        else:
            yield value


@contextlib.contextmanager
def kept(model: keras.Model) -> Iterator[None]:
    """Compile and train a model inside as you like: afterwards it is bitwise as it was.

    Put back are: every variable of the model and of its compiled optimizer, loss scale included;
    the compiled state (optimizer, loss, metrics, train functions), `history`, `stop_training`, our
    step with its averages; and every generator of random numbers. Also where the body raises,
    and after Ctrl-C; a second one, while things are put back, is raised when they are.

    Variables of an optimizer that the body compiles are that optimizer's own.

    Args:
        model: A built model.

    Raises:
        ValueError: If the model is not built: nobody could take its variables away again.

    Example:
        >>> model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        >>> before = model.get_weights()[0].copy()
        >>> with kept(model):
        ...     model.compile("sgd", "mse")
        ...     history = model.fit(tf.ones((4, 1)), tf.ones((4, 1)), verbose=0)
        >>> bool((model.get_weights()[0] == before).all()), hasattr(model, "optimizer")
        (True, False)
    """
    if not model.built:
        raise ValueError(
            "kept: the model must have its variables. Received: a model that is not built. Call "
            "it on a batch first."
        )
    optimizer = getattr(model, "optimizer", None)
    variables = [*variables_of(model), *(() if optimizer is None else optimizer.variables)]
    snapshot = Snapshot(list({id(v): v for v in variables}.values()))
    with (
        _interrupts_afterwards() as hold,
        keras_seams.kept_randomness(),
        keras_seams.kept_leftovers(model),
        keras_seams.kept_compilation(model),
    ):
        try:
            # A step of its own inside: the one that is put aside would be changed from within.
            _forget_step(model)
            yield
        finally:
            try:
                hold()
            finally:
                snapshot.restore()


def _forget_step(model: keras.Model) -> None:
    if (step := keras_seams.holder_of(model)) is not None:
        step.remove()
        keras_seams.set_holder(model, None)


@contextlib.contextmanager
def _interrupts_afterwards() -> Iterator[Callable[[], None]]:
    """Ctrl-C is raised once inside; after it, and after `hold()`, further ones wait for the end.

    Half of the weights put back would be the worst of both.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield lambda: None  # signals arrive in the main thread alone
        return
    waiting: list[tuple[Any, ...]] = []
    holds = [False]

    def hold() -> None:
        holds[0] = True

    def handle(*given: Any) -> None:
        if holds[0]:
            waiting.append(given)
            return
        hold()
        before(*given)

    signal.signal(signal.SIGINT, handle)
    try:
        yield hold
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            before(*waiting[0])
