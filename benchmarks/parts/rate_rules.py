"""The rules by which fastai and Lightning read a range test, from their published descriptions.

Both smooth the loss by an exponential mean of .98 whose start is corrected, and end the sweep where
that mean is four times its least value. fastai leaves out the first tenth of the steps and the last
five, Lightning the first ten and the last one. A rule that needs more points than there are has no
answer.

References:
    https://docs.fast.ai/callback.schedule.html#learner.lr_find (minimum, steep, valley, slide)
    https://lightning.ai/docs/pytorch/stable/api/lightning.pytorch.tuner.Tuner.html (lr_find)
"""

from collections.abc import Callable

import numpy as np

BETA, STOP = 0.98, 4.0


def smoothed(losses: np.ndarray) -> np.ndarray:
    """The exponential mean, up to the step at which such a sweep ends.

    m(t) = .98 m(t-1) + .02 loss(t), divided by 1 - .98**(t+1)
    """
    mean, found = 0.0, []
    for t, loss in enumerate(losses):
        if not np.isfinite(loss):
            break
        mean = BETA * mean + (1 - BETA) * loss
        found.append(mean / (1 - BETA ** (t + 1)))
        if found[-1] > STOP * min(found):
            break
    return np.array(found)


def minimum(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """fastai: a tenth of the rate of the lowest loss."""
    return float(rates[np.argmin(losses)]) / 10 if len(losses) else None


def steep(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """fastai: where the loss falls most over the logarithm of the rate."""
    if len(losses) < 2:
        return None
    return float(rates[np.argmin(np.diff(losses) / np.diff(np.log(rates)))])


def valley(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """fastai: half-way of the longest fall, which begins its length in steps before its end.

    The fall is the longest falling subsequence; that others lie between its points is not counted.
    """
    if not len(losses):
        return None
    longest = np.ones(len(losses), int)
    for i in range(1, len(losses)):
        higher = longest[:i][losses[:i] > losses[i]]
        longest[i] += higher.max(initial=0)
    end = int(np.argmax(longest))
    if longest[end] == 1:
        return float(rates[0])  # it never fell
    third = longest[end] / 3
    return float(rates[end - longest[end] + int(third) + int(third / 2)])


def slide(
    rates: np.ndarray, losses: np.ndarray, width: int = 15, least: float = 0.005
) -> float | None:
    """fastai: slide two points `width` apart down from the end until the slopes there agree."""
    if len(losses) <= width:
        return None
    slopes, right = np.gradient(losses), len(losses) - 1
    found = rates[right - width]
    while right >= width and abs(slopes[right] - slopes[right - width]) > least:
        found = rates[right - width]
        right -= 1
    return float(found)


def lightning(rates: np.ndarray, losses: np.ndarray) -> float | None:
    """Lightning: where the loss falls most from step to step.

    That is the slope over the rate's logarithm on a log scale, over the rate on a linear one. (2.5.3
    took it over the rate on both, which lightning's issue 21141 counts as a fault.)
    """
    return float(rates[np.argmin(np.gradient(losses))]) if len(losses) > 1 else None


Rule = Callable[[np.ndarray, np.ndarray], float | None]
FASTAI: dict[str, Rule] = {"minimum": minimum, "steep": steep, "valley": valley, "slide": slide}
NAMES = (*FASTAI, "lightning")


def suggestions(rates: np.ndarray, losses: np.ndarray) -> dict[str, float | None]:
    """What each rule makes of one sweep.

    Args:
        rates: Of each step (n,).
        losses: The batches' own (n,), NaN after a divergence.
    """
    smooth = smoothed(losses)
    cut = slice(len(losses) // 10, max(0, len(smooth) - 5))
    found = {name: rule(rates[cut], smooth[cut]) for name, rule in FASTAI.items()}
    cut = slice(10, max(0, len(smooth) - 1))
    return {**found, "lightning": lightning(rates[cut], smooth[cut])}


def together(rates: np.ndarray, sweeps: np.ndarray) -> dict[str, float | None]:
    """Each rule's median over sweeps (sweeps, n), of those in which it has an answer."""
    each = [suggestions(rates, losses) for losses in sweeps]
    found: dict[str, float | None] = {}
    for name in NAMES:
        known = [np.log(rate) for one in each if (rate := one[name]) is not None]
        found[name] = float(np.exp(np.median(known))) if known else None
    return found


def loss_at(rate: float, rates: np.ndarray, losses: np.ndarray) -> float:
    """A grid's loss between its points, linear in both logarithms; outside, its end's.

    NaN where a neighbour has none.
    """
    return float(np.exp(np.interp(np.log(rate), np.log(rates), np.log(losses))))
