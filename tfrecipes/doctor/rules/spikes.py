"""Steps that stand out: of the loss and of the gradient norm."""

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.divergence import has_diverged
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, change, check_data, clip, lower_rate
from tfrecipes.doctor.rules.robust import finite, median, plural, rate, short

_BLOCK = 50  # steps whose median is the level beside which a step is judged


def _levels(values: np.ndarray) -> np.ndarray:
    """Each value's level: the median of its block of 50 steps, of some 50 of a block of a long run."""
    size = max(_BLOCK, values.size // 2_000)
    whole = values.size // size * size
    if not whole:
        return np.full(values.size, median(values))
    centre = np.median(values[:whole].reshape(-1, size)[:, :: size // _BLOCK], axis=1)
    level = np.repeat(centre, size)
    return np.concatenate([level, np.full(values.size - whole, centre[-1])])


def _outliers(values: np.ndarray, skip: int) -> np.ndarray:
    """Rows that a gap parts from the run's own tail, at most 3 % of them.

    Losses and gradients of small batches have heavy tails, and no multiple of a deviation parts them
    from a fault; a tail is continuous, and a fault is not. The distances above the level are sorted:
    rows lie beyond a gap where one is 2.5 times the next (5 times, for a single row).

    `skip` rows at the start are left out, where losses and gradients fall from a height.
    """
    above = values - _levels(values)
    above[:skip] = 0.0
    most = int(at.SPIKES_MOST * values.size)
    if above.size <= most + 1:
        return np.empty(0, np.int64)
    top = np.argpartition(above, -most - 1)[-most - 1 :]
    top = top[np.argsort(above[top])[::-1]]
    height = above[top]
    if height.size < 2 or height[-1] <= 0:
        return top[:0]
    ratio = height[:-1] / height[1:]
    ratio[0] /= at.GAP_OF_ONE / at.GAP_OF_MANY
    gaps = np.flatnonzero(ratio > at.GAP_OF_MANY)
    return np.sort(top[: gaps[-1] + 1]) if gaps.size else top[:0]


def _rows_said(look: Look, rows: np.ndarray) -> str:
    said = ", ".join(f"{look.number(int(row)):,}" for row in rows[:5])
    return said + (f" and {rows.size - 5:,} more" if rows.size > 5 else "")


def _bad_places(look: Look, loss: np.ndarray) -> np.ndarray:
    """Rows of the places in an epoch whose loss stands out in every epoch: the same bad batches again.

    For data in one order. A place's excess over its epoch's median, its own median over the epochs,
    is compared with that of all places.
    """
    per = look.steps_per_epoch
    none = np.empty(0, np.int64)
    if not per or per < 20 or loss.size < 4 * per:
        return none
    epochs = loss.size // per
    table = loss[: epochs * per].reshape(epochs, per)
    if not np.isfinite(table).all():
        return none
    excess = np.median(table - np.median(table, 1, keepdims=True), 0)
    spread = 1.4826 * float(np.median(np.abs(excess - np.median(excess))))
    late = np.median(table[epochs // 2 :], 0)
    # Hard samples are learnt with the others, late; a bad batch is never learnt.
    never = late > 0.7 * look.trend.start if look.trend is not None else late < 0
    bad = (excess > at.BAD_PLACE * spread) & (excess > 0.15 * abs(np.median(late))) & never
    if not 0 < bad.sum() <= max(1, 0.05 * per):
        return none
    return np.flatnonzero(np.tile(bad, epochs))


def _beginning(look: Look, values: np.ndarray) -> int:
    """Rows of the first tenth of the run, of what is planned where it still runs."""
    planned = look.fact_number("total_steps") if look.running and look.every_step else None
    return max(values.size, int(planned or 0)) // 10


def _jumps(look: Look, values: np.ndarray) -> np.ndarray:
    """Rows of single jumps, by at least twice the level."""
    rows = _outliers(values.copy(), _beginning(look, values))
    if rows.size and look.trend is not None:
        level = _levels(values)
        height = np.maximum(np.abs(level), 0.1 * abs(look.trend.start))
        rows = rows[values[rows] > level[rows] + 2.0 * height[rows]]
    return rows


def loss_spike(run: object) -> Finding | None:
    """Training losses that jump far out of the run's own range.

    Steps whose distance above the level around them is parted by a gap from all others', by at least
    twice that level, at most 3 % and not in the first tenth; or places of the epoch that stand out in
    every epoch by 8 deviations of all places and are never learnt.
    """
    look = Look.at(run)
    loss = look.column("steps", "loss")
    if loss.size < 2 * at.ENOUGH_STEPS or look.trend is None or look.early or has_diverged(look):
        return None
    good = np.flatnonzero(np.isfinite(loss))
    values = loss[good]
    if values.size < 2 * at.ENOUGH_STEPS:
        return None
    again = True
    rows = _bad_places(look, loss) if good.size == loss.size else good[:0]
    if not rows.size:
        again = False
        rows = _jumps(look, values)
    if not rows.size:
        return None
    top = int(rows[np.argmax(values[rows])])
    step = look.number(int(good[top]))
    return Finding(
        "loss_spike",
        "warning",
        f"The training loss jumped at {plural(rows.size, 'step')} ({_rows_said(look, good[rows])}), to {values[top]:.4g} "
        f"at step {step:,} from about {_levels(values)[top]:.4g}.",
        "The same batches come back in every epoch: their data are bad (a scale, an outlier, wrong labels)."
        if again
        else "Bad data in these batches (a scale, an outlier, wrong labels), or a learning rate that is at its limit.",
        advise(
            data=f"Look at the batch of step {step:,}. {check_data()}",
            rate="" if again else lower_rate(look, 3),
            rest=clip(look),
        ),
    )


def gradient_spike(run: object) -> Finding | None:
    """Gradient norms that jump 5 times above the run's usual and are parted by a gap from all others.

    At most 3 % of the steps and not in the first tenth. Worth knowing where the clip caught
    them; a warning where nothing did.
    """
    look = Look.at(run)
    norm = look.step("grad_norm")
    if norm.size < 2 * at.ENOUGH_STEPS or look.early or has_diverged(look):
        return None  # a run's beginning is what is not looked at, and this may be it
    good = np.flatnonzero(np.isfinite(norm))
    values = norm[good]
    if values.size < 2 * at.ENOUGH_STEPS:
        return None
    skip = _beginning(look, values)
    rows = _outliers(values.copy(), skip)
    # Where the loss has gone to zero, so has the gradient: usual is what the run began with, too.
    usual = max(median(values), 0.5 * median(values[: max(at.FEW_STEPS, skip)]))
    rows = rows[values[rows] > at.SPIKE_OVER_LEVEL * usual]
    if not rows.size:
        return None
    top = int(rows[np.argmax(values[rows])])
    limit = look.clip_limit
    caught = limit is not None and limit <= 2 * usual
    return Finding(
        "gradient_spike",
        "info" if caught else "warning",
        f"The gradient norm jumped at {plural(rows.size, 'step')} ({_rows_said(look, good[rows])}), to "
        f"{short(float(values[top]))} at step {look.number(int(good[top])):,}, where {short(usual)} is usual"
        + (f"; the clip at {short(limit)} caught it." if caught and limit is not None else "."),
        "Bad data in these batches, or a part of the loss that is steep.",
        advise(
            data=f"Look at the batch of step {look.number(int(good[top])):,}. {check_data()}",
            rest=""
            if caught
            else f"Clip: {change(look, 'step.global_clipnorm', rate(float(np.percentile(finite(values), 90))))}.",
        ),
    )
