"""`fit` by a recipe: data, model, callbacks, files, and how a run ends."""

import contextlib
import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import keras

from tfrecipes.arithmetic.precision import Precision
from tfrecipes.assemble.beginning import (
    Batch,
    finished_run,
    first_batch,
    look_at,
    made,
    open_folder,
    refuse_differing,
    shown_again,
)
from tfrecipes.assemble.compiling import (
    compile_model,
    refuse_what_comes_later,
    resume_callback,
    step_callbacks,
)
from tfrecipes.assemble.facts import summary_of
from tfrecipes.assemble.sweeping import RATE, rate_for_run, refuse_generator
from tfrecipes.callbacks.monitor import Monitor, found_in, swa_values
from tfrecipes.callbacks.progress import Progress
from tfrecipes.callbacks.resume import Preempted, Resume, position
from tfrecipes.recipe import gallery
from tfrecipes.recipe.durations import Duration
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import RunFolder, Status
from tfrecipes.runs.reading import SWEEP, read_run
from tfrecipes.runs.restart import Restart
from tfrecipes.step.installed import newest_row, step_of
from tfrecipes.training import devices
from tfrecipes.training.data import Understood, understand
from tfrecipes.training.inferred_loss import infer_loss, infer_metrics
from tfrecipes.training.prepared import Prepared, prepared
from tfrecipes.tuning.lr_finder import FoundRate
from tfrecipes.views.report import write_report
from tfrecipes.views.summary import print_summary


class Outcome(NamedTuple):
    """How a run ended.

    Attributes:
        history: Keras's.
        code: The exit code of DESIGN: 0, 4 not finite, 1 where the last checkpoint failed.
    """

    history: keras.callbacks.History
    code: int


def fit(recipe: Recipe, model: Any, data: Any, **arguments: Any) -> keras.callbacks.History:
    """Train a model by a recipe; `Recipe.fit` has the arguments."""
    return run(recipe, model, data, **arguments).history


def run(
    recipe: Recipe,
    model: Any,
    data: Any,
    validation_data: Any = None,
    epochs: int | None = None,
    loss: Any = None,
    metrics: Any = None,
    directory: str | os.PathLike[str] | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    steps_per_epoch: int | None = None,
    verbose: Any = "auto",
    resume: str = "auto",
    precision: Precision | None = None,
    report: bool = True,
) -> Outcome:
    """Train a model by a recipe, as the command line does.

    `resume` is the command line's: "auto" goes on in a folder that the caller named, "never"
    refuses it, "must" requires it. In a folder that nobody named nothing is ever resumed.
    `precision` is what was chosen before the model was made, where it was made outside. Without
    `report` the page is left for `tfrecipes report` to write: it takes a second, of many runs each.
    """
    if epochs is not None:
        recipe = recipe.replace(**{"train.epochs": epochs})
    refuse_what_comes_later(recipe)
    given = understand(data, sample_weight)
    if recipe.schedule.peak_learning_rate == "find":
        refuse_generator(given, "recipe.fit", "with schedule.peak_learning_rate='find' ")
    validation = (
        None if validation_data is None else understand(validation_data, where="validation_data")
    )
    if over := finished_run(directory):
        refuse_differing(recipe, over, resume)
        model, _ = made(recipe, model, precision)
        if not model.built:
            model(first_batch(given)[1][0])
        print(f"{directory}: this run is finished; nothing was changed.")
        return Outcome(shown_again(over, model), 0)
    folder, restart = open_folder(recipe, directory, resume)
    with contextlib.ExitStack() as stack:
        stack.callback(folder.close)
        stack.callback(folder.remove_if_unused)
        model, precision = made(recipe, model, precision)
        one = _Run(recipe, model, given, validation, folder, restart, precision)
        one.report = report
        return one.train(
            validation_data, loss, metrics, callbacks, class_weight, steps_per_epoch, verbose
        )


