"""Claim: the recipe `default` beats stock Adam with plain `fit` at equal epochs and batch.

    python benchmarks/default_against_stock.py            # three seeds of each, about 15 minutes
    python benchmarks/default_against_stock.py --quick    # that it runs; its numbers mean nothing

Two tasks, of two kinds: a small CNN on 20,000 images of CIFAR-10, and a character transformer on
tiny Shakespeare. Both ways start from the same weights, see the same data as often in batches of
the same size, and are measured by the model that `fit` leaves. Nothing but the recipe differs.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
from parts import data, nets, record

import tfrecipes as tfr

NAME = "default_against_stock"


@dataclass(frozen=True)
class Task:
    """What is learned.

    Attributes:
        title: For the table.
        train: (x, y).
        validation: (x, y).
        make: Makes the model.
        epochs: Passes over the data.
        batch_size: Samples a step.
    """

    title: str
    train: data.Arrays
    validation: data.Arrays
    make: Callable[[], keras.Model]
    epochs: int
    batch_size: int


def cifar10_cnn(quick: bool = False) -> Task:
    """A CNN of three blocks, eight epochs."""
    train, validation = data.cifar10(256, 128) if quick else data.cifar10()
    widths = (4, 8) if quick else (16, 32, 64)
    return Task(
        "CIFAR-10, CNN", train, validation, lambda: nets.cnn(10, widths), 1 if quick else 8, 128
    )


def shakespeare_transformer(quick: bool = False) -> Task:
    """A transformer of two blocks of width 128 on windows of 64 characters, two epochs."""
    title = "characters, transformer"
    if quick:  # 460 windows, ten whole batches: XLA compiles each shape anew
        train, validation, alphabet = data.shakespeare(16, 8192)
        return Task(
            title, train, validation, lambda: nets.transformer(alphabet, 16, 16, depth=1), 1, 46
        )
    train, validation, alphabet = data.shakespeare(64)
    return Task(title, train, validation, lambda: nets.transformer(alphabet, 64), 2, 64)


TASKS = {"cifar10_cnn": cifar10_cnn, "shakespeare_transformer": shakespeare_transformer}


def by_stock(task: Task, model: keras.Model, clock: "Epochs", seed: int) -> keras.callbacks.History:
    """What a person writes first."""
    model.compile(
        keras.optimizers.Adam(),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    return model.fit(
        *task.train,
        batch_size=task.batch_size,
        epochs=task.epochs,
        validation_data=task.validation,
        callbacks=[clock],
        verbose=0,
    )


def by_recipe(
    task: Task,
    model: keras.Model,
    clock: "Epochs",
    seed: int,
    recipe: str = "default",
    changes: dict[str, Any] | None = None,
) -> keras.callbacks.History:
    """The same with a saved recipe, which has the files of a run to write besides."""
    chosen = tfr.Recipe.load(recipe).replace(
        **{"train.batch_size": task.batch_size, "train.seed": seed, **(changes or {})}
    )
    with tempfile.TemporaryDirectory() as folder:
        return chosen.fit(
            model,
            task.train,
            validation_data=task.validation,
            epochs=task.epochs,
            directory=Path(folder) / "run",
            callbacks=[clock],
            verbose=0,
        )


class Epochs(keras.callbacks.Callback):
    """Notes when each epoch, validation included, was over."""

    def __init__(self) -> None:
        """Start the clock at the beginning of training."""
        super().__init__()
        self.ends: list[float] = []

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Note the time."""
        self.ends.append(time.monotonic())


def run(task: Task, way: Callable[..., keras.callbacks.History], seed: int) -> dict[str, Any]:
    """Train once.

    Returns:
        `loss` and `accuracy` of the model that `fit` left, over the validation data; the loss is
        the plain cross-entropy, without smoothing. `seconds` of everything, tracing included;
        `epoch_seconds`, the median of the epochs after the first.
    """
    keras.utils.clear_session()
    keras.utils.set_random_seed(seed)
    model, clock, began = task.make(), Epochs(), time.monotonic()
    with record.Busy() as busy:
        history = way(task, model, clock, seed).history
    seconds = time.monotonic() - began
    x, y = task.validation
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), metrics=["accuracy"]
    )
    last = model.evaluate(x, y, batch_size=500, verbose=0, return_dict=True)
    later = sorted(b - a for a, b in zip(clock.ends, clock.ends[1:], strict=False))
    return {
        "seed": seed,
        "loss": last["loss"],
        "accuracy": last["accuracy"],
        "best_epoch_accuracy": max(history["val_accuracy"]),
        "seconds": seconds,
        "epoch_seconds": later[len(later) // 2] if later else seconds,
        "cores_busy_with_others": busy.others,
    }


WAYS = {"stock": by_stock, "default": by_recipe}


def measure(task: Task, seeds: Sequence[int]) -> dict[str, Any]:
    """Both ways in turn, seed by seed."""
    runs: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for seed in seeds:
        for way, train in WAYS.items():
            done = run(task, train, seed)
            runs[way].append(done)
            print(
                f"{task.title}, {way}, seed {seed}: accuracy {done['accuracy']:.4f}, "
                f"loss {done['loss']:.4f}, {done['seconds']:.0f} s",
                flush=True,
            )
    summary = {
        way: {key: record.spread([r[key] for r in done]) for key in ("accuracy", "loss")}
        for way, done in runs.items()
    }
    pairs = list(zip(runs["default"], runs["stock"], strict=True))
    ratios = {
        key: record.spread([ours[key] / stock[key] for ours, stock in pairs])
        for key in ("seconds", "epoch_seconds")
    }
    return {
        "title": task.title,
        "epochs": task.epochs,
        "batch_size": task.batch_size,
        "train_samples": len(task.train[0]),
        "validation_samples": len(task.validation[0]),
        "parameters": task.make().count_params(),
        **summary,
        "time_ratio": ratios,
        "runs": runs,
    }


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""
    lines = [f"{'task':26s} {'way':8s} {'accuracy':>8s} {'min':>6s} {'max':>6s} {'loss':>7s}"]
    for task in results["tasks"].values():
        for way in WAYS:
            accuracy, loss = task[way]["accuracy"], task[way]["loss"]
            lines.append(
                f"{task['title']:26s} {way:8s} {accuracy['mean']:8.4f} {accuracy['min']:6.4f} "
                f"{accuracy['max']:6.4f} {loss['mean']:7.4f}"
            )
        ratio = task["time_ratio"]
        lines.append(
            f"{'':26s} time, default / stock: an epoch {ratio['epoch_seconds']['mean']:.2f}, "
            f"all with tracing {ratio['seconds']['mean']:.2f}"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, one seed")
    parser.add_argument("--seeds", type=int, default=3, help="how many")
    parser.add_argument("--task", choices=TASKS, action="append", help="only this one")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    seeds = range(1 if given.quick else given.seeds)
    try:
        tasks = {name: TASKS[name](given.quick) for name in given.task or TASKS}
    except data.MissingDataError as error:
        print(error, file=sys.stderr)
        return 2
    results = {"tasks": {name: measure(task, seeds) for name, task in tasks.items()}}
    print(table(results))
    whole = not given.quick and not given.task
    if whole or given.out:
        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
