"""Claim: seeing the run costs little: a Monitor with everything on against none.

    python benchmarks/monitor_cost.py            # about 6 minutes
    python benchmarks/monitor_cost.py --quick    # that it runs; its numbers mean nothing

On: `tfr.Monitor(directory)` as it comes: every column of every step, layers every 16th step, facts
of model and data, system.csv, TensorBoard, the rules at each epoch's end. Off: `tfr.TrainStep()`,
the same step without any of it. Both have the same model, optimizer and dataset, whose autotuner
is off (it sleeps, and an epoch's time would be rounded up to that sleep). Fits are run in turn; of
each the epochs but the first count, and beside it what the fit takes more than the other before its
first epoch and after its last.
"""

import argparse
import gc
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from parts import nets, record

import tfrecipes as tfr

NAME = "monitor_cost"
ALPHABET, CONTEXT = 65, 64


@dataclass(frozen=True)
class Case:
    """A net, and how much of it is timed at once.

    Attributes:
        make: Makes the model.
        sample: Makes inputs and labels of so many samples.
        batch_size: Samples a step.
        steps: Steps of an epoch.
        epochs: Epochs of one fit, the first of which does not count.
    """

    make: Callable[[], keras.Model]
    sample: Callable[[np.random.Generator, int], tuple[np.ndarray, np.ndarray]]
    batch_size: int
    steps: int
    epochs: int = 4


def features(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Numbers that a linear map sorts into 10 classes."""
    x = rng.normal(size=(count, 64)).astype("float32")
    return x, np.argmax(x @ rng.normal(size=(64, 10)), -1)


def images(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a class's color."""
    y = rng.integers(0, 10, count)
    colors = rng.normal(size=(10, 3))
    return (rng.normal(size=(count, 32, 32, 3)) + colors[y][:, None, None]).astype("float32"), y


def characters(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Letters, each of which follows the one before it in most cases."""
    x = (rng.integers(0, ALPHABET, (count, 1)) + np.arange(CONTEXT + 1)) % ALPHABET
    lost = rng.random(x.shape) < 0.1
    x = np.where(lost, rng.integers(0, ALPHABET, x.shape), x).astype("int32")
    return x[:, :-1], x[:, 1:]


CASES = {
    "MLP": Case(nets.mlp, features, 128, 1000),
    "CNN with BatchNorm": Case(lambda: nets.cnn(10, (16, 32, 64)), images, 128, 25),
    "transformer": Case(lambda: nets.transformer(ALPHABET, CONTEXT), characters, 32, 25),
}


class Clock(keras.callbacks.Callback):
    """When training and its epochs began and ended."""

    def on_train_begin(self, logs: Any = None) -> None:
        """The first epoch is about to begin."""
        self.began, self.ends = time.perf_counter(), []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """An epoch is over, whatever the callbacks before this one did at its end."""
        self.ends.append(time.perf_counter())

    @property
    def epoch_seconds(self) -> float:
        """The mean epoch's, without the first."""
        return (self.ends[-1] - self.ends[0]) / (len(self.ends) - 1)


@dataclass
class Timed:
    """Fits of one model.

    Attributes:
        once: Fits, and returns the mean epoch's seconds.
        around: What each fit took before its first epoch and after its last [s].
    """

    once: Callable[[], float]
    around: list[float]


def timed(case: Case, monitored: bool, folder: Path) -> Timed:
    """A model's fits, already traced."""
    keras.utils.set_random_seed(0)
    x, y = case.sample(np.random.default_rng(0), case.steps * case.batch_size)
    options = tf.data.Options()
    options.autotune.enabled = False
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(case.batch_size)
    data = data.prefetch(2).with_options(options)
    model = case.make()
    model.compile(
        tfr.AdamW(tfr.WarmupConstant(1e-3, warmup_steps=case.steps), global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=False,
    )
    numbers, around = iter(range(10**6)), []

    def once() -> float:
        watching: list[Any] = [tfr.TrainStep()]
        if monitored:
            monitor = tfr.Monitor(folder / f"run-{next(numbers)}")
            monitor.tell_arrays(x, y, case.batch_size)
            watching.append(monitor)
        clock = Clock()
        gc.collect()
        began = time.perf_counter()
        # Keras warns of a dataset that it would shuffle.
        model.fit(data, epochs=case.epochs, shuffle=False, callbacks=[*watching, clock], verbose=0)
        around.append(clock.began - began + time.perf_counter() - clock.ends[-1])
        return clock.epoch_seconds

    once()
    around.clear()
    return Timed(once, around)


def measure(case: Case, pairs: int) -> dict[str, Any]:
    """Everything on against nothing on."""
    with tempfile.TemporaryDirectory() as folder:
        on, off = (timed(case, monitored, Path(folder)) for monitored in (True, False))
        found = record.interleaved(on.once, off.once, pairs)
    steps = statistics.median(second for _, second in found["seconds"]) / case.steps
    ratios = sorted(a / b for a, b in found["seconds"])
    found["ratio"]["quarter"] = ratios[len(ratios) // 4]
    found["ratio"]["three_quarters"] = ratios[-1 - len(ratios) // 4]
    return found | {
        "step_ms": 1e3 * steps,
        "around_ms": 1e3 * (statistics.median(on.around) - statistics.median(off.around)),
        "parameters": case.make().count_params(),
    }


def table(results: dict[str, Any]) -> str:
    """The results as lines of text."""
    lines = [f"{'net':20s} {'step ms':>8s} {'on / off':>9s}  middle half      range     fixed ms"]
    for net, row in results["ratios"].items():
        ratio = row["ratio"]
        lines.append(
            f"{net:20s} {row['step_ms']:8.2f} {ratio['median']:9.3f}  "
            f"{ratio['quarter']:.3f} to {ratio['three_quarters']:.3f}  "
            f"{ratio['min']:.3f} to {ratio['max']:.3f}  {row['around_ms']:8.0f}   "
            f"({row['cores_busy_with_others']:.1f} cores busy with others)"
        )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few steps, one pair")
    parser.add_argument("--pairs", type=int, default=7, help="how many fits of each")
    parser.add_argument("--nets", nargs="*", default=list(CASES), help="which nets")
    parser.add_argument("--out", type=Path, help="another file for the JSON")
    given = parser.parse_args(arguments)
    ratios = {}
    for name in given.nets:
        case = CASES[name]
        if given.quick:
            case = replace(case, batch_size=4, steps=3, epochs=2)
        ratios[name] = measure(case, 1 if given.quick else given.pairs)
    results = {"ratios": ratios}
    print(table(results))
    if not given.quick or given.out:
        command = f"python benchmarks/{NAME}.py" + (" --quick" if given.quick else "")
        print(record.write(NAME, command, results, given.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
