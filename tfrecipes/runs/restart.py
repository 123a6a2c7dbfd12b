"""What a folder that the caller named means for a new run: begin, go on, or nothing to do."""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from tfrecipes.runs.folder import Run

# Keys that say how a run is carried out, not what is computed: they may differ on resume.
_FREE = {
    ("name",),
    ("resume", "every"),
    ("resume", "keep"),
    ("train", "devices"),
    ("step", "micro_batch"),
    ("step", "gradient_accumulation_steps"),
    ("step", "steps_per_execution"),
}


class Restart(Enum):
    """What is to be done with the folder."""

    BEGIN = "begin"
    GO_ON = "go on"
    FINISHED = "finished"


def decide(run: Run | None, recipe: Mapping[str, Any], mode: str) -> Restart:
    """Whether a run begins, goes on or is finished already.

    Args:
        run: What the folder holds; None = no run.
        recipe: This run's recipe, `Recipe.as_dict`, every table filled in.
        mode: "auto": go on where there is a run. "never": refuse such a folder. "must": refuse
            one without.

    Raises:
        ValueError: If the mode refuses, or a key that changes the arithmetic differs.
    """
    if run is None or run.recipe is None:
        if mode == "must":
            raise ValueError(
                "--resume must: there is no run to go on with in the folder. "
                "Received: resume='must'. Name the run's folder, or leave it out to begin one."
            )
        return Restart.BEGIN
    if mode == "never":
        raise ValueError(
            f"--resume never: a run is in {run.path}. Received: resume='never'. "
            "Name another folder, or leave it out to go on with it."
        )
    if differing := differences(run.recipe, with_found(recipe, run)):
        raise ValueError(
            f"{run.path}: the run there has another recipe: {'; '.join(differing)}. "
            "Set it back to go on, or name another folder."
        )
    status = (run.state or {}).get("status")
    return Restart.FINISHED if status == "finished" else Restart.GO_ON


def with_found(recipe: Mapping[str, Any], run: Run) -> Mapping[str, Any]:
    """The recipe with the rate of the run in the folder, where it is to be found: it was."""
    here, there = recipe.get("schedule", {}), (run.recipe or {}).get("schedule", {})
    if here.get("peak_learning_rate") != "find" or "peak_learning_rate" not in there:
        return recipe
    return {**recipe, "schedule": {**here, "peak_learning_rate": there["peak_learning_rate"]}}


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    """The keys, beyond those that may differ, whose values do: "train.epochs is 5 there, 9 here"."""
    found = []
    old, new = _flat(there), _flat(here)
    for key in sorted({*old, *new}):
        if key in _FREE or old.get(key) == new.get(key):
            continue
        found.append(f"{'.'.join(key)} is {old.get(key, 'off')} there, {new.get(key, 'off')} here")
    return found


def _flat(table: Mapping[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, (*prefix, key))
        else:
            flat[(*prefix, key)] = list(value) if isinstance(value, tuple) else value
    return flat
