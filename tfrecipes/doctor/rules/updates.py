"""The steps themselves: clip, size, rate, decay, loss scale."""

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.divergence import has_diverged
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, change, lower_rate, raise_rate
from tfrecipes.doctor.rules.robust import finite, median, rate, short


def mostly_clipped(run: object) -> Finding | None:
    """A clip that acts in more than half of the steps after the first fifth.

    A warning where the limit is far below the gradient's norm: 3 times under SGD, whose step it
    scales; 10 times under Adam, which divides by the gradient's size anyway.
    """
    look = Look.at(run)
    clipped = finite(look.step("clipped"))
    if clipped.size < at.ENOUGH_STEPS:
        return None
    late = clipped[int(at.CLIPPED_SEARCH * clipped.size) :]
    share = float((late > 0).mean())
    if share <= at.CLIPPED_HALF:
        return None
    norms = finite(look.step("grad_norm"))
    typical = median(norms[norms.size // 5 :]) if norms.size else None
    limit = look.clip_limit
    far = at.FAR_BELOW_NORM if look.adaptive else at.FAR_BELOW_NORM_SGD
    severe = typical is not None and limit is not None and typical > far * limit and share > 0.9
    severe = severe and not look.early
    known = f"; the gradient norm's median is {short(typical)}" if typical is not None else ""
    known += f", the limit {short(limit)}" if limit is not None else ""
    raised = rate(float(np.percentile(norms[norms.size // 5 :], 90))) if norms.size else "1.0"
    return Finding(
        "mostly_clipped",
        "warning" if severe else "info",
        f"The global clip acted in {share:.0%} of the steps after the first fifth{known}.",
        "The limit is below the gradient norm that this model has by nature, so that it scales every step "
        "rather than catching rare large ones"
        + (": in effect the learning rate is too low." if severe else "."),
        advise(
            rest=f"Raise the limit to the norm's 90th percentile: {change(look, 'step.global_clipnorm', raised)}."
            + (" Under Adam that changes little." if look.adaptive else "")
        ),
    )


def update_ratio(run: object) -> Finding | None:
    """|dw| / |w| that never reached a hundred-thousandth, or was above .15, where 1e-3 is usual.

    Worth knowing by itself: what it does to the loss, other rules say.
    """
    look = Look.at(run)
    ratio = look.ratio
    if ratio is None or look.loss.size < at.ENOUGH_STEPS or not np.isfinite(ratio):
        return None
    if ratio > at.RATIO_HIGH:
        return Finding(
            "update_ratio",
            "info",
            f"A step changed the weights by up to {short(ratio)} of their norm (medians of fiftieths); 1e-3 is usual.",
            "The learning rate is high for these weights, or they began small.",
            advise(rate=lower_rate(look, 3)),
        )
    if ratio < 10 * at.RATIO_OF_NOTHING and not look.early:
        return Finding(
            "update_ratio",
            "warning",
            f"A step never changed the weights by more than {short(ratio)} of their norm; 1e-3 is usual.",
            "The learning rate is too low, or hardly any gradient reaches the weights.",
            advise(
                rate=raise_rate(look, 10), architecture="Look for layers that are frozen or dead."
            ),
        )
    return None


def weight_decay_too_high(run: object) -> Finding | None:
    """Weights that shrank as lr x weight decay says they must, and a loss that is poor for it.

    Decay alone takes 1 % or more of the weights in a step at the peak rate; their norm fell below half
    of its first value, or the decay is .5 and more; and the loss ended above half of what guessing gives.
    """
    look = Look.at(run)
    decay = look.fact_number("optimizer", "weight_decay")
    decay = decay if decay is not None else look.setting("optimizer", "weight_decay")
    norms, trend, peak = finite(look.step("param_norm")), look.trend, look.peak_rate
    if (
        not isinstance(decay, int | float)
        or peak is None
        or trend is None
        or norms.size < at.FEW_STEPS
    ):
        return None
    per_step = peak * decay
    low = float(norms.min() / norms[0]) if norms[0] > 0 else 1.0
    if per_step < at.DECAY_PER_STEP or (low > at.SHRUNK and decay < at.DECAY_LARGE):
        return None
    level = look.guess if look.guess is not None else trend.start
    if not trend.end > at.POOR_OUTCOME * level > 0:
        return None
    return Finding(
        "weight_decay_too_high",
        "warning",
        f"Weight decay {decay:g} at the rate {rate(peak)} takes {per_step:.0%} of the weights in a step; their norm "
        f"went from {short(float(norms[0]))} down to {short(float(norms.min()))}, and the training loss to only "
        f"{trend.end:.4g}.",
        "The weight decay is too high: it pulls the weights to zero faster than the gradient builds them.",
        advise(
            rest=f"Lower it; .01 to .1 is usual for AdamW: {change(look, 'optimizer.weight_decay', 0.05)}."
        ),
    )


def _scheduled(look: Look) -> tuple[np.ndarray, np.ndarray] | None:
    """The schedule's own points, (steps, rates)."""
    points = look.fact("schedule", "points")
    if not isinstance(points, list | tuple) or len(points) < 2:
        return None
    try:
        table = np.asarray(points, np.float64)
    except (TypeError, ValueError):
        return None
    if table.ndim != 2 or table.shape[1] != 2 or not np.isfinite(table).all():
        return None
    table = table[np.argsort(table[:, 0], kind="stable")]
    return table[:, 0], table[:, 1]


def learning_rate_off_schedule(run: object) -> Finding | None:
    """Rates that steps were taken with and that are not the schedule's, in 10 % of its points or more.

    Compared at the points at which the monitor asked the schedule, with room for the steps that were
    skipped. Silent under SWA, which holds the rate at its own value.
    """
    look = Look.at(run)
    scheduled = _scheduled(look)
    steps, rates = look.step("step"), look.step("learning_rate")
    average = look.fact("average", "name")
    if scheduled is None or not steps.size or steps.size != rates.size or average == "SWA":
        return None
    good = np.isfinite(steps) & np.isfinite(rates)
    steps, rates = steps[good], rates[good]
    if steps.size < at.FEW_STEPS or (np.diff(steps) <= 0).any():
        return None
    overflow = look.step("overflow")
    skipped = float((overflow > 0).sum()) if overflow.size else 0.0
    when, told = scheduled
    inside = (when >= steps[0]) & (when <= steps[-1])
    when = when[inside]
    if when.size < 5:
        return None
    taken = np.interp(when, steps, rates)
    # A count that lags by the skipped steps, and one step either way for where the count is read.
    low, high = np.full(when.size, np.inf), np.full(when.size, -np.inf)
    for back in np.linspace(-1, skipped + 1, 8):
        expected = np.interp(when - back, scheduled[0], told)
        low, high = np.minimum(low, expected), np.maximum(high, expected)
    room = at.OFF_SCHEDULE * max(1e-30, float(told.max())) * 0.1
    off = (taken > high * (1 + at.OFF_SCHEDULE) + room) | (
        taken < low * (1 - at.OFF_SCHEDULE) - room
    )
    if off.mean() <= at.OFF_SHARE or off.sum() < 3:
        return None
    first = int(np.argmax(off))
    name = look.fact("schedule", "name")
    return Finding(
        "learning_rate_off_schedule",
        "warning",
        f"The learning rate was not what the schedule{f' {name}' if isinstance(name, str) else ''} says at {off.mean():.0%} "
        f"of {when.size} points, first at step {int(when[first]):,}: {short(float(taken[first]))} taken, "
        f"{short(float(high[first]))} planned.",
        "Something sets the rate or the optimizer's count of steps beside the schedule: a callback, a "
        "restored optimizer, or code that assigns `learning_rate` or `iterations`.",
        advise(
            rate="Leave the rate to one place: take the callback out, or give the optimizer a plain number.",
            rest="Where a checkpoint is loaded, restore the optimizer's count with it (`tfr.Resume` does).",
        ),
    )


def schedule_too_short(run: object) -> Finding | None:
    """A schedule whose length is not the run's.

    Too short: the rate is below a thousandth of its peak for a quarter of the run or more. Too long
    (worth a warning where the facts tell its length): the run ends before two thirds of it.
    """
    look = Look.at(run)
    rates = look.step("learning_rate")
    rates = finite(rates)
    if rates.size < at.FEW_STEPS or rates.max() <= 0 or has_diverged(look):
        return None
    peak = float(rates.max())
    gone = rates < at.RATE_GONE * peak
    tail = int(gone.size - np.flatnonzero(~gone)[-1] - 1)
    config = look.fact("schedule", "config")
    told = config.get("total_steps") if isinstance(config, dict) else None
    told = told if isinstance(told, int | float) and not isinstance(told, bool) else None
    planned = look.fact_number("total_steps") or float(rates.size)
    scheduled = _scheduled(look)
    if (
        told is not None
        and told < 0.75 * planned
        and scheduled is not None
        and not look.fact("average")
    ):
        ended = float(scheduled[1][-1])
        if ended < 0.05 * max(peak, float(scheduled[1].max())):
            tail = max(tail, int(planned - told))
    if tail < at.RATE_GONE_SHARE * gone.size and not (told is not None and told < 0.5 * planned):
        return _too_long(look, told, planned, peak, rates)
    said = (
        f" The schedule is {told:,.0f} steps long, the run {planned:,.0f}."
        if told is not None
        else ""
    )
    return Finding(
        "schedule_too_short",
        "warning",
        f"The learning rate had fallen to {short(float(rates[-1]))} ({rates[-1] / peak:.1%} of its peak) "
        f"{tail:,} steps before the end of {rates.size:,}.{said}",
        "The schedule ends long before the run: nothing is learnt after it. It may be counted in epochs "
        "where steps are meant. In effect the learning rate is too low."
        if look.fact("schedule") is not None or not look.facts
        else "A callback lowers the rate far too early: nothing is learnt after it. In effect the learning rate is too low.",
        advise(
            rate=f"Give the schedule `total_steps={int(planned)}`; it counts optimizer steps."
            if look.fact("schedule") is not None or not look.facts
            else "Lower it later, by less, and not below a hundredth of its first value: `factor` and `patience` of "
            "ReduceLROnPlateau, the function of LearningRateScheduler."
        ),
    )


def _too_long(
    look: Look, told: float | None, planned: float, peak: float, rates: np.ndarray
) -> Finding | None:
    """The other way round: a decay that the run never came to."""
    if told is None or told < at.SCHEDULE_UNUSED * planned or look.cut_short:
        return None
    config = look.fact("schedule", "config")
    warmup = config.get("warmup_steps") if isinstance(config, dict) else None
    if isinstance(warmup, int | float) and warmup >= at.WARMUP_UNFINISHED * planned:
        return Finding(
            "schedule_too_short",
            "warning",
            f"The schedule's warmup is {warmup:,.0f} steps long, and the run {planned:,.0f}: the rate came to "
            f"{short(float(rates[-1]))} and never to its peak.",
            "The run ends before the warmup does. In effect the learning rate is too low.",
            advise(
                rate=f"Give the schedule `total_steps={int(planned)}` and a `warmup_steps` of a twentieth of it; it "
                "counts optimizer steps."
            ),
        )
    return Finding(
        "schedule_too_short",
        "info",
        f"The schedule is {told:,.0f} steps long, the run {planned:,.0f}: the rate ended at {short(float(rates[-1]))}, "
        f"{rates[-1] / peak:.0%} of its peak.",
        "The run ends before the rate has come down.",
        advise(rate=f"Give the schedule `total_steps={int(planned)}`."),
    )


def loss_scale_overflows(run: object) -> Finding | None:
    """A loss scale that overflows in more than 5 % of the steps, or fell to its floor of 1."""
    look = Look.at(run)
    scale, overflow = look.step("loss_scale"), look.step("overflow")
    if not scale.size or scale.size != overflow.size or scale.size < at.ENOUGH_STEPS:
        return None
    if not (scale > 1).any():
        return None
    late = scale.size // 5  # the first fifth is the scale's search for its height
    share = float((overflow[late:] > 0).mean())
    floor = bool(scale[-1] <= 1)
    if share <= at.OVERFLOWS and not floor:
        return None
    return Finding(
        "loss_scale_overflows",
        "warning",
        f"Scaled gradients overflowed in {share:.0%} of the steps after the first fifth, and the loss scale "
        f"ended at {scale[-1]:g}" + (", its floor." if floor else "."),
        "Activations or gradients leave float16's range (65,504): a sum, an exponential or a large factor "
        "computed in float16, or weights that a learning rate too high has blown up.",
        advise(
            rate=lower_rate(look, 3) if (look.growth or 0) > at.WEIGHTS_GREW else "",
            architecture="Keep layers that sum, exponentiate or scale up in float32 (`dtype='float32'`).",
            rest=f"Where the hardware has it, {change(look, 'step.precision', 'bfloat16')}.",
        ),
    )


def float16_without_scale(run: object) -> Finding | None:
    """float16 arithmetic with the loss scale off, and gradients that vanish or a loss that stays."""
    look = Look.at(run)
    precision = look.fact("precision") or look.setting("step", "precision")
    scale = finite(look.step("loss_scale"))
    if not isinstance(precision, str) or "float16" not in precision or "bfloat16" in precision:
        return None
    if scale.size < at.FEW_STEPS or (scale > 1).any():
        return None
    norms = finite(look.step("grad_norm"))
    typical = median(norms) if norms.size else None
    small = typical is not None and typical < 1e-3
    return Finding(
        "float16_without_scale",
        "warning",
        "The run computes in float16, and its loss scale is 1 at every step"
        + (f"; the gradient norm's median is {short(typical)}." if typical is not None else "."),
        "Gradients below 6e-8, float16's smallest number, are flushed to zero"
        + (", and this run's are near it." if small else "."),
        advise(
            rest="Scale the loss: `tfr.LossScaleOptimizer(optimizer)`, or compile with `auto_scale_loss=True`; "
            f"or {change(look, 'step.precision', 'bfloat16')}."
        ),
    )
