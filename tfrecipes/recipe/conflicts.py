"""What is wrong between keys of a recipe that are right by themselves."""

import itertools
from typing import Any

from tfrecipes.recipe.durations import Duration
from tfrecipes.recipe.schema import SGD, CosineRestarts, OneCycle, StepDecay, WarmupStableDecay


def conflicts(tables: dict[str, Any]) -> list[str]:
    """What is wrong between keys that are right by themselves, as far as it shows without data.

    Args:
        tables: Every table by name, validated; an optional one that is off is None.

    Returns:
        A sentence each.
    """
    schedule, step, train = tables["schedule"], tables["step"], tables["train"]
    optimizer, swa = tables["optimizer"], tables["swa"]
    found = []

    def share(value: object) -> Any:
        return Duration.parse(value).share(train.epochs)

    warmup = share(getattr(schedule, "warmup", 0))
    if warmup is not None and warmup >= 1:
        found.append(
            f"schedule.warmup: must be shorter than the run of {train.epochs} epochs. "
            f"Received: warmup={schedule.warmup!r}."
        )
    if isinstance(schedule, WarmupStableDecay):
        decay = share(schedule.decay)
        if warmup is not None and decay is not None and warmup < 1 < warmup + decay:
            found.append(
                f"schedule.decay: warmup and decay must fit in the run of {train.epochs} epochs. "
                f"Received: warmup={schedule.warmup!r}, decay={schedule.decay!r}."
            )
    if isinstance(schedule, StepDecay):
        found += _boundary_conflicts(schedule, train.epochs)
    if isinstance(schedule, CosineRestarts) and 1 < schedule.cycle_factor < 1.01:
        found.append(
            "schedule.cycle_factor: must be 1 or a number >= 1.01. "
            f"Received: {schedule.cycle_factor!r}."
        )
    if isinstance(schedule, OneCycle) and schedule.initial_factor * schedule.final_factor < 1:
        found.append(
            "schedule.final_factor: the last rate must not be above the peak. "
            f"Received: {schedule.final_factor!r}. Write a number >= 1."
        )
    if isinstance(optimizer, SGD) and optimizer.nesterov and optimizer.momentum == 0:
        found.append("optimizer.nesterov: needs a momentum > 0. Received: momentum=0.0.")
    if step.micro_batch is not None and step.gradient_accumulation_steps > 1:
        found.append(
            "step.micro_batch: says what step.gradient_accumulation_steps says too. "
            f"Received: micro_batch={step.micro_batch}, "
            f"gradient_accumulation_steps={step.gradient_accumulation_steps}. Keep one of them."
        )
    if swa is not None:
        if tables["ema"] is not None:
            found.append("swa: cannot be on together with ema. Remove one of the two tables.")
        start = share(swa.start)
        if start is not None and start >= 1:
            found.append(
                f"swa.start: must lie before the end of the run of {train.epochs} epochs. "
                f"Received: {swa.start!r}."
            )
    return found


def _boundary_conflicts(schedule: StepDecay, epochs: int) -> list[str]:
    """Boundaries that do not rise, or that the warmup goes past, where the units compare."""

    def position(value: object) -> tuple[bool, Any]:
        parsed = Duration.parse(value)
        share = parsed.share(epochs)
        return share is None, parsed.amount if share is None else share

    places = [position(b) for b in schedule.boundaries]
    shown = list(schedule.boundaries)
    for (in_steps, before), (also, after) in itertools.pairwise(places):
        if in_steps == also and after <= before:
            return [f"schedule.boundaries: must rise. Received: {shown}."]
    (in_steps, first), (also, warmup) = places[0], position(schedule.warmup)
    if in_steps == also and warmup > first:
        return [
            "schedule.warmup: must not go past the first boundary. "
            f"Received: warmup={schedule.warmup!r}, boundaries={shown}."
        ]
    return []
