"""Losses and gradients that are NaN or infinite."""

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import (
    advise,
    change,
    check_data,
    clip,
    joined,
    lower_rate,
    warm_up,
)
from tfrecipes.doctor.rules.robust import longest_run, median, plural, short

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
    step = look.number(first)
    if held := _held_by_inputs(look):
        return (
            f"The inputs hold {held:,.0f} values that are NaN or infinite.",
            advise(
                data=f"Remove or fill those rows; the first batch that was struck is that of step {step:,}. {check_data()}"
            ),
        )
    rise = _rise_before(look, first)
    if rise is not None:
        return (
            f"The learning rate is too high: {rise} before the first such step.",
            advise(rate=joined(lower_rate(look), warm_up(look)), rest=clip(look)),
        )
    if scaled.any() and scaled[first]:
        return (
            "A value left float16's range (65,504) in the forward pass, where no loss scale helps.",
            advise(
                architecture="Keep layers that sum or exponentiate in float32 (`dtype='float32'`).",
                rest=f"Or {change(look, 'step.precision', 'bfloat16')}.",
            ),
        )
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


def _held_by_inputs(look: Look) -> float:
    """How many values of the inputs are not finite, as far as they were looked at."""
    inputs = look.fact("data", "inputs")
    counts = (
        [one.get("not_finite") for one in inputs if isinstance(one, dict)]
        if isinstance(inputs, list)
        else []
    )
    return sum(float(n) for n in counts if isinstance(n, int | float) and np.isfinite(n))


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
