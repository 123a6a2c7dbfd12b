"""Every public piece in a stock `model.compile` / `model.fit` program, one test each.

What each piece does in depth is tested beside it; here it does it in the program that people have.
"""

import json
import os
import signal
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny

STEPS = 6  # 2 epochs of 3 batches


def norm_of_difference(a, b):
    """The largest over the weights."""
    return max(float(np.linalg.norm(p - q)) for p, q in zip(a, b, strict=True))


def stock(callbacks=(), optimizer=None, make=tiny.dense_model, **changes):
    """The program: stock Keras and one thing of ours."""
    net = make()
    history = tiny.fit(net, optimizer or keras.optimizers.Adam(1e-2), callbacks, **changes)
    return net, history.history


# ------------------------------------------------------------------------------------- callbacks


def test_train_step():
    plain, before = stock(make=tiny.model)
    ours, after = stock([tfr.TrainStep()], make=tiny.model)
    assert before == after
    assert norm_of_difference(tiny.weights(ours), tiny.weights(plain)) == 0


def test_gradient_accumulation():
    whole, _ = stock(batch_size=32)
    parts, _ = stock([tfr.GradientAccumulation(4)], batch_size=8)
    assert int(parts.optimizer.iterations) == STEPS
    assert norm_of_difference(parts.get_weights(), whole.get_weights()) < 1e-5


def test_micro_batch():
    whole, _ = stock()
    parts, _ = stock([tfr.MicroBatch(10)])
    assert norm_of_difference(parts.get_weights(), whole.get_weights()) < 1e-5


def test_ema():
    path = []
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: path.append(net.get_weights())
    )
    net = tiny.dense_model()
    want = [w.astype("float64") for w in net.get_weights()]
    history = tiny.fit(
        net, keras.optimizers.SGD(0.1), [keep, tfr.EMA(0.9)], validation_data=tiny.data(30, 1)
    ).history
    for n, weights in enumerate(path):
        d = min(0.9, (1 + n) / (10 + n))
        want = [d * a + (1 - d) * w for a, w in zip(want, weights, strict=True)]
    assert norm_of_difference(net.get_weights(), want) < 1e-6
    assert net.evaluate(*tiny.data(30, 1), verbose=0) == pytest.approx(history["val_loss"][-1])


def test_swa(capsys):
    path = []
    keep = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: path.append(net.get_weights())
    )
    net = tiny.model()
    history = tiny.fit(
        net,
        keras.optimizers.SGD(0.1),
        [tfr.SWA(start="1ep", learning_rate=0.05), keep],
        epochs=3,
        validation_data=tiny.data(30, 1),
    ).history
    kernel = np.mean([w[0] for w in path[1:]], axis=0)
    np.testing.assert_allclose(net.get_weights()[0], kernel, atol=1e-6)
    assert len(history["swa_val_loss"]) == 1
    assert "swa_val_loss" in capsys.readouterr().out


def test_monitor(tmp_path):
    _, history = stock([tfr.Monitor(tmp_path)])
    columns = {column.__name__ for column in tfr.COLUMNS}
    rows = np.genfromtxt(tmp_path / "steps.csv", delimiter=",", names=True)
    assert set(rows.dtype.names) == columns
    assert rows["step"].tolist() == list(range(STEPS))
    assert (rows["grad_norm"] > 0).all()
    assert columns <= set(history)
    assert (tmp_path / "epochs.csv").read_text().count("\n") == 3
    assert json.loads((tmp_path / "findings.json").read_text()) is not None
    assert list((tmp_path / "events").iterdir())


