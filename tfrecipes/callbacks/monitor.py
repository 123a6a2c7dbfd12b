"""Monitor: what a run does, into History, files and TensorBoard as it happens, and what is wrong."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np

from tfrecipes.arithmetic import telemetry
from tfrecipes.arithmetic.telemetry import COLUMNS, Column
from tfrecipes.callbacks import learnt
from tfrecipes.callbacks.files import RunFiles
from tfrecipes.callbacks.loggers import Logger
from tfrecipes.callbacks.machine import Machine
from tfrecipes.callbacks.step import StepCallback, positive
from tfrecipes.callbacks.watching import Watch, guarded_loggers
from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, Finding, Rule
from tfrecipes.runs.folder import RunFolder, read_run
from tfrecipes.step import reduction, stopping
from tfrecipes.step.installed import InstalledStep
from tfrecipes.step.keras_seams import Fit, local
from tfrecipes.step.update import split_scaler


class Monitor(StepCallback):
    """Record a run from inside its compiled step, and say in words what is wrong with it.

    The step writes its row into a ring on the device; the host reads it about once a second, at
    an epoch's end and at the fit's. At each epoch's end and on a spike of the loss or the gradient
    norm the rules are asked, within a two-hundredth of the fit's time; a new error or warning is
    printed once.

    Args:
        directory: Run folder for facts.json, steps.csv, epochs.csv, layers.csv, system.csv,
            findings.json and TensorBoard `events`, written as the run goes; None = no files.
        columns: Functions `f(step) -> scalar`, named by their `__name__`; `tfr.COLUMNS` and any
            of your own, which see `.loss .gradients .weights .updates .learning_rate`.
        layers: Every how many steps each layer group's gradient norm and update ratio are
            written; None = never.
        loggers: Functions `log(values, step)`, called about once a second and at each epoch's end
            with `group/key` values: `tfr.to_wandb()`, `tfr.to_mlflow()` or your own.
        rules: Functions `f(run) -> Finding | None`; `[*tfr.RULES, mine]` for one of your own.

    Raises:
        ValueError: If the folder cannot be used, a column is no named function, or `layers` is no
            integer >= 1.

    Logs: each column but `loss` joins the epoch's logs and History with the epoch's last value;
        `loss` stays Keras's mean over the epoch. `step` counts attempted steps from 0. Nothing
        that a clock decides is in them.

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
        layers: int | None = 16,
        loggers: Sequence[Logger] = (),
        rules: Sequence[Rule] = RULES,
    ) -> None:
        super().__init__()
        self.names = telemetry.names(columns)
        self.directory = directory
        self.columns = tuple(columns)
        self.layers = None if layers is None else positive("Monitor", "layers", layers)
        self.loggers = tuple(loggers)
        self.rules = tuple(rules)
        self.findings: list[Finding] = []
        folder = (
            directory
            if directory is None or isinstance(directory, RunFolder)
            else RunFolder.take(directory)
        )
        self._files = None if folder is None else RunFiles(folder)
        self._watch = Watch(self.rules, None if folder is None else folder.path)
        self._log = guarded_loggers(self.loggers)
        self._machine: Machine | None = None
        self._fit: Fit | None = None
        self._arrays: tuple[Any, Any] | None = None
        self._told_batch: int | None = None
        self._reduce: float | None = None
        self._began = 0.0
        self._epoch = self._offset = self._number = 0
        self._first_epoch, self._goes_on = True, 0

    @property
    def facts(self) -> dict[str, Any]:
        """What facts.json holds."""
        return self._watch.facts

    def tell_arrays(self, x: Any, y: Any, batch_size: int | None = None) -> None:
        """Say what arrays the data of the next `fit` are made of, where `fit` itself is given a stream.

        Args:
            x: The inputs.
            y: The labels.
            batch_size: Samples of one of fit's batches, where the stream does not tell.
        """
        self._arrays = (x, y)
        self._told_batch = batch_size

    # -- a fit begins ----------------------------------------------------------------------------

    def claims(self, fit: Fit) -> Mapping[str, Any]:
        self._fit = fit
        return {"columns": self.columns, "layers": self.layers}

    def sealed(self, step: InstalledStep) -> None:
        self._first_epoch, self._offset = True, 0
        self._goes_on = int(local(step.state.attempts))
        self._number = max(0, self._goes_on - 1)
        self._began, self._reduce = time.perf_counter(), None
        self._machine = self._machine or Machine()
        if not self._goes_on:
            self._watch.begin_anew()
        self._watch.begin_clock()
        self._learn(step)
        step.add_sink(self._new_rows)
        if self.layers is not None:
            step.add_layer_sink(self._new_layers)
        if self._files is not None:
            self._watch.recipe = self._files.recipe()

    def _learn(self, step: InstalledStep) -> None:
        """Facts of the fit, and of its layers as soon as they are built."""
        fit, self._fit = self._fit, None
        if fit is None:
            return
        facts = learnt.facts_of(self.model, fit, step.plan, step.state)
        arrays = self._arrays or ((fit.x, fit.y) if fit.reads_arrays else (None, None))
        if self._arrays is not None and facts["batch_size"] is None and self._told_batch:
            facts["batch_size"] = self._told_batch * step.plan.accumulate
        self._arrays = None
        self._watch.facts = facts | learnt.data_of(*arrays, fit.validation_data)
        self.facts["status"] = "running"
        self._write_facts()
        if not learnt.shapes_known(self.model):
            step.after_call.append(self._learn_layers)

    def _learn_layers(self) -> None:
        step = self.step
        step.after_call.remove(self._learn_layers)
        self.facts.update(learnt.layers_of(self.model, step.state))
        self._write_facts()

    def _write_facts(self) -> None:
        if self._files is not None:
            self._files.facts(self.facts)

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        self._epoch = epoch
        if not self._first_epoch:
            return
        # A further `fit` of the same model goes on after the epochs that are there. A run that is
        # resumed has put its count back since, and writes its epochs again from the one it is in.
        self._first_epoch = False
        resumed = int(local(self.step.state.attempts)) != self._goes_on
        if self._goes_on and not resumed:
            there = len(self._watch.epochs) if self._files is None else self._files.epochs_written
            self._offset = max(0, there - epoch)
        elif resumed and self._files is not None:
            self._watch.begin_anew()
            self._watch.know(self._files.read_before(int(local(self.step.state.attempts)), epoch))
        del self._watch.epochs[epoch + self._offset :]
        if self._files is not None:
            self._files.keep_epochs(epoch + self._offset)

    # -- while it runs ---------------------------------------------------------------------------

    def _new_rows(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        self._number = int(local(self.step.state.attempts)) - 1
        spike = self._watch.add_steps(columns, rows)
        system = self._system_row(columns, rows)
        self._watch.system.add(tuple(system), np.array([list(system.values())]))
        tagged = {
            f"system/{name}": value
            for name, value in system.items()
            if name not in ("step", "epoch") and value == value
        }
        if self._files is not None:
            self._files.steps(columns, rows)
            self._files.system(system, tagged)
        if self.loggers:
            newest = {
                f"step/{name}": float(value)
                for name, value in zip(columns, rows[-1], strict=True)
                if name != "step"
            }
            self._log(newest | tagged, self._number)
        if self.facts.get("first_bad") is None:
            self._note_bad_step(columns, rows)
        if spike:
            self._judge()

    def _new_layers(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        self._watch.layers.add(columns, rows)
        if self._files is not None:
            self._files.layers(columns, rows)

    def _system_row(self, columns: tuple[str, ...], rows: np.ndarray) -> dict[str, float]:
        step, none = self.step, float("nan")
        lap = step.lap
        timed = lap.steps > 0 and lap.seconds > 0
        samples = none
        if timed and "samples" in columns:
            samples = float(rows[-lap.steps :, columns.index("samples")].sum())
        if self._reduce is None:
            self._reduce = reduction.reduce_seconds(self.model) or none
        each = lap.seconds / lap.steps if timed else none
        machine = self._machine or Machine()
        return {
            "step": self._number,
            "epoch": self._epoch + self._offset,
            "seconds": time.perf_counter() - self._began,
            "samples_per_second": samples / lap.seconds if timed else none,
            "step_seconds": each,
            "data_wait": min(1.0, lap.waited / lap.seconds) if timed else none,
            "reduce_share": min(self._reduce / each, 1.0) if timed else none,
            **machine.read(),
        }

    def _note_bad_step(self, columns: tuple[str, ...], rows: np.ndarray) -> None:
        """Name the weight at which the fit first went bad; overflows of a loss scale are no fault."""
        if "overflow" in columns and not rows[:, columns.index("overflow")].any():
            return
        step, model = self.step, self.model
        number, place, loss_was_finite = noted = stopping.noted(step.state.first_bad)
        _, scaler = split_scaler(model.optimizer)
        if scaler is not None and loss_was_finite:
            if not step.stopped:
                return
            number, place, loss_was_finite = noted = stopping.noted(step.state.streak_bad)
        if number < 0:
            return
        weights = model.trainable_variables
        self.facts["first_bad"] = {
            "step": number,
            "weight": weights[place].path if 0 <= place < len(weights) else None,
            "loss_was_finite": bool(loss_was_finite),
            "words": stopping.bad_step_in_words(model, noted),
        }
        self._write_facts()

    def _judge(self, status: str = "running") -> None:
        changed = self._watch.look(status)
        self.findings = self._watch.findings
        if changed and self._files is not None:
            self._files.findings(self.findings)
        self._say()

    def _say(self) -> None:
        for finding in self._watch.unsaid():
            print(f"Monitor: {finding}")

    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        row = {name: float(value) for name, value in (logs or {}).items()}
        self._watch.epochs.append(row)
        tagged = {
            f"{'validation' if name.startswith('val_') else 'epoch'}/{name.removeprefix('val_')}": v
            for name, v in row.items()
        }
        if self._files is not None:
            self._files.epoch(row, tagged, epoch + self._offset)
        if self.loggers:
            self._log(tagged | {"epoch/number": float(epoch + self._offset)}, self._number)
        self._judge()

    # -- its end ---------------------------------------------------------------------------------

    def close(self) -> None:
        """Let go of the files; what was handed over is on disk."""
        if self._files is not None:
            self._files.close()

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        step = self.step
        super().on_train_end(logs)
        self.close()
        status = "stopped" if step.stopped else "finished"
        if step.stopped and self.facts.get("first_bad") is None:
            self._note_bad_step((), np.empty((0, 0)))
        if self._files is not None and self._watch.steps.every > 1:
            run = replace(read_run(self._files.path), state={"status": status})
        else:
            run = self._watch.run(status)
        self.findings = self._watch.findings = with_stop(
            diagnose(run, self._watch.rules), step.stopped
        )
        self.facts.update(status=status, reason=step.stopped)
        self._write_facts()
        if self._files is not None:
            self._files.findings(self.findings)
        self._say()


def found_in(folder: RunFolder, stopped: str | None) -> list[Finding]:
    """What the rules find in a run's files, and why it stopped, if it did."""
    return with_stop(diagnose(folder.path), stopped)


def with_stop(findings: list[Finding], stopped: str | None) -> list[Finding]:
    """The findings, with why the run stopped where none of them says that it was not finite."""
    if stopped and not any(f.rule == "not_finite" for f in findings):
        findings = [
            Finding(
                rule="not_finite",
                severity="error",
                evidence=stopped,
                cause="The data hold NaN or inf, or the learning rate is too high.",
                advice="Check the data first, then lower the learning rate tenfold.",
            ),
            *findings,
        ]
    return findings


def swa_values(history: keras.callbacks.History) -> dict[str, float]:
    """What SWA logged once, at the end: History's keys of one value that begin with swa_val_."""
    return {k: float(v[0]) for k, v in history.history.items() if k.startswith("swa_val_")}
