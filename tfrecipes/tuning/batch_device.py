"""The memory of the GPU that training would use: how much there is, and a limit below it."""

import os

import pynvml
import tensorflow as tf


def device_memory() -> tuple[int, int] | None:
    """(free, total) of the first GPU that this process sees [bytes]; None where none tells."""
    if not tf.config.list_physical_devices("GPU"):
        return None
    try:
        pynvml.nvmlInit()
        word = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
        handle = (
            pynvml.nvmlDeviceGetHandleByIndex(int(word))
            if word.isdigit()
            else pynvml.nvmlDeviceGetHandleByUUID(word)
        )
        info = pynvml.nvmlDeviceGetMemoryInfo(handle)
    except pynvml.NVMLError:  # a driver that does not tell
        return None
    return int(info.free), int(info.total)


def limit_device(limit: int | None) -> None:
    """Let TensorFlow take so many bytes of the first GPU, and no more. None = as it is."""
    if limit is not None:
        (gpu, *_) = tf.config.list_physical_devices("GPU")
        configuration = tf.config.LogicalDeviceConfiguration(memory_limit=limit // 2**20)
        tf.config.set_logical_device_configuration(gpu, [configuration])


def device_peak() -> int:
    """The most that TensorFlow had in use on the first GPU [bytes]."""
    return int(tf.config.experimental.get_memory_info("GPU:0")["peak"])


def share_devices() -> None:
    """Take memory of the GPUs as it is needed, so that children of this process get the rest."""
    for gpu in tf.config.list_physical_devices("GPU"):
        tf.config.experimental.set_memory_growth(gpu, True)
