"""A loss that does not fall, falls too slowly, stays where it is, or was not let fall to its end."""

import math

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.divergence import has_diverged
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, change, check_data, lower_rate, raise_rate
from tfrecipes.doctor.rules.robust import Trend, finite, rank_correlation, short


def _some_metric_is_well(look: Look) -> bool:
    for name in look.epochs:
        values = finite(look.epoch(str(name)))
        if (
            "acc" in str(name)
            and values.size
            and (values[-1] >= 0.9 or values[-1] > values[0] + 0.02)
        ):
            return True
    return False


def _falls(trend: Trend, correlation: float) -> bool:
    fall = trend.start - trend.best
    return bool(
        fall > max(at.FALL * abs(trend.start), at.SURE * trend.error)
        or trend.points[0] - trend.best > max(at.FALL * abs(trend.points[0]), at.SURE * trend.error)
        or correlation < at.SLOW_CORRELATION
    )


def loss_not_falling(run: object) -> Finding | None:
    """A training loss that at no time was 5 % below its start, and does not fall slowly either.

    Slowly: Spearman's rank correlation of the loss with time is below -0.6. Silent where a metric
    got better or is high already, and where a trained model is trained on.
    """
    look = Look.at(run)
    trend = look.trend
    if (
        trend is None
        or look.early
        or _trained_on(look, trend)
        or _falls(trend, _correlation(look, trend))
        or has_diverged(look)
        or _some_metric_is_well(look)
    ):
        return None
    cause, advice = _why_not(look)
    return Finding(
        "loss_not_falling",
        "warning",
        f"The training loss was {trend.start:.4g} at the start and {trend.best:.4g} at its best ({trend.basis}).",
        cause,
        advice,
    )


def _trained_on(look: Look, trend: Trend) -> bool:
    """Whether an earlier fit did the falling."""
    learnt = look.guess is not None and 0 < trend.start < 0.5 * look.guess
    return learnt or (look.fact_number("first_step") or 0) > 0


def _why_not(look: Look) -> tuple[str, str]:
    one_batch = "Train on one batch alone: the loss must go to zero. If it does not, look at loss and model."
    if look.rates.size and look.rates.max() < at.RATE_OF_NOTHING:
        return (
            f"The learning rate is too low: it was never above {look.rates.max():.2g}.",
            advise(
                rate=f"Raise it; 1e-3 is where AdamW starts: {change(look, 'schedule.peak_learning_rate', '0.001')}."
            ),
        )
    if look.ratio is not None and look.ratio < at.RATIO_OF_NOTHING:
        return (
            f"Updates are tiny beside the weights (ratio {look.ratio:.2g} at its height; 1e-3 is usual): the "
            "learning rate is too low, or no gradient flows.",
            advise(
                rate=raise_rate(look, 10), architecture="Look for layers that are frozen or dead."
            ),
        )
    high = (look.ratio or 0) > at.RATIO_HIGH / 3 or (look.growth or 0) > at.WEIGHTS_GREW
    if high:
        said = (
            [f"updates reached {short(look.ratio)} of the weights' norm, 1e-3 is usual"]
            if look.ratio
            else []
        )
        said += [f"the weights grew {short(look.growth)} times"] if look.growth else []
        return (
            f"The learning rate is too high: {', and '.join(said)}.",
            advise(rate=lower_rate(look), architecture=one_batch),
        )
    return (
        "Labels do not belong to their inputs, the loss does not fit the last activation (logits or "
        "probabilities), or the learning rate is too high.",
        advise(data=check_data(), rate=lower_rate(look), architecture=one_batch),
    )


