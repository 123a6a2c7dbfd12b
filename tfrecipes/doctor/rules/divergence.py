"""Runs that blew up: not finite, diverged, or shaken by a rate that is too high."""

import math

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, change, check_data, clip, lower_rate, warm_up
from tfrecipes.doctor.rules.robust import (
    Trend,
    finite,
    highest,
    longest_run,
    median,
    medians,
    noise,
    plural,
    rank_correlation,
    short,
)

_HOLDS = "Look for NaN, inf and extreme values in inputs and labels"


def not_finite(run: object) -> Finding | None:
    """Losses or gradients that are NaN or infinite; the first step and the first weight.

    The cause is the learning rate where the loss, the gradient norm or the weights rose before the
    first bad step, and the data where it came out of the blue. Under loss scaling a gradient that
    overflows now and then is how the scale is found, and no fault; a loss that is not finite always
    is one.
    """
    look = Look.at(run)
    loss = look.column("steps", "loss")
    if not loss.size:
        return _not_finite_epochs(look)
    bad = ~np.isfinite(loss)
    scale, norm, overflow = (look.step(n) for n in ("loss_scale", "grad_norm", "overflow"))
    scaled = scale > 1 if scale.size else np.zeros(loss.size, bool)
    if norm.size == loss.size:
        bad |= ~np.isfinite(norm) & ~scaled
    if overflow.size == loss.size:
        bad |= (overflow > 0) & ~scaled
    if not bad.any():
        return None
    first = int(np.argmax(bad))
    total, longest = int(bad.sum()), longest_run(bad)
    lost = bool(bad[-1]) and (longest >= 2 or total == loss.size)
    weight = look.fact("first_bad", "weight")
    where = f", in the gradient of {weight}" if isinstance(weight, str) and weight else ""
    seen = (
        f"Loss or gradients were not finite in {total:,} of {plural(loss.size, 'step')}, "
        f"first at step {look.number(first):,}{where}; {longest:,} in a row at most"
        + (", and the run ended so." if lost else ".")
    )
    cause, advice = _cause_of_nan(look, bad, first, scaled)
    return Finding("not_finite", "error" if lost else "warning", seen, cause, advice)


def _cause_of_nan(look: Look, bad: np.ndarray, first: int, scaled: np.ndarray) -> tuple[str, str]:
    rise = _rise_before(look, first)
    if rise is not None:
        return (
            f"The learning rate is too high: {rise} before the first such step.",
            advise(rate=f"{lower_rate(look)} {warm_up(look)}", rest=clip(look)),
        )
    if scaled.any() and scaled[first]:
        return (
            "A value left float16's range (65,504) in the forward pass, where no loss scale helps.",
            advise(
                architecture="Keep layers that sum or exponentiate in float32 (`dtype='float32'`).",
                rest=f"Or {change(look, 'step.precision', 'bfloat16')}.",
            ),
        )
    step = look.number(first)
    if first == 0 and bad.all():
        return (
            "The data hold NaN or inf, the weights begin so, or the loss takes the log of 0 at once.",
            advise(
                data=f"{_HOLDS}, and for labels outside the classes. {check_data()}",
                architecture="Give the loss logits (`from_logits=True`) and not probabilities.",
            ),
        )
    return (
        f"Some of the data hold NaN, inf or extreme values: it came without a rise before it, and of "
        f"{plural(bad.size, 'step')} {int(bad.sum()):,} were struck.",
        advise(
            data=f"{_HOLDS}, first in the batch of step {step:,}. {check_data()}",
            architecture="If they are clean, a log, a square root or a division in the model or its loss "
            "meets zero: add a small constant.",
        ),
    )


def _rise_before(look: Look, first: int) -> str | None:
    """What rose in the steps before the first bad one, in words."""
    lost = look.trend is not None and look.trend.points.size and first < at.FEW_STEPS
    for name, what in (
        ("loss", "the loss"),
        ("grad_norm", "the gradient norm"),
        ("param_norm", "the weights' norm"),
    ):
        values = look.step(name)[:first]
        values = values[np.isfinite(values)]
        if values.size < 3:
            continue
        level = median(values[: max(2, values.size // 2)]) if lost else median(values)
        last = float(values[-3:].max())
        if last > at.RISE_BEFORE_NAN * abs(level) and last > at.RISE_BEFORE_NAN * abs(
            float(values[0])
        ):
            return f"{what} rose from {short(level)} to {short(last)}"
    if look.ratio is not None and look.ratio > at.RATIO_HIGH:
        return f"updates reached {short(look.ratio)} of the weights' norm"
    return None


def _not_finite_epochs(look: Look) -> Finding | None:
    for name in ("loss", "val_loss"):
        values = look.epoch(name)
        if not values.size:
            continue
        bad = ~np.isfinite(values)
        # epochs.csv has no value where an epoch had no validation, and that reads as NaN too.
        if not (bad.any() if name == "loss" else bad.all()):
            continue
        first = int(np.argmax(bad))
        good = values[:first]
        rose = good.size >= 2 and good[-1] > at.RISE_BEFORE_NAN * abs(good.min()) + 1e-12
        return Finding(
            "not_finite",
            "error" if bad[-1] else "warning",
            f"`{name}` was not finite in {int(bad.sum())} of {plural(values.size, 'epoch')}, "
            f"first in epoch {first + 1}.",
            "The learning rate is too high: the loss rose before it."
            if rose
            else "An input or label is not finite, the learning rate is too high, or the loss meets a "
            "log or a division of zero.",
            advise(
                data=check_data(),
                rate=lower_rate(look),
                rest="`tfr.Monitor(directory)` names the first bad step and weight.",
            ),
        )
    return None


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
    hundred times without a fall after it.
    """
    late = look.loss[look.loss.size // 2 :]
    low, first = float(np.percentile(late, 25)), float(look.loss[0])
    if look.untrained is not None and look.cross_entropy:
        known = look.untrained
        return low > at.MANY_GUESSES * known + 1.2 * max(0.0, first - known) and trend.end > low / 2
    if first <= 0 or low < at.FAR_ABOVE_START * first or trend.end < at.FAR_ABOVE_START * first:
        return False
    return bool(_shaken(look)) or (low > 100 * first and rank_correlation(trend.points) > -0.5)


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
    return " and ".join(said)


def learning_rate_too_high(run: object) -> Finding | None:
    """Updates or weights that grew out of proportion, and a loss that is poor at the end.

    |dw| / |w| above .15 at its height, or weights 3 times their first norm; the loss rose above its
    start on the way, or ends above half of what guessing gives. Above .7 of it, ratios of .06 (.025 all
    along) and 2.5 times the norm are enough.
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
    poor = guess > 0 and trend.end > at.POOR_OUTCOME * guess
    if not (poor or (rose and trend.end > 0.1 * guess)):
        return None
    rises = f", after up to {height:.4g}" if rose else ""
    return Finding(
        "learning_rate_too_high",
        "warning",
        f"{shaken[0].upper()}{shaken[1:]}; the training loss went from {trend.start:.4g} to only "
        f"{trend.end:.4g}{rises} ({trend.basis}).",
        "The learning rate is too high: steps overshoot, and the weights end far from where they can learn.",
        advise(rate=f"{lower_rate(look)} {warm_up(look)}", rest=clip(look)),
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
        errors = look.trend.errors.max() if look.trend is not None else 0.0
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
            rate=f"{warm_up(look)} {lower_rate(look, 3)}",
            rest=clip(look),
        ),
    )
