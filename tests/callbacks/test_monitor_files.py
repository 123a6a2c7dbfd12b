"""What a Monitor leaves beside steps and epochs: facts, layers, the machine; and whom it tells."""

import json
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tests.strategies import mirrored
from tfrecipes.runs.folder import read_run

SYSTEM = [
    "step", "epoch", "seconds", "samples_per_second", "step_seconds", "data_wait", "reduce_share",
    "cpu", "host_memory", "gpu", "gpu_memory",
]  # fmt: skip


@pytest.fixture(scope="module")
def watched(tmp_path_factory):
    """Two fits of one model with one Monitor: its folder, its loggers' calls, its Histories."""
    folder, calls = tmp_path_factory.mktemp("run"), []
    keras.utils.clear_session(free_memory=False)
    x, y = tiny.data(96)
    x[:, 3] = 2.0
    net = tiny.model()
    schedule = tfr.WarmupCosine(1e-2, total_steps=6, warmup_steps=2)
    net.compile(tfr.AdamW(schedule, global_clipnorm=1.0), tiny.loss(), metrics=["accuracy"])
    monitor = tfr.Monitor(folder, layers=2, loggers=[lambda v, step: calls.append((step, v))])
    arguments = {"batch_size": 32, "shuffle": False, "verbose": 0, "callbacks": [monitor]}
    first = net.fit(x, y, epochs=2, validation_data=(x[:8], y[:8]), **arguments).history
    facts = read_run(folder).facts
    second = net.fit(x, y, epochs=1, **arguments).history
    return types.SimpleNamespace(
        run=read_run(folder), facts=facts, calls=calls, first=first, second=second, monitor=monitor
    )


def test_facts_of_optimizer_schedule_and_length(watched):
    facts = watched.facts
    assert facts["optimizer"]["name"] == "AdamW"
    assert facts["optimizer"]["weight_decay"] == 0.05
    assert facts["optimizer"]["global_clipnorm"] == 1.0
    assert facts["schedule"]["name"] == "WarmupCosine"
    assert facts["schedule"]["config"]["warmup_steps"] == 2
    points = facts["schedule"]["points"]
    assert [step for step, _ in points] == list(range(6))
    rates = watched.run.steps["learning_rate"][:6]
    assert [rate for _, rate in points] == pytest.approx(rates.tolist(), rel=1e-6)
    known = {"total_steps": 6, "steps_per_epoch": 3, "epochs": 2, "batch_size": 32, "replicas": 1}
    assert {key: facts[key] for key in known} == known
    assert (facts["micro_batch"], facts["average"], facts["first_bad"]) == (None, None, None)
    assert facts["precision"] == "float32"


def test_facts_of_loss_and_layers(watched):
    facts = watched.facts
    loss = facts["loss"]
    assert loss["name"] == "SparseCategoricalCrossentropy"
    assert (loss["from_logits"], loss["label_smoothing"]) == (True, 0.0)
    assert (facts["last_activation"], facts["classes"]) == ("linear", tiny.CLASSES)
    assert facts["layers"] == {
        "Dense": 2, "BatchNormalization": 1, "Activation": 1, "Dropout": 1,
    }  # fmt: skip
    assert facts["dropout"] == 0.25
    assert facts["parameters"] == tiny.model().count_params()
    assert (facts["trainable_weights"], facts["frozen_weights"]) == (6, 0)
    assert facts["groups"] == ["hidden", "norm", "logits"]


def test_facts_of_the_arrays(watched):
    data, validation = watched.facts["data"], watched.facts["validation"]
    assert (data["samples"], data["inputs"][0]["constant_features"]) == (96, 1)
    assert data["labels"]["kind"] == "integer"
    assert sum(data["labels"]["counts"]) == 96
    assert (validation["samples"], validation["shared"]) == (8, 8)


def test_a_further_fit_goes_on_in_both_files(watched):
    assert watched.run.steps["step"].tolist() == list(range(9))
    assert watched.run.layers["step"].tolist() == [0, 2, 4, 6, 8]
    losses = [*watched.first["loss"], *watched.second["loss"]]
    assert watched.run.epochs["loss"].tolist() == pytest.approx(losses)
    assert watched.run.system["epoch"].tolist()[-1] == 2


def test_the_machine_is_in_its_own_file_and_not_in_history(watched):
    system = watched.run.system
    assert list(system) == SYSTEM
    assert system["step"][-1] == 8
    late = {name: values[-1] for name, values in system.items()}
    assert late["samples_per_second"] * late["step_seconds"] == pytest.approx(32, rel=1e-3)
    assert 0 <= late["data_wait"] <= 1
    assert 0 <= late["cpu"] <= 1
    assert late["host_memory"] > 2**20
    assert np.isnan(system["reduce_share"]).all()
    assert not {*SYSTEM[2:]} & {*watched.first, *watched.run.epochs}


