"""Can anything tell the true labels from shuffled ones? Two probes that need no model."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.sampled import Sampled

MOST = 2_000  # samples that the probes use
LEAST = 100
_WIDTH = 256  # features after a random projection
_BINS = 512  # for whole numbers: counts of words
_SHUFFLES = 30
_NEIGHBOURS = 10
# Standard deviations of the shuffled scores above their mean: one sample of noise in 30,000.
TOLD = 4.0


class Telling(NamedTuple):
    """How well the probes do with true and with shuffled labels, on held-out samples.

    Args:
        told: Whether one of them tells the labels from shuffled ones; None where it was not tried.
        probe: The better one's name.
        true: Its score with the true labels: a share that is right, or a correlation.
        chance: Its mean score with shuffled ones.
        deviation: The standard deviation of these.
        samples: Samples that it learnt from.
        why: Why it was not tried.
    """

    told: bool | None
    probe: str = ""
    true: float = 0.0
    chance: float = 0.0
    deviation: float = 0.0
    samples: int = 0
    why: str = ""


def telling(sample: Sampled, output: Output) -> Telling:
    """Probe whether the inputs say anything about the labels.

        score(S, y) = how well S y_train predicts y_test          S: (test, train)
        S = X_test (X_train' X_train + a I)^-1 X_train'           ridge regression
        S = 1/10 for the 10 nearest training samples              nearest neighbours

    Both are linear in the labels, so shuffled ones cost a product of matrices. The labels are told
    where the true score is above the mean of 30 shuffled ones by 4 of their standard deviations.

    Args:
        sample: The data.
        output: The labels, of one output.

    Returns:
        The better probe's scores. Its power: with 1,000 test samples and ten equal classes, three
        points of accuracy above chance are seen. What neither a linear map nor neighbours see
        (parity, for one) is not.
    """
    features, y = _pairs(sample, output)
    if features is None or y is None:
        return Telling(None, why="the inputs are not one row of numbers a label")
    keep = np.isfinite(features).all(1) & np.isfinite(y.reshape(len(y), -1)).all(1)
    features, y = features[keep], y[keep]
    if len(features) < LEAST:
        return Telling(None, why=f"{len(features)} samples are too few, {LEAST} are needed")
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(features))[:MOST]
    features, y = _standard(features[rows]), y[rows]
    targets, score = _targets(output, y, rng)
    if targets is None:
        return Telling(None, why="the labels are all the same, or all different")
    cut = len(rows) // 2
    best: Telling | None = None
    for name, smoother in (
        ("ridge regression", _ridge(features[:cut], features[cut:])),
        ("10 nearest neighbours", _nearest(features[:cut], features[cut:])),
    ):
        true = score(smoother @ targets[:cut], targets[cut:])
        shuffled = []
        for _ in range(_SHUFFLES):
            mixed = targets[rng.permutation(len(targets))]
            shuffled.append(score(smoother @ mixed[:cut], mixed[cut:]))
        chance, deviation = float(np.mean(shuffled)), float(np.std(shuffled)) + 1e-12
        one = Telling(true > chance + TOLD * deviation, name, true, chance, deviation, cut)
        if best is None or (true - chance) / deviation > (best.true - best.chance) / best.deviation:
            best = one
    return best or Telling(None, why="no probe ran")


def _pairs(sample: Sampled, output: Output) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Features (samples, features) and labels (samples, ...) that belong to them."""
    inputs = sample.inputs()
    if not inputs or any(len(a) != len(output.y) for a in inputs.values()):
        return None, None
    rows = _spread(len(output.y), 2 * MOST)
    y = output.y[rows]
    per_position = output.kind == "sparse" and y.ndim == 2 and y.shape[1] > 1
    parts = []
    for array in inputs.values():
        some = array[_spread(len(array), 2 * MOST)]
        if per_position:
            if some.shape[:2] != y.shape:
                return None, None
            flat = some.reshape(y.size, -1)
            picked = _spread(y.size, 2 * MOST)
            flat = flat[picked]
            whole = flat.dtype.kind in "iu" and flat.shape[1] == 1
            parts.append(_counts(flat) if whole else flat.astype(np.float64))
            continue
        flat = some.reshape(len(some), -1)
        # Whole numbers of many values are words; grey levels are numbers.
        words = flat.dtype.kind in "iu" and flat.dtype.itemsize > 1 and flat.max(initial=0) > 20
        parts.append(_counts(flat) if words else _narrow(flat.astype(np.float32)))
    if per_position:
        return np.concatenate(parts, 1), y.reshape(-1)[_spread(y.size, 2 * MOST)]
    if output.kind == "sparse" and y.ndim > 1 and y[0].size > 1:
        return None, None  # a map of labels: no row of features belongs to each
    return np.concatenate(parts, 1), y


def _spread(total: int, most: int) -> np.ndarray:
    return np.linspace(0, total - 1, min(total, most)).astype(np.int64)


def _counts(ids: np.ndarray) -> np.ndarray:
    hashed = (ids.astype(np.int64) * 2654435761 >> 7) % _BINS
    counts = np.zeros((len(ids), _BINS))
    np.add.at(counts, (np.arange(len(ids))[:, None], hashed), 1.0)
    return counts


def _narrow(flat: np.ndarray) -> np.ndarray:
    if flat.shape[1] <= 2 * _WIDTH:
        return flat.astype(np.float64)
    rng = np.random.default_rng(1)
    kept = flat
    if flat.shape[1] > 4096:  # a picture of a hundred thousand numbers: every so many-th
        kept = flat[:, _spread(flat.shape[1], 4096)]
    return kept @ (rng.standard_normal((kept.shape[1], _WIDTH)) / np.sqrt(kept.shape[1]))


def _standard(features: np.ndarray) -> np.ndarray:
    spread = features.std(0)
    varied = spread > 0
    features = features[:, varied]
    return (features - features.mean(0)) / spread[varied]


Score = Callable[[np.ndarray, np.ndarray], float]


def _targets(
    output: Output, y: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray | None, Score]:
    ids = None
    if output.kind in ("sparse", "one-hot", "binary", None):
        flat = y.reshape(len(y), -1)
        if flat.shape[1] == 1:
            ids = flat[:, 0]
        elif output.kind == "one-hot":
            ids = flat.argmax(1)
    if ids is not None and (output.kind is not None or y.dtype.kind in "biu"):
        classes, ids = np.unique(ids, return_inverse=True)
        if 1 < len(classes) <= len(y) // 4:
            one_hot = np.eye(len(classes))[ids]
            # Centred: where the features say nothing, no class wins by being frequent.
            return one_hot - one_hot.mean(0), _margin
        if output.kind is not None:
            return None, _margin
    flat = y.reshape(len(y), -1).astype(np.float64)
    flat = flat - flat.mean(0)
    if flat.shape[1] > 16:
        flat = flat @ rng.standard_normal((flat.shape[1], 16))
    return (flat, _correlation) if flat.std() > 0 else (None, _correlation)


def _margin(predicted: np.ndarray, true: np.ndarray) -> float:
    """The mean over classes of the share of each that is predicted as it."""
    found, wanted = predicted.argmax(1), true.argmax(1)
    right = found == wanted
    return float(np.mean([right[wanted == c].mean() for c in np.unique(wanted)]))


def _correlation(predicted: np.ndarray, true: np.ndarray) -> float:
    size = np.sqrt((predicted**2).sum() * (true**2).sum())
    return float((predicted * true).sum() / size) if size else 0.0


def _ridge(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    train = np.c_[train, np.ones(len(train))]
    test = np.c_[test, np.ones(len(test))]
    if train.shape[1] <= len(train):
        gram = train.T @ train + len(train) * 0.1 * np.eye(train.shape[1])
        return test @ np.linalg.solve(gram, train.T)
    gram = train @ train.T + len(train) * 0.1 * np.eye(len(train))
    return np.linalg.solve(gram, train @ test.T).T


def _nearest(train: np.ndarray, test: np.ndarray) -> np.ndarray:
    distance = (test**2).sum(1)[:, None] - 2 * test @ train.T + (train**2).sum(1)
    near = np.argpartition(distance, min(_NEIGHBOURS, len(train) - 1), axis=1)[:, :_NEIGHBOURS]
    smoother = np.zeros((len(test), len(train)))
    np.put_along_axis(smoother, near, 1.0 / near.shape[1], axis=1)
    return smoother
