"""Monitor: every step's row into History, steps.csv, epochs.csv and TensorBoard, as it happens."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic import telemetry
from tfrecipes.arithmetic.telemetry import COLUMNS, Column
from tfrecipes.callbacks.step import StepCallback
from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import Finding
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import RunFolder
from tfrecipes.runs.steps import StepsFile
from tfrecipes.step.installed import InstalledStep
from tfrecipes.step.keras_seams import Fit

# Step scalars in TensorBoard: beyond this many every second is left out, then every third, ...
EVENT_ROWS = 10_000


class Monitor(StepCallback):
    """Record every step from inside the compiled step, at no Python cost per step.

    The step writes its row into a ring on the device; the host reads it about once a second, at
    an epoch's end and at the fit's.

    Args:
        directory: Run folder for steps.csv, epochs.csv, findings.json and TensorBoard `events`;
            None = History only.
        columns: Functions `f(step) -> scalar`, named by their `__name__`; `tfr.COLUMNS` and any
            of your own, which see `.loss .gradients .weights .updates .learning_rate`.

    Raises:
        ValueError: If the folder cannot be used, or a column is no named function.

    Logs: each column but `loss` joins the epoch's logs and History with the epoch's last value;
        `loss` stays Keras's mean over the epoch. `step` counts attempted steps from 0.

    Example:
        >>> import tfrecipes as tfr
        >>> def largest_gradient(step):
        ...     return tf.reduce_max([tf.reduce_max(tf.abs(g)) for g in step.gradients])
        >>> monitor = tfr.Monitor(columns=[*tfr.COLUMNS, largest_gradient])
        >>> monitor.names[-1]
        'largest_gradient'
    """

    def __init__(
        self,
        directory: str | os.PathLike[str] | RunFolder | None = None,
        columns: Sequence[Column] = COLUMNS,
    ) -> None:
        super().__init__()
        self.names = telemetry.names(columns)
        self.columns = tuple(columns)
        self.findings: list[Finding] = []
        self._folder = (
            directory
            if directory is None or isinstance(directory, RunFolder)
            else RunFolder.take(directory)
        )
        self._steps: StepsFile | None = None
        self._events: Any = None
        self._event: Any = None
        self._failed: set[str] = set()
        self._row = 0

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        return {"columns": self.columns}

    def sealed(self, step: InstalledStep) -> None:
        self._epochs_kept = False
        if self._folder is not None:
            step.add_sink(self._write_rows)

    def _guarded(self, what: str, write: Callable[[], object]) -> None:
        """Training goes on where a write fails; it is said once per file."""
        try:
            write()
        except (RunWriteError, OSError, tf.errors.OpError) as error:
            if what not in self._failed:
                self._failed.add(what)
                print(f"Monitor: {what} could not be written, training goes on. {error}")

    def _write_rows(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        folder = self._folder
        if folder is None:
            return

        def append() -> None:
            if self._steps is None:
                first = int(rows[0, columns.index("step")]) if "step" in columns else None
                self._steps = folder.open_steps(resume_step=first)
            self._steps.append(columns, rows)

        self._guarded("steps.csv", append)
        self._guarded("events", lambda: self._write_step_events(columns, rows))

    def _write_step_events(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        if self._event is None:
            self._event = _scalars([f"step/{name}" for name in columns if name != "step"])
        held = [i for i, name in enumerate(columns) if name != "step"]
        with self._writer().as_default():
            for row in rows:
                every = 1 + self._row // EVENT_ROWS
                if self._row % every == 0:
                    number = int(row[columns.index("step")]) if "step" in columns else self._row
                    for value, i in zip(self._event.value, held, strict=True):
                        value.tensor.float_val[:] = [row[i]]
                    tf.summary.experimental.write_raw_pb(self._event.SerializeToString(), number)
                self._row += 1
                if self._row == EVENT_ROWS:
                    print(
                        f"Monitor: TensorBoard has every step up to {EVENT_ROWS}, fewer from here "
                        "on; steps.csv has them all."
                    )

    def _writer(self) -> Any:
        if self._events is None and self._folder is not None:
            self._events = tf.summary.create_file_writer(str(self._folder.events_path))
        return self._events

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        folder, row = self._folder, dict(logs or {})
        if folder is None:
            return
        if not self._epochs_kept:
            # A run that goes on writes its epochs again from the one it goes on in.
            self._epochs_kept = True
            self._guarded("epochs.csv", lambda: folder.keep_epochs(epoch))
        self._guarded("epochs.csv", lambda: folder.append_epoch(row))

        def events() -> None:
            with self._writer().as_default():
                for name, value in row.items():
                    group = "validation" if name.startswith("val_") else "epoch"
                    tf.summary.scalar(f"{group}/{name.removeprefix('val_')}", value, step=epoch)
            self._writer().flush()

        self._guarded("events", events)

    def close(self) -> None:
        """Let go of the files; what was handed over is on disk."""
        if self._steps is not None:
            self._guarded("steps.csv", self._steps.close)
            self._steps = None
        if self._events is not None:
            self._guarded("events", self._events.flush)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        step = self.step
        super().on_train_end(logs)
        folder = self._folder
        if folder is None:
            return
        self.close()
        self.findings = found_in(folder, step.stopped)
        self._guarded("findings.json", lambda: folder.write_findings(self.findings))


def _scalars(tags: Sequence[str]) -> Any:
    """An event of scalars to be filled in: one op a step, .2 ms; a `tf.summary.scalar` each is 3."""
    event = tf.compat.v1.Summary()
    for tag in tags:
        value = event.value.add(tag=tag, tensor=tf.make_tensor_proto(1.0, tf.float32))
        value.metadata.plugin_data.plugin_name = "scalars"
    return event


def found_in(folder: RunFolder, stopped: str | None) -> list[Finding]:
    """What the rules find in a run's files, and why it stopped, if it did."""
    findings = diagnose(folder.path)
    if stopped and not any(f.rule == "not_finite" for f in findings):
        findings.insert(
            0,
            Finding(
                rule="not_finite",
                severity="error",
                evidence=stopped,
                cause="The data hold NaN or inf, or the learning rate is too high.",
                advice="Check the data first, then lower the learning rate tenfold.",
            ),
        )
    return findings


def swa_values(history: keras.callbacks.History) -> dict[str, float]:
    """What SWA logged once, at the end: History's keys of one value that begin with swa_val_."""
    return {k: float(v[0]) for k, v in history.history.items() if k.startswith("swa_val_")}