class _Run:
    """One training run of `fit`: what it is made of, in the order in which it is made."""

    def __init__(
        self,
        recipe: Recipe,
        model: keras.Model,
        given: Understood,
        validation: Understood | None,
        folder: RunFolder,
        restart: Restart,
        precision: Precision,
    ) -> None:
        self.recipe = recipe
        self.model = model
        self.given = given
        self.validation = validation
        self.folder = folder
        self.restart = restart
        self.precision = precision
        self.notes: list[str] = []
        self.report = True
        self.why: dict[str, str] = {}  # reasons in recipe.toml, by key
        self.found: FoundRate | None = None

    def train(
        self,
        validation_data: Any,
        loss: Any,
        metrics: Any,
        callbacks: Sequence[keras.callbacks.Callback],
        class_weight: Mapping[int, float] | None,
        steps_per_epoch: int | None,
        verbose: Any,
    ) -> Outcome:
        model = self.model
        if not model.built:
            # Its variables, so that the summary can count them.
            model(self._first_batch[0])
        loss, metrics, loss_reason = self._loss_and_metrics(loss, metrics)
        look_at(self.given, model, loss)
        if self.validation is not None:
            look_at(self.validation, model, loss, "validation_data")
        data = self._prepared(class_weight, steps_per_epoch)
        if self.recipe.schedule.peak_learning_rate == "find":
            if self.restart is Restart.GO_ON:
                self.recipe = self.recipe.replace(**{RATE: self._known_rate()})
            else:
                self.found, self.recipe, notes = rate_for_run(
                    self.recipe, model, self.given, loss, class_weight, steps_per_epoch, verbose
                )
                self.why[RATE] = self.found.reason
                self.notes += notes
        recipe = self.recipe
        compiled = compile_model(
            recipe,
            model,
            data.steps_per_epoch * recipe.train.epochs,
            data.steps_per_epoch,
            loss,
            metrics,
            shapes_vary=data.shapes_vary,
        )
        monitor, resume = Monitor(self.folder), self._resume(data)
        if self.given.kind == "arrays":
            monitor.tell_arrays(self.given.x, self.given.y, data.batch_size)
        progress = None if verbose == 0 else Progress(source=newest_row)
        ours = [
            one
            for one in (
                *step_callbacks(recipe),
                monitor,
                *self._best_and_early_stopping(),
                resume,
                progress,
            )
            if one is not None
        ]
        self._begin_files()
        if verbose != 0:
            print_summary(
                summary_of(
                    recipe,
                    model,
                    data,
                    compiled,
                    self.precision,
                    loss_reason,
                    folder=self.folder.path,
                    notes=self.notes,
                )
            )
        # Keras's types know its defaults alone.
        arguments: dict[str, Any] = {"verbose": 0}
        if self.validation is not None and self.validation.kind == "arrays":
            arguments["validation_batch_size"] = recipe.train.batch_size
        try:
            history = model.fit(
                data.source,
                epochs=recipe.train.epochs,
                shuffle=False,  # the order is ours, or the stream's own
                steps_per_epoch=data.steps_per_epoch if data.is_endless else None,
                validation_data=validation_data,
                callbacks=[*ours, *callbacks],
                **arguments,
            )
        except BaseException as error:
            self._broken_off(error, monitor, resume, progress)
            raise
        return self._ended(history, monitor, resume, verbose)

    # -- before ----------------------------------------------------------------------------------

    @functools.cached_property
    def _first_batch(self) -> Batch:
        self.given, batch = first_batch(self.given)
        return batch

    def _loss_and_metrics(self, loss: Any, metrics: Any) -> tuple[Any, Any, str | None]:
        reason = None
        if loss is None:
            loss, reason = infer_loss(self._first_batch[1], self.model)
        if metrics is None and loss is not None:
            metrics = infer_metrics(loss)
        return loss, metrics, reason

    def _prepared(
        self, class_weight: Mapping[int, float] | None, steps_per_epoch: int | None
    ) -> Prepared:
        return prepared(
            self.given,
            batch_size=self.recipe.train.batch_size,
            seed=self.recipe.train.seed,
            steps_per_epoch=steps_per_epoch,
            class_weight=class_weight,
            start=self._start_step,
        )

    def _known_rate(self) -> float:
        """What was found before the run in the folder began."""
        if (self.folder.path / SWEEP).exists():
            self.why[RATE] = f"found by sweeps before the run began, see {SWEEP}"
        return (read_run(self.folder.path).recipe or {})["schedule"]["peak_learning_rate"]

    def _start_step(self, steps_per_epoch: int) -> int:
        if self.restart is not Restart.GO_ON or self.recipe.resume is None:
            return 0
        at = position(self.folder.checkpoints_path)
        return 0 if at is None else at[0] * steps_per_epoch + at[1]

    def _resume(self, data: Prepared) -> Resume | None:
        return resume_callback(self.recipe, self.folder, pull_skipped=not data.starts_where_told)

    def _best_and_early_stopping(self) -> list[keras.callbacks.Callback]:
        train = self.recipe.train
        found: list[keras.callbacks.Callback] = []
        wanted = [
            w for w, on in (("best", train.best), ("early_stopping", train.early_stopping)) if on
        ]
        if wanted and self.validation is None:
            self.notes.append(f"{' and '.join(wanted)} off: there are no validation data.")
            return []
        if train.best is not None:
            found.append(
                keras.callbacks.ModelCheckpoint(
                    str(self.folder.best_path), monitor=train.best, save_best_only=True
                )
            )
        if train.early_stopping is not None:
            patience = Duration.parse(train.early_stopping)
            if patience.unit != "ep":
                raise ValueError(
                    "train.early_stopping: must be in epochs. "
                    f"Received: {train.early_stopping!r}. Write '5ep'."
                )
            found.append(
                keras.callbacks.EarlyStopping(
                    monitor=train.best or "val_loss", patience=max(1, round(patience.amount))
                )
            )
        return found

    # -- after -----------------------------------------------------------------------------------

    def _broken_off(
        self,
        error: BaseException,
        monitor: Monitor,
        resume: Resume | None,
        progress: Progress | None,
    ) -> None:
        """Keras told no callback that training is over: files and signals are put right here."""
        if progress is not None:
            progress.close()
        if resume is not None:
            resume.release()
        step_of(self.model).finished()
        monitor.close()
        if isinstance(error, Preempted):
            error.run_folder = self.folder.path
            status, code, reason = "preempted", Preempted.CODE, str(error)
        else:
            status, code, reason = (
                "stopped",
                1,
                f"{type(error).__name__}: {error}".removesuffix(": "),
            )
        try:
            self._end(status, code, reason)
        except (RunWriteError, OSError) as unwritten:
            # What is raised is why training ended, not this.
            print(f"{self.folder.path}: the end of the run could not be written. {unwritten}")

    def _ended(
        self,
        history: keras.callbacks.History,
        monitor: Monitor,
        resume: Resume | None,
        verbose: Any,
    ) -> Outcome:
        stopped = step_of(self.model).stopped
        self._save_model()
        if swa := swa_values(history):
            self.folder.amend_last_epoch(swa)
        code = 4 if stopped else 1 if resume is not None and resume.last_save_failed else 0
        self._end("stopped" if stopped else "finished", code, stopped)
        if verbose != 0:
            for finding in monitor.findings:
                if finding.severity == "info":  # the monitor told of the others as it found them
                    print(finding)
            print(f"Model       {self.folder.model_path}")
            print(f"Report      {self.folder.report_path}")
        return Outcome(history, code)

    def _begin_files(self) -> None:
        self.folder.write_recipe(gallery.show(self.recipe, self.why))
        if self.found is not None:
            self.folder.write_sweep(self.found.as_dict())
            self.found.plot(self.folder.sweep_plot_path)
        self.folder.write_environment(
            devices.describe()["accelerators"],
            cpus=devices.describe()["cpus"],
            precision=self.precision.policy,
            precision_reason=self.precision.reason,
        )
        self.folder.write_state("running", 0)

    def _save_model(self) -> None:
        partial = self.folder.path / "model.partial.keras"
        try:
            self.model.save(partial)
            os.replace(partial, self.folder.model_path)
        except OSError as error:
            partial.unlink(missing_ok=True)
            raise RunWriteError(self.folder.model_path, error) from error

    def _end(self, status: Status, code: int, reason: str | None) -> None:
        folder = self.folder
        history = getattr(self.model, "history", None)  # without epochs where `fit` was refused
        folder.write_state(status, len(getattr(history, "epoch", ())), code, reason)
        if status != "finished":
            folder.write_findings(found_in(folder, step_of(self.model).stopped))
        if self.report:
            write_report(folder.path)
