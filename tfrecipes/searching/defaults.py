"""The dimensions of a search that names none: around the recipe, inside the finder's interval."""

from collections.abc import Mapping
from typing import Any

from tfrecipes.arithmetic.smoothing import smoothed
from tfrecipes.assemble.beginning import first_batch, made
from tfrecipes.assemble.finding import find_learning_rate
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.recipe.schema import SGD
from tfrecipes.searching.building import Source
from tfrecipes.training.data import understand
from tfrecipes.training.inferred_loss import infer_loss

PEAK = "schedule.peak_learning_rate"
# Of an interval so narrow a search of it would be a search of the seed.
_NARROWEST = 1.2


def found_rate(source: Source, recipe: Recipe, hp: Any, arguments: Mapping[str, Any]) -> dict:
    """What the finder says of the model with the build function's default values.

    Args:
        source: Model and data.
        recipe: The starting recipe.
        hp: Keras Tuner's HyperParameters.
        arguments: More arguments of `fit`.

    Returns:
        `suggestion`, `low` and `high`; JSON-able.
    """
    wanted = ("loss", "sample_weight", "class_weight", "steps_per_epoch")
    found = find_learning_rate(
        lambda: source.build(hp.copy()),
        source.data,
        recipe,
        verbose=0,
        **{key: arguments[key] for key in wanted if key in arguments},
    )
    low, high = map(float, found.interval)
    suggestion = float(found.suggestion)
    if high < _NARROWEST * low:
        low, high = suggestion / 2, suggestion * 2
    return {
        "suggestion": float(f"{suggestion:.3g}"),
        "low": float(f"{low:.3g}"),
        "high": float(f"{high:.3g}"),
    }


def default_space(
    source: Source, recipe: Recipe, hp: Any, arguments: Mapping[str, Any], rate: Mapping[str, float]
) -> dict[str, Any]:
    """Rate, weight decay, warmup, and label smoothing where the loss is a cross-entropy.

    Args:
        source: Model and data.
        recipe: The starting recipe.
        hp: Keras Tuner's HyperParameters.
        arguments: More arguments of `fit`.
        rate: As `found_rate` gives it.

    Returns:
        As `Space.parse` takes it.
    """
    space: dict[str, Any] = {PEAK: ("log", rate["low"], rate["high"])}
    decay = recipe.optimizer.weight_decay
    if decay:
        space["optimizer.weight_decay"] = ("log", decay / 10, decay * 10)
    elif isinstance(recipe.optimizer, SGD):
        space["optimizer.weight_decay"] = ("log", 1e-5, 1e-2)
    else:
        space["optimizer.weight_decay"] = ("log", 1e-3, 0.3)
    keys = type(recipe.schedule).model_fields
    if "warmup" in keys and recipe.schedule.name != "inverse_sqrt":
        space["schedule.warmup"] = ("linear", "0%", "20%")
    elif "warmup" in keys:
        space["schedule.warmup"] = ("linear", "1%", "20%")
    elif "warmup_fraction" in keys:
        space["schedule.warmup_fraction"] = ("linear", 0.05, 0.5)
    if _is_cross_entropy(source, recipe, hp, arguments):
        space["loss.label_smoothing"] = ("linear", 0.0, 0.2)
    return space


def _is_cross_entropy(
    source: Source, recipe: Recipe, hp: Any, arguments: Mapping[str, Any]
) -> bool:
    """Whether label smoothing would do anything."""
    loss = arguments.get("loss")
    if loss is None:
        model, _ = made(recipe, lambda: source.build(hp.copy()), None)
        _, batch = first_batch(understand(source.data, arguments.get("sample_weight")))
        if not model.built:
            model(batch[0])
        loss, _ = infer_loss(batch[1], model)
    return loss is not None and smoothed(loss).loss is not None
