"""A run that is killed at any moment leaves files that can be read, and a report from them."""

import os
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tests.contracts.tree import ROOT
from tfrecipes.runs.folder import read_run

PROGRAM = """
import sys, time
import keras, numpy as np
import tfrecipes as tfr
from tests import tiny

net = tiny.model()
net.compile(tfr.AdamW(1e-3), tiny.loss())

class Slowly(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.began = time.time()

    def on_train_batch_end(self, batch, logs=None):
        time.sleep(0.002)
        print(time.time(), flush=True)

net.fit(*tiny.data(96), batch_size=4, epochs=10**6, verbose=0, validation_data=tiny.data(8),
        callbacks=[tfr.Monitor(sys.argv[1], layers=2), Slowly()])
"""


@pytest.mark.faults
@pytest.mark.parametrize("seed", range(3))
def test_a_killed_fit_leaves_whole_files_and_a_report(tmp_path, seed):
    folder = tmp_path / "run"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as fit:
        assert fit.stdout is not None
        steps = [float(fit.stdout.readline().split()[-1])]
        until = time.time() + 3.0 + random.Random(seed).random()
        while steps[-1] < until:
            line = fit.stdout.readline()
            if line[:1].isdigit():
                steps.append(float(line))
        fit.kill()
    run = read_run(folder)
    assert run.problems == ()
    assert run.state["status"] == "running"
    assert run.steps["step"].tolist() == list(range(len(run.steps["step"])))
    assert len(run.steps["step"]) >= sum(when < steps[-1] - 5.0 for when in steps)
    assert len(run.steps["step"]) > 20
    assert (np.diff(run.layers["step"]) == 2).all()
    assert (np.diff(run.system["seconds"]) > 0).all()
    assert len(run.epochs["val_loss"]) >= 1
    assert run.facts["data"]["samples"] == 96
    done = subprocess.run(
        [sys.executable, "-m", "tfrecipes", "report", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "<html" in (folder / "report.html").read_text(encoding="utf-8")
