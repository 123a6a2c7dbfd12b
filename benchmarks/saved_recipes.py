"""What each saved recipe reaches: the numbers on the run cards in saved_recipes/.

    python benchmarks/saved_recipes.py            # three seeds, two of transformer; about 6 minutes
    python benchmarks/saved_recipes.py --quick    # that it runs; its numbers mean nothing

Recipes for classifiers train the embedded demo with their own epochs and batch size, as
`tfrecipes train --recipe NAME --seed S` does: real digits, split anew by each seed. `transformer`
trains the character model of `default_against_stock.py`. `default` has its numbers from there and
from the demo's own test; `finetune` and `diffusion` are not measured here: the one needs weights
learned elsewhere, the other days.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import default_against_stock as against
import keras
from parts import data, record

import tfrecipes as tfr
from tfrecipes.assemble.command import train
from tfrecipes.runs.folder import read_run

NAME = "saved_recipes"
LONG_SEEDS = 2  # of what takes minutes a run
ON_DIGITS = ("tiny", "one_cycle", "constant", "cnn_sgd", "cnn_cosine", "swa")
MEASURED = (*ON_DIGITS, "transformer")


def digits(name: str, seed: int, epochs: int | None = None) -> dict[str, float]:
    """Train the demo by a recipe; accuracy and loss of the model that the run left."""
    recipe = tfr.Recipe.load(name).replace(**{"train.seed": seed})
    if epochs is not None:
        recipe = recipe.replace(**{"train.epochs": epochs})
    keras.utils.clear_session()
    with tempfile.TemporaryDirectory() as folder:
        began = time.monotonic()
        code = train(recipe, out=Path(folder) / "run", verbose=0)
        seconds = time.monotonic() - began
        if code != 0:
            raise RuntimeError(f"saved_recipes: {name}, seed {seed}, ended with {code}.")
        columns = read_run(Path(folder) / "run").epochs
    # A recipe with SWA means its average, which is measured once, after the last epoch.
    averaged = "swa_" if recipe.swa is not None else ""
    last = {key: float(columns[f"{averaged}val_{key}"][-1]) for key in ("accuracy", "loss")}
    return {**last, "seconds": seconds, "epochs": recipe.train.epochs}


def characters(name: str, seed: int, quick: bool) -> dict[str, float]:
    """Train the character model by a recipe, for the epochs of `default_against_stock.py`."""
    task = against.shakespeare_transformer(quick)

    def way(*arguments: Any) -> keras.callbacks.History:
        return against.by_recipe(*arguments, recipe=name)

    done = against.run(task, way, seed)
    return {**{key: done[key] for key in ("accuracy", "loss", "seconds")}, "epochs": task.epochs}


def summary(task: str, runs: list[dict[str, float]]) -> dict[str, Any]:
    """One recipe's runs as mean, least and largest."""
    keys = ("accuracy", "loss", "seconds")
    return {
        "task": task,
        "epochs": runs[0]["epochs"],
        **{key: record.spread([run[key] for run in runs]) for key in keys},
        "runs": runs,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two recipes, one epoch, one seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    seeds = range(1 if given.quick else given.seeds)
    try:
        data.find("tinyshakespeare.txt")
    except data.MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    # Quick: a test trains the others for an epoch (tests/recipe/test_gallery_trains.py).
    names = ("swa", "transformer") if given.quick else MEASURED
    recipes = {}
    for name in names:
        if name in ON_DIGITS:
            runs = [digits(name, seed, 1 if given.quick else None) for seed in seeds]
            recipes[name] = summary("digits", runs)
        else:
            runs = [characters(name, seed, given.quick) for seed in seeds[:LONG_SEEDS]]
            recipes[name] = summary("characters", runs)
        row = recipes[name]
        print(
            f"{name:12s} {row['task']:10s} accuracy {row['accuracy']['mean']:.4f} "
            f"({row['accuracy']['min']:.4f} to {row['accuracy']['max']:.4f}), "
            f"loss {row['loss']['mean']:.4f}, {row['seconds']['mean']:.0f} s",
            flush=True,
        )
    if not given.quick or given.out:
        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, {"recipes": recipes}, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
