"""What a run costs its machine: processor, memory and, where there is an NVIDIA driver, the GPU."""

import math
import os
import time
from typing import Any

import psutil
import pynvml

NO_VALUE = math.nan


class Machine:
    """Figures of this process and of its GPUs, between one reading and the next.

        cpu = seconds that this process computed / (seconds passed * cores it may use)

    `gpu` is the mean utilisation of the GPUs that `CUDA_VISIBLE_DEVICES` leaves, as their driver
    counts it over its last sample; `gpu_memory` is what is taken of them altogether, by anybody:
    TensorFlow takes nearly all at its start unless it is told to grow. Without a driver both are
    NaN, and nothing is said.
    """

    def __init__(self) -> None:
        self._process = psutil.Process()
        affinity = getattr(os, "sched_getaffinity", None)  # Linux's
        self._cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        self._nvml, self._devices = _open_gpus()
        self._last = self._now()

    def _now(self) -> tuple[float, float]:
        times = self._process.cpu_times()
        return time.perf_counter(), times.user + times.system

    def read(self) -> dict[str, float]:
        """`cpu` since the last reading, `host_memory`, `gpu` and `gpu_memory` now [bytes]."""
        (before, busy), self._last = self._last, self._now()
        passed = (self._last[0] - before) * self._cores
        share = (self._last[1] - busy) / passed if passed > 0 else NO_VALUE
        gpu, memory = self._read_gpus()
        return {
            "cpu": min(1.0, share) if share == share else NO_VALUE,
            "host_memory": float(self._process.memory_info().rss),
            "gpu": gpu,
            "gpu_memory": memory,
        }

    def _read_gpus(self) -> tuple[float, float]:
        nvml = self._nvml
        if nvml is None or not self._devices:
            return NO_VALUE, NO_VALUE
        try:
            shares = [nvml.nvmlDeviceGetUtilizationRates(d).gpu / 100 for d in self._devices]
            used = [nvml.nvmlDeviceGetMemoryInfo(d).used for d in self._devices]
        except nvml.NVMLError:
            self._devices = []  # a card that does not tell, or is gone
            return NO_VALUE, NO_VALUE
        return sum(shares) / len(shares), float(sum(used))


def _open_gpus() -> tuple[Any, list[Any]]:
    """NVIDIA's library and the devices that this process sees; nothing without a driver."""
    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is None:
            return pynvml, [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(count)]
        # As CUDA reads it: the list ends at the first word that names no device.
        devices = []
        for word in visible.split(","):
            word = word.strip()
            if word.isdigit() and int(word) < count:
                devices.append(pynvml.nvmlDeviceGetHandleByIndex(int(word)))
            elif word.startswith("GPU-"):
                devices.append(pynvml.nvmlDeviceGetHandleByUUID(word))
            else:
                break
        return pynvml, devices
    except pynvml.NVMLError:
        return None, []
