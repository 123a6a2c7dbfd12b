"""A run that recorded everything, made by hand: what pictures and pages are tested with."""

from pathlib import Path

import numpy as np

from tfrecipes.runs.folder import Run

GIB = 2.0**30


def full_facts(steps=1000, epochs=10):
    warmup = max(steps // 20, 1)
    at = np.unique(np.linspace(0, steps, 200).astype(int)).tolist()
    data = {
        "samples": 60_000,
        "inputs": [
            {
                "name": "x",
                "shape": [28, 28, 1],
                "dtype": "float32",
                "min": 0.0,
                "max": 1.0,
                "mean": 0.13,
                "std": 0.31,
                "constant_features": 17,
            }
        ],
        "labels": {
            "kind": "integer",
            "classes": 10,
            "counts": [6000] * 9 + [5000],
            "sorted": False,
            "mean": 4.5,
            "std": 2.9,
        },
        "repeated": 12,
    }
    return {
        "optimizer": {"name": "AdamW", "weight_decay": 0.05, "global_clipnorm": 1.0},
        "schedule": {
            "name": "WarmupCosine",
            "config": {"peak_learning_rate": 1e-3, "warmup_steps": warmup},
            "points": [[t, 1e-3 * min(t / warmup, 1.0) * (1 - 0.9 * t / steps)] for t in at],
        },
        "total_steps": steps,
        "steps_per_epoch": max(steps // epochs, 1),
        "epochs": epochs,
        "batch_size": 128,
        "micro_batch": 32,
        "replicas": 2,
        "precision": "bfloat16",
        "loss": {
            "name": "SparseCategoricalCrossentropy",
            "from_logits": True,
            "label_smoothing": 0.1,
        },
        "last_activation": "linear",
        "classes": 10,
        "layers": {"BatchNormalization": 3, "Conv2D": 4, "Dense": 2},
        "dropout": 0.5,
        "parameters": 123_456,
        "trainable_weights": 12,
        "frozen_weights": 0,
        "groups": ["conv1", "dense"],
        "average": {"name": "EMA", "decay": 0.999},
        "data": data,
        "validation": data | {"samples": 10_000, "shared": 3},
        "first_bad": {"step": 612, "weight": "block3/conv2/kernel"},
    }


def full_run(steps=1000, epochs=10, layers=12, name="default-7", seed=0):
    """A run of all columns and files, with findings that have a step, epochs, and no place at all."""
    rng = np.random.default_rng(seed)
    facts = full_facts(steps, epochs)
    t = np.arange(steps)
    planned = np.array(facts["schedule"]["points"]).T
    rate = np.interp(t, planned[0], planned[1])
    norm = np.exp(rng.normal(0, 0.5, steps)) * 0.6 * (1 + 3 / (1 + t / 50))
    loss = 0.3 + 2 / (1 + 8 * t / steps) + rng.normal(0, 0.06, steps)
    if steps > 100:
        norm[int(steps * 0.6)] = 40.0
        norm[int(steps * 0.61)] = np.nan
        loss[int(steps * 0.6) : int(steps * 0.6) + 5] += 2
    lost = ~np.isfinite(norm)
    each = steps // epochs
    number = np.arange(1, epochs + 1)
    train = 0.3 + 2 / (1 + 8 * number / epochs)
    written = np.arange(max(steps // 16, 1)) * 16.0
    ratios = {}
    for i in range(layers):
        far = {3 % layers: -4.0, 7: 1.6}.get(i, 0.0)
        names = f"block{i}/conv2d_{i}"
        ratios[f"grad_norm/{names}"] = np.exp(rng.normal(-0.9 * min(i, 12), 0.5, written.size))
        ratios[f"update_ratio/{names}"] = 10 ** (rng.normal(-3, 0.4, written.size) + far)
    seconds = np.arange(float(max(min(steps // 20, 4000), 2)))
    ones = np.ones_like(seconds)
    return Run(
        path=Path("runs") / name,
        steps={
            "step": t.astype(float),
            "learning_rate": rate,
            "loss": loss,
            "grad_norm": norm,
            "param_norm": 20 + t / steps,
            "update_norm": rate * 20,
            "update_ratio": rate * np.exp(rng.normal(0, 0.2, steps)),
            "grad_param_ratio": norm / 20,
            "clipped": (norm > 1).astype(float),
            "overflow": lost.astype(float),
            "loss_scale": np.full(steps, 2.0**15),
            "samples": np.full(steps, 128.0),
            "largest_gradient": norm / 3,
        },
        epochs={
            "loss": train,
            "val_loss": train + 0.05 + 0.2 * number / epochs,
            "accuracy": 1 - 0.6 / number,
            "val_accuracy": 0.97 - 0.6 / number,
            "learning_rate": rate[each - 1 :: each][:epochs],
            "step": number * each - 1.0,
        },
        recipe={"name": "default"},
        recipe_text='name = "default"\n\n[step]\nprecision = "auto"  # decided by the hardware\n',
        environment={"python": "3.11.7", "packages": {"keras": "3.15.1"}, "devices": ["GPU:0"]},
        state={"status": "finished", "epochs": epochs, "exit_code": 0},
        facts=facts,
        system={
            "step": np.linspace(0, steps - 1, seconds.size),
            "epoch": np.linspace(0, epochs - 1, seconds.size),
            "seconds": seconds,
            "samples_per_second": 2500 + rng.normal(0, 120, seconds.size),
            "step_seconds": 0.05 * ones,
            "data_wait": np.clip(0.2 + rng.normal(0, 0.05, seconds.size), 0, 1),
            "reduce_share": 0.08 * ones,
            "cpu": 0.9 * ones,
            "host_memory": np.linspace(1, 2, seconds.size) * GIB,
            "gpu": 0.6 * ones,
            "gpu_memory": 8 * GIB * ones,
        },
        layers={"step": written, **ratios},
        findings=[
            {
                "rule": "update_ratio",
                "severity": "error",
                "evidence": "Layer `block3/conv2d_3` moved by 1e-7 of its weights; 1e-3 is usual.",
                "cause": "The layer is frozen or dead.",
                "advice": "Look whether it is trainable: `model.summary(show_trainable=True)`.",
            },
            {
                "rule": "not_finite",
                "severity": "warning",
                "evidence": f"Gradients were not finite in 1 of {steps:,} steps, first at step "
                f"{int(steps * 0.61):,}; 1 in a row at most.",
                "cause": "The learning rate is too high, or an input is not finite.",
                "advice": "`tfrecipes check target.py:build`, then lower the peak rate.",
            },
            {
                "rule": "validation_gap",
                "severity": "warning",
                "evidence": "The validation loss was best in epoch 5 (0.61) and rose to 0.74 in "
                "epoch 10.",
                "cause": "The model learns its training data by heart.",
                "advice": "`tfrecipes train --set optimizer.weight_decay=0.1`.",
            },
            {
                "rule": "loss_spike",
                "severity": "info",
                "evidence": f"The loss jumped by 7 times its spread at step {int(steps * 0.6):,}.",
                "cause": "A batch unlike the others.",
                "advice": "Keep `step.global_clipnorm = 1.0`.",
            },
            {
                "rule": "mostly_clipped",
                "severity": "info",
                "evidence": "The global clip acted in 61% of the steps.",
                "cause": "The limit is below the norm that this model has by nature.",
                "advice": "Under Adam that does little harm.",
            },
        ],
    )