def test_resume(tmp_path):
    whole, history = stock([tfr.Monitor()], make=tiny.model, epochs=4)

    class Signal(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if int(self.model.optimizer.iterations) == 7:
                os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        stock([tfr.Resume(tmp_path), tfr.Monitor(), Signal()], make=tiny.model, epochs=4)
    assert ended.value.code == 75
    resumed, again = stock([tfr.Resume(tmp_path), tfr.Monitor()], make=tiny.model, epochs=4)
    assert int(resumed.optimizer.iterations) == 12
    assert norm_of_difference(tiny.weights(resumed), tiny.weights(whole)) == 0
    assert again == history


def test_progress(capsys):
    stock([tfr.Progress(), tfr.Monitor()])
    said = "".join(capsys.readouterr())
    assert "loss" in said
    assert "2/2" in said


def test_all_callbacks_together(tmp_path):
    net, history = stock(
        [
            tfr.TrainStep(),
            tfr.MicroBatch(16),
            tfr.EMA(0.99),
            tfr.Monitor(tmp_path / "run"),
            tfr.Resume(tmp_path / "checkpoints"),
            tfr.Progress(),
        ],
        make=tiny.model,
        validation_data=tiny.data(30, 1),
    )
    assert len(history["val_loss"]) == 2
    assert np.isfinite(net.predict(tiny.data()[0], verbose=0)).all()


# -------------------------------------------------------------------------- schedules, optimizers

# Fewer than STEPS warmup steps each, so that a fit sees more than the ramp.
SCHEDULES = {
    "WarmupCosine": lambda: tfr.WarmupCosine(0.1, 6, warmup_steps=2, end_learning_rate=0.01),
    "WarmupLinear": lambda: tfr.WarmupLinear(0.1, 6, warmup_steps=2),
    "WarmupConstant": lambda: tfr.WarmupConstant(0.1, warmup_steps=3),
    "StepDecay": lambda: tfr.StepDecay(0.1, [2, 4], factor=0.5),
    "WarmupStableDecay": lambda: tfr.WarmupStableDecay(0.1, 6, warmup_steps=1, decay_steps=3),
    "OneCycle": lambda: tfr.OneCycle(0.1, 6),
    "InverseSqrt": lambda: tfr.InverseSqrt(0.1, 2),
    "CosineRestarts": lambda: tfr.CosineRestarts(0.1, 2, warmup_steps=1),
    "Polynomial": lambda: tfr.Polynomial(0.1, 6, power=2.0),
}


def test_every_public_schedule_is_in_the_list():
    base = keras.optimizers.schedules.LearningRateSchedule
    public = [name for name in dir(tfr) if isinstance(getattr(tfr, name), type)]
    assert {name for name in public if issubclass(getattr(tfr, name), base)} == set(SCHEDULES)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_in_a_stock_optimizer(name):
    schedule = SCHEDULES[name]()
    inputs = keras.Input((1,))
    net = keras.Model(inputs, keras.layers.Dense(1, use_bias=False)(inputs))
    net.compile(keras.optimizers.SGD(schedule), loss=lambda y, p: p)  # its gradient is 1
    seen = [float(net.get_weights()[0][0, 0])]
    keep = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(float(net.get_weights()[0][0, 0]))
    )
    x = np.ones((STEPS, 1), "float32")
    net.fit(x, x, batch_size=1, verbose=0, callbacks=[keep])
    rates = [float(schedule(t)) for t in range(STEPS)]
    # Weights of order 1: a step is known to their rounding.
    np.testing.assert_allclose(-np.diff(seen), rates, atol=3e-7)
    assert len(set(rates)) > 1


@pytest.mark.parametrize(
    "make",
    [
        lambda rate: tfr.AdamW(rate, global_clipnorm=1.0),
        lambda rate: tfr.Adam(rate),
        lambda rate: tfr.SGD(rate, nesterov=True, weight_decay=1e-3),
    ],
    ids=["AdamW", "Adam", "SGD"],
)
def test_an_optimizer_without_our_step(make):
    net, history = stock(optimizer=make(tfr.WarmupCosine(0.05, 60, warmup_steps=6)), epochs=20)
    assert history["loss"][-1] < 0.5 * history["loss"][0]
    assert int(net.optimizer.iterations) == 60


def test_loss_scale_optimizer():
    keras.config.set_dtype_policy("mixed_float16")
    net, history = stock(optimizer=tfr.LossScaleOptimizer(keras.optimizers.Adam(1e-2)), epochs=10)
    assert type(net.optimizer) is tfr.LossScaleOptimizer
    assert history["loss"][-1] < 0.9 * history["loss"][0]
    assert int(net.optimizer.overflow_count) == 0


def test_a_stock_program_in_float16_wraps_our_optimizer_by_itself():
    tfr.set_precision("float16")
    net, history = stock(optimizer=tfr.AdamW(1e-2), epochs=10)
    assert isinstance(net.optimizer, keras.optimizers.LossScaleOptimizer)
    assert history["loss"][-1] < 0.9 * history["loss"][0]


