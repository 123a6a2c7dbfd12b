"""The order of the data is a pure function of (seed, epoch, step); and what `fit` may be given."""

import types
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

BUFFERED_BATCHES = 2  # one being copied while one is trained on; more only costs memory


@dataclass(frozen=True)
class TrainingData:
    """In-memory data as batches, in an order that is known beforehand.

    Args:
        dataset: Endless; its element is (x,), (x, y) or (x, y, sample_weight).
        steps_per_epoch: Batches in which every sample is seen once; the last one may be smaller.
        samples: Rows in the arrays.
        batch_size: Samples in a batch [samples].
        seed: What the order is keyed by, with the epoch's number.
        start_step: Global step of the dataset's first element [steps].
    """

    dataset: tf.data.Dataset
    steps_per_epoch: int
    samples: int
    batch_size: int
    seed: int
    start_step: int


@dataclass(frozen=True)
class Understood:
    """What `data` is, without having read from it.

    Args:
        kind: "arrays", "tf.data", "PyDataset", "DataLoader", "grain" or "generator".
        x: The inputs, or the whole stream where the batches come ready made.
        y: The labels of arrays, else None.
        sample_weight: The weights of arrays, else None.
        samples: Rows, where known.
        steps: Batches in an epoch, where known; None for arrays, whose batch size is a choice.
        endless: Whether a stream says of itself that it never ends.
    """

    kind: str
    x: Any
    y: Any = None
    sample_weight: Any = None
    samples: int | None = None
    steps: int | None = None
    endless: bool = False


def order(seed: int, epoch: int, samples: int, shuffle: bool = True) -> np.ndarray:
    """Return the order in which an epoch sees the samples.

    Args:
        seed: The run's seed, 0 <= seed < 2**63.
        epoch: Number of the epoch, from 0.
        samples: Rows in the data, > 0.
        shuffle: False for the order of the arrays.

    Returns:
        A permutation of 0 .. samples - 1, int64 (samples,).

    Example:
        >>> bool((order(0, 1, 5) == order(0, 1, 5)).all())
        True
        >>> sorted(order(7, 3, 5).tolist())
        [0, 1, 2, 3, 4]
    """
    with tf.device("CPU:0"):
        return _permutation(seed, tf.constant(epoch, tf.int64), samples, shuffle).numpy()


