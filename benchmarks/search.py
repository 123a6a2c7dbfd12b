"""Claim: quasi-random points find a better recipe than random ones in 16 trials; two workers take less time than one.

    python benchmarks/search.py            # six seeds of each on two tasks, about 40 minutes on one core
    python benchmarks/search.py --quick    # that it runs; its numbers mean nothing

Two tasks with small nets: a CNN on scikit-learn's digits and an MLP on its diabetes regression. Three
fields are searched over wide ranges: peak rate, weight decay, warmup. Every trial is a training; what
is compared is the best score so far after 4, 8 and 16 trials, of searches with the same seeds.
"""

import argparse
import contextlib
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from parts import record

import tfrecipes as tfr

NAME = "search"
METHODS = ("sobol", "halton", "random")
AFTER = (4, 8, 16)
SPACE = {
    "schedule.peak_learning_rate": ("log", 1e-5, 1.0),
    "optimizer.weight_decay": ("log", 1e-4, 1.0),
    "schedule.warmup": ("linear", "0%", "50%"),
}


@dataclass(frozen=True)
class Task:
    """What is learned.

    Attributes:
        title: For the table.
        make: Makes the model.
        train: (x, y).
        validation: (x, y).
        recipe: Where the search starts.
    """

    title: str
    make: Callable[[], keras.Model]
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]
    recipe: tfr.Recipe


def digits_net() -> keras.Model:
    """Two small convolutions."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(16, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    return keras.Model(inputs, keras.layers.Dense(10)(keras.layers.GlobalAveragePooling2D()(x)))


def diabetes_net() -> keras.Model:
    """One hidden layer."""
    inputs = keras.Input((10,))
    x = keras.layers.Dense(32, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(1)(x))


def recipe(epochs: int) -> tfr.Recipe:
    """The default without what a short training has no use for."""
    return tfr.Recipe.load("default").replace(
        **{"ema": None, "train.best": None, "step.jit": False, "train.epochs": epochs}
    )


def digits(quick: bool = False) -> Task:
    """1,437 digits to train, 360 to validate."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    x = (x.reshape(-1, 8, 8, 1) / 16).astype("float32")
    train, validation = split(x, y.astype("int32"), 128 if quick else None)
    return Task("digits, CNN", digits_net, train, validation, recipe(1 if quick else 5))


def diabetes(quick: bool = False) -> Task:
    """353 patients to train, 89 to validate; inputs and target of deviation 1."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    x, y = (x / x.std(0)).astype("float32"), ((y - y.mean()) / y.std()).astype("float32")
    train, validation = split(x, y[:, None], 64 if quick else None)
    return Task("diabetes, MLP", diabetes_net, train, validation, recipe(1 if quick else 20))


def split(x: np.ndarray, y: np.ndarray, most: int | None) -> Any:
    """A fifth to validate."""
    order = np.random.default_rng(0).permutation(len(x))[:most]
    cut = len(order) * 4 // 5
    return (x[order[:cut]], y[order[:cut]]), (x[order[cut:]], y[order[cut:]])


TASKS = {"digits": digits, "diabetes": diabetes}


def demo(hp: Any = None) -> tuple[keras.Model, Any, Any]:
    """The target of the searches with workers."""
    task = digits()
    return task.make(), task.train, task.validation


def one_search(task: Task, method: str, trials: int, seed: int, folder: Path) -> list[float | None]:
    """The scores of a search's trials, in order."""
    result = tfr.search(
        task.make,
        task.train,
        task.recipe,
        trials,
        folder / f"{task.make.__name__}-{method}-{trials}-{seed}",
        task.validation,
        seed=seed,
        space=SPACE,
        method=method,
        repeats=0,
        verbose=0,
    )
    return [row["score"] for row in result.table]


def best_so_far(scores: Sequence[float | None], count: int) -> float:
    """The least of the first trials."""
    return min((s for s in scores[:count] if s is not None), default=float("inf"))


def measure(task: Task, trials: int, seeds: Sequence[int], folder: Path) -> dict[str, Any]:
    """All methods with all seeds, in turn."""
    scores: dict[str, list[list[float | None]]] = {method: [] for method in METHODS}
    for seed in seeds:
        for method in METHODS:
            scores[method].append(one_search(task, method, trials, seed, folder))
            print(task.title, method, seed, best_so_far(scores[method][-1], trials), flush=True)
    counts = [count for count in AFTER if count <= trials] or [trials]
    found: dict[str, Any] = {"title": task.title, "scores": scores, "after": {}}
    for count in counts:
        found["after"][str(count)] = {
            method: spread([best_so_far(one, count) for one in scores[method]])
            for method in METHODS
        }
    random = [best_so_far(one, trials) for one in scores["random"]]
    found["not_worse_than_random"] = {
        method: sum(
            best_so_far(one, trials) <= other
            for one, other in zip(scores[method], random, strict=True)
        )
        for method in METHODS
        if method != "random"
    }
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Mean, median, least and largest."""
    return {**record.spread(values), "median": statistics.median(values)}


def workers(trials: int, epochs: int) -> dict[str, Any]:
    """Seconds of the same search with one process and with two workers, taken in turn."""

    def seconds(count: int) -> float:
        with tempfile.TemporaryDirectory() as folder, contextlib.chdir(Path(__file__).parent):
            began = time.perf_counter()
            tfr.search(
                "search.py:demo",
                None,
                recipe(epochs),
                trials,
                Path(folder) / "search",
                space=SPACE,
                repeats=0,
                workers=count,
                verbose=0,
            )
            return time.perf_counter() - began

    return record.interleaved(lambda: seconds(2), lambda: seconds(1), 1)


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""
    lines = [f"{'task':15s} {'trials':>6s} " + " ".join(f"{m:>22s}" for m in METHODS)]
    for task in results["tasks"].values():
        for count, row in task["after"].items():
            cells = (
                f"{row[m]['mean']:.4f} ({row[m]['min']:.4f}-{row[m]['max']:.4f})" for m in METHODS
            )
            lines.append(
                f"{task['title']:15s} {count:>6s} " + " ".join(f"{cell:>22s}" for cell in cells)
            )
        for method, count in task["not_worse_than_random"].items():
            total = len(task["scores"][method])
            lines.append(f"{'':15s} {method} no worse than random with {count} of {total} seeds")
    if (timed := results["workers"]) is not None:
        lines.append(f"two workers / one process: {timed['ratio']['median']:.2f} of the time")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one seed")
    parser.add_argument("--seeds", type=int, default=6, help="how many")
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one")
    parser.add_argument("--no-workers", action="store_true", help="leave the workers' time out")
    parser.add_argument("--runs", type=Path, help="keep the searches here, and go on with them")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    trials, seeds = (2, range(1)) if given.quick else (16, range(given.seeds))
    tasks = {name: TASKS[name](given.quick) for name in given.task or TASKS}
    timed = None
    if not given.no_workers:
        timed = workers(2, 1) if given.quick else workers(16, 30)
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.runs or Path(temporary)
        results = {
            "trials": trials,
            "seeds": len(seeds),
            "space": {name: list(one) for name, one in SPACE.items()},
            "tasks": {name: measure(task, trials, seeds, folder) for name, task in tasks.items()},
            "workers": timed,
        }
    print(table(results))
    whole = not given.quick and not given.task
    if whole or given.out:
        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
