"""Can anything tell the true labels from shuffled ones? Two probes that need no model."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.sampled import Sampled

MOST = 2_000  # samples that the probes use
LEAST = 100
_WIDTH = 256  # features after a random projection
_BINS = 512  # for whole numbers: counts of words
_SHUFFLES = 30
_NEIGHBOURS = 10
_OF_A_CLASS = 20
# Standard deviations of the shuffled scores above their mean: one sample of noise in 30,000.
TOLD = 4.0
# A probe this many times as good as chance knows enough for its errors to mean something.
INFORMED = 2.0
# A score has to be this much above chance to be seen; where it would take more, nothing is said.
# Few words are in both halves of few texts, so that even a true label may tell little.
WEAKEST = 0.3
WEAKEST_OF_WORDS = 0.12

Pairs = tuple[np.ndarray | None, np.ndarray | None]


class Telling(NamedTuple):
    """How well the probes do with true and with shuffled labels, on held-out samples.

    Args:
        told: Whether one of them tells the labels from shuffled ones; None where it was not tried.
        probe: The better one's name.
        true: Its score with the true labels: a share that is right, or a correlation.
        chance: Its mean score with shuffled ones.
        deviation: The standard deviation of these.
        samples: Samples that it learnt from.
        noise: The share of labels that look as if drawn at random, where that can be said.
        elsewhere: The score on validation data, where there are any.
        why: Why it was not tried.
    """

    told: bool | None
    probe: str = ""
    true: float = 0.0
    chance: float = 0.0
    deviation: float = 0.0
    samples: int = 0
    noise: float | None = None
    elsewhere: float | None = None
    why: str = ""


def telling(sample: Sampled, output: Output, held: Pairs | None = None) -> Telling:
    """Probe whether the inputs say anything about the labels.

        score(S, y) = how well S y_train predicts y_test          S: (test, train)
        S = X_test (X_train' X_train + a I)^-1 X_train'           ridge regression
        S = 1/10 for the 10 nearest training samples              nearest neighbours

    Both are linear in the labels, so shuffled ones cost a product of matrices. The labels are told
    where the true score is above the mean of 30 shuffled ones by 4 of their standard deviations.

    Args:
        sample: The data.
        output: The labels, of one output.
        held: Features and labels of validation data, from `pairs`.

    Returns:
        The better probe's scores. Its power: with 1,000 test samples and ten equal classes, three
        points of accuracy above chance are seen. What neither a linear map nor neighbours see
        (parity, for one) is not.
    """
    features, y = pairs(sample, output)
    if features is None or y is None:
        return Telling(None, why="the inputs are not one row of numbers a label")
    keep = np.isfinite(features).all(1) & np.isfinite(y.reshape(len(y), -1)).all(1)
    features, y = features[keep], y[keep]
    positions = y.ndim == output.y.ndim
    if positions:  # positions of a text do repeat, and how often is what they tell
        features, y = _each_once(features, y)
    features, y = _frequent(output, features, y)
    if len(features) < LEAST:
        return Telling(
            None, why=f"{len(features)} different samples are too few, {LEAST} are needed"
        )
    rng = np.random.default_rng(0)
    rows = rng.permutation(len(features))[:MOST]
    features, y = features[rows], y[rows]
    others, their_y = _comparable(held, features, y, positions)
    cut = len(rows) // 2
    features = _standard(np.concatenate([features, others]), len(features))
    features, others = features[: len(rows)], features[len(rows) :]
    both, score = _targets(output, np.concatenate([y, their_y]), len(y), rng)
    if both is None:
        return Telling(None, why="the labels are all the same, or all different")
    targets, theirs = both[: len(y)], both[len(y) :]
    best: Telling | None = None
    for name, make in (("ridge regression", _ridge), ("10 nearest neighbours", _nearest)):
        smoother = make(features[:cut], np.concatenate([features[cut:], others]))
        guesses = smoother @ targets[:cut]
        smoother, elsewhere = smoother[: len(y) - cut], guesses[len(y) - cut :]
        guesses = guesses[: len(y) - cut]
        true = score(guesses, targets[cut:])
        shuffled = []
        for _ in range(_SHUFFLES):
            mixed = targets[rng.permutation(len(targets))]
            shuffled.append(score(smoother @ mixed[:cut], mixed[cut:]))
        chance, deviation = float(np.mean(shuffled)), float(np.std(shuffled)) + 1e-12
        one = Telling(true > chance + TOLD * deviation, name, true, chance, deviation, cut)
        # A probe that hardly knows anything errs in all directions, whatever the labels are.
        if score is _balanced_accuracy and true > INFORMED * chance:
            one = one._replace(noise=_noise(guesses, targets[cut:]))
        if len(theirs):
            one = one._replace(elsewhere=score(elsewhere, theirs))
        if best is None or (true - chance) / deviation > (best.true - best.chance) / best.deviation:
            best = one
    if best is None:
        return Telling(None, why="no probe ran")
    words = any(_are_words(array) for array in sample.inputs().values())
    blind = TOLD * best.deviation
    if not best.told and blind > (WEAKEST_OF_WORDS if words else WEAKEST):
        seen = f"{best.chance + blind:.2f}, where shuffled ones give {best.chance:.2f}"
        return best._replace(told=None, why=f"with {2 * cut} samples only scores above {seen}")
    return best


def pairs(sample: Sampled, output: Output) -> Pairs:
    """Features (samples, features) and labels (samples, ...) that belong to them, or (None, None)."""
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
        parts.append(_counts(flat) if _are_words(flat) else _narrow(flat.astype(np.float32)))
    if per_position:
        return np.concatenate(parts, 1), y.reshape(-1)[_spread(y.size, 2 * MOST)]
    if output.kind == "sparse" and y.ndim > 1 and y[0].size > 1:
        return None, None  # a map of labels: no row of features belongs to each
    return np.concatenate(parts, 1), y


def _are_words(array: np.ndarray) -> bool:
    """Whole numbers of many values are words; grey levels are numbers."""
    whole = array.dtype.kind in "iu" and array.dtype.itemsize > 1
    return whole and int(array.max(initial=0)) > 20


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


def _each_once(features: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without copies: with them on both sides, neighbours would only remember."""
    keys = features @ np.random.default_rng(4).standard_normal(features.shape[1])
    first = np.sort(np.unique(keys, return_index=True)[1])
    # Few different inputs are all there is of some data, and no copies of each other's files.
    return (features, y) if len(first) < LEAST else (features[first], y[first])


def _frequent(output: Output, features: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Without classes of fewer than 20 samples, of which too few would be in either half."""
    ids = output._replace(y=y).ids()
    if ids is None or not len(ids):
        return features, y
    classes, places, counts = np.unique(ids, return_inverse=True, return_counts=True)
    enough = (counts >= _OF_A_CLASS)[places]
    if len(classes) > len(ids) // 4:
        return features, y  # no classes, as it seems: `_targets` says what they are
    return (
        (features[enough], y[enough])
        if (counts >= _OF_A_CLASS).sum() > 1
        else (features[:0], y[:0])
    )


def _standard(features: np.ndarray, ours: int) -> np.ndarray:
    mean, spread = features[:ours].mean(0), features[:ours].std(0)
    varied = spread > 0
    return (features[:, varied] - mean[varied]) / spread[varied]


def _comparable(held: Pairs | None, features: np.ndarray, y: np.ndarray, positions: bool) -> Any:
    """Validation features and labels that can stand beside those of training; empty if none can."""
    nothing = features[:0], y[:0]
    if held is None or held[0] is None or held[1] is None or len(held[0]) < LEAST:
        return nothing
    if held[0].shape[1:] != features.shape[1:] or held[1].shape[1:] != y.shape[1:]:
        return nothing
    others, theirs = held[0], held[1]
    if positions:
        others, theirs = _each_once(others, theirs)  # as in training
    good = np.isfinite(others).all(1) & np.isfinite(theirs.reshape(len(theirs), -1)).all(1)
    rows = np.random.default_rng(3).permutation(np.flatnonzero(good))[: MOST // 2]
    return others[rows], theirs[rows]


Score = Callable[[np.ndarray, np.ndarray], float]


def _targets(
    output: Output, y: np.ndarray, ours: int, rng: np.random.Generator
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
        if 1 < len(classes) <= ours // 4:
            one_hot = np.eye(len(classes))[ids]
            # Centred: where the features say nothing, no class wins by being frequent.
            return one_hot - one_hot[:ours].mean(0), _balanced_accuracy
        if output.kind is not None:
            return None, _balanced_accuracy
    flat = y.reshape(len(y), -1).astype(np.float64)
    flat = flat - flat[:ours].mean(0)
    if flat.shape[1] > 16:
        flat = flat @ rng.standard_normal((flat.shape[1], 16))
    return (flat, _correlation) if flat.std() > 0 else (None, _correlation)


def _noise(guesses: np.ndarray, true: np.ndarray) -> float | None:
    """The share of labels drawn at random, where the wrong guesses look like nothing else.

    A hard task confuses certain classes with certain others. Where the labels that a guess misses
    are spread over the other classes as the classes are over all samples, by a chi-squared test
    for every guessed class, they are as if drawn at random.
    """
    guessed, labels = guesses.argmax(1), true.argmax(1)
    classes = true.shape[1]
    missed = guessed != labels
    if classes < 4 or missed.mean() < 0.2 or missed.sum() < 100:
        return None
    frequency = np.bincount(labels, minlength=classes) / len(labels)
    chi2 = freedom = 0.0
    for c in range(classes):
        seen = np.bincount(labels[missed & (guessed == c)], minlength=classes).astype(float)
        others = (np.arange(classes) != c) & (frequency > 0)
        expected = frequency[others] / frequency[others].sum() * seen.sum()
        if seen.sum() < 20 or expected.size < 2:
            continue
        chi2 += float(((seen[others] - expected) ** 2 / expected).sum())
        freedom += expected.size - 1
    if freedom < 6 or chi2 > freedom + 3 * np.sqrt(2 * freedom):
        return None
    # A label drawn at random is the guessed one in one case of as many as there are classes.
    return float(min(1.0, missed.mean() * classes / (classes - 1)))


def _balanced_accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
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
