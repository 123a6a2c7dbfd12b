"""What a child does in tests of `batch_children`: each way to end, without TensorFlow."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from tfrecipes.tuning import batch_children


class ResourceExhaustedError(Exception):
    """As TensorFlow's, by name."""


def train(folder, size):
    what = Path(folder, "what").read_text()
    Path(folder, "pid").write_text(str(os.getpid()))
    if what == "early":
        return {"held": len(bytearray(300_000_000))}
    batch_children.begin(folder)
    if what == "fits":
        return {}
    if what == "much":
        held = bytearray(size)
        time.sleep(30)
        return {"held": len(held)}
    if what == "briefly":  # too much, and gone again between two looks of the parent, or not
        del_me = bytearray(size)
        del del_me
        return {}
    if what == "memory error":
        raise MemoryError("Unable to allocate 9 TiB")
    if what == "exhausted":
        raise ResourceExhaustedError("OOM when allocating tensor with shape [9] [Op:Conv2D]")
    if what == "by its words":
        raise RuntimeError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    if what == "sentence":
        raise ValueError("data: must be arrays. Received: a str. Give arrays.")
    if what == "failure":
        raise KeyError("no such layer")
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "aborts":
        print("terminate called after throwing an instance of 'std::bad_alloc'", flush=True)
        os.abort()
    if what == "crashes":
        print("assertion failed in a kernel", flush=True)
        os.abort()
    if what == "quits":
        print("goodbye", flush=True)
        os._exit(3)
    if what == "family":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        Path(folder, "grandchild").write_text(str(child.pid))
    time.sleep(60)
    return {}
