"""Runs that blew up: diverged, or shaken by a rate that is too high."""

import math

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import (
    advise,
    change,
    clip,
    joined,
    lower_rate,
    warm_up,
)
from tfrecipes.doctor.rules.robust import (
    Trend,
    finite,
    highest,
    median,
    medians,
    noise,
    plural,
    rank_correlation,
    short,
)


def _rises_at_the_end(trend: Trend) -> bool:
    """Whether the end is far above both the start and the best: on their own scale, of any sign."""
    start, best, end = trend.points[0], trend.best, trend.end
    return bool(
        end > start + at.UP * abs(start) + (start - best)
        and end - best > at.SURE * trend.errors[-1]
    )


def _never_came_down(look: Look, trend: Trend) -> bool:
    """Whether it left its start upwards at once and stayed far above it.

    The start is the first step's loss, before any update. One batch's loss may be small by luck, so
    that without log K to compare with the weights must have been shaken too, or the rise be of a
    hundred times without a fall after it, or of a thousand.
    """
    late = look.loss[look.loss.size // 2 :]
    low, first = float(np.percentile(late, 25)), float(look.loss[0])
    if look.untrained is not None and look.cross_entropy:
        known = look.untrained
        return low > at.MANY_GUESSES * known + 1.2 * max(0.0, first - known) and trend.end > low / 2
    if first <= 0 or low < at.FAR_ABOVE_START * first or trend.end < at.FAR_ABOVE_START * first:
        return False
    risen = low > 1000 * first or (low > 100 * first and rank_correlation(trend.points) > -0.5)
    return risen or bool(_shaken(look))


def _few_epochs_diverged(look: Look) -> bool:
    loss = finite(look.epoch("loss"))
    if not 2 <= loss.size < at.ENOUGH_EPOCHS or look.loss.size >= at.ENOUGH_STEPS:
        return False
    return bool(loss[-1] > 10 * abs(loss.min()) and loss[-1] > 10 * abs(loss[0]) and loss[0] != 0)


def has_diverged(look: Look) -> bool:
    """Whether the training loss ends, or stays, far above where it began."""
    trend = look.trend
    if trend is None:
        return _few_epochs_diverged(look)
    return _rises_at_the_end(trend) or (trend.of_steps and _never_came_down(look, trend))


def diverged(run: object) -> Finding | None:
    """A training loss that ends far above where it began, or stays there from the first steps on.

    end > start + |start| / 2 + (start - best), on medians of tenths of the run; or the lower
    quartile of the second half is 3 times the first step's loss (for a cross-entropy: twice log K).
    """
    look = Look.at(run)
    if not has_diverged(look):
        return None
    trend = look.trend
    if trend is None:
        loss = finite(look.epoch("loss"))
        seen = f"The training loss went from {loss[0]:.4g} to {loss[-1]:.4g} in {loss.size} epochs."
    else:
        begun = f"{look.loss[0]:.4g} in the first step" if trend.of_steps else f"{trend.start:.4g}"
        seen = (
            f"The training loss went from {begun} through {trend.best:.4g} up to {trend.end:.4g} "
            f"({trend.basis})."
        )
    shaken = _shaken(look)
    return Finding(
        "diverged",
        "error",
        seen,
        f"The learning rate is too high for this model and batch size{', ' + shaken if shaken else ''}.",
        advise(
            data="If the inputs are not near zero with a deviation of about 1, scale them first.",
            rate=lower_rate(look),
            rest=clip(look),
        ),
    )


def _shaken(look: Look, *, poor: bool = False) -> str:
    """What grew out of proportion, in words; judged more strictly where the loss is poor."""
    said = []
    high = at.RATIO_HIGH_POOR if poor else at.RATIO_HIGH
    grew = at.WEIGHTS_GREW_POOR if poor else at.WEIGHTS_GREW
    ratio, growth, sustained = look.ratio, look.growth, look.sustained_ratio
    if ratio is not None and ratio > high:
        said.append(f"updates reached {short(ratio)} of the weights' norm (1e-3 is usual)")
    if growth is not None and growth > grew:
        said.append(f"the weights' norm grew {short(growth)} times")
    if not said and poor and sustained is not None and sustained > at.RATIO_SUSTAINED:
        said.append(f"updates stayed at {short(sustained)} of the weights' norm (1e-3 is usual)")
    rate = look.peak_rate
    if not said and poor and look.adaptive and rate is not None and rate >= at.ADAPTIVE_RATE:
        said.append(f"a rate of {short(rate)} moves each weight by up to that in a step")
    return " and ".join(said)


def learning_rate_too_high(run: object) -> Finding | None:
    """Updates or weights that grew out of proportion, and a loss that is poor at the end.

    |dw| / |w| above .15 at its height, or weights 3 times their first norm; the loss rose above its
    start on the way, or ends above half of what guessing gives. Above .7 of it, ratios of .06 (.025 all
    along) and 2.5 times the norm are enough, and a rate of .1 of an optimizer that divides by
    the gradient's size.
    """
    look = Look.at(run)
    trend = look.trend
    if trend is None or not trend.of_steps or has_diverged(look):
        return None
    guess = look.guess if look.guess is not None else trend.start
    shaken = _shaken(look, poor=trend.end > at.STUCK * guess > 0)
    if not shaken:
        return None
    height = highest(medians(look.loss, 50))
    rose = height > 1.2 * abs(trend.start) + at.SURE * trend.error and trend.start > 0
    poor = guess > 0 and trend.end > at.POOR_OUTCOME * guess and not look.early
    if not (poor or (rose and trend.end > 0.1 * guess)):
        return None
    rises = f", after up to {height:.4g}" if rose else ""
    return Finding(
        "learning_rate_too_high",
        "warning",
        f"{shaken[0].upper()}{shaken[1:]}; the training loss went from {trend.start:.4g} to only "
        f"{trend.end:.4g}{rises} ({trend.basis}).",
        "The learning rate is too high: steps overshoot, and the weights end far from where they can learn.",
        advise(rate=joined(lower_rate(look), warm_up(look)), rest=clip(look)),
    )


def oscillating(run: object) -> Finding | None:
    """A training loss that goes up and down by much of its whole range, at a rate that does not rise.

    On twentieths of the run (epochs without steps): at least 3 rises, each of more than 4 standard
    errors, that sum to 40 % of the range. A rise at a rising rate is a restart's or a warmup's and
    does not count.
    """
    look = Look.at(run)
    loss = look.loss
    if loss.size >= 2 * at.ENOUGH_STEPS:
        count = 20
        points = medians(loss, count)
        rates = look.step("learning_rate")
        rates = medians(rates, count) if rates.size == look.column("steps", "loss").size else None
        # Twentieths have half the steps of the trend's tenths, and a rise is a difference of two: sqrt 2 each.
        errors = 2 * look.trend.errors.max() if look.trend is not None else 0.0
        basis = f"{plural(loss.size, 'step')}, medians of twentieths"
    else:
        points, errors, rates = finite(look.epoch("loss")), 0.0, None
        basis = plural(points.size, "epoch")
        if points.size < 2 * at.RISES + 2:
            return None
    ups = np.diff(points)
    rises = ups > max(at.SURE * errors, 0.02 * float(np.ptp(points)))
    if rates is not None and rates.size == points.size:
        with np.errstate(invalid="ignore"):
            rises &= ~(np.diff(rates) > 0.01 * highest(rates))
    spread = float(np.ptp(points))
    total = float(ups[rises].sum())
    if rises.sum() < at.RISES or total < at.RISES_SHARE * spread or has_diverged(look):
        return None
    if rank_correlation(points) < -0.9:
        return None
    worst = int(np.argmax(np.where(rises, ups, -math.inf)))
    return Finding(
        "oscillating",
        "warning",
        f"The training loss rose {int(rises.sum())} times, by {short(total)} in all, within a range of "
        f"{short(spread)}; the largest rise was from {points[worst]:.4g} to {points[worst + 1]:.4g} ({basis}).",
        "The learning rate is too high: the steps jump over the minimum and back.",
        advise(
            data="If the batches come in an order (sorted by class or source), shuffle them first.",
            rate=lower_rate(look),
            rest="Let the rate fall over the run (a cosine), and take larger batches: "
            f"{change(look, 'train.batch_size', 2 * (int(look.fact_number('batch_size') or 32)))}.",
        ),
    )


def warmup_missing(run: object) -> Finding | None:
    """A rate that is high from the first steps, and a loss or gradient that jumps there.

    The rate reaches half its peak within the first hundredth of the run, and in the first tenth the
    loss rises above its start, although it falls below it later.
    """
    look = Look.at(run)
    trend, rates = look.trend, look.step("learning_rate")
    if trend is None or not trend.of_steps or rates.size != look.column("steps", "loss").size:
        return None
    peak, at_once = look.peak_rate, max(3, rates.size // 100)
    if peak is None or median(rates[:at_once]) < at.HIGH_AT_ONCE * peak:
        return None
    early = look.loss[: max(10, int(at.EARLY * look.loss.size))]
    heights = medians(early, min(200, max(2, early.size // 5)))
    height = highest(heights)
    norms = finite(look.step("grad_norm"))
    harmed = height > trend.start + max(0.3 * abs(trend.start), at.SURE * noise(early))
    if not harmed:
        return None
    spike = (
        f", and the gradient norm up to {short(float(norms[: early.size].max()))} "
        f"(median of the run {short(median(norms))})"
        if norms.size
        else ""
    )
    return Finding(
        "warmup_missing",
        "warning",
        f"The learning rate was {short(float(rates[0]))} at step 0, {rates[0] / peak:.0%} of its peak; the loss "
        f"rose from {trend.start:.4g} to {height:.4g} in the first {plural(early.size, 'step')}{spike}.",
        "The warmup is missing or too short: the first steps are taken with a full rate and with "
        "statistics of no history.",
        advise(
            rate=joined(warm_up(look), lower_rate(look, 3)),
            rest=clip(look),
        ),
    )
