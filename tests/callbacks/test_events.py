"""TensorBoard's events: what is written by the block is what TensorFlow and TensorBoard read."""

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tfrecipes.callbacks import events as module
from tfrecipes.callbacks.events import Events


def read(folder):
    """(step, wall time, values by tag) of each event, by TensorFlow's own reader."""
    (path,) = folder.iterdir()
    found = []
    for record in tf.data.TFRecordDataset(str(path)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        values = {v.tag: float(tf.make_ndarray(v.tensor)) for v in event.summary.value}
        found.append((event.step, event.wall_time, values, event.file_version))
    return found


def test_a_block_of_steps_is_read_back(tmp_path):
    columns = ("loss", "step", "grad_norm")
    numbers = np.array([0, 1, 127, 128, 2**31, 2**40 + 1])
    values = np.array([[0.0, 1e30], [-1.5, np.nan], [1e39, 2.0], [3.0, 4.0], [5, 6], [7, 8]])
    rows = np.column_stack([values[:, 0], numbers, values[:, 1]])
    events = Events(tmp_path)
    events.steps(columns, rows)
    events.values({"system/cpu": 0.25, "system/gpu": float("nan")}, 9)
    events.close()
    first, *steps, system = read(tmp_path)
    assert first[3] == "brain.Event:2"
    assert [step for step, *_ in steps] == numbers.tolist()
    with np.errstate(over="ignore"):
        expected = values.astype(np.float32)
    for (_, wall_time, found, _), row in zip(steps, expected, strict=True):
        assert wall_time > 1.7e9
        np.testing.assert_array_equal([found["step/loss"], found["step/grad_norm"]], row)
    assert system[0] == 9
    assert system[2] == {"system/cpu": 0.25}


def test_tensorboard_itself_reads_it(tmp_path):
    events = Events(tmp_path)
    events.steps(("step", "loss"), np.array([[0.0, 2.5], [1.0, 1.5]]))
    events.flush()
    board = EventAccumulator(str(tmp_path))
    board.Reload()
    assert board.Tags()["tensors"] == ["step/loss"]
    assert [(e.step, float(tf.make_ndarray(e.tensor_proto))) for e in board.Tensors("step/loss")] == [
        (0, 2.5), (1, 1.5),
    ]  # fmt: skip


def test_a_long_run_is_thinned_and_says_so_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "EVENT_ROWS", 10)
    events = Events(tmp_path)
    for first in range(0, 36, 6):
        events.steps(("step", "loss"), np.column_stack([first + np.arange(6), np.ones(6)]))
    events.close()
    steps = [step for step, *_ in read(tmp_path)[1:]]
    assert steps == [*range(10), 10, 12, 14, 16, 18, 21, 24, 27, 32]
    said = capsys.readouterr().out
    assert said.count("TensorBoard has every step up to 10, fewer from here on") == 1
