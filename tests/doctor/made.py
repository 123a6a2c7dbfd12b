"""Runs made by hand: a healthy one with everything in it, and what a fault changes of it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from tfrecipes.runs.folder import Run

STEPS, EPOCHS = 400, 8
PER = STEPS // EPOCHS
GUESS = float(np.log(10))
PLANNED = 1e-3 * np.minimum(np.arange(1, STEPS + 1) / 40, np.linspace(1.1, 0.01, STEPS))


def facts() -> dict[str, Any]:
    """What the monitor would have learnt of the healthy run."""
    return {
        "optimizer": {"name": "AdamW", "weight_decay": 0.05, "global_clipnorm": 1.0},
        "schedule": {
            "name": "WarmupLinear",
            "config": {"total_steps": STEPS},
            "points": [[i, float(PLANNED[i])] for i in range(0, STEPS, 4)],
        },
        "total_steps": STEPS,
        "steps_per_epoch": PER,
        "epochs": EPOCHS,
        "batch_size": 64,
        "micro_batch": None,
        "replicas": 1,
        "precision": "float32",
        "loss": {
            "name": "SparseCategoricalCrossentropy",
            "from_logits": True,
            "label_smoothing": 0.0,
        },
        "last_activation": "linear",
        "classes": 10,
        "width": 10,
        "layers": {"Conv2D": 2, "BatchNormalization": 2, "Dense": 1},
        "dropout": 0,
        "parameters": 12_345,
        "trainable_weights": 8,
        "frozen_weights": 0,
        "groups": ["conv_1", "conv_2", "dense"],
        "average": None,
        "data": data(3200),
        "validation": data(800) | {"shared": 0},
    }


def data(samples: int) -> dict[str, Any]:
    """Facts of images of ten classes."""
    image = {
        "shape": [8, 8, 1],
        "dtype": "float32",
        "min": -1.2,
        "max": 2.1,
        "mean": 0.01,
        "std": 1.0,
    }
    labels = {"kind": "integer", "classes": 10, "counts": [samples // 10] * 10, "sorted": False}
    return {
        "samples": samples,
        "looked_at": samples,
        "inputs": [{"name": "x", "constant_features": 0, **image}],
        "labels": labels | {"mean": 4.5, "std": 2.9},
        "repeated": 0,
    }


def noise(scale: float, count: int = STEPS, seed: int = 1) -> np.ndarray:
    """Around 1."""
    return 1 + scale * np.random.default_rng(seed).standard_normal(count)


def falling(end: float = 0.2, time: float = 35, start: float = GUESS) -> np.ndarray:
    """A loss that falls from guessing."""
    return end + (start - end) * np.exp(-np.arange(STEPS) / time)


def of_epochs(loss: np.ndarray) -> np.ndarray:
    """Keras's epoch means."""
    return loss[: len(loss) // PER * PER].reshape(-1, PER).mean(1)


def run(loss: np.ndarray | None = None, **changes: Any) -> Run:
    """The healthy run, with other columns and facts.

    Args:
        loss: The training loss, noise included; None = the healthy one.
        changes: `val` (epochs), `facts`, `system`, `layers`, `state`, `recipe`; a column of
            steps.csv by its name; any other key of History as `epochs={...}`.
    """
    loss = falling() * noise(0.05) if loss is None else loss
    steps = {
        "step": np.arange(len(loss), dtype=float),
        "learning_rate": PLANNED[: len(loss)],
        "loss": loss,
        "grad_norm": 0.8 * np.abs(noise(0.1, len(loss), 2)),
        "param_norm": np.full(len(loss), 14.0),
        "update_ratio": 5 * PLANNED[: len(loss)],
        "clipped": np.zeros(len(loss)),
        "overflow": np.zeros(len(loss)),
        "loss_scale": np.ones(len(loss)),
        "samples": np.full(len(loss), 64.0),
    }
    means = of_epochs(loss)
    validation = changes.pop("val", of_epochs(falling()) + 0.02)
    epochs = {"loss": means, "val_loss": np.asarray(validation, float)[: len(means)]}
    # Right in one of ten where the loss is that of guessing.
    epochs["accuracy"] = np.clip(1 - 0.9 * epochs["loss"] / GUESS, 0.1, 1)
    epochs["val_accuracy"] = np.clip(1 - 0.9 * epochs["val_loss"] / GUESS, 0.1, 1)
    epochs |= changes.pop("epochs", {})
    rows = len(range(0, len(loss), 16))
    layers = {"step": np.arange(0, len(loss), 16, dtype=float)}
    for group in ("conv_1", "conv_2", "dense"):
        layers[f"grad_norm/{group}"] = np.full(rows, 0.4)
        layers[f"update_ratio/{group}"] = np.full(rows, 5e-3)
    seconds = np.arange(1.0, 11.0)
    system = {
        "step": seconds * 40,
        "seconds": seconds,
        "samples_per_second": np.full(10, 2560.0),
        "data_wait": np.full(10, 0.05),
        "reduce_share": np.full(10, np.nan),
    }
    parts: dict[str, Any] = {
        "facts": told(changes.pop("facts", {})),
        "layers": layers | changes.pop("layers", {}),
        "system": system | changes.pop("system", {}),
        "state": changes.pop("state", {"status": "finished"}),
        "recipe": changes.pop("recipe", None),
    }
    steps |= {name: np.broadcast_to(np.float64(v), len(loss)) for name, v in changes.items()}
    return Run(steps=steps, epochs=epochs, **parts)


def told(changes: dict[str, Any]) -> dict[str, Any]:
    """The facts with others by dotted path: {"loss.from_logits": False}."""
    found = facts()
    for path, value in changes.items():
        part = found
        *above, last = path.split(".")
        for key in above:
            part = part[key]
        part[last] = value
    return found


def inputs(**changes: Any) -> dict[str, Any]:
    """Facts of other inputs."""
    return {"data.inputs": [facts()["data"]["inputs"][0] | changes]}


def numbers(mean: float, deviation: float) -> dict[str, Any]:
    """Facts of a regression."""
    labels = {"kind": "real", "shape": [], "classes": None, "counts": None, "sorted": False}
    return {
        "data.labels": labels | {"mean": mean, "std": deviation},
        "loss": {"name": "MeanSquaredError"},
        "classes": None,
    }


Make = Callable[[], Run]