def batches(
    x: Any,
    y: Any = None,
    sample_weight: Any = None,
    *,
    batch_size: int,
    seed: int,
    shuffle: bool = True,
    start_step: int = 0,
) -> TrainingData:
    """Cut arrays into endless batches whose order is a pure function of (seed, epoch, step).

    Step s belongs to epoch s // steps_per_epoch, and the epoch's permutation is keyed by
    (seed, epoch) alone, so a run can go on at any step without reading what came before it. Every
    sample is seen exactly once an epoch: the last batch is the smaller one where `batch_size` does
    not divide the number of samples.

    Unlike `fit` on arrays, a seeded order differs from epoch to epoch, and tf.data's autotuner is
    off: it sleeps, and the end of an epoch waits for that sleep.

    Args:
        x: An array, or a dict, list or tuple of arrays, of equal length.
        y: Labels of the same form, or None.
        sample_weight: Weights of the samples (samples,), of the same form as `y`, or None.
        batch_size: Samples in a batch [samples], >= 1.
        seed: 0 <= seed < 2**63.
        shuffle: False for the order of the arrays, every epoch.
        start_step: Global step of the first batch [steps].

    Returns:
        The dataset and its figures.

    Raises:
        ValueError: For lengths that differ, no samples, or what is no array.

    Example:
        >>> data = batches(np.arange(5), batch_size=2, seed=0, shuffle=False)
        >>> [b[0].tolist() for b in data.dataset.take(4).as_numpy_iterator()]
        [[0, 1], [2, 3], [4], [0, 1]]
        >>> data.steps_per_epoch
        3
    """
    for name, value, least in (
        ("batch_size", batch_size, 1),
        ("seed", seed, 0),
        ("start_step", start_step, 0),
    ):
        whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
        if not (whole and least <= value < 2**63):
            raise ValueError(
                f"batches: `{name}` must be a whole number >= {least}. Received: {name}={value!r}."
            )
    samples = count(x, y, sample_weight)
    if samples == 0:
        raise ValueError("data: there must be samples to train on. Received: arrays with 0 rows.")
    steps_per_epoch = -(-samples // batch_size)
    parts = (x,) if y is None and sample_weight is None else (x, y, sample_weight)
    if len(parts) == 3 and y is None:
        raise ValueError(
            "data: `sample_weight` belongs to labels. Received: y=None. Give the labels too."
        )
    if sample_weight is None:
        parts = parts[:2]
    # Kept on the host, where tf.data's functions run; captured, not embedded as constants, so the
    # graph stays small.
    with tf.device("CPU:0"):
        tensors = keras.tree.lists_to_tuples(keras.tree.map_structure(to_tensor, parts))
    first_epoch, first_batch = divmod(int(start_step), steps_per_epoch)

    def epoch_of_batches(epoch):
        indices = _permutation(seed, epoch, samples, shuffle)  # (samples,)

        def batch(step):
            taken = indices[step * batch_size : (step + 1) * batch_size]
            return keras.tree.map_structure(lambda t: tf.gather(t, taken), tensors)

        begin = tf.where(epoch == first_epoch, tf.constant(first_batch, tf.int64), 0)
        return tf.data.Dataset.range(begin, steps_per_epoch).map(batch)

    dataset = tf.data.Dataset.counter(first_epoch).flat_map(epoch_of_batches)
    dataset = dataset.apply(
        tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    ).prefetch(BUFFERED_BATCHES)
    options = tf.data.Options()
    options.autotune.enabled = False
    options.deterministic = True
    return TrainingData(
        dataset.with_options(options),
        steps_per_epoch,
        samples,
        int(batch_size),
        int(seed),
        int(start_step),
    )


def count(x: Any, y: Any = None, sample_weight: Any = None, where: str = "data") -> int:
    """Return the number of samples in arrays, all of which must agree on it.

    Args:
        x: An array, or a dict, list or tuple of arrays.
        y: The same, or None.
        sample_weight: The same, or None.
        where: What the data are called in an error.

    Raises:
        ValueError: For lengths that differ, or what is no array.
    """
    lengths: dict[str, int] = {}
    for name, part in (("x", x), ("y", y), ("sample_weight", sample_weight)):
        if part is None:
            continue
        for path, leaf in keras.tree.flatten_with_path(part):
            label = name + "".join(f"[{key!r}]" for key in path)
            if not _is_array(leaf):
                raise ValueError(
                    f"{where}: inputs and labels must be arrays. Received: {label} of type "
                    f"{type(leaf).__name__}. Convert it with numpy.asarray."
                )
            if len(leaf.shape) == 0:
                raise ValueError(
                    f"{where}: an array must have one row a sample. Received: {label} without a "
                    "dimension. Put the samples along its first axis."
                )
            lengths[label] = int(leaf.shape[0])
    if not lengths:
        raise ValueError(f"{where}: there must be an array of inputs. Received: x={x!r}.")
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise ValueError(
            f"{where}: all arrays must have the same number of rows. Received: {shown}. "
            "Give one label and one weight for each sample."
        )
    return next(iter(lengths.values()))


def understand(data: Any, sample_weight: Any = None, where: str = "data") -> Understood:
    """Say what `data` is, as `model.fit` would take it, without reading from it.

    A tuple is (x,), (x, y) or (x, y, sample_weight); any other structure of arrays is x alone.
    Batched data keep their batches: one batch is one step.

    Args:
        data: Arrays, a tf.data.Dataset, a PyDataset, a torch DataLoader, a grain loader, or a
            generator of batches.
        sample_weight: Weights for arrays, when they are not in `data`.
        where: What the data are called in an error.

    Raises:
        ValueError: For anything else, or weights that come twice or with a stream.

    Example:
        >>> understand((np.zeros((6, 2)), np.zeros(6))).samples
        6
    """
    stream = _stream(data)
    if stream is not None:
        if sample_weight is not None:
            raise ValueError(
                f"{where}: `sample_weight` is for arrays. Received: a {stream.kind}. "
                "Let its batches be (x, y, sample_weight)."
            )
        return stream
    parts = data if isinstance(data, tuple) else (data,)
    if not 1 <= len(parts) <= 3:
        raise ValueError(
            f"{where}: a tuple must be (x,), (x, y) or (x, y, sample_weight). Received: a tuple of "
            f"{len(parts)}. Put several inputs into a list or a dict."
        )
    x, y, weight = (*parts, None, None)[:3]
    if any(_stream(part) is not None for part in parts):
        raise ValueError(
            f"{where}: a stream of batches holds the labels itself. Received: a tuple of streams. "
            "Give one stream whose batches are (x, y)."
        )
    if sample_weight is not None and weight is not None:
        raise ValueError(
            f"{where}: weights must come once. Received: `sample_weight` beside a weight in the "
            "data. Leave one of them out."
        )
    weight = weight if sample_weight is None else sample_weight
    if x is None:
        raise ValueError(
            f"{where}: there must be inputs. Received: None. Give (x, y), a tf.data.Dataset, a "
            "PyDataset, a DataLoader or a generator."
        )
    return Understood("arrays", x, y, weight, samples=count(x, y, weight, where))


def _permutation(seed: int, epoch: tf.Tensor, samples: int, shuffle: bool) -> tf.Tensor:
    # Not `index_shuffle`, which needs no memory: for up to 65,536 samples it makes only 256 orders
    # a seed, the 257th epoch being the first again. One permutation an epoch takes 9 ms for a
    # million samples. "philox" by name: the automatic choice depends on the device.
    indices = tf.range(samples, dtype=tf.int64)
    if not shuffle:
        return indices
    return tf.random.experimental.stateless_shuffle(
        indices, seed=tf.stack([tf.constant(seed, tf.int64), epoch]), alg="philox"
    )


def _is_array(leaf: Any) -> bool:
    if isinstance(leaf, (str, bytes)) or leaf is None:
        return False
    return hasattr(leaf, "shape") and (
        hasattr(leaf, "__array__") or isinstance(leaf, tf.RaggedTensor)
    )


def to_tensor(leaf: Any) -> Any:
    """Turn an array into a tensor as `fit` does: floats of 64 bits become Keras's float type."""
    if isinstance(leaf, tf.RaggedTensor):
        return leaf
    if hasattr(leaf, "to_numpy") and leaf.ndim == 1:
        leaf = leaf.to_numpy()[:, None]  # a pandas column, as `fit` reads it
    tensor = tf.convert_to_tensor(leaf if isinstance(leaf, tf.Tensor) else np.asarray(leaf))
    return tf.cast(tensor, keras.config.floatx()) if tensor.dtype == tf.float64 else tensor


def _stream(data: Any) -> Understood | None:
    """Recognise batches; by name, as Keras does, so that torch and grain stay unimported."""
    if isinstance(data, (tf.data.Dataset, tf.distribute.DistributedDataset)):
        batches_known = int(data.cardinality()) if isinstance(data, tf.data.Dataset) else -2
        return Understood(
            "tf.data",
            data,
            steps=batches_known if batches_known >= 0 else None,
            endless=batches_known == tf.data.INFINITE_CARDINALITY,
        )
    if isinstance(data, keras.utils.PyDataset):
        steps = data.num_batches
        return Understood("PyDataset", data, steps=steps, endless=steps is None)
    parents = {(cls.__name__, cls.__module__.split(".")[0]) for cls in type(data).__mro__}
    if ("DataLoader", "torch") in parents:
        return Understood(
            "DataLoader",
            data,
            samples=_length(getattr(data, "dataset", None)),
            steps=_length(data),
        )
    if parents & {(name, "grain") for name in ("MapDataset", "IterDataset", "DataLoader")}:
        return Understood("grain", data, steps=_length(data))
    if isinstance(data, types.GeneratorType):
        return Understood("generator", data)
    if isinstance(data, (str, bytes)) or (callable(data) and not isinstance(data, Mapping)):
        raise ValueError(
            f"data: must be arrays or a stream of batches. Received: a {type(data).__name__}. "
            "Give (x, y), a tf.data.Dataset, a PyDataset, a DataLoader or a generator."
        )
    return None


def _length(sized: Any) -> int | None:
    """Return len(), or None for what has none: an iterable torch dataset raises a TypeError."""
    try:
        return len(sized)
    except TypeError:
        return None
