"""Resume: checkpoints of the whole run, and going on from the newest good one."""

import os
import signal
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfrecipes.callbacks.step import StepCallback, positive
from tfrecipes.recipe.durations import Duration, to_seconds, to_steps
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.step import keras_seams
from tfrecipes.step.installed import InstalledStep
from tfrecipes.step.keras_seams import Fit, local
from tfrecipes.training import checkpoint, run_state


class Preempted(SystemExit):
    """A signal ended the run after a whole step, with a checkpoint; it can be resumed."""

    CODE = 75

    def __init__(self, name: str, path: Path | None) -> None:
        super().__init__(self.CODE)
        self.signal = name
        self.path = path
        self.run_folder: Path | None = None  # told by `recipe.fit`

    def __str__(self) -> str:
        kept = f"saved in {self.path}" if self.path else "not saved"
        return f"Stopped by {self.signal} after a whole step; {kept}. Start it again to go on."


class Resume(StepCallback):
    """Save the whole run now and then, and go on from the newest good checkpoint.

    Saved: weights, non-trainable variables, seed generators, optimizer, loss scale, average,
    metrics within the epoch, counters, History, the place in the epoch, and what callbacks with
    `get_resume_state()` / `set_resume_state(state)` hand over. Each write is a temporary folder,
    fsync and rename, verified before an older one goes. Unlike `keras.callbacks.BackupAndRestore`
    a run killed inside an epoch goes on at the step where it was saved, with the epoch's metrics.

    SIGINT and SIGTERM end the run after the step that runs, with a checkpoint: `Preempted`, a
    SystemExit with code 75. A second signal ends it at once.

    Args:
        directory: Where the checkpoints lie; a finished run's are kept.
        every: How often: "5min", "500" steps or "1ep". Epoch ends are saved when due, and the
            end of the run always.
        keep: Checkpoints kept, >= 1.

    Raises:
        ValueError: If an argument is bad; in `fit`, if the newest checkpoint is of another model
            or optimizer: it says which variable differs, and nothing was assigned.

    Example:
        >>> import tempfile, tfrecipes as tfr
        >>> tfr.Resume(tempfile.mkdtemp(), every="500", keep=2).keep
        2
    """

    def __init__(
        self,
        directory: str | os.PathLike[str],
        every: int | str = "5min",
        keep: int = 3,
        pull_skipped: bool = True,
    ) -> None:
        super().__init__()
        self.directory = Path(directory)
        self.every = Duration.parse(every, "Resume: every")
        self.keep = positive("Resume", "keep", keep)
        # Data that a resumed fit hands over from their start must be read past what was done;
        # `recipe.fit` begins its data at the right step instead.
        self._pull_skipped = pull_skipped
        self._handlers: dict[int, Any] = {}
        self._found: checkpoint.Checkpoint | None = None
        self.last_save_failed = False

    def sealed(self, step: InstalledStep) -> None:
        fit = keras_seams.running_fit(self.model)
        if fit is None:
            return
        self._fit = fit
        self._epoch = 0
        self._calls = 0
        self._signal: str | None = None
        self._steps_at_save, self._time_at_save = 0, time.monotonic()
        self._by_steps = None
        if not self.every.is_time:
            self._by_steps = max(
                1,
                to_steps(
                    self.every,
                    total_steps=fit.total_steps,
                    steps_per_epoch=fit.steps,
                    where="Resume: every",
                ),
            )
        self._found = checkpoint.latest(self.directory, on_broken=print)
        if self._found is not None:
            self._restore(step, fit, self._found)
        step.after_call.append(self._after_call)

    # -- going on ------------------------------------------------------------------------------

    def _restore(self, step: InstalledStep, fit: Fit, found: checkpoint.Checkpoint) -> None:
        if not keras_seams.is_built_for_training(self.model):
            first = next(fit.batches())
            run_state.make_variables(self.model, step, first)
        else:
            step.state.make(self.model, step.plan)
        if differs := run_state.differences(self.model, step, found.arrays):
            raise ValueError(
                f"Resume: the checkpoint is of another run: {differs}. Received: "
                f"{found.path}. Resume with the model and recipe that wrote it, or name another "
                "folder."
            )
        keras_seams.begin_at(self.model, int(found.meta["epoch"]))

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        self.release()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._handlers[number] = signal.signal(number, self._on_signal)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch, self._calls = epoch, 0
        found, self._found = self._found, None
        if found is None:
            return
        # Here, after Keras's `reset_metrics`: the epoch's metrics go on from where they were.
        step = self.step
        keras_seams.begin_at(self.model, None)  # Keras would begin every later `fit` there too
        run_state.restore(self.model, step, found.arrays)
        step.resumed(found.meta["last_row"])
        done = int(found.meta["steps"])
        if done == 0:
            # Saved between two epochs: what the metrics held was the one before's, or validation's.
            self.model.reset_metrics()
        self._calls, rest = divmod(done, self.model.steps_per_execution)
        if rest and done == self._fit.steps:
            self._calls += 1  # the epoch's last call, a shorter one, was done too
        elif rest:
            raise ValueError(
                f"Resume: the epoch was left after {done} steps, which no whole number of calls "
                f"makes. Received: steps_per_execution={self.model.steps_per_execution}. Use the "
                "one that the run had."
            )
        step.skip(self._calls, pull=self._pull_skipped)
        history = self.model.history
        history.history = {k: list(v) for k, v in found.meta["history"].items()}
        history.epoch = list(range(len(next(iter(history.history.values()), []))))
        for callback in self._fit.callbacks.callbacks:
            state = found.meta["callbacks"].get(type(callback).__name__)
            if state is not None and hasattr(callback, "set_resume_state"):
                callback.set_resume_state(state)
        print(f"Resume: goes on in epoch {epoch + 1} after {done} steps, from {found.path}.")

    # -- saving --------------------------------------------------------------------------------

    def _after_call(self) -> None:
        self._calls += 1
        if self._signal is not None:
            self._end_by_signal()
        elif self._is_due():
            self.save(self._epoch, self._calls)

    def _is_due(self) -> bool:
        if self._by_steps is None:
            return time.monotonic() - self._time_at_save >= to_seconds(self.every)
        return int(local(self.step.state.attempts)) - self._steps_at_save >= self._by_steps

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        # Keras's History gets this epoch's values in its own hook, which may come after ours.
        self._epoch, self._calls = epoch + 1, 0
        if self._signal is not None or self._is_due():
            self.save(epoch + 1, 0, dict(logs or {}))
        if self._signal is not None:
            self._end_by_signal(saved=True)

    def save(self, epoch: int, calls: int, logs: Mapping[str, float] | None = None) -> Path | None:
        """Write a checkpoint now; says so and goes on where it cannot.

        Args:
            epoch: The epoch to go on in, from 0.
            calls: Calls of the train function in it that are done.
            logs: The finished epoch's values, where History may lack them yet.
        """
        step = self.step
        history = {k: [float(x) for x in v] for k, v in self.model.history.history.items()}
        done = len(next(iter(history.values()), []))
        if logs and done < epoch:
            for name, value in logs.items():
                history.setdefault(name, []).append(float(value))
        states = {
            type(c).__name__: c.get_resume_state()
            for c in self._fit.callbacks.callbacks
            if hasattr(c, "get_resume_state")
        }
        steps = calls * self.model.steps_per_execution
        if self._fit.steps is not None:
            steps = min(steps, self._fit.steps)  # an epoch's last call may be shorter
        meta = {
            "epoch": epoch,
            "steps": steps,
            "history": history,
            "callbacks": states,
            # Also sends every row so far to the files: a resumed run begins after them.
            "last_row": step.last_row,
        }
        self._steps_at_save = int(local(step.state.attempts))
        self._time_at_save = time.monotonic()
        try:
            path = checkpoint.save(
                self.directory, run_state.arrays(self.model, step), meta, keep=self.keep
            )
        except (RunWriteError, checkpoint.CheckpointError) as error:
            self.last_save_failed = True
            print(f"Resume: no checkpoint was written, training goes on. {error}")
            return None
        self.last_save_failed = False
        return path

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        self.release()
        keras_seams.begin_at(self.model, None)
        super().on_train_end(logs)
        if not self.step.stopped:
            self.save(self._epoch, self._calls)

    # -- signals -------------------------------------------------------------------------------

    def _on_signal(self, number: int, frame: Any) -> None:
        # A `fit` that was left by an exception has told no callback; its handlers stand until now.
        if self._signal is not None or keras_seams.fit_iterator(self.model) is None:
            self.release()
            signal.raise_signal(number)  # at once, in this thread
            return
        self._signal = signal.Signals(number).name
        print(f"{self._signal}: the step is finished, then the run is saved. Once more: ends now.")

    def _end_by_signal(self, saved: bool = False) -> None:
        name, self._signal = self._signal or "", None
        path = self.directory if saved else self.save(self._epoch, self._calls)
        self.release()
        self.step.finished()
        raise Preempted(name, path)

    def release(self) -> None:
        """Give SIGINT and SIGTERM back to whom they belonged, as the end of training does."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._handlers = {}


def position(directory: str | os.PathLike[str]) -> tuple[int, int] | None:
    """Where a run in this folder would go on: (epoch, steps of it done); None = nowhere."""
    found = checkpoint.latest(directory, on_broken=print)
    return None if found is None else (int(found.meta["epoch"]), int(found.meta["steps"]))