def _late_share(look: Look, trend: Trend) -> float | None:
    """The share of the whole fall that came in the second half of the summed learning rate.

    Against the summed rate and not against time: a decayed rate flattens any loss.
    """
    if not trend.of_steps:
        half = trend.points.size // 2
        whole = trend.points[0] - trend.end
        return float((trend.points[half] - trend.end) / whole) if whole > 0 else None
    loss = look.column("steps", "loss")
    rates = look.step("learning_rate")
    good = np.isfinite(loss)
    if rates.size == loss.size and np.isfinite(rates).all() and rates.sum() > 0:
        summed = np.cumsum(np.maximum(rates, 0.0))
        half = int(np.searchsorted(summed, summed[-1] / 2))
    else:
        half = loss.size // 2
    width = max(3, loss.size // 20)
    near = loss[max(0, half - width) : half + width][good[max(0, half - width) : half + width]]
    whole = max(trend.start, float(trend.points[0])) - trend.end
    if not near.size or whole <= at.SURE * trend.error:
        return None
    return float((np.median(near) - trend.end) / whole)


def falling_slowly(run: object) -> Finding | None:
    """A loss that falls the whole run long, hardly slower at the end, and is still high there.

    15 % or more of the fall come in the second half of the summed learning rate (a third where only
    epochs are known), updates never exceeded 9e-4 of the weights, and the loss ends above a fifth of
    what guessing gives. Updates below 1e-4 and a loss above half of it are enough. Silent for a loss that
    began below guessing, as in fine-tuning; worth knowing where guessing is not known.
    """
    look = Look.at(run)
    trend = look.trend
    if trend is None or look.early or has_diverged(look):
        return None
    ratio = look.ratio
    if ratio is not None and ratio > at.RATIO_LOW:
        return None
    if look.guess is not None and trend.start < 0.85 * look.guess:
        return None  # it knew the task before: fine-tuning
    level = look.guess if look.guess is not None else abs(trend.start)
    left = trend.end / level if level > 0 else math.nan
    share = _late_share(look, trend)
    tiny = ratio is not None and ratio < at.RATIO_TINY and left > at.POOR_OUTCOME
    steady = (
        share is not None
        and share >= (at.LATE_FALL if ratio is not None else 1 / 3)
        and _correlation(look, trend) <= -0.8
        and left > (0.2 if ratio is not None else 0.7)
    )
    if not (tiny or steady) or trend.points[0] - trend.end < -at.SURE * trend.error:
        return None
    low = (
        f" Updates reached only {short(ratio)} of the weights' norm; 1e-3 and more are usual."
        if ratio
        else ""
    )
    late = (
        f", {share:.0%} of the way in the second half of the summed learning rate" if steady else ""
    )
    by = 10 if ratio is not None and ratio < at.RATIO_TINY else 3
    held, first = _held_small(look)
    return Finding(
        "falling_slowly",
        "warning" if ratio is not None and look.guess is not None else "info",
        f"The training loss fell from {max(trend.start, trend.points[0]):.4g} to only {trend.end:.4g}{late} "
        f"({trend.basis}).{low}",
        f"The learning rate is too low for the length of the run.{held}",
        advise(
            rate=f"{first} {raise_rate(look, by)}".strip(),
            rest=f"Or train longer: {change(look, 'train.epochs', _more_epochs(look))}.",
        ),
    )


def _held_small(look: Look) -> tuple[str, str]:
    """What else of the optimizer keeps its steps small, and what to do about it first; empty where nothing does."""
    epsilon = look.fact_number("optimizer", "epsilon")
    if look.adaptive and epsilon is not None and epsilon > at.EPSILON_LARGE:
        return (
            f" The optimizer's epsilon of {epsilon:g} is added to the gradient's size and divides every step.",
            "Give the optimizer `epsilon=1e-7`.",
        )
    norms = finite(look.step("grad_norm"))
    typical = float(np.median(norms)) if norms.size else 0.0
    weights = max(1.0, look.fact_number("trainable_weights") or 1.0)
    parameters = max(1.0, look.fact_number("parameters") or 1.0)
    # Each weight's gradient cut at a norm, or each of its numbers at a value: that is the most of the whole.
    for name, most in (("clipnorm", math.sqrt(weights)), ("clipvalue", math.sqrt(parameters))):
        limit = look.fact_number("optimizer", name)
        if limit and not look.adaptive and typical > at.FAR_BELOW_NORM_SGD * limit * most:
            return (
                f" `{name}={limit:g}` cuts every gradient (their norm's median is {short(typical)}), and the steps with it.",
                f"Take `{name}` out, or raise it.",
            )
    return "", ""


def _correlation(look: Look, trend: Trend) -> float:
    """Of the loss with time: of tenths or of epochs, whichever is clearer; both have their noise."""
    epochs = finite(look.epoch("loss"))
    own = rank_correlation(trend.points)
    return min(own, rank_correlation(epochs)) if epochs.size >= at.ENOUGH_EPOCHS else own


def _more_epochs(look: Look) -> int:
    epochs = look.fact_number("epochs") or look.setting("train", "epochs")
    epochs = epochs if isinstance(epochs, int | float) else look.epoch("loss").size
    return max(2, int(2 * epochs))


def plateau(run: object) -> Finding | None:
    """A run that ends not far below guessing, although its steps were of a good size.

    Training and validation above .7, the worse of them above .82 of what guessing gives (.7 for fewer than
    20 parameters a class) after 5 epochs or more, less than half of the fall in the second half of the summed learning rate, updates above
    9e-4 of the weights at their height, and no fall any more where the rate has not decayed.
    """
    look = Look.at(run)
    trend, level = look.trend, look.guess
    if trend is None or level is None or level <= 0 or has_diverged(look) or look.running:
        return None
    if look.ratio is None or look.ratio < at.RATIO_LOW:
        return None
    share = _late_share(look, trend)
    validation = finite(look.epoch("val_loss"))
    worse = max(trend.end, float(validation.min())) if validation.size else trend.end
    best = float(validation.min()) if validation.size else trend.end
    if (
        min(trend.end, best) < at.STUCK * level
        or worse < (at.STUCK if look.tiny else at.STUCK_WORSE) * level
    ):
        return None
    if (share is not None and share > at.STUCK_LATE) or _still_falls(look, trend, level):
        return None
    apart = validation.size > 0 and trend.end < 0.93 * float(validation[-1])
    parameters = look.fact_number("parameters")
    size = f" The model has {parameters:,.0f} parameters." if parameters else ""
    held = f", the validation loss {validation.min():.4g} at its best" if validation.size else ""
    return Finding(
        "plateau",
        "warning",
        f"The training loss ended at {trend.end:.4g}{held}; guessing by the labels' frequencies gives {level:.4g}.{size}",
        "Many labels are wrong or the inputs do not hold the answer: what training still learns does not carry over. "
        "A model that is too small (capacity) is the other cause."
        if apart
        else "The model is too small for the task (capacity), or many labels are wrong, so that no model can do better.",
        advise(
            data=f"Look at samples with a high loss: wrong labels, or inputs without the answer in them. {check_data()}",
            architecture="Take a larger model: twice as wide first, then deeper.",
        ),
    )


def _still_falls(look: Look, trend: Trend, level: float) -> bool:
    """Whether the run was too short to call its end a plateau."""
    if look.epoch("loss").size < at.STUCK_EPOCHS:
        return True
    rates = finite(look.step("learning_rate"))
    decayed = rates.size > 0 and rates[-1] < 0.5 * rates.max()
    fall = float(trend.points[-4] - trend.end) if trend.points.size >= 4 else 0.0
    return not decayed and fall > at.STUCK_FLAT * (level - trend.end)


def still_improving(run: object) -> Finding | None:
    """A loss whose last epoch is its best, after falling by 1 % or more in each of the last three."""
    look = Look.at(run)
    if look.cut_short:
        return None  # not at its end
    name = "val_loss" if finite(look.epoch("val_loss")).size else "loss"
    loss = finite(look.epoch(name))
    if loss.size < at.ENOUGH_EPOCHS or loss[-1] > loss.min():
        return None
    falls = -np.diff(loss[-4:])
    if (falls < at.IMPROVING * np.abs(loss[-4:-1])).any():
        return None
    return Finding(
        "still_improving",
        "info",
        f"`{name}` was still falling at the end: {loss[-4]:.4g} to {loss[-1]:.4g} in the last three epochs.",
        "The run ended before the model had learned what it can.",
        advise(
            rest=f"Train longer: {change(look, 'train.epochs', _more_epochs(look))}; a recipe's schedule stretches with it."
        ),
    )


def saturated_early(run: object) -> Finding | None:
    """A run of 8 epochs or more whose validation loss (else training loss) was done in the first quarter.

    What came after it was less than 1 % of the whole fall, and does not go on falling.
    """
    look = Look.at(run)
    if look.cut_short or still_improving(run) is not None:
        return None
    name = "val_loss" if finite(look.epoch("val_loss")).size else "loss"
    loss = finite(look.epoch(name))
    if loss.size < 8 or has_diverged(look):
        return None
    quarter = max(1, int(at.SATURATED * loss.size))
    start = look.guess if look.guess is not None else loss[0]
    whole = max(start, loss[0]) - loss.min()
    if whole <= at.FALL * abs(start) or loss[:quarter].min() - loss.min() > 0.01 * whole:
        return None
    return Finding(
        "saturated_early",
        "info",
        f"`{name}` was {loss[:quarter].min():.4g} by epoch {int(np.argmin(loss[:quarter])) + 1} of {loss.size}, and "
        f"{loss.min():.4g} at its best.",
        "The run was longer than the model and the data can use.",
        advise(
            rest=f"Train for fewer epochs: {change(look, 'train.epochs', max(1, loss.size // 3))}."
        ),
    )
