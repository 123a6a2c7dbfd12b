"""Four replicas, in a process of their own: conftest's has two devices."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.distributed

PROGRAM = """
import json, os
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 4)
import contextlib, keras, numpy as np
import tfrecipes as tfr
from tests import tiny

strategy = tf.distribute.MirroredStrategy([f"CPU:{i}" for i in range(4)])
found = {}
for name, callbacks in {
    "step": lambda: [tfr.TrainStep()],
    "all": lambda: [tfr.MicroBatch(3), tfr.EMA(0.9), tfr.Monitor()],
    "accumulate": lambda: [tfr.GradientAccumulation(2)],
}.items():
    nets = []
    for scope in (contextlib.nullcontext(), strategy.scope()):
        with scope:
            net = tiny.dense_model()
            net.compile(tfr.AdamW(1e-2, weight_decay=0.1, global_clipnorm=0.5), tiny.loss())
        x, y = tiny.data(103)  # 42, 42, 19: uneven on four
        history = net.fit(
            x, y, batch_size=42, epochs=4, shuffle=False, verbose=0, callbacks=callbacks()
        )
        nets.append((net.get_weights(), history.history["loss"]))
    (one, first), (four, last) = nets
    found[name] = [
        max(float(np.linalg.norm(p - q) / np.linalg.norm(q)) for p, q in zip(four, one)),
        float(np.max(np.abs(np.array(first) - np.array(last)))),
    ]
print(json.dumps(found))
"""


def test_four_replicas_give_one_devices_run():
    run = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-2000:]
    found = json.loads(run.stdout.strip().splitlines()[-1])
    assert set(found) == {"step", "all", "accumulate"}
    for name, (weights, loss) in found.items():
        assert weights < 1e-6, name
        assert loss < 1e-5, name
