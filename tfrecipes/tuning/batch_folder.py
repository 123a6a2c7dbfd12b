"""What a try is given: how to make the model, some rows of data, settings; in a folder of its own."""

import contextlib
import importlib
import importlib.util
import os
import pickle
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.doctor.sampled import Sampled
from tfrecipes.step import keras_seams
from tfrecipes.training.targets import call_target, load_target

# Rows that are repeated to fill a batch.
MOST_ROWS = 256
MOST_BYTES = 64 * 2**20
_GIVEN, _MODEL = "given.pickle", "model.keras"

Source = dict[str, Any]


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that only this user may read, removed at the end however it comes."""
    path = Path(tempfile.mkdtemp(prefix="tfrecipes-batch-"))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def write(folder: Path, **given: Any) -> None:
    """Write what a try is given: plain Python values and NumPy arrays."""
    with open(folder / _GIVEN, "wb") as file:
        pickle.dump(given, file)


def read(folder: Path) -> dict[str, Any]:
    """What `write` wrote, in the child that it was written for."""
    with open(folder / _GIVEN, "rb") as file:
        return pickle.load(file)


# -- the model -------------------------------------------------------------------------------------


def source_of_function(function: Callable[[], Any]) -> Source | None:
    """How another process finds a function; None where it cannot: a lambda, or one of a script."""
    if not isinstance(function, FunctionType):
        return None
    module, name = function.__module__, function.__qualname__
    if module == "__main__" or "<" in name:
        return None
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not function or importlib.util.find_spec(module) is None:
        return None
    return {"kind": "function", "module": module, "name": name}


def source_of_model(model: keras.Model, folder: Path) -> Source:
    """Save a built model for another process.

    Raises:
        ValueError: If it has classes that another process cannot import, or cannot be saved.
    """
    classes = {type(layer) for layer in (model, *keras_seams.all_layers(model))}
    own = [one for one in classes if one.__module__.split(".")[0] not in ("keras", "tfrecipes")]
    far = sorted(
        one.__qualname__ for one in own if one.__module__ == "__main__" or "<" in one.__qualname__
    )
    if far:
        raise _not_saved(f"{', '.join(far)}, which no other process can import")
    try:
        model.save(folder / _MODEL)
    except OSError:
        raise
    except Exception as error:  # whatever a user's get_config may raise
        raise _not_saved(f"{type(error).__name__}: {' '.join(str(error).split())}") from error
    return {"kind": "saved", "classes": [(one.__module__, one.__qualname__) for one in own]}


def model_from(source: Source, folder: Path, compiled: bool) -> keras.Model:
    """Make the model in the child, as its source says.

    Args:
        source: As one of the functions above, or {"kind": "target", "words": ...}.
        folder: The try's folder.
        compiled: Whether it keeps its own optimizer and loss.
    """
    if source["kind"] == "target":
        return call_target(load_target(source["words"]), source["words"]).model
    if source["kind"] == "function":
        return _named(source["module"], source["name"])()
    objects = {name.split(".")[-1]: _named(module, name) for module, name in source["classes"]}
    load: Any = keras.saving.load_model
    try:
        return load(folder / _MODEL, custom_objects=objects, compile=compiled)
    except (MemoryError, tf.errors.ResourceExhaustedError):
        raise
    except Exception as error:
        raise _not_saved(f"{type(error).__name__}: {' '.join(str(error).split())}") from error


def _named(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _not_saved(received: str) -> ValueError:
    return ValueError(
        "find_batch_size: each try makes the model in a process of its own, from its saved form. "
        f"Received: {received}. Pass a function of an importable module that makes the model."
    )


# -- the loss --------------------------------------------------------------------------------------


def packed_loss(loss: Any) -> bytes:
    """A loss as another process can read it.

    Raises:
        ValueError: If it is not importable there.
    """
    try:
        packed = pickle.dumps(loss)
    except Exception as error:  # whatever a user's class may raise
        raise _loss_stays(f"{type(error).__name__}: {error}") from error
    if b"__main__" in packed:
        raise _loss_stays(f"loss={loss!r} of the main script")
    return packed


def _loss_stays(received: str) -> ValueError:
    return ValueError(
        "find_batch_size: `loss` must be importable by another process. "
        f"Received: {received}. Put it into a module, or name one of Keras's losses."
    )


# -- the data --------------------------------------------------------------------------------------


def some_rows(sample: Sampled) -> tuple[Any, Any, Any]:
    """The first rows of inputs, labels and weights, as arrays of their own type."""
    one = sum(
        np.asarray(leaf[:1]).nbytes
        for part in (sample.x, sample.y, sample.sample_weight)
        if part is not None
        for leaf in keras.tree.flatten(part)
    )
    count = int(max(1, min(sample.rows, MOST_ROWS, MOST_BYTES // max(1, one))))
    x, y, weight = sample.take(np.arange(count))
    refuse_ragged((x, y, weight))
    return x, y, weight


def refuse_ragged(parts: Any) -> None:
    """Micro-batches are cut from dense tensors."""
    if any(isinstance(leaf, tf.RaggedTensor) for leaf in keras.tree.flatten(parts)):
        raise ValueError(
            "find_batch_size: micro-batches are cut from dense tensors. Received: a RaggedTensor. "
            "Pad the data to the longest length that training will meet."
        )


def repeated(part: Any, count: int) -> Any:
    """Rows repeated until there are so many."""
    if part is None:
        return None
    return keras.tree.map_structure(lambda leaf: np.resize(leaf, (count, *leaf.shape[1:])), part)


def environment_of_child() -> dict[str, str]:
    """This process's environment, with its import path, as a child of Python's own would have."""
    path = os.pathsep.join(os.path.abspath(entry) if entry else os.getcwd() for entry in sys.path)
    quiet = {"TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "2")}
    return {**os.environ, **quiet, "PYTHONPATH": path, TRYING: "1"}


# Set in a child: a script that looks for its batch at import would start children without end.
TRYING = "TFRECIPES_TRYING_A_BATCH"