@pytest.mark.parametrize("labels", ["integers", "one-hot"])
def test_smoothed_crossentropy(labels):
    x, y = tiny.data()
    y = y if labels == "integers" else tiny.one_hot(y)
    net = tiny.dense_model()
    net.compile(
        keras.optimizers.Adam(1e-2),
        tfr.SmoothedCrossentropy(0.1, from_logits=True),
        metrics=["accuracy"],
    )
    history = net.fit(x, y, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    # Not smoothed in evaluation.
    plain = keras.losses.CategoricalCrossentropy(from_logits=True)
    want = float(plain(tiny.one_hot(tiny.data()[1]), net.predict(x, verbose=0)))
    assert net.evaluate(x, y, verbose=0)[0] == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize("word", ["float32", "bfloat16"])
def test_set_precision(word):
    precision = tfr.set_precision(word)
    assert keras.config.dtype_policy().name == precision.policy
    net, history = stock(epochs=5)
    assert net.get_layer("hidden").compute_dtype == word
    assert net.get_layer("hidden").kernel.dtype == "float32"
    assert history["loss"][-1] < history["loss"][0]


# ------------------------------------------------------------------------------- looking at it


def test_decay_report():
    net = tiny.model()
    net.compile(tfr.AdamW(), tiny.loss())
    before = str(tfr.decay_report(net.optimizer, net))
    net.fit(*tiny.data(), verbose=0)
    assert str(tfr.decay_report(net.optimizer, net)) == before
    assert all(v.path in before for v in net.trainable_variables)
    of_keras = str(tfr.decay_report(keras.optimizers.AdamW(), net))
    assert all(v.path in of_keras for v in net.trainable_variables)


def test_plot_schedule(tmp_path):
    for schedule in (tfr.OneCycle(0.1, 50), keras.optimizers.schedules.CosineDecay(0.1, 50)):
        tfr.plot_schedule(schedule, 50, tmp_path / "rate.png")
        assert (tmp_path / "rate.png").read_bytes().startswith(b"\x89PNG")


def test_plot_run_and_diagnose(tmp_path):
    x, y = tiny.data()
    bad = [tfr.Monitor(tmp_path), tfr.TrainStep(max_bad_steps=4)]
    history = tiny.fit(tiny.dense_model(), None, bad, data=(x * np.nan, y))
    for run, name in ((tmp_path, "folder.png"), (history, "history.png")):
        tfr.plot_run(run, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    found = tfr.diagnose(tmp_path)
    assert all(isinstance(one, tfr.Finding) for one in found)
    assert found[0].severity == "error"
    stock_history = tiny.fit(tiny.dense_model())
    assert not [one for one in tfr.diagnose(stock_history) if one.severity == "error"]


# ----------------------------------------------------------------------------------- saved files

LOADS = """
    import json, pathlib, sys
    import tfrecipes
    import keras
    folder = pathlib.Path(sys.argv[1])
    configs = {}
    for path in sorted(folder.glob("*.keras")):
        model = keras.saving.load_model(path)
        configs[path.stem] = {
            "optimizer": keras.saving.serialize_keras_object(model.optimizer),
            "loss": keras.saving.serialize_keras_object(model.loss),
            "iterations": int(model.optimizer.iterations),
        }
    print(json.dumps(configs))
"""


def saved_programs(folder):
    """One fitted model a schedule, every optimizer and wrapper among them; what they were."""
    optimizers = [
        lambda s: tfr.AdamW(s, exclude=["bias", "type:BatchNormalization"], global_clipnorm=1.0),
        lambda s: tfr.Adam(s, amsgrad=True),
        lambda s: tfr.SGD(s, nesterov=True, weight_decay=0.01),
        lambda s: tfr.LossScaleOptimizer(tfr.AdamW(s), initial_scale=64.0, dynamic_growth_steps=7),
        keras.optimizers.Adam,
    ]
    loss = tfr.SmoothedCrossentropy(0.2, from_logits=True, ignore_class=2)
    x, y = tiny.data(8)
    configs = {}
    for i, (name, make) in enumerate(SCHEDULES.items()):
        net = tiny.model()
        net.compile(optimizers[i % len(optimizers)](make()), loss, auto_scale_loss=False)
        net.train_on_batch(x, y)
        net.save(folder / f"{name}.keras")
        configs[name] = {
            "optimizer": keras.saving.serialize_keras_object(net.optimizer),
            "loss": keras.saving.serialize_keras_object(net.loss),
            "iterations": 1,
        }
    return configs


def test_all_saved_classes_load_in_a_new_process_with_import_tfrecipes_alone(tmp_path):
    configs = saved_programs(tmp_path)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOADS), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == json.loads(json.dumps(configs))
    saved = json.dumps(configs)
    registered = {
        name
        for name, cls in keras.saving.get_custom_objects().items()
        if name.startswith("tfrecipes>") and cls.__name__ in tfr.__all__
    }
    assert len(registered) >= len(SCHEDULES) + 5
    assert not {name for name in registered if f'"{name}"' not in saved}


def test_every_saved_class_goes_round_by_its_config():
    objects = [
        *(make() for make in SCHEDULES.values()),
        tfr.AdamW(1e-3),
        tfr.Adam(1e-3),
        tfr.SGD(0.1),
        tfr.LossScaleOptimizer(tfr.SGD(0.1)),
        tfr.SmoothedCrossentropy(0.2),
    ]
    for one in objects:
        config = one.get_config()
        again = type(one).from_config(json.loads(json.dumps(config)))
        assert again.get_config() == config
        assert tf.is_tensor(again(1)) if type(one).__name__ in SCHEDULES else True