def test_tensorboard_has_the_machine_too(watched):
    folder = watched.run.path / "events"
    tags = {
        value.tag
        for path in folder.iterdir()
        for event in tf.compat.v1.train.summary_iterator(str(path))
        for value in event.summary.value
    }
    assert {"system/cpu", "system/step_seconds", "system/host_memory", "epoch/loss"} <= tags
    assert "system/gpu" not in tags


def test_loggers_get_groups_and_growing_steps(watched):
    steps = [step for step, _ in watched.calls]
    assert steps == sorted(steps)
    keys = {key for _, values in watched.calls for key in values}
    assert {"step/loss", "epoch/loss", "validation/loss", "system/cpu", "epoch/number"} <= keys
    assert all(isinstance(v, float) for _, values in watched.calls for v in values.values())


def test_every_argument_survives_in_the_object(watched):
    assert watched.monitor.layers == 2
    assert watched.monitor.columns == tfr.COLUMNS
    assert watched.monitor.rules == tfr.RULES
    assert len(watched.monitor.loggers) == 1
    assert watched.monitor.directory == watched.run.path


def test_the_status_of_a_folder_that_a_monitor_alone_wrote(watched):
    assert watched.facts["status"] == "finished"
    assert watched.run.state["status"] == "finished"
    assert not (watched.run.path / "state.json").exists()


@pytest.mark.parametrize("layers", [0, -1, True, 2.0])
def test_layers_are_every_so_many_steps(layers):
    with pytest.raises(ValueError, match="`layers` must be an integer >= 1"):
        tfr.Monitor(layers=layers)


# --------------------------------------------------------------------------------- layers' norms


def trained(tmp_path, layers, kind="plain"):
    keras.utils.clear_session(free_memory=False)
    scope = mirrored().scope() if kind == "replicas" else None
    if scope is not None:
        scope.__enter__()
    try:
        net = tiny.dense_model()
        optimizer = tfr.SGD(0.1, momentum=0.0) if kind != "stock" else keras.optimizers.SGD(0.1)
        net.compile(
            optimizer,
            tiny.loss(),
            jit_compile=kind == "XLA",
            steps_per_execution=2 if kind == "several" else 1,
        )
    finally:
        if scope is not None:
            scope.__exit__(None, None, None)
    extra = [tfr.MicroBatch(5)] if kind == "parts" else []
    monitor = tfr.Monitor(tmp_path, layers=layers)
    net.fit(
        *tiny.data(64),
        batch_size=16,
        epochs=1,
        shuffle=False,
        verbose=0,
        callbacks=[monitor, *extra],
    )
    return net, read_run(tmp_path)


@pytest.mark.parametrize("kind", ["plain", "stock", "replicas", "XLA", "several", "parts"])
def test_layers_norms_make_up_the_whole_and_change_no_bit(tmp_path, kind):
    net, run = trained(tmp_path / "on", 2, kind)
    layers, steps = run.layers, run.steps
    assert layers["step"].tolist() == [0, 2]
    squares = layers["grad_norm/hidden"] ** 2 + layers["grad_norm/logits"] ** 2
    np.testing.assert_allclose(squares**0.5, steps["grad_norm"][::2], rtol=1e-5)
    # Plain gradient descent: the update is the gradient times the rate.
    start = tiny.dense_model().get_layer("hidden").get_weights()
    size = np.sqrt(sum(np.sum(w.astype(float) ** 2) for w in start))
    expected = 0.1 * layers["grad_norm/hidden"][0] / size
    assert layers["update_ratio/hidden"][0] == pytest.approx(expected, rel=1e-4)
    if kind == "replicas":
        assert (run.system["reduce_share"][-1:] > 0).all()
    if kind != "XLA":  # which fuses a step with what else is in it
        without, other = trained(tmp_path / "off", None, kind)
        assert other.layers == {}
        assert all(
            np.array_equal(a, b)
            for a, b in zip(tiny.weights(net), tiny.weights(without), strict=True)
        )


# ---------------------------------------------------------------------------- the first bad weight


@pytest.mark.parametrize("kind", ["plain", "scaled", "replicas"])
def test_the_first_bad_weight_is_named(tmp_path, capsys, kind):
    x, y = tiny.data(96)

    @keras.saving.register_keras_serializable("tests")
    class Breaks(keras.layers.Layer):
        """Hands on what it gets, and no finite gradient where an input is above 30."""

        def call(self, inputs):
            @tf.custom_gradient
            def identity(x):
                return x, lambda up: up / tf.cast(tf.reduce_max(x) < 30.0, tf.float32)

            return identity(inputs)

    def build():
        keras.utils.set_random_seed(0)
        inputs = keras.Input((tiny.FEATURES,))
        hidden = keras.layers.Dense(4, name="low")(inputs)
        broken = Breaks()(hidden)
        net = keras.Model(inputs, keras.layers.Dense(tiny.CLASSES, name="high")(broken))
        optimizer = tfr.SGD(0.1)
        if kind == "scaled":
            optimizer = tfr.LossScaleOptimizer(optimizer, initial_scale=4.0)
        net.compile(optimizer, tiny.loss())
        return net

    if kind == "replicas":
        with mirrored().scope():
            net = build()
    else:
        net = build()
    x[32:] *= 100
    net.fit(
        x,
        y,
        batch_size=16,
        epochs=4,
        shuffle=False,
        verbose=0,
        callbacks=[tfr.Monitor(tmp_path), tfr.TrainStep(max_bad_steps=3)],
    )
    said = capsys.readouterr().out
    assert "`grad_norm` became non-finite at step 2 (first: low/kernel). " in said
    if kind == "scaled":
        assert "Loss scale 1, learning rate 0.1." in said
    else:
        assert "). Learning rate 0.1." in said
    run = read_run(tmp_path)
    assert run.facts["first_bad"]["step"] == 2
    assert run.facts["first_bad"]["weight"] == "low/kernel"
    assert run.state["status"] == "stopped"


