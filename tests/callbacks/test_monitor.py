"""Monitor: rows of the compiled step in History and in files, against plain arithmetic."""

import csv

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.runs.folder import read_run


class Replay(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        self.weights = [self.now()]

    def on_train_batch_end(self, batch, logs=None):
        self.weights.append(self.now())

    def now(self):
        return [v.numpy().copy() for v in self.model.trainable_variables]


def norm(tensors):
    return float(np.sqrt(sum(np.sum(np.square(t.astype(np.float64))) for t in tensors)))


def test_every_column_is_what_plain_arithmetic_gives(tmp_path):
    x, y = tiny.data(70)
    net = tiny.dense_model()
    schedule = tfr.WarmupCosine(0.1, total_steps=9, warmup_steps=2)
    net.compile(tfr.SGD(schedule, momentum=0.0, global_clipnorm=0.4), tiny.loss())
    replay = Replay()
    history = net.fit(
        x,
        y,
        batch_size=32,
        epochs=3,
        shuffle=False,
        verbose=0,
        callbacks=[tfr.Monitor(tmp_path), replay],
    )
    steps = read_run(tmp_path).steps
    assert list(steps) == [c.__name__ for c in tfr.COLUMNS]
    assert steps["step"].tolist() == list(range(9))
    assert steps["samples"].tolist() == [32, 32, 6] * 3
    shadow = tiny.dense_model()
    for t in range(9):
        before, after = replay.weights[t], replay.weights[t + 1]
        shadow.set_weights(before)
        batch = slice(32 * (t % 3), 32 * (t % 3) + 32)
        with tf.GradientTape() as tape:
            loss = tiny.loss()(y[batch], shadow(x[batch]))
        gradient = norm([g.numpy() for g in tape.gradient(loss, shadow.trainable_variables)])
        change = norm([a - b for a, b in zip(after, before, strict=True)])
        expected = {
            "learning_rate": float(schedule(t)),
            "loss": float(loss),
            "grad_norm": gradient,
            "param_norm": norm(before),
            "update_norm": change,
            "update_ratio": change / norm(before),
            "grad_param_ratio": gradient / norm(before),
            "clipped": float(gradient > 0.4),
            "overflow": 0.0,
            "loss_scale": 1.0,
        }
        for name, value in expected.items():
            assert steps[name][t] == pytest.approx(value, rel=2e-4, abs=1e-6), (t, name)
    assert {"grad_norm", "learning_rate", "step", "loss"} <= set(history.history)
    assert history.history["grad_norm"][-1] == pytest.approx(steps["grad_norm"][-1])
    assert history.history["loss"][-1] != pytest.approx(steps["loss"][-1])


def test_epochs_csv_has_historys_keys_and_events_have_groups(tmp_path):
    net = tiny.model()
    history = tiny.fit(
        net, tfr.AdamW(1e-2), [tfr.Monitor(tmp_path)], validation_data=tiny.data(32, seed=1)
    )
    with open(tmp_path / "epochs.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(history.history)
    assert len(rows) == 2
    assert float(rows[1]["val_loss"]) == pytest.approx(history.history["val_loss"][1])
    events = next((tmp_path / "events").iterdir())
    tags = {
        value.tag
        for event in tf.compat.v1.train.summary_iterator(str(events))
        for value in event.summary.value
    }
    assert {"epoch/loss", "validation/loss", "step/grad_norm"} <= tags


def test_a_step_is_one_event_that_holds_every_column(tmp_path):
    # One operation a step: one a column takes 3 ms, several times a small step.
    tiny.fit(tiny.model(), tfr.AdamW(1e-2), [tfr.Monitor(tmp_path)])
    events = next((tmp_path / "events").iterdir())
    seen = [
        (event.step, {v.tag: v for v in event.summary.value})
        for event in tf.compat.v1.train.summary_iterator(str(events))
        if any(value.tag.startswith("step/") for value in event.summary.value)
    ]
    steps = read_run(tmp_path).steps
    assert [number for number, _ in seen] == steps["step"].tolist()
    for t, (_, values) in enumerate(seen):
        assert set(values) == {f"step/{name}" for name in steps if name != "step"}
        for name in ("loss", "grad_norm", "learning_rate"):
            value = values[f"step/{name}"]
            assert value.metadata.plugin_data.plugin_name == "scalars"
            assert tf.make_ndarray(value.tensor) == pytest.approx(steps[name][t], rel=1e-6)


def test_a_skipped_step_has_its_row_and_its_number(tmp_path):
    x, y = tiny.data(96)
    x[40] = np.nan
    net = tiny.model()
    tiny.fit(net, tfr.AdamW(1e-2), [tfr.Monitor(tmp_path)], data=(x, y))
    steps = read_run(tmp_path).steps
    assert steps["overflow"].tolist() == [0, 1, 0] * 2
    assert steps["step"].tolist() == list(range(6))
    assert steps["update_norm"][1] == 0
    assert steps["learning_rate"][1] > 0


def test_a_column_of_ones_own_sees_the_step(tmp_path):
    def largest_update(step):
        return tf.reduce_max([tf.reduce_max(tf.abs(u)) for u in step.updates])

    def gradients_seen(step):
        return len(step.gradients) + 0.0 * step.loss + 0.0 * step.weights[0][0, 0]

    net = tiny.model()
    columns = [*tfr.COLUMNS, largest_update, gradients_seen]
    tiny.fit(net, tfr.AdamW(1e-2), [tfr.Monitor(tmp_path, columns=columns)])
    steps = read_run(tmp_path).steps
    assert np.all(steps["largest_update"] > 0)
    assert np.all(steps["gradients_seen"] == len(net.trainable_variables))


def test_columns_that_are_no_named_functions_are_refused():
    with pytest.raises(ValueError, match="__name__"):
        tfr.Monitor(columns=[lambda step: step.loss])
    with pytest.raises(ValueError, match="named"):
        tfr.Monitor(columns=[tfr.COLUMNS[0], tfr.COLUMNS[0]])

    def vector(step):
        return step.weights[0]

    with pytest.raises(ValueError, match="scalar"):
        tiny.fit(tiny.model(), None, [tfr.Monitor(columns=[vector])])


def test_more_steps_than_the_ring_holds_lose_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr("tfrecipes.step.state.RING_ROWS", 8)
    monkeypatch.setattr("tfrecipes.step.rows.RING_ROWS", 8)
    net = tiny.dense_model()
    net.compile("sgd", tiny.loss(), steps_per_execution=3)
    net.fit(*tiny.data(90), batch_size=2, verbose=0, callbacks=[tfr.Monitor(tmp_path)])
    assert read_run(tmp_path).steps["step"].tolist() == list(range(45))


def test_a_stopped_run_leaves_its_finding(tmp_path):
    x, y = tiny.data(96)
    net = tiny.model()
    net.compile("adam", tiny.loss())
    net.fit(
        x * np.nan,
        y,
        batch_size=2,
        verbose=0,
        callbacks=[tfr.Monitor(tmp_path), tfr.TrainStep(max_bad_steps=3)],
    )
    found = read_run(tmp_path).findings
    assert found[0]["severity"] == "error"
    assert found[0]["rule"] == "not_finite"
