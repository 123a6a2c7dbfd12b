"""One try of `find_batch_size`, in a process of its own: real steps of one micro-batch size."""

import contextlib
import pickle
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.assemble import compiling
from tfrecipes.assemble.beginning import surroundings
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.step import keras_seams
from tfrecipes.step.installed import compile_with, step_of
from tfrecipes.step.plan import StepPlan
from tfrecipes.training.data import batches, understand
from tfrecipes.training.inferred_loss import infer_loss, infer_metrics
from tfrecipes.training.targets import call_target, load_target
from tfrecipes.tuning import batch_children, batch_device, batch_folder

# The first step makes the optimizer's state, the second has it.
STEPS = 2


@dataclass(frozen=True)
class Way:
    """How a model is compiled, in a try and where its gradients are measured.

    Attributes:
        recipe: By which; None = the model's own compiled optimizer and loss.
        loss: Instead of the compiled or inferred one.
        batch_size: Samples a step.
        steps_per_epoch: Of the training that this is for.
    """

    recipe: Recipe | None
    loss: Any
    batch_size: int
    steps_per_epoch: int

    @property
    def total_steps(self) -> int:
        epochs = 1 if self.recipe is None else self.recipe.train.epochs
        return self.steps_per_epoch * epochs

    @property
    def seed(self) -> int:
        return 0 if self.recipe is None else self.recipe.train.seed

    def compile(
        self, model: keras.Model, y: Any, micro_batch: int | None, base: Any = None
    ) -> None:
        """Compile a model so that its steps are cut into such micro-batches.

        Args:
            model: The model.
            y: Labels, from which the loss is told where there is none.
            micro_batch: Samples; None = a step is one pass.
            base: The plan that a recipe compiled it with before, where it keeps its own state.
        """
        if self.recipe is None:
            if self.loss is not None:
                model.compile(optimizer=model.optimizer, loss=self.loss)
            plan = base or StepPlan()
            compile_with(model, replace(plan, micro_batch=micro_batch, micro_batches=1))
            return
        loss = infer_loss(y, model)[0] if self.loss is None else self.loss
        compiling.compile_model(
            self.cut(micro_batch),
            model,
            self.total_steps,
            self.steps_per_epoch,
            loss,
            None if loss is None else infer_metrics(loss),
        )

    def cut(self, micro_batch: int | None) -> Any:
        """The recipe with steps of such micro-batches."""
        changes = {"step.gradient_accumulation_steps": 1, "step.micro_batch": micro_batch}
        return None if self.recipe is None else self.recipe.replace(**changes)


def rows_of_step(size: int, batch_size: int, samples: int | None) -> int:
    """Samples of a try's step: the batch that is trained on, and at least two micro-batches.

    The sums of a step that is cut, and the rows that wait for their turn, take memory too.

    Example:
        >>> rows_of_step(8, 64, None), rows_of_step(64, 64, None), rows_of_step(64, 64, 100)
        (64, 128, 100)
    """
    rows = max(batch_size, 2 * size)
    return rows if samples is None else min(rows, samples)


def train(folder: Path, size: int) -> dict[str, Any]:
    """Make the model and train it for two steps, as `recipe.fit` would, checkpoint included.

    Args:
        folder: What `batch_folder.write` wrote is in it; the run's files go there too.
        size: Samples of a micro-batch.

    Returns:
        For the answer: `device_peak` [bytes] on a GPU.
    """
    given = batch_folder.read(folder)
    if given["on_gpu"]:
        batch_device.limit_device(given["device_limit"])
    recipe = None if given["recipe"] is None else Recipe.from_dict(given["recipe"])
    loss = pickle.loads(given["loss"])
    way = Way(recipe, loss, given["batch_size"], given["steps_per_epoch"])
    with contextlib.nullcontext() if recipe is None else surroundings(recipe):
        model, data = _brought(given, folder, recipe is None)
    if not model.built:
        model(keras.tree.map_structure(lambda leaf: leaf[:1], given["rows"][0]))
    own_step = keras_seams.has_own_train_step(model)
    rows = size if own_step else rows_of_step(size, way.batch_size, given["samples"])
    source = _source(given, data, rows)
    way.compile(model, given["rows"][1], size, step_of(model).base)
    cut = way.cut(size)
    # What another try left there would be resumed, and nothing trained.
    run = folder / "run"
    if run.exists():
        shutil.rmtree(run)
    extra: list[Any] = [] if cut is None else compiling.callbacks(cut, run)
    batch_children.begin(folder)
    # Keras's types know its defaults alone.
    arguments: dict[str, Any] = {"verbose": 0, "shuffle": False}
    model.fit(source, steps_per_epoch=STEPS, epochs=1, callbacks=extra, **arguments)
    return {"device_peak": batch_device.device_peak()} if given["on_gpu"] else {}


def _brought(given: dict[str, Any], folder: Path, compiled: bool) -> tuple[keras.Model, Any]:
    """The model; and a target's own data where they are what is trained on."""
    source = given["model"]
    if source["kind"] == "target" and given["held"] == "target":
        made = call_target(load_target(source["words"]), source["words"])
        return made.model, made.data
    return batch_folder.model_from(source, folder, compiled), None


def _source(given: dict[str, Any], data: Any, rows: int) -> tf.data.Dataset:
    """Endless batches of so many rows, in the memory that the real data take."""
    if given["held"] == "stream":
        few = tuple(part for part in given["rows"] if part is not None)
        count = len(keras.tree.flatten(few)[0])
        with tf.device("CPU:0"):
            few = keras.tree.lists_to_tuples(keras.tree.map_structure(tf.constant, few))
        taken = tf.range(rows) % count
        dataset = tf.data.Dataset.counter().map(
            lambda _: keras.tree.map_structure(lambda leaf: tf.gather(leaf, taken), few)
        )
        return dataset.prefetch(2)
    if data is not None:
        held = understand(data)
        x, y, weight = held.x, held.y, held.sample_weight
    else:
        x, y, weight = (batch_folder.repeated(part, given["samples"]) for part in given["rows"])
    return batches(x, y, weight, batch_size=rows, seed=0).dataset
