"""The saved recipes: what there is, what one says with every default filled in, a copy to own."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import tomli_w

from tfrecipes.recipe import files
from tfrecipes.recipe.errors import RecipeError
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.recipe.schema import OPTIONAL_TABLES, TABLES

# What "auto" goes by, and what else a reader of a resolved recipe would ask.
_REASONS = {
    ("step", "precision", "auto"): (
        "decided by the hardware: bfloat16 on a TPU or compute capability >= 8.0, "
        "float16 with loss scaling on 7.x, float32 on a CPU"
    ),
    ("step", "jit", "auto"): (
        "XLA on a CPU for models without convolutions, elsewhere as Keras decides"
    ),
    ("step", "steps_per_execution", "auto"): (
        "as far ahead as no callback watches; changes no result"
    ),
    ("train", "devices", "auto"): "decided by the hardware: the first GPU or TPU, else the CPU",
    ("schedule", "peak_learning_rate", "find"): "found by a sweep before the run",
}
_OFF_KEYS = {
    ("step", "global_clipnorm"): "no clipping",
    ("step", "micro_batch"): "a step's batch is cut by gradient_accumulation_steps alone",
    ("swa", "learning_rate"): "the schedule's own rate",
    ("swa", "cycle"): "one average an epoch",
    ("train", "best"): "no best.keras is kept",
    ("train", "early_stopping"): "the run goes to its end",
}


class Card(NamedTuple):
    """A saved recipe's name, and the first line of its run card."""

    name: str
    summary: str


def cards() -> list[Card]:
    """Every saved recipe, in order of the alphabet."""
    return [Card(name, _first_comment(_path(name))) for name in files.saved_names()]


def copy(name: str, path: str | os.PathLike[str] | None = None) -> Path:
    """Copies a saved recipe, comments and all, to a file to own and edit.

    Args:
        name: A saved recipe's name, or the path of a recipe.
        path: The new file, or a folder to put it in; None is `<name>.toml` here.

    Returns:
        The new file.

    Raises:
        RecipeError: If there is no such recipe, or a file stands there already.
        OSError: If it cannot be written.
    """
    source = files.find(name)
    text = files.read_text(source)
    target = Path(path) if path is not None else Path(source.name)
    if target.is_dir():
        target = target / source.name
    try:
        with open(target, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        sentence = "exists already. Remove it, or copy to another path."
        raise RecipeError(str(target), [sentence]) from None
    return target


def show(recipe: Recipe, why: Mapping[str, str] | None = None) -> str:
    """The recipe with nothing left out: every key's value, and why where the recipe does not say.

    Args:
        recipe: Any recipe.
        why: Reasons by dotted key ("schedule.peak_learning_rate"), which stand in comments.

    Returns:
        TOML that loads as an equal recipe. What is off stands in comments.
    """
    lines = [f"version = {recipe.version}", f"name = {_toml(recipe.name)}"]
    for table in TABLES:
        model = getattr(recipe, table)
        lines.append("")
        if model is None and table in OPTIONAL_TABLES:
            lines.append(f"# [{table}] is off")
            continue
        lines.append(f"[{table}]")
        if model is None:
            lines.append('every = "off"')
            continue
        for key in sorted(type(model).model_fields, key=lambda key: key != "name"):
            value = getattr(model, key)
            reasons = [] if key in model.model_fields_set or key == "name" else ["default"]
            if value is None:
                lines.append(f"# {key} is off: {_OFF_KEYS[table, key]}")
                continue
            if isinstance(value, str) and (table, key, value) in _REASONS:
                reasons.append(_REASONS[table, key, value])
            if f"{table}.{key}" in (why or {}):
                reasons = [(why or {})[f"{table}.{key}"]]
            comment = f"  # {': '.join(reasons)}" if reasons else ""
            lines.append(f"{key} = {_toml(value)}{comment}")
    return "\n".join(lines) + "\n"


def _path(name: str) -> Path:
    return files.saved_recipes() / f"{name}.toml"


def _first_comment(path: Path) -> str:
    """The first line of a file without its `#`; empty where it is no comment."""
    first = files.read_text(path).partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def _toml(value: Any) -> str:
    """One value as TOML on one line."""
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")
