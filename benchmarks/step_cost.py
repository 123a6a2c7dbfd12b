"""Claim: what our step does besides costs little beside bare `fit`.

    python benchmarks/step_cost.py            # about 3 minutes
    python benchmarks/step_cost.py --quick    # that it runs; its numbers mean nothing

Ours: `tfr.TrainStep`, `tfr.EMA`, `tfr.Monitor` with its files, clipping at the global norm. Bare:
stock `compile` and `fit` with Keras's AdamW, no callback. Ours is timed under Keras's AdamW and
under `tfr.AdamW`. Both have the same dataset, whose autotuner is off (it sleeps, and an epoch's
time would be rounded up to that sleep). One `fit` before the clock starts does the tracing.
"""

import argparse
import gc
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from parts import nets, record

import tfrecipes as tfr

NAME = "step_cost"


@dataclass(frozen=True)
class Case:
    """A net, and how many steps of it are timed at once.

    Attributes:
        make: Makes the model.
        shape: Of one sample.
        batch_size: Samples a step.
        steps: Steps of one timing.
    """

    make: Callable[[], keras.Model]
    shape: tuple[int, ...]
    batch_size: int
    steps: int


CASES = {
    "MLP": Case(nets.mlp, (64,), 32, 625),
    "CNN with BatchNorm": Case(lambda: nets.cnn(10, (16, 32, 64)), (32, 32, 3), 128, 30),
}
OPTIMIZERS = {"keras AdamW": keras.optimizers.AdamW, "tfr.AdamW": tfr.AdamW}


def dataset(case: Case) -> tf.data.Dataset:
    """Random samples, as many as one timing takes."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(case.steps * case.batch_size, *case.shape)).astype("float32")
    y = rng.integers(0, 10, len(x))
    options = tf.data.Options()
    options.autotune.enabled = False
    found = tf.data.Dataset.from_tensor_slices((x, y)).batch(case.batch_size)
    return found.prefetch(2).with_options(options)


def compiled(case: Case, optimizer: keras.optimizers.Optimizer) -> keras.Model:
    """A model from a fixed seed, without XLA on either side."""
    keras.utils.set_random_seed(0)
    model = case.make()
    model.compile(
        optimizer,
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
        jit_compile=False,
    )
    return model


def timer(
    model: keras.Model,
    data: tf.data.Dataset,
    callbacks: Callable[[], list[keras.callbacks.Callback]] = list,
) -> Callable[[], float]:
    """A function that fits for one epoch and returns its seconds; already traced."""

    def once() -> float:
        made = callbacks()
        gc.collect()
        began = time.perf_counter()
        model.fit(data, epochs=1, shuffle=False, callbacks=made, verbose=0)
        return time.perf_counter() - began

    once()
    return once


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Ours against bare `fit`, under each optimizer."""
    data, found = dataset(case), {}
    stock = timer(compiled(case, keras.optimizers.AdamW(1e-4)), data)
    for name, optimizer in OPTIMIZERS.items():
        with tempfile.TemporaryDirectory() as folder:
            numbers = iter(range(10**6))

            def callbacks(
                folder: str = folder, numbers: Any = numbers
            ) -> list[keras.callbacks.Callback]:
                here = Path(folder) / f"run-{next(numbers)}"
                return [tfr.TrainStep(), tfr.EMA(), tfr.Monitor(here)]

            ours = timer(compiled(case, optimizer(1e-4, global_clipnorm=1.0)), data, callbacks)
            found[name] = record.interleaved(ours, stock, pairs)
        bare = sorted(b for _, b in found[name]["seconds"])[pairs // 2] / case.steps
        found[name]["bare_step_ms"] = 1e3 * bare
    return found


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""
    lines = [f"{'net':20s} {'optimizer':12s} {'bare ms':>8s} {'ours / bare':>11s}   min    max"]
    for net, rows in results["ratios"].items():
        for optimizer, row in rows.items():
            ratio = row["ratio"]
            lines.append(
                f"{net:20s} {optimizer:12s} {row['bare_step_ms']:8.2f} {ratio['median']:11.2f} "
                f"{ratio['min']:6.2f} {ratio['max']:6.2f}   "
                f"({row['cores_busy_with_others']:.1f} cores busy with others)"
            )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps, one pair")
    parser.add_argument("--pairs", type=int, default=9, help="how many timings of each")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    ratios = {}
    for name, case in CASES.items():
        if given.quick:
            case = Case(case.make, case.shape, 8, 4)
        ratios[name] = measure(case, 1 if given.quick else given.pairs)
    results = {"ratios": ratios}
    print(table(results))
    if not given.quick or given.out:
        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
