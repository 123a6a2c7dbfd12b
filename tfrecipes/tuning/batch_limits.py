"""How much memory a try may take, and whether there is so much."""

import re

import psutil

from tfrecipes.tuning import batch_device
from tfrecipes.tuning.batch_children import in_words

# Of the GPU, to be free before the first try.
_FREE_SHARE = 0.5
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def bytes_of(memory: int | str | None) -> int | None:
    """Bytes of a number or of words; powers of ten, and of two with an "i".

    Raises:
        ValueError: If it is neither, or not above 0.

    Example:
        >>> bytes_of("2GB"), bytes_of("1.5 GiB"), bytes_of(4096)
        (2000000000, 1610612736, 4096)
    """
    if memory is None:
        return None
    found = None
    if isinstance(memory, int) and not isinstance(memory, bool):
        found = memory
    elif isinstance(memory, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", memory.lower())
        if match and not (match[3] and not match[2]):
            unit = _UNITS[match[2]]
            if match[3]:
                unit = 1024 ** (list(_UNITS).index(match[2]))
            found = int(float(match[1]) * unit)
    if found is None or found < 1:
        raise ValueError(
            "find_batch_size: `memory` must be bytes, or words such as '2GB' or '1.5GiB'. "
            f"Received: memory={memory!r}."
        )
    return found


def limit_of(memory: int | str | None, on_gpu: bool) -> int | None:
    """The limit of a try [bytes]; None = the GPU's own.

    Raises:
        ValueError: On a CPU without a limit, or with more than there is; on a GPU that is taken.
    """
    limit = bytes_of(memory)
    if on_gpu:
        _refuse_taken_device(limit)
        return limit
    if limit is None:
        raise ValueError(
            "find_batch_size: on a CPU `memory` must say what the whole process may take at its "
            'peak. Received: memory=None. Give bytes or words such as "2GB".'
        )
    there = psutil.virtual_memory().total
    if limit > there:
        raise ValueError(
            f"find_batch_size: `memory` must be what this machine has at most, {in_words(there)}. "
            f"Received: memory={memory!r}."
        )
    return limit


def _refuse_taken_device(limit: int | None) -> None:
    """TensorFlow takes nearly all of a GPU at its first use: a child would find what is left."""
    seen = batch_device.device_memory()
    if seen is None:
        return
    free, total = seen
    if free < (limit if limit is not None else _FREE_SHARE * total):
        raise ValueError(
            "find_batch_size: the tries need the GPU to themselves. Received: "
            f"{in_words(free)} of {in_words(total)} free; the rest is taken, perhaps by this "
            "process, of which TensorFlow takes nearly all at its first use. Use `tfrecipes "
            "find-batch`, or call tf.config.experimental.set_memory_growth before anything else."
        )
