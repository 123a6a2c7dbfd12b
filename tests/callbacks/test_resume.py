"""Resume: a run that was cut anywhere goes on to the same bits."""

import signal

import keras
import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny
from tfrecipes.callbacks.resume import Preempted
from tfrecipes.runs.folder import read_run


class Cut(keras.callbacks.Callback):
    """Ends the run as a signal does, after some steps."""

    def __init__(self, after):
        super().__init__()
        self.left = after

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


def run(directory, callbacks=(), epochs=3, optimizer=None, **arguments):
    net = tiny.model()
    net.compile(optimizer or tfr.AdamW(1e-2), tiny.loss(), metrics=["accuracy"])
    x, y = tiny.data(96)
    history = net.fit(
        x,
        y,
        batch_size=32,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[
            tfr.EMA(0.9),
            tfr.Monitor(directory),
            tfr.Resume(directory / "checkpoints", every="1"),
            *callbacks,
        ],
        **arguments,
    )
    return net, history


@pytest.mark.parametrize("after", [1, 2, 3, 4, 7])
def test_a_cut_run_goes_on_to_the_same_bits(tmp_path, after):
    whole, history = run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", [Cut(after)])
    again, rest = run(tmp_path / "cut")
    assert all(
        np.array_equal(a, b) for a, b in zip(tiny.weights(whole), tiny.weights(again), strict=True)
    )
    assert rest.history == history.history
    one, two = read_run(tmp_path / "whole"), read_run(tmp_path / "cut")
    for name, column in one.steps.items():
        np.testing.assert_array_equal(column, two.steps[name], err_msg=name)
    for name, column in one.epochs.items():
        np.testing.assert_array_equal(column, two.epochs[name], err_msg=name)


def test_another_model_or_optimizer_is_refused_and_nothing_is_assigned(tmp_path):
    run(tmp_path, epochs=1)
    with pytest.raises(ValueError, match="another run"):
        run(tmp_path, epochs=2, optimizer=tfr.SGD(0.1))


def test_a_signal_ends_after_the_step_with_a_checkpoint(tmp_path):
    class Signals(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 1:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Preempted) as stopped:
        run(tmp_path, [Signals()])
    assert stopped.value.code == 75
    whole, _ = run(tmp_path / "whole")
    again, history = run(tmp_path)
    assert len(history.history["loss"]) == 3
    assert all(
        np.array_equal(a, b) for a, b in zip(tiny.weights(whole), tiny.weights(again), strict=True)
    )


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_test_batch_end", "on_epoch_end"])
def test_a_signal_between_steps_leaves_the_next_epochs_metrics_alone(tmp_path, hook):
    def signals(number, logs=None):
        if hook != "on_epoch_begin" or number == 1:
            signal.raise_signal(signal.SIGTERM)

    validation = {"validation_data": tiny.data(32, seed=1)}
    _, history = run(tmp_path / "whole", **validation)
    cut = keras.callbacks.Callback()
    setattr(cut, hook, signals)
    with pytest.raises(Preempted):
        run(tmp_path / "cut", [cut], **validation)
    _, rest = run(tmp_path / "cut", **validation)
    assert rest.history == history.history


@pytest.fixture
def interruptible():
    """Python's own handler: a shell's background job is started with Ctrl-C ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_handlers_of_a_fit_that_was_left_give_a_signal_back(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [Cut(1)])
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_later_fit_runs_its_own_epochs(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [Cut(7)])
    net, _ = run(tmp_path)
    x, y = tiny.data(96)
    assert len(net.fit(x, y, epochs=2, verbose=0).history["loss"]) == 2


def test_user_callbacks_join_by_two_methods(tmp_path):
    class Counts(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.count = 0

        def on_train_batch_end(self, batch, logs=None):
            self.count += 1

        def get_resume_state(self):
            return {"count": self.count}

        def set_resume_state(self, state):
            self.count = state["count"]

    first = Counts()
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, [first, Cut(5)])
    second = Counts()
    run(tmp_path, [second])
    assert second.count >= 9
