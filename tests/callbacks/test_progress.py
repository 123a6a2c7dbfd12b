import io
from dataclasses import dataclass, field

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.callbacks import progress as progress_module
from tfrecipes.callbacks.progress import Progress
from tfrecipes.views.live import Moment, PlainDisplay


@dataclass
class Recorder:
    """A display that remembers; `interval` 0 shows every moment that it may."""

    interval: float = 0.0
    moments: list[Moment] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    closed: int = 0

    def show(self, moment: Moment) -> None:
        self.moments.append(moment)

    def line(self, text: str) -> None:
        self.lines.append(text)

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that moves by a second whenever it is looked at."""
    now = [0.0]

    def tick() -> float:
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(progress_module, "monotonic", tick)
    return now


@pytest.fixture
def shown(clock: list[float]) -> Recorder:
    return Recorder()


def test_a_stock_model_shows_epoch_step_loss_rate_speed_and_time_left(shown: Recorder) -> None:
    tiny.fit(tiny.model(), callbacks=[Progress(display=shown)])
    assert [moment.count for moment in shown.moments] == ["step 1/3", "step 2/3"] * 2
    assert shown.moments[0].title == "epoch 1/2"
    words = [part.split()[0] for part in shown.moments[-1].parts]
    assert words == ["loss", "lr", *words[2:]]
    assert shown.moments[-1].parts[-2].endswith("steps/s")
    assert shown.moments[-1].parts[-1].startswith("eta 0:")
    assert [line.split("  ")[:2] for line in shown.lines] == [
        ["epoch 1/2", "step 3/3"], ["epoch 2/2", "step 3/3"],
    ]  # fmt: skip
    assert shown.closed == 1


def test_the_line_of_an_epoch_has_its_metrics_and_the_loss_first(shown: Recorder) -> None:
    net = tiny.model()
    x, y = tiny.data()
    net.compile(keras.optimizers.SGD(0.125), tiny.loss(), metrics=["accuracy"])
    history = net.fit(
        x, y, verbose=0, validation_data=(x, y), callbacks=[Progress(display=shown)]
    ).history
    parts = shown.lines[0].split("  ")
    assert parts[2:7] == [
        *(f"{k} {history[k][0]:.4g}" for k in ("loss", "accuracy", "val_accuracy", "val_loss")),
        "lr 0.125",
    ]


def test_validation_is_shown_beside_the_epoch(shown: Recorder) -> None:
    tiny.fit(tiny.model(), callbacks=[Progress(display=shown)], validation_data=tiny.data())
    counts = [moment.count for moment in shown.moments if "validation" in moment.title]
    assert counts == ["step 0", "step 1", "step 2", "step 0/3", "step 1/3", "step 2/3"]
    titles = [moment.title for moment in shown.moments]
    assert titles == [
        *["epoch 1/2"] * 2, *["epoch 1/2  validation"] * 3,
        *["epoch 2/2"] * 2, *["epoch 2/2  validation"] * 3,
    ]  # fmt: skip


def test_evaluate_alone_is_shown(shown: Recorder) -> None:
    net = tiny.model()
    tiny.fit(net)
    x, y = tiny.data()
    loss = net.evaluate(x, y, batch_size=32, verbose=0, callbacks=[Progress(display=shown)])
    assert [moment.count for moment in shown.moments] == ["step 0/3", "step 1/3", "step 2/3"]
    assert shown.lines[0].startswith(f"evaluation  step 3/3  loss {loss:.4g}  ")
    assert shown.closed == 1


def test_a_source_gives_the_steps_own_loss_norm_and_samples(shown: Recorder) -> None:
    seen = []

    def source(model: keras.Model) -> dict[str, float]:
        seen.append(model)
        return {"loss": 1.5, "learning_rate": 1e-3, "grad_norm": 0.25, "samples": 32, "overflow": 0}

    net = tiny.model()
    tiny.fit(net, callbacks=[Progress(source, display=shown)])
    assert seen == [net] * len(shown.moments)
    parts = shown.moments[-1].parts
    assert parts[:3] == ("loss 1.5", "lr 0.001", "grad_norm 0.25")
    assert parts[3].endswith("samples/s")


def test_a_source_with_nothing_yet_leaves_keras_logs(shown: Recorder) -> None:
    tiny.fit(tiny.model(), callbacks=[Progress(lambda model: None, display=shown)])
    assert "lr 0.1" in shown.moments[0].parts


def test_the_source_is_asked_at_most_as_often_as_something_is_drawn(clock: list[float]) -> None:
    calls = []
    slow = Recorder(interval=1e9)
    tiny.fit(tiny.model(), callbacks=[Progress(lambda model: calls.append(model), display=slow)])
    assert calls == []
    assert slow.moments == []
    assert len(slow.lines) == 2


def test_the_screen_waits_for_its_interval(clock: list[float]) -> None:
    display = Recorder(interval=10.0)
    tiny.fit(tiny.model(), callbacks=[Progress(display=display)], batch_size=1, epochs=1)
    # 95 looks at a clock that moves by one second each.
    assert 8 <= len(display.moments) <= 10


def test_the_rate_of_a_schedule_is_that_of_the_step(shown: Recorder) -> None:
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay([2], [0.5, 0.25])
    tiny.fit(tiny.model(), keras.optimizers.SGD(schedule), callbacks=[Progress(display=shown)])
    rates = [part for moment in shown.moments for part in moment.parts if part.startswith("lr")]
    assert rates == ["lr 0.5", "lr 0.5", "lr 0.25", "lr 0.25"]


def test_data_of_unknown_length_are_counted_and_the_second_epoch_knows(shown: Recorder) -> None:
    x, y = tiny.data()
    data = tf.data.Dataset.from_generator(
        lambda: iter(zip(x, y, strict=True)),
        output_signature=(tf.TensorSpec((8,), tf.float32), tf.TensorSpec((), tf.int32)),
    ).batch(32)
    net = tiny.model()
    net.compile("sgd", tiny.loss())
    with pytest.warns(UserWarning, match="ran out of data"):  # so Keras learns the length
        net.fit(data, epochs=2, shuffle=False, verbose=0, callbacks=[Progress(display=shown)])
    assert [moment.count for moment in shown.moments] == [
        "step 1", "step 2", "step 3", "step 1/3", "step 2/3", "step 3/3",
    ]  # fmt: skip
    assert "step 3/3" in shown.lines[0]


def test_several_steps_an_execution_are_counted(shown: Recorder) -> None:
    net = tiny.model()
    x, y = tiny.data()
    net.compile("sgd", tiny.loss(), steps_per_execution=2)
    net.fit(x, y, batch_size=16, verbose=0, callbacks=[Progress(display=shown)])
    assert [moment.count for moment in shown.moments] == ["step 2/6", "step 4/6"]
    assert "step 6/6" in shown.lines[0]


def test_a_later_fit_and_an_initial_epoch_count_right(shown: Recorder) -> None:
    callback = Progress(display=shown)
    net = tiny.model()
    tiny.fit(net, callbacks=[callback], epochs=1)
    tiny.fit(net, callbacks=[callback], epochs=4, initial_epoch=3)
    assert [line.split("  ")[0] for line in shown.lines] == ["epoch 1/1", "epoch 4/4"]


def test_keras_may_hand_it_logs_from_a_thread() -> None:
    # Otherwise Keras waits for every step's logs, on backends where it need not.
    assert Progress().async_safe is True


def test_training_is_bit_for_bit_what_it_is_without(shown: Recorder) -> None:
    bare, watched = tiny.model(), tiny.model()
    losses = [
        tiny.fit(net, callbacks=callbacks).history["loss"]
        for net, callbacks in ((bare, []), (watched, [Progress(display=shown)]))
    ]
    assert losses[0] == losses[1]
    for one, other in zip(tiny.weights(bare), tiny.weights(watched), strict=True):
        np.testing.assert_array_equal(one, other)


def test_logs_that_come_in_another_order_leave_the_newest() -> None:
    callback = Progress()
    callback.on_train_batch_end(5, {"loss": 5.0})
    callback.on_train_batch_end(4, {"loss": 4.0})
    assert callback._newest == (5, {"loss": 5.0})


def test_a_fit_that_raises_leaves_a_display_that_close_ends(shown: Recorder) -> None:
    class Broken(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: object = None) -> None:
            raise RuntimeError("mine")

    callback = Progress(display=shown)
    with pytest.raises(RuntimeError, match="mine"):
        tiny.fit(tiny.model(), callbacks=[callback, Broken()])
    assert shown.closed == 0
    callback.close()
    callback.close()
    assert shown.closed == 1


def test_a_pipe_gets_one_line_an_epoch_by_default(capsys: pytest.CaptureFixture[str]) -> None:
    tiny.fit(tiny.model(), callbacks=[tfr.Progress()])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]


def test_a_slow_run_in_a_pipe_gets_a_line_every_five_seconds(clock: list[float]) -> None:
    pipe = io.StringIO()
    tiny.fit(tiny.model(), callbacks=[Progress(display=PlainDisplay(pipe))], batch_size=1, epochs=1)
    lines = pipe.getvalue().splitlines()
    assert 15 <= len(lines) <= 20
    assert all(line.startswith("epoch 1/1  step ") for line in lines)


def test_a_manual_loop_without_params_is_shown(shown: Recorder) -> None:
    callback = Progress(display=shown)
    callback.set_params({})
    callback.set_model(tiny.model())
    callback.on_train_begin()
    callback.on_epoch_begin(0)
    callback.on_train_batch_begin(1)
    callback.on_train_batch_end(1, {"loss": 1.0, "note": "text"})
    callback.on_epoch_end(0, {"loss": 1.0})
    callback.on_train_end()
    assert shown.moments[0].title == "epoch 1"
    assert shown.lines[0].startswith("epoch 1  step 2/2  loss 1")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0:01"), (61, "1:01"), (3600, "1:00:00"), (90061, "25:01:01")]
)
def test_time_left_is_readable(seconds: float, text: str) -> None:
    assert progress_module._clock(seconds) == text
