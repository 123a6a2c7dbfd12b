"""Peak memory of a step is that of one micro-batch: VmHWM of fresh processes."""

import json
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

# 40 layers of 256: about 1.3 GB of activations in a batch of 32,768, 2.6 MB of weights.
PROGRAM = """
import json, os, sys
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy as np, tensorflow as tf
import tfrecipes as tfr

def peak():
    with open("/proc/self/status") as file:
        (line,) = [one for one in file if one.startswith("VmHWM")]
    return int(line.split()[1]) / 1024

samples, how = int(sys.argv[1]), sys.argv[2]
layers = [keras.layers.Dense(256, activation="tanh") for _ in range(40)]
net = keras.Sequential([keras.Input((16,)), *layers, keras.layers.Dense(1)])
net.compile(tfr.AdamW(1e-3), "mse")
callbacks = {
    "whole": lambda: [tfr.TrainStep()],
    "micro": lambda: [tfr.MicroBatch(samples // 16)],
    "accumulate": lambda: [tfr.GradientAccumulation(16)],
}[how]()
x = np.random.default_rng(0).standard_normal((samples, 16)).astype("float32")
y = x[:, :1]
batch = samples // 16 if how == "accumulate" else samples
# One tiny step first: what weights, moments, tracing and TensorFlow take is the floor.
net.fit(x[:32], y[:32], batch_size=32, verbose=0, callbacks=callbacks)
floor = peak()
net.fit(x, y, batch_size=batch, shuffle=False, verbose=0, callbacks=callbacks)
print(json.dumps({"floor": floor, "peak": peak()}))
"""


def measured(how, samples=32768):
    """MB above the floor."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(samples), how],
        capture_output=True,
        text=True,
        check=True,
    )
    seen = json.loads(run.stdout.strip().splitlines()[-1])
    return seen["peak"] - seen["floor"]


@pytest.mark.parametrize("how", ["micro", "accumulate"])
def test_the_peak_is_that_of_one_micro_batch(how):
    whole, cut = measured("whole"), measured(how)
    assert whole > 1000
    # A sixteenth of the activations, beside the gradients' sums and the allocator's slack.
    assert cut < 0.2 * whole, (cut, whole)
