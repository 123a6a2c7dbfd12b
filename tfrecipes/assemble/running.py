"""`fit` by a recipe: data, model, callbacks, files, and how a run ends."""

import contextlib
import os
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic import precision as precisions
from tfrecipes.arithmetic.precision import Precision
from tfrecipes.assemble.compiling import (
    compile_model,
    model_precision,
    refuse_what_comes_later,
    step_callbacks,
)
from tfrecipes.assemble.facts import summary_of
from tfrecipes.callbacks.monitor import Monitor, found_in, swa_values
from tfrecipes.callbacks.progress import Progress
from tfrecipes.callbacks.resume import Preempted, Resume, position
from tfrecipes.doctor import checks
from tfrecipes.recipe import gallery
from tfrecipes.recipe.durations import Duration
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import Run, RunFolder, read_run
from tfrecipes.runs.restart import Restart, decide
from tfrecipes.step.installed import newest_row, step_of
from tfrecipes.training import devices
from tfrecipes.training.data import Understood, understand
from tfrecipes.training.inferred_loss import infer_loss, infer_metrics
from tfrecipes.training.prepared import Prepared, prepared
from tfrecipes.views.report import write_report
from tfrecipes.views.summary import print_summary


def fit(
    recipe: Recipe,
    model: Any,
    data: Any,
    validation_data: Any = None,
    epochs: int | None = None,
    loss: Any = None,
    metrics: Any = None,
    directory: str | os.PathLike[str] | RunFolder | None = None,
    callbacks: Sequence[keras.callbacks.Callback] = (),
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    steps_per_epoch: int | None = None,
    verbose: Any = "auto",
    resume: str = "auto",
    precision: Precision | None = None,
) -> keras.callbacks.History:
    """Train a model by a recipe; `Recipe.fit` has the arguments.

    `resume` is the command line's: "auto" goes on in a folder that the caller named, "never"
    refuses it, "must" requires it. In a folder that nobody named nothing is ever resumed.
    `precision` is what was chosen before the model was made, where it was made outside.
    """
    if epochs is not None:
        recipe = recipe.replace(**{"train.epochs": epochs})
    refuse_what_comes_later(recipe)
    given = understand(data, sample_weight)
    validation = _validation(validation_data)
    folder, restart = _folder(recipe, directory, resume)
    with contextlib.ExitStack() as stack:
        if not isinstance(directory, RunFolder):
            stack.callback(folder.close)
        stack.callback(folder.remove_if_unused)
        model, chosen = _made(recipe, model)
        precision = precision or chosen
        if restart is Restart.FINISHED:
            return _finished_already(folder, model)
        return _Run(recipe, model, given, validation, folder, restart, precision).train(
            loss=loss,
            metrics=metrics,
            callbacks=callbacks,
            class_weight=class_weight,
            steps_per_epoch=steps_per_epoch,
            verbose=verbose,
        )


def _folder(
    recipe: Recipe, directory: str | os.PathLike[str] | RunFolder | None, resume: str
) -> tuple[RunFolder, Restart]:
    if directory is None:
        decide(None, {}, resume)
        return RunFolder.fresh(recipe.name), Restart.BEGIN
    folder = directory if isinstance(directory, RunFolder) else RunFolder.open(directory)
    found: Run | None = read_run(folder.path) if folder.holds_run else None
    try:
        return folder, decide(found, tomllib.loads(gallery.show(recipe)), resume)
    except ValueError:
        folder.close()
        raise


def _made(recipe: Recipe, model: Any) -> tuple[keras.Model, Precision]:
    """The model, made under the recipe's seed, precision and strategy where it is a function."""
    if isinstance(model, keras.Model):
        return model, model_precision(recipe, model)
    if not callable(model):
        raise ValueError(
            "recipe.fit: `model` must be a Keras model or a function that makes one. "
            f"Received: model={model!r}."
        )
    with surroundings(recipe) as precision:
        made = model()
    if not isinstance(made, keras.Model):
        raise ValueError(
            "recipe.fit: the function must return a Keras model. "
            f"Received: {type(made).__name__} from {getattr(model, '__name__', model)!r}."
        )
    return made, precision


@contextlib.contextmanager
def surroundings(recipe: Recipe) -> Iterator[Precision]:
    """Seed, precision policy and strategy of a recipe, while a model is made."""
    before = keras.config.dtype_policy()
    keras.utils.set_random_seed(recipe.train.seed)
    if recipe.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    precision = precisions.set_precision(recipe.step.precision)
    strategy = devices.resolve(recipe.train.devices)
    try:
        with strategy.scope() if strategy is not None else contextlib.nullcontext():
            yield precision
    finally:
        keras.config.set_dtype_policy(before)


def _validation(validation_data: Any) -> Any:
    if validation_data is None:
        return None
    seen = understand(validation_data, where="validation_data")
    if seen.kind != "arrays":
        return validation_data
    checks.look_once(seen.x, seen.y, seen.sample_weight, where="validation_data")
    return validation_data


def _finished_already(folder: RunFolder, model: keras.Model) -> keras.callbacks.History:
    """Say that the run is over, and give back its model and History; no file is touched."""
    print(f"{folder.path}: this run is finished; nothing was changed.")
    run = read_run(folder.path)
    if folder.model_path.exists():
        trained = keras.saving.load_model(folder.model_path, compile=False)
        if not model.built and trained.built:
            model.build(trained.input_shape)
        model.set_weights(trained.get_weights())
    history = keras.callbacks.History()
    history.set_model(model)
    history.history = {name: [float(v) for v in values] for name, values in run.epochs.items()}
    history.epoch = list(range(len(next(iter(history.history.values()), []))))
    model.history = history
    return history


