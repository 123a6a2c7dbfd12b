"""Advice with the next command in it, from the run's own recipe, facts and rates."""

import shlex
from pathlib import Path
from typing import Any

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.robust import rate

# What `fit` and `compile` call the keys of a recipe.
_IN_KERAS = {
    "schedule.peak_learning_rate": "give the optimizer `learning_rate={0}`",
    "schedule.warmup": "give the schedule `warmup_steps` for {0} of the run, as `tfr.WarmupCosine` takes it",
    "schedule.warmup_fraction": "give `tfr.OneCycle` `warmup_fraction={0}`",
    "step.global_clipnorm": "give the optimizer `global_clipnorm={0}`",
    "optimizer.weight_decay": "give the optimizer `weight_decay={0}`",
    "train.epochs": "call `fit(..., epochs={0})`",
    "train.batch_size": "call `fit(..., batch_size={0})`",
    "train.best": "keep the best epoch: `keras.callbacks.ModelCheckpoint(path, monitor={0!r}, save_best_only=True)`",
    "step.precision": "use `keras.mixed_precision.set_dtype_policy({0!r})`",
    "step.gradient_accumulation_steps": "use `tfr.GradientAccumulation({0})`",
}
_POLICIES = {"bfloat16": "mixed_bfloat16", "float16": "mixed_float16", "float32": "float32"}


def joined(*sentences: str) -> str:
    """The sentences that are not empty, as one text."""
    return " ".join(sentence for sentence in sentences if sentence)


def advise(*, data: str = "", rate: str = "", architecture: str = "", rest: str = "") -> str:
    """One text, in the order in which to look: data, learning rate, architecture, the rest."""
    return joined(data, rate, architecture, rest)


def change(look: Look, key: str, value: Any) -> str:
    """How to run it again with one key of the recipe changed; in Keras's words without a recipe.

    Returns:
        A clause without its full stop.
    """
    if look.recipe is None:
        value = _POLICIES.get(value, value) if key == "step.precision" else value
        return _IN_KERAS[key].format(value)
    return f"`{_command(look)} --set {key}={shlex.quote(str(value))}`"


def _command(look: Look) -> str:
    words = ["tfrecipes", "train"]
    target = getattr(look, "environment", {})
    target = target.get("target") if isinstance(target, dict) else None
    if isinstance(target, str) and target:
        words.append(target)
    path = getattr(look, "path", None)
    if isinstance(path, Path):
        words += ["--recipe", str(path / "recipe.toml")]
    elif isinstance(name := (look.recipe or {}).get("name"), str) and name:
        words += ["--recipe", name]
    return shlex.join(words)


def new_rate(look: Look, factor: float) -> str:
    """How to run it again at `factor` times the peak rate; a clause without its full stop."""
    peak = look.peak_rate
    if peak is None:
        times = f"{1 / factor:g} times lower" if factor < 1 else f"{factor:g} times higher"
        return f"set a learning rate {times}"
    return change(look, "schedule.peak_learning_rate", rate(peak * factor))


def lower_rate(look: Look, by: float = 10) -> str:
    """A sentence that lowers the peak rate, or the momentum where that multiplies it by a hundred or more."""
    momentum = look.fact_number("optimizer", "momentum")
    if momentum is not None and at.MOMENTUM_HIGH <= momentum < 1:
        return (
            f"Lower the momentum first: {momentum:g} makes a steady step {1 / (1 - momentum):,.0f} times the "
            "learning rate, 0.9 is usual (10 times)."
        )
    return f"Lower the learning rate {by:g} times: {new_rate(look, 1 / by)}."


def raise_rate(look: Look, by: float = 3) -> str:
    """A sentence that raises the peak rate."""
    return f"Raise the learning rate {by:g} times: {new_rate(look, by)}."


def clip(look: Look) -> str:
    """A sentence that clips the gradients, empty where they are clipped at 1 or less."""
    if look.clip_limit is not None and look.clip_limit <= 1:
        return ""
    return f"Clip the gradients: {change(look, 'step.global_clipnorm', 1.0)}."


def warm_up(look: Look) -> str:
    """A sentence that lengthens the warmup, empty where it takes a tenth of the run already."""
    steps, total = look.fact("schedule", "config"), look.fact_number("total_steps")
    steps = steps.get("warmup_steps") if isinstance(steps, dict) else None
    if isinstance(steps, int | float) and total and steps >= 0.1 * total - 1:
        return ""
    if look.setting("schedule", "name") == "one_cycle":
        return f"Warm up longer: {change(look, 'schedule.warmup_fraction', 0.4)}."
    return f"Warm up longer: {change(look, 'schedule.warmup', '10%')}."


def check_data() -> str:
    """A sentence that looks at the data before the next run."""
    return "`tfr.check(model, data, validation_data)` looks at data and model before training."
