"""A recipe on two replicas: the same order of the data, the same run."""

import contextlib

import numpy as np

import tfrecipes as tfr
from tests import tiny
from tests.strategies import mirrored


def test_a_recipe_gives_one_devices_run_on_two_replicas(tmp_path):
    # The order of (seed, epoch), an uneven end, clip, decay rules, smoothing, EMA, telemetry.
    recipe = tfr.Recipe.load("default").replace(
        **{"train.epochs": 3, "train.batch_size": 40, "schedule.warmup": 2, "train.best": None}
    )
    found = {}
    for name, scope in (("one", contextlib.nullcontext()), ("two", mirrored().scope())):
        with scope:
            net = tiny.dense_model()
        history = recipe.fit(
            net,
            tiny.data(103),
            validation_data=tiny.data(40, seed=1),
            directory=tmp_path / name,
            verbose=0,
        )
        found[name] = (net.get_weights(), history.history)
    (one, first), (two, second) = found["one"], found["two"]
    for p, q in zip(one, two, strict=True):
        np.testing.assert_allclose(q, p, rtol=1e-5, atol=1e-6)
    for name in ("loss", "val_loss", "grad_norm", "samples", "learning_rate"):
        np.testing.assert_allclose(second[name], first[name], rtol=1e-5, err_msg=name)