class _Run:
    """One training run of `fit`: what it is made of, in the order in which it is made."""

    def __init__(
        self,
        recipe: Recipe,
        model: keras.Model,
        given: Understood,
        validation: Any,
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

    def train(
        self,
        loss: Any,
        metrics: Any,
        callbacks: Sequence[keras.callbacks.Callback],
        class_weight: Mapping[int, float] | None,
        steps_per_epoch: int | None,
        verbose: Any,
    ) -> keras.callbacks.History:
        recipe, model, given = self.recipe, self.model, self.given
        self._build()
        loss, metrics, loss_reason = self._loss_and_metrics(loss, metrics)
        if given.kind == "arrays":
            self._look_once(loss)
        data = prepared(
            given,
            batch_size=recipe.train.batch_size,
            seed=recipe.train.seed,
            steps_per_epoch=steps_per_epoch,
            class_weight=class_weight,
            start=self._start_step,
        )
        total = data.steps_per_epoch * recipe.train.epochs
        compiled = compile_model(
            recipe,
            model,
            total,
            data.steps_per_epoch,
            loss,
            metrics,
            shapes_vary=data.shapes_vary,
        )
        ours, monitor, resume = self._callbacks(data, verbose)
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
        try:
            history = model.fit(
                data.source,
                epochs=recipe.train.epochs,
                shuffle=False,  # the order is ours, or the stream's own
                steps_per_epoch=data.steps_per_epoch if data.is_endless else None,
                validation_data=self.validation,
                validation_batch_size=self._validation_batch_size(),
                class_weight=data.class_weight,
                callbacks=[*ours, *callbacks],
                verbose=0,
            )
        except Preempted as stop:
            self._end("preempted", Preempted.CODE, str(stop), monitor)
            raise
        except BaseException as error:
            self._end("stopped", 1, f"{type(error).__name__}: {error}", monitor)
            raise
        stopped = step_of(model).stopped
        self._save_model()
        if swa := swa_values(history):
            self.folder.amend_last_epoch(swa)
        code = 4 if stopped else 1 if resume is not None and resume.last_save_failed else 0
        self._end("stopped" if stopped else "finished", code, stopped, monitor)
        return history

    # -- before ----------------------------------------------------------------------------------

    def _build(self) -> None:
        """Make the variables of a model that has none, so that the summary can count them."""
        if self.given.kind != "arrays" or self.model.built:
            return
        first = keras.tree.map_structure(lambda a: tf.convert_to_tensor(a[:1]), self.given.x)
        self.model(first)

    def _loss_and_metrics(self, loss: Any, metrics: Any) -> tuple[Any, Any, str]:
        labels = self._labels()
        reason = "given"
        if loss is None and labels is not None:
            loss, reason = infer_loss(labels, self.model)
        if metrics is None and labels is not None and loss is not None:
            metrics = infer_metrics(loss)
        return loss, metrics, reason

    def _labels(self) -> Any:
        """Labels to infer a loss from: all of them for arrays, one batch's for a stream."""
        if self.given.kind == "arrays":
            return self.given.y
        if self.given.kind == "generator":
            return None
        batch = next(iter(self.given.x)) if self.given.kind != "PyDataset" else self.given.x[0]
        if not isinstance(batch, (tuple, list)) or len(batch) < 2:
            return None
        return keras.tree.map_structure(np.asarray, batch[1])

    def _look_once(self, loss: Any) -> None:
        model = self.model
        checks.look_once(
            self.given.x,
            self.given.y,
            self.given.sample_weight,
            input_shapes=getattr(model, "input_shape", None) if model.built else None,
            output_shape=getattr(model, "output_shape", None) if model.built else None,
            loss=loss,
        )

    def _start_step(self, steps_per_epoch: int) -> int:
        if self.restart is not Restart.GO_ON or self.recipe.resume is None:
            return 0
        at = position(self.folder.checkpoints_path)
        return 0 if at is None else at[0] * steps_per_epoch + at[1]

    def _validation_batch_size(self) -> int | None:
        arrays = (
            self.validation is not None
            and understand(self.validation, where="validation_data").kind == "arrays"
        )
        return self.recipe.train.batch_size if arrays else None

    def _callbacks(
        self, data: Prepared, verbose: Any
    ) -> tuple[list[keras.callbacks.Callback], Monitor, Resume | None]:
        recipe = self.recipe
        monitor, resume = Monitor(self.folder), None
        found = [*step_callbacks(recipe), monitor]
        found += self._best_and_early_stopping()
        if recipe.resume is not None:
            resume = Resume(
                self.folder.checkpoints_path,
                recipe.resume.every,
                recipe.resume.keep,
                pull_skipped=not data.starts_where_told,
            )
            found.append(resume)
        if verbose != 0:
            found.append(Progress(source=newest_row))
        return found, monitor, resume

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

    # -- files -----------------------------------------------------------------------------------

    def _begin_files(self) -> None:
        self.folder.write_recipe(gallery.show(self.recipe))
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

    def _end(self, status: Any, code: int, reason: str | None, monitor: Monitor) -> None:
        folder = self.folder
        folder.write_state(status, len(self.model.history.epoch), code, reason)
        if status != "finished":
            monitor.close()
            folder.write_findings(found_in(folder, step_of(self.model).stopped))
        write_report(folder.path)
