"""What a run computes on."""

import os
from typing import Any

import tensorflow as tf

from tfrecipes.arithmetic.precision import accelerators

CHOICES = ("auto", "cpu")


def describe() -> dict[str, Any]:
    """Return the devices that TensorFlow sees, for the summary and `environment.json`.

    Returns:
        `cpus`, the processors that this process may use, and `accelerators`, the GPUs and TPUs by
        name.

    Example:
        >>> sorted(describe())
        ['accelerators', 'cpus']
    """
    may_use = getattr(os, "sched_getaffinity", None)  # Linux; elsewhere all processors
    return {
        "cpus": len(may_use(0)) if may_use else os.cpu_count(),
        "accelerators": [device.name for device in accelerators()],
    }


def resolve(devices: int | str = "auto") -> tf.distribute.Strategy | None:
    """Turn a recipe's `train.devices` into a strategy to make the model in.

    Args:
        devices: "auto", the first accelerator or else the CPU, as TensorFlow itself places them;
            or "cpu".

    Returns:
        The strategy, or None where the default does it.

    Raises:
        ValueError: For anything else.

    Example:
        >>> resolve("auto") is None
        True
    """
    if devices == "auto":
        return None
    if devices == "cpu":
        if not tf.config.list_physical_devices("GPU"):
            return None  # nothing else to place on: the same without a strategy's overhead
        return tf.distribute.OneDeviceStrategy("/cpu:0")
    raise ValueError(
        f"devices: must be one of {', '.join(CHOICES)}. Received: devices={devices!r}. Training on "
        "several devices comes in a later version."
    )
