"""Weights in groups by layer, at most so many, and the two norms of each that a run records.

The step sums squares by group (`sums_of`); whoever reads them takes the roots (`norms_of`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf

# More curves than this are a picture nobody reads, and a wide file.
MOST_GROUPS = 40


@dataclass(frozen=True)
class Group:
    """Weights that are looked at as one.

    Attributes:
        name: The layer's path, or what several layers' paths have in common.
        places: Where its weights stand in the list that was grouped.
    """

    name: str
    places: tuple[int, ...]


def groups(paths: Sequence[str], most: int = MOST_GROUPS) -> tuple[Group, ...]:
    """Group weights by the layer that owns them, and layers by the prefix that they share.

    A weight's layer is its path without the last part, and without what all paths begin with. Where that makes too many groups the
    deepest paths are cut by a part, again and again; layers of one level that are still too many
    are joined with their neighbours, "first..last".

    Args:
        paths: The weights' paths, in their order.
        most: Groups at most, >= 1.

    Returns:
        The groups in the order of their first weights; each weight is in exactly one.

    Example:
        >>> paths = ["a/conv/kernel", "a/conv/bias", "a/norm/gamma", "head/kernel"]
        >>> [group.name for group in groups(paths)]
        ['a/conv', 'a/norm', 'head']
        >>> groups(paths, most=2)
        (Group(name='a', places=(0, 1, 2)), Group(name='head', places=(3,)))
    """
    owners = [path.rpartition("/")[0] or path for path in paths]
    while owners and all("/" in o for o in owners) and len({o.split("/")[0] for o in owners}) == 1:
        owners = [o.partition("/")[2] for o in owners]  # a Sequential's own name is in every path
    while len(set(owners)) > most and (depth := max(o.count("/") for o in owners)):
        owners = [o.rpartition("/")[0] if o.count("/") == depth else o for o in owners]
    found: dict[str, list[int]] = {}
    for place, owner in enumerate(owners):
        found.setdefault(_readable(owner), []).append(place)
    if len(found) > most:
        found = _neighbours(found, most)
    return tuple(Group(name, tuple(places)) for name, places in found.items())


def _neighbours(found: dict[str, list[int]], most: int) -> dict[str, list[int]]:
    names, joined = list(found), {}
    size = -(-len(names) // most)
    for start in range(0, len(names), size):
        block = names[start : start + size]
        name = block[0] if len(block) == 1 else f"{block[0]}..{block[-1]}"
        joined[name] = sorted(place for one in block for place in found[one])
    return joined


def _readable(name: str) -> str:
    """A name that can be a column's: without comma, quote or line break."""
    return "".join("_" if ch in ',"\r\n' else ch for ch in name)


def names(found: Sequence[Group]) -> tuple[str, ...]:
    """The columns of a row of `norms_of`, in order."""
    return tuple(f"{what}/{g.name}" for what in ("grad_norm", "update_ratio") for g in found)


def sums_of(
    found: Sequence[Group],
    with_gradient: Sequence[int],
    gradients: tf.Tensor,
    weights: tf.Tensor,
    updates: tf.Tensor,
) -> tf.Tensor:
    """Each group's |g|^2 / 2, then each group's |w|^2 / 2, then |w_new - w_old|^2 / 2.

    Args:
        found: The groups.
        with_gradient: The places of the weights that have a gradient.
        gradients: `norms.halves` of those gradients.
        weights: `norms.halves` of all weights.
        updates: `norms.halves` of all updates.

    Returns:
        float32 (3 groups,).
    """
    count = len(found)
    owners = {place: number for number, group in enumerate(found) for place in group.places}
    each = [owners[place] for place in sorted(owners)]
    ids = [
        *(owners[place] for place in with_gradient),
        *(count + owner for owner in each),
        *(2 * count + owner for owner in each),
    ]
    halves = tf.concat([gradients, weights, updates], 0)
    return tf.math.unsorted_segment_sum(halves, tf.constant(ids, tf.int32), 3 * count)


def norms_of(sums: np.ndarray) -> np.ndarray:
    """Each group's |g|, then each group's |w_new - w_old| / |w|, 0 where |w| is 0.

    Args:
        sums: Rows of `sums_of`, float32 (rows, 3 groups).

    Returns:
        float32 (rows, 2 groups).
    """
    with np.errstate(all="ignore"):
        gradients, weights, updates = np.split(np.sqrt(2 * sums), 3, axis=1)
        ratios = np.where(weights == 0, np.float32(0), updates / weights)
    return np.concatenate([gradients, ratios], axis=1)


def places_with_gradient(gradients: Sequence[tf.Tensor | None]) -> list[int]:
    """Which weights the loss depends on: what `norms.halves` of the gradients is about."""
    return [place for place, gradient in enumerate(gradients) if gradient is not None]


def first_not_finite(halves: tf.Tensor, places: Sequence[int]) -> tf.Tensor:
    """The place of the first gradient that is not finite, int64; -1 where all are.

    Args:
        halves: `norms.halves` of the gradients; one that overflows is not finite, as the norm.
        places: Of these gradients among the weights.
    """
    if not places:
        return tf.constant(-1, tf.int64)
    bad = tf.logical_not(tf.math.is_finite(halves))
    first = tf.gather(tf.constant(places, tf.int64), tf.argmax(tf.cast(bad, tf.int32)))
    return tf.where(tf.reduce_any(bad), first, tf.constant(-1, tf.int64))
