"""Trainings at one rate or another, kept in a folder so that none is done twice."""

import contextlib
import io
import json
import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tfrecipes as tfr
from parts import record
from parts.workloads import Workload
from tfrecipes.runs.folder import read_run

LAST = 0.1  # of the steps: what "final" means of the objective
TOO_HIGH = 1e4  # times the first loss: a sweep goes no further


class Runs:
    """The trainings of one workload with one seed, in one JSON file.

    Args:
        folder: Where the files are.
        name: The workload's.
        workload: The workload.
        seed: Of the model's weights and of the data's order.
    """

    def __init__(self, folder: Path, name: str, workload: Workload, seed: int) -> None:
        self.path = folder / "grid" / f"{name}.{seed}.json"
        self.workload, self.seed = workload, seed
        self.rows: list[dict[str, Any]] = []
        if self.path.is_file():
            self.rows = json.loads(self.path.read_text(encoding="utf-8"))["trainings"]

    def known(self, rate: float) -> dict[str, Any] | None:
        """The training at that peak, if it was done."""
        return next((r for r in self.rows if math.isclose(r["rate"], rate, rel_tol=1e-6)), None)

    def at(self, rate: float) -> dict[str, Any]:
        """The training at that peak, done now if it was not yet."""
        row = self.known(rate)
        if row is None:
            row = {"rate": rate, **train(self.workload, rate, self.seed)}
            self.rows = sorted([*self.rows, row], key=lambda r: r["rate"])
            self._write()
            print(
                f"{self.path.stem}: rate {rate:.3g}: loss {row['loss']:.4f}, "
                f"validation {row['validation_loss']:.4f}, {row['seconds']:.0f} s "
                f"({row['step_seconds'] * 1e3:.1f} ms a step)",
                flush=True,
            )
        return row

    def _write(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        whole = {"title": self.workload.title, "seed": self.seed, "trainings": self.rows}
        partial = self.path.with_suffix(".partial")
        partial.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
        os.replace(partial, self.path)


def train(workload: Workload, rate: float, seed: int) -> dict[str, Any]:
    """Train a workload by its recipe with that peak.

    Returns:
        `loss`, the mean objective of the last tenth of the steps; `last_epoch_loss`, Keras's mean
        over the last epoch; `validation_loss` of the model that `fit` left, without smoothing:
        each NaN where training was stopped or ended in what is not finite. `first_loss` of the
        first step, `steps`, `seconds` of everything and `step_seconds` after the first epoch.
    """
    keras.utils.clear_session()
    train_data, validation = workload.load()
    model, clock = workload.model(seed), _Epochs()
    said = io.StringIO()  # that a rate is too high is what is asked here
    with (
        tempfile.TemporaryDirectory() as folder,
        record.Busy() as busy,
        contextlib.redirect_stdout(said),
    ):
        began = time.monotonic()
        history = (
            workload.recipe(seed, rate)
            .fit(
                model,
                train_data,
                validation_data=validation,
                loss=workload.loss,
                metrics=[],
                directory=Path(folder) / "run",
                callbacks=[clock],
                verbose=0,
            )
            .history
        )
        seconds = time.monotonic() - began
        losses = np.asarray(read_run(Path(folder) / "run").steps["loss"], float)
    whole = len(losses) >= workload.steps() and len(history["loss"]) == workload.epochs
    last = losses[-max(1, round(LAST * len(losses))) :]
    ends = {
        "loss": float(last.mean()),
        "last_epoch_loss": float(history["loss"][-1]),
        "validation_loss": float(history["val_loss"][-1]),
    }
    fine = whole and all(map(math.isfinite, ends.values()))
    return {
        **(ends if fine else dict.fromkeys(ends, math.nan)),
        "first_loss": float(losses[0]),
        "steps": len(losses),
        "seconds": round(seconds, 3),
        "step_seconds": clock.epoch_seconds / (workload.steps() / workload.epochs),
        "cores_busy_with_others": round(busy.others, 2),
    }


class _Epochs(keras.callbacks.Callback):
    """How long an epoch's steps take, validation left out."""

    def __init__(self) -> None:
        super().__init__()
        self._began, self._seconds = 0.0, []

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Start."""
        self._began = time.monotonic()

    def on_test_begin(self, logs: Any = None) -> None:
        """Validation begins: the epoch's steps are over."""
        self._seconds.append(time.monotonic() - self._began)

    @property
    def epoch_seconds(self) -> float:
        """The median epoch's, without the first, which traces."""
        return float(np.median(self._seconds[1:] or self._seconds))


class Ramp(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises from step to step, from variables: another range is no other graph."""

    def __init__(self) -> None:
        """Start at 0 and stay there."""
        self.low = keras.Variable(0.0, trainable=False)
        self.factor = keras.Variable(1.0, trainable=False)
        self.slope = keras.Variable(0.0, trainable=False)

    def set(self, low: float, high: float, steps: int, scale: str) -> np.ndarray:
        """Rise from `low` to `high` in `steps` steps; returns the rates."""
        self.low.assign(low)
        self.factor.assign((high / low) ** (1 / (steps - 1)) if scale == "log" else 1.0)
        self.slope.assign(0.0 if scale == "log" else (high - low) / (steps - 1))
        return (np.geomspace if scale == "log" else np.linspace)(low, high, steps)

    def __call__(self, step: Any) -> Any:
        """The rate of that step."""
        t = keras.ops.cast(step, "float32")
        return self.low * self.factor**t + self.slope * t

    def get_config(self) -> dict[str, Any]:
        """Nothing is kept of it."""
        return {}


def ask(workload: Workload, scale: Any, seed: int) -> dict[str, Any]:
    """Ask the finder about a workload, as a user would.

    Returns:
        What it found, and `seconds`, all of it but the loading of the data.
    """
    keras.utils.clear_session()
    train_data, _ = workload.load()
    began = time.monotonic()
    found = tfr.find_learning_rate(
        lambda: workload.model(seed),
        train_data,
        workload.recipe(seed),
        scale,
        loss=workload.loss,
        seed=seed,
        verbose=0,
    )
    return {
        "suggestion": float(found.suggestion),
        "interval": [float(rate) for rate in found.interval],
        "warning": found.warning,
        "rules": {name: float(rate) for name, rate in found.rules.items()},
        "learning_rates": found.learning_rates,
        "losses": found.losses,
        "steps": found.steps,
        "seconds": time.monotonic() - began,
    }


def kept_sweeps(
    folder: Path, name: str, workload: Workload, asked: Sequence[tuple[str, int]]
) -> dict[str, np.ndarray]:
    """The plain sweeps of a workload, done now if they are not in the folder yet."""
    path = folder / "sweeps" / f"{name}.npz"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays: dict[str, Any] = sweeps(workload, asked)
        np.savez(path, **arrays)
        print(f"{name}: plain sweeps done", flush=True)
    with np.load(path) as archive:
        return {key: archive[key] for key in archive.files}


def plain(found: dict[str, np.ndarray], scale: str, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Rates (steps,) and losses (seeds, steps) of one kind of plain sweep."""
    return found[f"rates_{scale}_{steps}"], found[f"losses_{scale}_{steps}"]


def sweeps(
    workload: Workload, asked: Sequence[tuple[str, int]], seeds: int = 5
) -> dict[str, np.ndarray]:
    """Plain range tests, which do not stop at a divergence.

    The same weights at the start of each, another order of the data for each seed.

    Args:
        workload: The workload.
        asked: (scale, steps) of each kind of sweep.
        seeds: Sweeps of each kind.

    Returns:
        `rates_<scale>_<steps>` and `losses_<scale>_<steps>` (seeds, steps): the objective of each
        step's batch; NaN from where it was not finite or 1e4 times the first. `seconds_...`.
    """
    keras.utils.clear_session()
    (x, y), _ = workload.load()
    low, high = (1e-5, 100.0) if workload.optimizer == "sgd" else (1e-7, 10.0)
    model, ramp = workload.model(0), Ramp()
    recipe = workload.recipe().replace(ema=None)  # the average changes no loss of a training step
    recipe.compile(model, 1000, workload.loss, metrics=[], schedule=ramp)
    model.optimizer.build(model.trainable_variables)
    every = [*model.variables, *model.optimizer.variables]
    start = [variable.numpy() for variable in every]
    found: dict[str, np.ndarray] = {}
    for scale, steps in asked:
        rates = ramp.set(low, high, steps, scale)
        losses, began = np.full((seeds, steps), np.nan), time.monotonic()
        for seed in range(seeds):
            for variable, value in zip(every, start, strict=True):
                variable.assign(value)
            rng = np.random.default_rng(seed)
            order = np.concatenate(
                [rng.permutation(len(x)) for _ in range(-(-steps * workload.batch_size // len(x)))]
            )
            for t in range(steps):
                rows = order[t * workload.batch_size : (t + 1) * workload.batch_size]
                model.reset_metrics()
                loss = float(model.train_on_batch(x[rows], y[rows], return_dict=True)["loss"])
                if not math.isfinite(loss) or loss > TOO_HIGH * losses[seed, 0]:
                    break
                losses[seed, t] = loss
        name = f"{scale}_{steps}"
        found[f"rates_{name}"], found[f"losses_{name}"] = rates, losses
        found[f"seconds_{name}"] = np.array(time.monotonic() - began)
    return found
