"""Each rule fires on a run that has its fault, with the numbers, and is silent beside it."""

import re
from typing import ClassVar

import numpy as np
import pytest

from tests.doctor.made import (
    EPOCHS,
    GUESS,
    PER,
    PLANNED,
    STEPS,
    Make,
    falling,
    inputs,
    noise,
    numbers,
    of_epochs,
    run,
)
from tfrecipes.doctor import rules
from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, Finding
from tfrecipes.runs.folder import Run

FLAT = GUESS * noise(0.03)
T = np.arange(STEPS)
LATE = np.arange(STEPS // 16) * 16 >= STEPS // 2


def spiked(*rows: int, height: float = 40.0) -> np.ndarray:
    loss = falling() * noise(0.05)
    loss[list(rows)] = height
    return loss


def saw_tooth() -> np.ndarray:
    """Ten classes, one after the other, in each of the epochs."""
    within = np.tile(
        np.repeat([0.3, 4.0, 0.5, 5.0, 0.4, 4.5, 0.3, 5.0, 0.5, 4.0], PER // 10), EPOCHS
    )
    return within * noise(0.05)


def broken(first: int, last: int, rise: bool = False) -> np.ndarray:
    loss = falling() * noise(0.05)
    if rise:
        loss[first - 10 : first] = np.geomspace(2, 200, 10)
    loss[first:last] = np.nan
    return loss


def dead(begun: bool) -> dict[str, np.ndarray]:
    rows = np.where(LATE | begun, 0.0, 0.4)
    return {"grad_norm/conv_1": rows, "grad_norm/conv_2": rows}


def history(**columns: list[float]) -> Run:
    return Run(epochs={name: np.asarray(values, float) for name, values in columns.items()})


def tiny_updates() -> np.ndarray:
    return 1e-5 * PLANNED / PLANNED.max()


WORSE = np.array([2.0, 1.5, 1.2, 1.0, 1.1, 1.4, 1.7, 2.0])
LOW = falling(0.01, 60)
FLOAT16 = {"precision": "float16"}
IMBALANCED = {"data.labels.counts": [2890] + [30] * 9 + [40]}

UNKNOWN = {"classes": None, "data": None, "validation": None}
FLAT_METRIC = {"accuracy": np.full(8, 0.1), "val_accuracy": np.full(8, 0.1)}
REGRESSION = {"loss.name": "mse", "data.labels.kind": "real", "classes": None, "width": 1}
IN_UNIT = {
    "last_activation": "sigmoid",
    "data.labels.mean": 0.305,
    "data.labels.std": 0.376,
    "data.labels.min": 0.0,
    "data.labels.max": 1.0,
}

# Rule -> runs that have the fault, and what must be said of each.
FAULTS: dict[str, list[tuple[Make, str]]] = {
    "logits_mismatch": [
        (lambda: run(FLAT, facts={"last_activation": "softmax"}), "softmax.*from_logits=True"),
        (lambda: run(FLAT, facts={"loss.from_logits": False}), "linear.*from_logits=False"),
    ],
    "wrong_loss": [
        (
            lambda: run(facts={"loss.name": "mean_squared_error", "classes": None, "width": 10}),
            "whole numbers, one a sample .* for 10 outputs, and the loss is mean_squared_error",
        ),
        (
            lambda: run(
                facts={
                    "loss.name": "mse",
                    "width": 65,
                    "data.labels.kind": "real",
                    "data.labels.shape": [24, 1],
                }
            ),
            "single numbers, .* for 65 outputs",
        ),
        (
            lambda: run(facts={"loss.name": "BinaryCrossentropy", "data.labels.kind": "one-hot"}),
            "10 classes .one-hot",
        ),
        (
            lambda: run(
                facts={"last_activation": "softmax", "width": 1, "loss.from_logits": False}
            ),
            "softmax over one output",
        ),
        (lambda: run(facts={"data.labels.kind": "real"}), "labels are real numbers"),
        (lambda: run(facts={"last_activation": "relu"}), "last activation is relu"),
        (
            lambda: run(
                facts=REGRESSION | {"data.labels.mean": 40.0, "last_activation": "sigmoid"}
            ),
            "mean of 40 .*sigmoid",
        ),
        (lambda: run(facts=REGRESSION | IN_UNIT | {"data.labels.min": -2.0}), "sigmoid"),
    ],
    "constant_features": [
        (
            lambda: run(FLAT, facts=inputs(std=0.0, min=0, max=0, constant_features=64)),
            "64 of 64 features",
        ),
        (lambda: run(facts=inputs(constant_features=60)), "60 of 64 features"),
    ],
    "labels_sorted": [
        (
            lambda: run(saw_tooth(), facts={"data.labels.sorted": True}),
            "labels are sorted, and the .*saw-tooth",
        ),
        (
            lambda: run(saw_tooth(), facts={"data": None}),
            "The training loss makes the same saw-tooth",
        ),
        (lambda: run(facts={"data.labels.sorted": True}), "The labels are sorted"),
    ],
    "inputs_not_normalised": [
        (
            lambda: run(facts=inputs(mean=120.0, std=70.0, min=0, max=255)),
            "mean of 120 .* deviation of 70",
        ),
        (lambda: run(facts=inputs(max=1e4)), r"to 1e\+04: large in places"),
        (lambda: run(facts=inputs(mean=1e-5, std=1e-4, min=0.0, max=1e-3)), "tiny"),
    ],
    "targets_not_normalised": [
        (
            lambda: run(falling(4e7, 60, 4.6e7), facts=numbers(5089.0, 4417.0)),
            r"mean of 5.09e\+03 and a deviation of 4.42e\+03; the training loss ended at 4e\+07, and guessing",
        ),
        (lambda: run(falling(1e-8, 60, 1e-8), facts=numbers(0.0, 1e-4)), "deviation of 0.0001"),
    ],
    "float16_without_scale": [
        (lambda: run(FLAT, facts=FLOAT16, grad_norm=1e-6), "loss scale is 1 at every step"),
    ],
    "loss_scale_overflows": [
        (lambda: run(loss_scale=64, overflow=T % 10 == 0), "10% of the steps"),
        (lambda: run(loss_scale=np.maximum(1.0, 2.0 ** (15 - T // 20))), "its floor"),
    ],
    "dropout_too_high": [
        (lambda: run(FLAT * 0.9, facts={"dropout": 0.95}), "drops 95%"),
    ],
    "schedule_too_short": [
        (
            lambda: run(
                falling(1.8, 10),
                learning_rate=np.where(T < 40, PLANNED.max(), 1e-9),
                facts={
                    "schedule": {
                        "name": "C",
                        "config": {"total_steps": 40},
                        "points": [[0, 1e-3], [40, 0], [399, 0]],
                    }
                },
            ),
            "360 steps before the end of 400. The schedule is 40 steps long, the run 400",
        ),
        (
            lambda: run(facts={"schedule.config": {"total_steps": 4000}}),
            "The schedule is 4,000 steps long, the run 400",
        ),
    ],
    "weight_decay_too_high": [
        (
            lambda: run(
                FLAT * 0.9, param_norm=14 * np.exp(-T / 50), facts={"optimizer.weight_decay": 30.0}
            ),
            "Weight decay 30 at the rate 0.0009. takes 3% .* from 14 down to",
        ),
    ],
    "batch_norm_tiny": [
        (lambda: run(facts={"micro_batch": 2}), "over 2 samples"),
        (lambda: run(facts={"batch_size": 8}), "over 8 samples"),
    ],
    "initial_loss": [
        (lambda: run(falling(0.2, 60, 40.0)), "first step's loss was 40; .* log K = 2.303"),
        (lambda: run(falling(0.2, 60, 5.0)), "first step's loss was 5;"),
    ],
    "not_finite": [
        (lambda: run(broken(37, 38)), "in 1 of 400 steps, first at step 37; 1 in a row"),
        (
            lambda: run(broken(200, 400, rise=True)),
            "first at step 200; 200 in a row at most, and the run ended so",
        ),
        (
            lambda: run(
                broken(37, 38), facts={"first_bad": {"step": 37, "weight": "block3/conv2/kernel"}}
            ),
            "in the gradient of block3/conv2/kernel",
        ),
        (lambda: history(loss=[2.0, 1.0, np.nan]), "first in epoch 3"),
    ],
    "diverged": [
        (
            lambda: run(np.concatenate([falling()[:200], np.linspace(1, 30, 200)])),
            "through .* up to 27",
        ),
        (
            lambda: run(np.concatenate([[2.3], 3e4 * np.abs(noise(0.5, 399))])),
            "went from 2.3 in the first step through .* up to",
        ),
        (lambda: history(loss=[2.3, 2.0, 4.0, 9.0, 30.0]), "from 2.3 through 2 up to 30"),
        (lambda: history(loss=[1.0, 1e4, 1e9]), "from 1 to 1e.09 in 3 epochs"),
    ],
    "frozen_layers": [
        (lambda: run(facts={"frozen_weights": 8, "trainable_weights": 0}), "8 weights of 8"),
        (
            lambda: run(FLAT * 0.9, facts={"frozen_weights": 12, "trainable_weights": 2}),
            "12 weights of 14",
        ),
    ],
    "dead_layers": [
        (
            lambda: run(FLAT, layers=dead(True)),
            "2 of 3 layer groups .conv_1, conv_2., from the first step on",
        ),
        (lambda: run(FLAT, layers=dead(False)), "2 of 3 layer groups"),
        (lambda: Run(steps={"loss": FLAT, "grad_norm": np.zeros(STEPS)}), "the whole model"),
    ],
    "vanishing_gradients": [
        (
            lambda: run(
                FLAT,
                layers={
                    "grad_norm/conv_1": np.full(25, 1e-9),
                    "grad_norm/conv_2": np.full(25, 1e-6),
                },
            ),
            r"1e-09 in the first layers \(conv_1\) and 0.4 in dense: a ratio of 2.5e-09",
        ),
        (
            lambda: Run(steps={"loss": FLAT, "grad_norm": np.where(T < 100, 1.0, 1e-7)}),
            "gradient norm fell from 1 to 1e-07",
        ),
    ],
    "learning_rate_too_high": [
        (
            lambda: run(falling(2.0, 20) * noise(0.03), update_ratio=np.where(T < 40, 0.5, 0.01)),
            "Updates reached 0.5 of the weights' norm .1e-3 is usual.; the training loss went from 2.* to only 2",
        ),
        (
            lambda: run(falling(2.0, 20) * noise(0.03), param_norm=14 * np.minimum(5, 1 + T / 20)),
            "The weights' norm grew 5 times",
        ),
        (
            lambda: run(falling(1.9, 20) * noise(0.03), update_ratio=0.04),
            "Updates stayed at 0.04",
        ),
        (
            lambda: run(falling(2.2, 20) * noise(0.03), learning_rate=0.5, update_ratio=0.01),
            "A rate of 0.5 moves each weight by up to that in a step",
        ),
    ],
    "labels_unrelated": [
        (
            lambda: run(FLAT, val=np.full(8, 2.32)),
            "2.3.* at the end of the first epoch, the validation loss 2.32",
        ),
        (
            lambda: run(
                np.where(T < PER, GUESS, GUESS * np.exp(-(T - PER) / 150)) * noise(0.03),
                val=np.linspace(2.31, 4, 8),
            ),
            "by heart",
        ),
    ],
    "loss_spike": [
        (lambda: run(spiked(100, 290)), r"at 2 steps \(100, 290\), to 40 at step"),
        (lambda: run(spiked(*range(70, 400, 50), height=2.6)), "7 steps|8 steps"),
    ],
    "validation_leak": [
        (
            lambda: run(facts={"validation.shared": 700}),
            r"700 validation samples \(88% of those looked at\)",
        ),
        (
            lambda: run(falling() * noise(0.02), val=0.5 * of_epochs(falling())),
            "below the next epoch's training loss in 100%",
        ),
    ],
    "duplicate_samples": [
        (
            lambda: run(facts={"data.repeated": 3000}),
            "3,000 of 3,200 training samples .* are copies of others .94%",
        ),
    ],
    "validation_not_representative": [
        (
            lambda: run(falling(0.05, 25) * noise(0.05), val=np.full(8, 2.6)),
            "never below 2.6.*guessing gives 2.303",
        ),
    ],
    "class_collapse": [
        (
            lambda: run(
                facts=IMBALANCED,
                epochs={"accuracy": np.full(8, 0.9), "val_accuracy": np.full(8, 0.903)},
            ),
            "Class 0 is 90.3% of 11 classes' labels; the accuracy ended at 90.0%",
        ),
    ],
    "learning_rate_off_schedule": [
        (
            lambda: run(learning_rate=np.where(T < 200, PLANNED, 1e-3)),
            "at 50% of 100 points, first at step 200: 0.001 taken",
        ),
        (lambda: run(learning_rate=np.tile(PLANNED[:PER], EPOCHS)), "first at step"),
    ],
    "warmup_missing": [
        (
            lambda: run(
                np.concatenate([np.linspace(2.3, 9, 20), 9 * np.exp(-np.arange(380) / 30) + 0.3])
                * noise(0.03),
                learning_rate=1e-3,
                facts={"schedule": None},
            ),
            "0.001 at step 0, 100% of its peak; the loss rose from 2.7.* to 8",
        ),
    ],
    "oscillating": [
        (
            lambda: run(
                (2 + np.sign(np.sin(T / 12.8))) * noise(0.03),
                facts={"loss.name": "Huber", "steps_per_epoch": None},
                epochs={"loss": [], "val_loss": []},
            ),
            "rose .* times",
        ),
        (lambda: history(loss=[2, 1, 1.9, 1, 2, 0.9, 1.9, 1, 1.8]), "rose 4 times"),
    ],
    "mostly_clipped": [
        (lambda: run(clipped=1, grad_norm=50.0), "acted in 100% .* median is 50, the limit 1"),
        (
            lambda: run(
                clipped=1,
                grad_norm=5.0,
                facts={"optimizer": {"name": "SGD", "global_clipnorm": 1.0}},
            ),
            "median is 5, the limit 1",
        ),
        (lambda: run(clipped=T % 5 < 3), "acted in 60%"),
    ],
    "falling_slowly": [
        (
            lambda: run(
                2.31 - 0.0008 * T * noise(0.02),
                update_ratio=PLANNED / 4,
                val=np.linspace(2.3, 2, 8),
            ),
            "2.3.* to only 2.* way in the second half .* reached only 0.00024",
        ),
        (
            lambda: run(FLAT, update_ratio=tiny_updates(), val=np.full(8, 2.3)),
            "reached only 9.8e-06|reached only 9.88e-06",
        ),
    ],
    "predicting_prior": [
        (
            lambda: run(FLAT, val=np.full(8, 2.3), layers={}, param_norm=14 * np.minimum(4, 1 + T)),
            "ended at 2.*gives 2.303",
        ),
    ],
    "loss_not_falling": [
        (
            lambda: run(
                np.full(STEPS, 7.0) * noise(0.03), facts={"loss.name": "Huber"}, epochs=FLAT_METRIC
            ),
            "7.*at the start and 6.9",
        ),
        (lambda: history(loss=[2.3] * 6), "was 2.3 at the start and 2.3 at its best .6 epochs"),
    ],
    "plateau": [
        (
            lambda: run(falling(2.0, 30) * noise(0.02), val=np.full(8, 2.05)),
            "ended at 2.* gives 2.303. The model has 12,345",
        ),
    ],
    "gradient_spike": [
        (
            lambda: run(
                grad_norm=np.where(np.isin(T, (150, 333)), 90.0, 1.0) * noise(0.1),
                facts={"optimizer.global_clipnorm": None},
            ),
            r"at 2 steps \(150, 333\), to .* where .* is usual",
        ),
    ],
    "validation_gap": [
        (lambda: run(LOW * noise(0.05), val=WORSE), r"best in epoch 4 \(1\) and ended at 2"),
        (lambda: run(LOW * noise(0.05), val=np.full(8, 0.9)), "gap began in epoch"),
    ],
    "noisy_validation": [
        (lambda: run(facts={"validation.samples": 12}), "there are 12 validation samples"),
        (lambda: run(val=[2, 1, 1.5, 0.6, 1.4, 0.5, 1.4, 0.5]), "moves by about"),
    ],
    "update_ratio": [
        (lambda: run(update_ratio=0.3), "up to 0.3"),
        (lambda: run(update_ratio=1e-6), "never changed the weights by more than 1e-06"),
    ],
    "input_bound": [
        (
            lambda: run(system={"data_wait": np.full(10, 0.8)}),
            "80% of the time .* 2.56e.03 samples a second",
        )
    ],
    "communication_bound": [
        (
            lambda: run(system={"reduce_share": np.full(10, 0.5)}, facts={"replicas": 2}),
            "50% of the step .* 2 replicas",
        ),
    ],
    "saturated_early": [
        (lambda: history(loss=[1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]), "0.1 by epoch 2 of 9")
    ],
    "still_improving": [
        (lambda: history(loss=[5, 4, 3, 2.5, 2.0, 1.5]), "3 to 1.5 in the last three")
    ],
}

# Rule -> healthy runs that come near.
NEAR: dict[str, list[Make]] = {
    "logits_mismatch": [
        lambda: run(facts={"last_activation": "softmax", "loss.from_logits": False}),
        lambda: run(facts={"last_activation": None}),
        lambda: run(facts={"loss.name": "MeanSquaredError", "loss.from_logits": False}),
    ],
    "wrong_loss": [
        lambda: run(
            facts={"loss.name": "BinaryCrossentropy", "data.labels.kind": "binary", "classes": 2}
        ),
        lambda: run(facts=REGRESSION),
        lambda: run(facts=REGRESSION | IN_UNIT | {"data.labels.max": None}),
        lambda: run(facts=REGRESSION | IN_UNIT),
        lambda: run(facts={"loss.name": "mse", "classes": None, "width": 1}),
        lambda: run(facts=REGRESSION | {"width": 3, "data.labels.shape": [3]}),
        lambda: run(facts={"loss.name": "mse", "data.labels.counts": [3200] * 3, "width": 3}),
        lambda: run(facts={"loss.name": "mse", "data.labels.kind": "one-hot"}),
        lambda: run(facts={"loss.name": "BinaryCrossentropy", "data": None, "validation": None}),
    ],
    "constant_features": [
        lambda: run(facts=inputs(constant_features=3)),
        lambda: run(facts={"data": None}),
    ],
    "labels_sorted": [
        lambda: run(np.tile(falling()[:PER] * noise(0.3, PER), EPOCHS)),
        lambda: run(falling() * noise(0.6)),
    ],
    "inputs_not_normalised": [
        lambda: run(facts=inputs(mean=0.13, std=0.3, min=0, max=1)),
        lambda: run(facts=inputs(mean=120.0, std=70.0) | {"layers": {"Rescaling": 1, "Dense": 2}}),
        lambda: run(
            facts=inputs(mean=30.0, std=19.0, dtype="int32") | {"layers": {"Embedding": 1}}
        ),
        lambda: run(facts=inputs(min=-14.0, max=22.0)),
    ],
    "targets_not_normalised": [
        lambda: run(falling(0.5, 60, 25.0), facts=numbers(0.0, 5.0)),
        lambda: run(falling(2e5, 60, 4.6e7), facts=numbers(5089.0, 4417.0)),
    ],
    "float16_without_scale": [
        lambda: run(facts=FLOAT16, loss_scale=2**15),
        lambda: run(facts={"precision": "bfloat16"}, grad_norm=1e-6),
    ],
    "loss_scale_overflows": [
        lambda: run(loss_scale=2**15, overflow=(T < 20) | (T % 100 == 99)),
        lambda: run(overflow=T == 7),
    ],
    "dropout_too_high": [
        lambda: run(FLAT * 0.9, facts={"dropout": 0.5}),
        lambda: run(facts={"dropout": 0.8}),
    ],
    "schedule_too_short": [
        lambda: run(learning_rate=1e-3 * (1 + np.cos(np.pi * T / STEPS)) / 2),
        lambda: run(learning_rate=1e-3 * 0.1 ** (T // 100)),
        lambda: run(learning_rate=1e-3, facts={"schedule": None}),
    ],
    "weight_decay_too_high": [
        lambda: run(facts={"optimizer.weight_decay": 0.3}),
        lambda: run(FLAT * 0.9),
        lambda: run(param_norm=14 * np.exp(-T / 50), facts={"optimizer.weight_decay": 30.0}),
    ],
    "batch_norm_tiny": [
        lambda: run(facts={"micro_batch": 32}),
        lambda: run(facts={"micro_batch": 2, "layers": {"LayerNormalization": 3}}),
        lambda: run(facts={"batch_size": None}),
    ],
    "initial_loss": [
        lambda: run(falling(0.2, 60, 3.1)),
        lambda: run(falling(0.2, 60, 40.0), facts={"loss.name": "mse"}),
        lambda: run(falling(0.1, 60, 0.6)),
    ],
    "not_finite": [
        lambda: run(loss_scale=2**15, overflow=T < 3, grad_norm=np.where(T < 3, np.inf, 1.0)),
        lambda: history(loss=[2, 1, 1], val_loss=[np.nan, 1.0, np.nan]),
    ],
    "diverged": [
        lambda: run(falling() * noise(0.6)),
        lambda: run(falling() - 5),
        lambda: run(
            1 + 0.5 * np.sin(T / 20) * noise(0.1), facts={"loss.name": "Huber"}, epochs=FLAT_METRIC
        ),
        lambda: run(np.abs(noise(3.0)), facts={"loss.name": "mse"}),
        lambda: history(loss=[2.0, 1.0, 1.4]),
    ],
    "frozen_layers": [lambda: run(), lambda: run(facts={"frozen_weights": None})],
    "dead_layers": [
        lambda: run(layers={"grad_norm/conv_1": np.where(np.arange(25) % 2, 0.0, 0.4)}),
        lambda: Run(steps={"loss": np.full(STEPS, 1e-9), "grad_norm": np.zeros(STEPS)}),
    ],
    "vanishing_gradients": [
        lambda: run(layers={"grad_norm/conv_1": np.full(25, 1e-6)}),
        lambda: run(FLAT, layers={"grad_norm/conv_1": np.full(25, 0.01)}),
        lambda: run(FLAT, layers={"grad_norm/dense": np.full(25, 1e-6)}),
    ],
    "learning_rate_too_high": [
        lambda: run(update_ratio=np.where(T < 40, 0.5, 0.01)),
        lambda: run(falling(1.5, 60), update_ratio=0.04),
        lambda: run(FLAT * 0.9, param_norm=np.maximum(0.01, T / 40), update_ratio=0.01),
    ],
    "labels_unrelated": [
        lambda: run(FLAT, val=np.full(8, 2.3), layers=dead(True)),
        lambda: run(FLAT, val=np.full(8, 2.3), update_ratio=1e-6),
        lambda: run(falling(1.9, 60)),
        lambda: run(LOW, val=np.full(8, 2.3)),
        lambda: run(FLAT, val=np.full(8, 2.32), epochs={"val_accuracy": np.full(8, 0.2)}),
    ],
    "loss_spike": [
        lambda: run(np.abs(noise(3.0)) ** 2 * falling(), facts={"loss.name": "mse"}),
        lambda: run(spiked(3, 9)),
        lambda: run(
            np.random.default_rng(4).exponential(1.0, STEPS) * falling(), facts={"loss.name": "mse"}
        ),
    ],
    "validation_leak": [
        lambda: run(val=0.5 * of_epochs(falling()), facts={"dropout": 0.3}),
        lambda: run(val=0.5 * of_epochs(falling()), facts={"loss.label_smoothing": 0.1}),
        lambda: run(val=0.5 * of_epochs(falling()), facts={"average": {"name": "EMA"}}),
        lambda: run(val=of_epochs(falling()) * 0.97),
        lambda: run(facts={"validation.shared": 2}),
    ],
    "duplicate_samples": [
        lambda: run(facts={"data.repeated": 20}),
        lambda: run(facts={"data.samples": None}),
    ],
    "validation_not_representative": [
        lambda: run(LOW, val=WORSE),
        lambda: run(FLAT, val=np.full(8, 2.3)),
        lambda: run(falling(0.05, 25), val=[2.9, 0.9, 0.3, 0.2, 0.2, 0.2, 0.2, 0.2]),
    ],
    "class_collapse": [
        lambda: run(facts={"data.labels.counts": [1800, 1400], "classes": 2}),
        lambda: run(facts={"data.labels.counts": None}),
        lambda: run(facts={"data.labels.counts": [900] + [50] * 60, "classes": 61}),
    ],
    "learning_rate_off_schedule": [
        lambda: run(learning_rate=np.concatenate([[0.0, 0.0, 0.0], PLANNED[:-3]]), overflow=T < 3),
        lambda: run(
            learning_rate=np.where(T < 300, PLANNED, 1e-3), facts={"average": {"name": "SWA"}}
        ),
        lambda: run(learning_rate=1e-3, facts={"schedule": None}),
        lambda: run(learning_rate=np.concatenate([PLANNED[1:], PLANNED[-1:]])),
    ],
    "warmup_missing": [
        lambda: run(learning_rate=1e-3, facts={"schedule": None}),
        lambda: run(falling() * noise(0.4), learning_rate=1e-3, facts={"schedule": None}),
    ],
    "oscillating": [
        lambda: run(falling() * noise(0.5)),
        lambda: run(
            (1 + np.tile(np.linspace(1, 0, 100), 4)) * noise(0.02),
            learning_rate=np.tile(np.linspace(1e-3, 1e-6, 100), 4),
            facts={"schedule": None},
        ),
        lambda: history(loss=[3, 2, 1.6, 1.65, 1.4, 1.42, 1.3, 1.31, 1.2]),
    ],
    "mostly_clipped": [lambda: run(clipped=T < 190), lambda: run(clipped=T % 3 == 0)],
    "falling_slowly": [
        lambda: run(update_ratio=PLANNED / 4),
        lambda: run(1.2 - 0.0004 * T, update_ratio=PLANNED / 40, val=np.full(8, 1.2)),
        lambda: history(loss=[2.3, 1.5, 1.0, 0.7, 0.5, 0.4]),
    ],
    "predicting_prior": [lambda: run(falling(1.9, 30)), lambda: run(FLAT, facts=UNKNOWN)],
    "loss_not_falling": [
        lambda: run(np.full(STEPS, 0.1) * noise(0.03), epochs={"accuracy": np.full(8, 0.97)}),
        lambda: run(np.full(STEPS, 0.9) * noise(0.03), epochs=FLAT_METRIC),
        lambda: run(
            np.full(STEPS, 7.0) * noise(0.03),
            facts={"loss.name": "Huber", "first_step": 800},
            epochs=FLAT_METRIC,
        ),
        lambda: history(loss=[3.0, 2.99, 2.985, 2.97, 2.965, 2.96]),
        lambda: run(falling() - 3),
    ],
    "plateau": [
        lambda: run(falling(1.5, 30) * noise(0.02)),
        lambda: run(falling(2.0, 30), state={"status": "running"}),
        lambda: run(falling(2.0, 30), facts=UNKNOWN),
    ],
    "gradient_spike": [
        lambda: run(grad_norm=np.random.default_rng(3).exponential(1.0, STEPS)),
        lambda: run(grad_norm=np.where(T < 8, 60.0, 1.0)),
        lambda: run(grad_norm=np.where(T == 390, 0.8, np.maximum(1e-4, np.exp(-T / 20)))),
    ],
    "validation_gap": [
        lambda: run(val=[2, 1.5, 1.2, 0.8, 0.6, 0.5, 0.5, 3.0]),
        lambda: run(np.linspace(2, 2.2, STEPS), val=WORSE),
        lambda: run(LOW, val=[0.5, 0.1, 0.02, 0.02, 0.022, 0.024, 0.026, 0.028]),
    ],
    "noisy_validation": [
        lambda: run(facts={"validation.samples": 60}),
        lambda: run(val=[2, 1, 0.8, 0.6, 0.58, 0.6, 0.57, 0.58]),
    ],
    "update_ratio": [lambda: run(update_ratio=0.05), lambda: run(update_ratio=1e-4)],
    "input_bound": [
        lambda: run(system={"data_wait": np.array([1.0] + [0.1] * 9)}),
        lambda: run(system={"data_wait": np.full(10, 0.9), "seconds": np.linspace(0.1, 1, 10)}),
        lambda: run(system={"data_wait": np.full(10, np.nan)}),
    ],
    "communication_bound": [lambda: run(system={"reduce_share": np.full(10, 0.1)})],
    "saturated_early": [
        lambda: history(loss=[1, 0.02, 0.0199, 0.0198, 0.0197, 0.0194, 0.019, 0.0186]),
        lambda: history(loss=[1, 0.5, 0.3, 0.2, 0.15, 0.12, 0.1, 0.09, 0.08]),
        lambda: Run(epochs={"loss": np.array([1, *[0.1] * 8])}, state={"status": "running"}),
    ],
    "still_improving": [
        lambda: history(loss=[5, 4, 3, 2.5, 2.49, 2.48]),
        lambda: Run(
            epochs={"loss": np.array([5, 4, 3, 2.5, 2, 1.5])}, state={"status": "preempted"}
        ),
    ],
}
BY_NAME = {rule.__name__: rule for rule in RULES}
FIRED = [(name, make, said) for name, cases in FAULTS.items() for make, said in cases]
SILENT = [(name, make) for name, cases in NEAR.items() for make in cases]


def asked(rule: str, made: Run) -> Finding | None:
    with np.errstate(all="ignore"):
        return BY_NAME[rule](made)


def test_every_rule_has_its_cases() -> None:
    assert set(FAULTS) == set(NEAR) == set(BY_NAME)
    assert len(BY_NAME) == len(RULES) >= 24


@pytest.mark.parametrize(
    ("rule", "make", "said"), FIRED, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_rule_fires_with_its_numbers(rule: str, make: Make, said: str) -> None:
    finding = asked(rule, make())
    assert finding is not None
    assert finding.rule == rule
    assert re.search(said, finding.evidence), finding.evidence
    assert finding.cause
    assert finding.advice


@pytest.mark.parametrize(
    ("rule", "make"), SILENT, ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_rule_is_silent_beside_its_fault(rule: str, make: Make) -> None:
    assert asked(rule, make()) is None


def test_nothing_is_said_of_the_healthy_run() -> None:
    assert diagnose(run()) == []


@pytest.mark.parametrize(
    "missing", ["facts", "layers", "system", "state", "recipe", "epochs", "steps"]
)
def test_nothing_is_said_of_the_healthy_run_without_a_part(missing: str) -> None:
    made = run()
    object.__setattr__(made, missing, None if missing == "recipe" else {})
    assert diagnose(made) == []


RUNNING = {"status": "running"}


@pytest.mark.parametrize("steps", [1, 2, 20, 60, 120, 250, 399])
def test_nothing_above_info_is_said_of_the_healthy_run_while_it_runs(steps: int) -> None:
    loss = (falling() * noise(0.05))[:steps]
    found = diagnose(run(loss, state=RUNNING))
    assert [f for f in found if f.severity != "info"] == []
    assert not {f.rule for f in found} & {"still_improving", "saturated_early", "plateau"}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("scale", [0.01, 0.2, 0.6])
@pytest.mark.parametrize("shift", [0.0, -5.0, 100.0])
def test_a_regression_of_any_scale_and_sign_is_left_alone(
    seed: int, scale: float, shift: float
) -> None:
    loss = (falling(0.3) + scale * (noise(1.0, seed=seed) - 1)) * 50 + shift
    told = {"loss.name": "MeanSquaredError", "data.labels.kind": "real", "classes": None}
    made = run(
        loss,
        val=of_epochs(loss) + 1,
        facts=told | {"data.labels.std": None, "data.labels.mean": None},
        epochs={"accuracy": [], "val_accuracy": []},
    )
    assert [f for f in diagnose(made) if f.severity != "info"] == []


class TestAdvice:
    RECIPE: ClassVar = {
        "name": "mine",
        "schedule": {"name": "warmup_cosine", "peak_learning_rate": 4e-3},
    }

    def test_the_next_command_is_of_the_runs_own_recipe_and_rate(self) -> None:
        loss = falling(2.0, 20) * noise(0.03)
        made = run(
            loss, update_ratio=np.where(T < 40, 0.5, 0.01), recipe=self.RECIPE, learning_rate=4e-3
        )
        finding = asked("learning_rate_too_high", made)
        assert finding is not None
        assert (
            "`tfrecipes train --recipe mine --set schedule.peak_learning_rate=0.0004`"
            in finding.advice
        )

    def test_a_run_folders_recipe_is_named_and_quoted(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        made = run(
            np.full(STEPS, 7.0),
            facts={"loss.name": "Huber"},
            epochs=FLAT_METRIC,
            recipe=self.RECIPE,
        )
        object.__setattr__(made, "path", tmp_path / "my runs" / "one")
        finding = asked("loss_not_falling", made)
        assert finding is not None
        assert f"--recipe '{tmp_path / 'my runs' / 'one' / 'recipe.toml'}' --set" in finding.advice

    def test_without_a_recipe_keras_is_spoken(self) -> None:
        finding = asked("diverged", run(np.linspace(2, 40, STEPS), learning_rate=0.1))
        assert finding is not None
        assert "give the optimizer `learning_rate=0.01`" in finding.advice

    def test_data_come_before_the_rate_and_the_rate_before_the_architecture(self) -> None:
        text = rules.remedies.advise(rest="d", architecture="c", rate="b", data="a")
        assert text == "a b c d"

    def test_overfitting_names_weight_decay_and_its_range(self) -> None:
        finding = asked("validation_gap", run(LOW * noise(0.05), val=WORSE))
        assert finding is not None
        assert "weight decay (.01 to .3" in finding.advice
        assert "`weight_decay=0.15`" in finding.advice

    def test_a_loss_that_does_not_fall_gets_a_tenth_of_the_rate(self) -> None:
        made = run(
            np.full(STEPS, 7.0) * noise(0.03),
            facts={"loss.name": "Huber"},
            epochs=FLAT_METRIC,
            learning_rate=0.1,
        )
        finding = asked("loss_not_falling", made)
        assert finding is not None
        assert "10 times: give the optimizer `learning_rate=0.01`" in finding.advice

    def test_a_slow_fall_gets_three_times_the_rate(self) -> None:
        made = run(2.31 - 0.0008 * T * noise(0.02), update_ratio=PLANNED / 4, learning_rate=1e-4)
        finding = asked("falling_slowly", made)
        assert finding is not None
        assert "3 times: give the optimizer `learning_rate=0.0003`" in finding.advice


class TestWhileItRuns:
    SLOW: ClassVar = {"total_steps": 4000, "schedule": None}

    def flat(self, **changes) -> Run:  # type: ignore[no-untyped-def]
        return run(FLAT, val=np.full(8, 2.3), **changes)

    def test_the_first_quarter_is_not_called_slow_or_stuck(self) -> None:
        assert (
            diagnose(self.flat(facts=self.SLOW, state=RUNNING, update_ratio=tiny_updates())) == []
        )
        assert diagnose(self.flat(facts=self.SLOW, state=RUNNING)) == []

    def test_later_it_is_and_at_the_end_its_labels_are_doubted(self) -> None:
        late = {"total_steps": 1000, "schedule": None}
        assert diagnose(self.flat(facts=late, state=RUNNING))[0].rule == "loss_not_falling"
        assert diagnose(self.flat(facts=late))[0].rule == "labels_unrelated"

    def test_a_loss_that_blows_up_is_told_at_once(self) -> None:
        blown = np.concatenate([[2.3], 3e4 * np.abs(noise(0.5, 399))])
        assert diagnose(run(blown, facts=self.SLOW, state=RUNNING))[0].rule == "diverged"

    def test_validation_at_its_best_is_no_gap_yet(self) -> None:
        lags = np.linspace(2.9, 1.1, 8)
        low = falling(0.02, 30) * noise(0.03)
        plain = {"layers": {"Dense": 3}}  # with BatchNormalization it may be its averages
        assert asked("validation_gap", run(low, val=lags, facts=plain, state=RUNNING)) is None
        assert asked("validation_gap", run(low, val=lags, facts=plain)) is not None

    def test_a_jump_in_the_first_quarter_may_be_the_beginnings(self) -> None:
        for rule in ("loss_spike", "gradient_spike"):
            assert asked(rule, run(spiked(100, 290), grad_norm=spiked(100, 290), state=RUNNING))
            early = run(
                spiked(100, 290), grad_norm=spiked(100, 290), facts=self.SLOW, state=RUNNING
            )
            assert asked(rule, early) is None

    def test_the_first_tenth_is_that_of_what_is_planned(self) -> None:
        planned = {"total_steps": 1200, "schedule": None}
        made = run(spiked(100), grad_norm=spiked(100), facts=planned, state=RUNNING)
        assert asked("loss_spike", made) is None
        assert asked("gradient_spike", made) is None

    def test_rows_that_were_thinned_are_no_steps_of_an_epoch(self) -> None:
        made = run(saw_tooth(), step=8.0 * T)
        assert asked("labels_sorted", made) is None


class TestAveragesThatLag:
    STUCK: ClassVar = [2.6, 2.5, 2.5, 2.45, 2.44, 2.42, 2.4, 2.35]

    def test_a_slow_average_is_named(self) -> None:
        told = {"average": {"name": "EMA", "decay": 0.9999}}
        finding = asked("validation_not_representative", run(LOW, val=self.STUCK, facts=told))
        assert finding is not None
        assert "decay 0.9999 looks back 10,000 updates, and there were 400" in finding.cause

    def test_batch_norm_that_catches_up_is_worth_knowing(self) -> None:
        finding = asked("validation_not_representative", run(LOW, val=self.STUCK))
        assert finding is not None
        assert finding.severity == "info"
        assert "moving statistics" in finding.cause


class TestRanking:
    def test_a_cause_names_the_symptoms_that_it_hides(self) -> None:
        made = run(FLAT, facts={"last_activation": "softmax"}, val=np.full(8, 2.3))
        finding = diagnose(made)[0]
        assert finding.rule == "logits_mismatch"
        assert "It explains `labels_unrelated`, `loss_not_falling`, `plateau`" in finding.evidence

    def test_what_is_only_worth_knowing_hides_nothing(self) -> None:
        made = run(LOW * noise(0.05), val=WORSE, facts={"data.repeated": 100})
        assert [f"{f.severity} {f.rule}" for f in diagnose(made)] == [
            "warning validation_gap",
            "info duplicate_samples",
        ]

    def test_a_users_rule_is_never_hidden(self) -> None:
        mine = Finding("plateau", "warning", "Mine.", "", "")
        made = run(FLAT, facts={"last_activation": "softmax"}, val=np.full(8, 2.3))
        assert mine in diagnose(made, rules=[*RULES, lambda _: mine])

    def test_hidden_findings_come_back_without_their_cause(self) -> None:
        others = [rule for rule in RULES if rule.__name__ != "logits_mismatch"]
        made = run(FLAT, facts={"last_activation": "softmax"}, val=np.full(8, 2.3))
        assert diagnose(made, rules=others)[0].rule == "labels_unrelated"


class TestARateOfAThousand:
    """SGD(1e3) on a loss of 2.3: it is thrown far above its start by the first step, and stays."""

    BLOWN = np.concatenate([[2.3], 3e4 * np.abs(noise(0.5, 399))])
    FALLING = np.concatenate([[2.3], np.geomspace(1e6, 2e4, 399)])

    @pytest.mark.parametrize("loss", [BLOWN, FALLING], ids=["stays", "falls back slowly"])
    def test_telemetry_alone_is_enough(self, loss: np.ndarray) -> None:
        (finding,) = diagnose({"step": T, "loss": loss})
        assert finding.rule == "diverged"
        assert "learning rate is too high" in finding.cause

    def test_a_lucky_first_batch_is_no_divergence(self) -> None:
        loss = np.random.default_rng(0).chisquare(1, STEPS) * falling()
        loss[0] = 0.002
        assert diagnose({"step": T, "loss": loss}) == []
