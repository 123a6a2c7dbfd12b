"""Where the time goes: waiting for data, and for other replicas."""

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise
from tfrecipes.doctor.rules.robust import finite, median, short


def _share(look: Look, name: str) -> tuple[float, float] | None:
    """The typical share of the time, and the seconds that it was seen for; the first row (traces) left out."""
    values, seconds = look.column("system", name), look.column("system", "seconds")
    if values.size < 2 or values.size != seconds.size:
        return None
    kept = finite(values[1:])
    known = finite(seconds)
    if not kept.size or not known.size:
        return None
    return median(np.clip(kept, 0.0, 1.0)), float(known[-1] - known[0])


def input_bound(run: object) -> Finding | None:
    """45 % of the time or more spent waiting for data."""
    look = Look.at(run)
    share = _share(look, "data_wait")
    if share is None or share[0] < at.WAITING or share[1] < at.LONG_ENOUGH:
        return None
    speed = median(look.column("system", "samples_per_second")[1:])
    said = f" at {short(speed)} samples a second" if np.isfinite(speed) else ""
    return Finding(
        "input_bound",
        "warning",
        f"{share[0]:.0%} of the time went into waiting for data{said}, over {share[1]:.0f} seconds.",
        "The input pipeline is slower than the model.",
        advise(
            data="`dataset.cache()` after what is slow and always the same, `map(..., num_parallel_calls=tf.data.AUTOTUNE)`, "
            "`prefetch(tf.data.AUTOTUNE)` last; for a PyDataset `workers=4`; decode and resize once, on disk."
        ),
    )


def communication_bound(run: object) -> Finding | None:
    """Three tenths of the step or more spent in the all-reduce."""
    look = Look.at(run)
    if (look.fact_number("replicas") or 1) < 2:
        return None
    share = _share(look, "reduce_share")
    if share is None or share[0] < at.REDUCING or share[1] < at.LONG_ENOUGH:
        return None
    return Finding(
        "communication_bound",
        "warning",
        f"{share[0]:.0%} of the step went into the all-reduce of {int(look.fact_number('replicas') or 2)} replicas, over "
        f"{share[1]:.0f} seconds.",
        "Gradients travel for longer than they take to compute.",
        advise(
            rest="Take larger batches a step (`tfr.GradientAccumulation(steps)` reduces once a step, whatever the parts), fewer "
            "replicas, or a faster link between them."
        ),
    )
