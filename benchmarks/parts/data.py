"""Real data, found by the environment variable TFRECIPES_DATA; the project ships none of it."""

import os
from pathlib import Path

import numpy as np
import tensorflow as tf

DEFAULT_FOLDER = Path(__file__).resolve().parents[2].parent / "shared" / "data"
VALIDATION_SHARE = 0.1  # of the text, at its end

Arrays = tuple[np.ndarray, np.ndarray]


class MissingDataError(ValueError):
    """A file that is not where it should be; the message is one sentence."""


def find(name: str) -> Path:
    """The path of a data file.

    Raises:
        MissingDataError: If it is not there.
    """
    folder = Path(os.environ.get("TFRECIPES_DATA") or DEFAULT_FOLDER)
    path = folder / name
    if not path.is_file():
        raise MissingDataError(
            f"benchmarks: the data must be in the folder that TFRECIPES_DATA names. Received: "
            f"no {name} in {folder}. Put it there, or set TFRECIPES_DATA."
        )
    return path


def cifar10(train: int = 20_000, test: int = 5_000) -> tuple[Arrays, Arrays]:
    """CIFAR-10, the first images of each part; the file's order is shuffled.

    Returns:
        (x, y) to train and (x, y) to validate: x float32 (n, 32, 32, 3), each channel with mean 0
        and deviation 1 over the training images; y int64 (n,).
    """
    with np.load(find("cifar10_jpeg.npz")) as archive:
        x, y = _decoded(archive, "train", train)
        x_test, y_test = _decoded(archive, "test", test)
    mean, deviation = x.mean((0, 1, 2)), x.std((0, 1, 2))
    return ((x - mean) / deviation, y), ((x_test - mean) / deviation, y_test)


def _decoded(archive: np.lib.npyio.NpzFile, part: str, images: int) -> Arrays:
    stream, offsets = archive[f"{part}_jpeg"].tobytes(), archive[f"{part}_offsets"]
    images = min(images, len(offsets) - 1)
    x = np.stack(
        [
            tf.io.decode_jpeg(stream[offsets[i] : offsets[i + 1]], channels=3).numpy()
            for i in range(images)
        ]
    )
    return x.astype("float32"), archive[f"{part}_labels"][:images].astype("int64")


def shakespeare(context: int, characters: int | None = None) -> tuple[Arrays, Arrays, int]:
    """Tiny Shakespeare as characters to predict, in windows that do not overlap.

    Args:
        context: Characters in a window.
        characters: How much of the text to use; None = all.

    Returns:
        (x, y) to train, (x, y) to validate (the last tenth of the text), and how many different
        characters there are. x and y are int32 (windows, context); y is x one character on.
    """
    text = find("tinyshakespeare.txt").read_text(encoding="utf-8")
    alphabet = {character: i for i, character in enumerate(sorted(set(text)))}
    codes = np.array([alphabet[character] for character in text[:characters]], "int32")
    cut = len(codes) - round(len(codes) * VALIDATION_SHARE)
    return _windows(codes[:cut], context), _windows(codes[cut:], context), len(alphabet)


def _windows(codes: np.ndarray, context: int) -> Arrays:
    windows = (len(codes) - 1) // context
    used = windows * context
    shape = (windows, context)
    return codes[:used].reshape(shape), codes[1 : used + 1].reshape(shape)