# ----------------------------------------------------------------------------------- other trackers


@pytest.mark.parametrize(("adapter", "package"), [("to_wandb", "wandb"), ("to_mlflow", "mlflow")])
def test_an_adapter_without_its_package_says_how_to_get_it(monkeypatch, adapter, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=rf"tfr\.{adapter}: .*pip install {package}"):
        getattr(tfr, adapter)()


def test_wandb_takes_the_active_run_or_begins_one(monkeypatch):
    logged, begun = [], []

    class Run:
        def log(self, values, step):
            logged.append((values, step))

    fake = types.ModuleType("wandb")
    fake.run = None
    fake.init = lambda **settings: begun.append(settings) or Run()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    tfr.to_wandb(project="digits")({"step/loss": 1.0}, 3)
    assert begun == [{"project": "digits"}]
    fake.run = Run()
    tfr.to_wandb()({"step/loss": 0.5}, 4)
    assert len(begun) == 1
    assert logged == [({"step/loss": 1.0}, 3), ({"step/loss": 0.5}, 4)]


def test_mlflow_gets_metrics_with_their_step(monkeypatch):
    logged = []
    fake = types.ModuleType("mlflow")
    fake.log_metrics = lambda values, step: logged.append((values, step))
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    tfr.to_mlflow()({"epoch/loss": 1.0}, 7)
    assert logged == [({"epoch/loss": 1.0}, 7)]


def test_a_logger_that_raises_is_said_once_and_left_out(capsys):
    def broken(values, step):
        raise ConnectionError("no network")

    history = tiny.fit(tiny.dense_model(), None, [tfr.Monitor(loggers=[broken])])
    assert len(history.history["loss"]) == 2
    assert capsys.readouterr().out.count("no network") == 1


# ------------------------------------------------------------------------ rules while training runs


@pytest.fixture
def time_for_rules(monkeypatch):
    """However slow the machine is, the rules have their time."""
    monkeypatch.setattr("tfrecipes.callbacks.watching.FREE", 1e9)


@pytest.mark.usefixtures("time_for_rules")
def test_rules_are_asked_at_every_epoch_and_each_finding_is_said_once(tmp_path, capsys):
    seen = []

    def mine(run):
        seen.append((run.state["status"], len(run.epochs["loss"]), len(run.steps["step"])))
        assert json.loads(json.dumps(dict(run.facts)))
        return tfr.Finding("mine", "warning", "Seen.", "Because.", "Do this.")

    tiny.fit(tiny.dense_model(), None, [tfr.Monitor(tmp_path, rules=[*tfr.RULES, mine])])
    assert seen == [("running", 1, 3), ("running", 2, 6), ("finished", 2, 6)]
    assert capsys.readouterr().out.count("Warning (mine): Seen. Because. Do this.") == 1
    assert "mine" in [f["rule"] for f in read_run(tmp_path).findings]


@pytest.mark.usefixtures("time_for_rules")
def test_findings_are_written_while_training_goes_on(tmp_path):
    written = []

    class Look(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            path = tmp_path / "findings.json"
            written.append(path.exists() and json.loads(path.read_text())[0]["rule"])

    def mine(run):
        return tfr.Finding("mine", "info", "Seen.", "Because.", "Do this.")

    tiny.fit(tiny.dense_model(), None, [tfr.Monitor(tmp_path, rules=[mine]), Look()])
    assert written == ["mine", "mine"]


def test_a_rule_that_raises_ends_no_training(capsys):
    def broken(run):
        raise KeyError("no such column")

    monitor = tfr.Monitor(rules=[broken])
    tiny.fit(tiny.dense_model(), None, [monitor])
    assert capsys.readouterr().out.count("rule broken failed") == 1


def test_a_model_without_weights_has_its_layers_in_facts_after_its_first_step(tmp_path):
    keras.utils.set_random_seed(0)
    net = keras.Sequential([keras.layers.Dense(4, name="a"), keras.layers.Dense(3, name="b")])
    tiny.fit(net, None, [tfr.Monitor(tmp_path)])
    run = read_run(tmp_path)
    assert run.facts["layers"] == {"Dense": 2}
    assert [name.split("/")[-1] for name in run.facts["groups"]] == ["a", "b"]
    assert len(run.layers["step"]) == 1
