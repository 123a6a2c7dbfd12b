"""Find the batch: the largest micro-batch that fits, and how many samples a step can use."""

import contextlib
import math
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic.precision import accelerators
from tfrecipes.assemble.batch_noise import batch_to_take, measure, steps_before
from tfrecipes.assemble.batch_trial import Way
from tfrecipes.assemble.batch_tries import Now, nothing_fits, try_sizes
from tfrecipes.assemble.batch_wanted import TRY_SECONDS, Wanted
from tfrecipes.assemble.beginning import made, surroundings
from tfrecipes.assemble.command import brought
from tfrecipes.assemble.compiling import refuse_what_comes_later
from tfrecipes.demo import digits
from tfrecipes.doctor.sampled import Sampled, sampled
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.step import keras_seams
from tfrecipes.training.data import understand
from tfrecipes.tuning import batch_device, batch_folder
from tfrecipes.tuning.batch_limits import limit_of
from tfrecipes.tuning.batch_result import BatchSize
from tfrecipes.tuning.batch_search import found as answer_of
from tfrecipes.views.live import Display, Moment, choose_display

BATCH_SIZE = 32  # Keras's own, where no recipe says
# Without a recipe nobody knows how long training is.
_UNKNOWN_STEPS = 1000


def find_batch_size(
    model: Any,
    data: Any,
    recipe: Recipe | str | os.PathLike[str] | None = None,
    *,
    memory: int | str | None = None,
    loss: Any = None,
    batch_size: int | None = None,
    start: int | None = None,
    largest: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    try_seconds: float = TRY_SECONDS,
    verbose: Any = "auto",
) -> BatchSize:
    """Find the largest micro-batch that fits, and estimate the critical batch size.

    **What fits** is tried, size by size, each in a process of its own that makes the model, fills
    a batch from the data and trains two steps of at least two micro-batches with the recipe's own
    optimizer, precision, clipping, averages and checkpoint. A try that is out of memory, or is
    killed, is an answer; any other failure is raised. Sizes are doubled, then the gap is halved;
    the answer is always a try that was measured.

    On a CPU `memory` bounds the resident memory of the whole process at its peak: Python,
    TensorFlow (about 0.8 GB), arrays with the copies that training makes of them, model and step.
    On a GPU it bounds what TensorFlow takes of the device; None is the device's own limit.

    **The critical batch** is estimated by the gradient noise scale tr(Sigma) / |G|^2 at the start
    and after a short training; see `tfrecipes.tuning.noise_scale`.

    Model, optimizer and random numbers are afterwards as they were, bit for bit; a model that was
    not built is built.

    Args:
        model: A Keras model, or a function that makes one. The children import the function where
            they can; else they load the model from its saved form.
        data: What `fit` takes, but no generator, which can be read once.
        recipe: A recipe, its name or path. None = the model's own compiled optimizer and loss, or
            the recipe `default` where it is not compiled.
        memory: Bytes, or words such as "2GB" or "1.5 GiB". Required on a CPU.
        loss: What `compile` takes; None = the compiled or inferred one.
        batch_size: Samples a step as you would train now; None = the recipe's, or the data's own.
        start: The first size to try; None = `batch_size`.
        largest: No larger micro-batch is tried; None = the number of samples.
        steps: Of the short training before the second measurement; 0 = measure at the start alone.
            None = a tenth of the training, at most 100.
        seed: Which samples are measured; None = the recipe's.
        try_seconds: After which a try counts as hung [s].
        verbose: 0 shows no progress.

    Returns:
        `.micro_batch`, `.critical_batch`, `.interval`, `.batch_size` (what to set), `.changes` (for
        `recipe.replace`), `.tries`, `.points`, `.plot(path)`; printed, it says what to do.

    Raises:
        ValueError: If an argument is out of range, model and data cannot be trained, there is no
            `memory` on a CPU, or nothing fits.
        RuntimeError: If a try fails for another reason than memory; with its own last words.

    Example:
        >>> import numpy as np, tfrecipes as tfr
        >>> x = np.zeros((64, 4), "float32")
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
        >>> tfr.find_batch_size(model, (x, np.zeros(64, "int32")), "tiny")
        Traceback (most recent call last):
        ValueError: find_batch_size: on a CPU `memory` must say what the whole process may take at its peak. Received: memory=None. Give bytes or words such as "2GB".

    References:
        McCandlish et al., An Empirical Model of Large-Batch Training, 2018.
        https://arxiv.org/abs/1812.06162
    """
    if isinstance(recipe, (str, os.PathLike)):
        recipe = Recipe.load(recipe)
    display = None if verbose == 0 else choose_display()
    wanted = Wanted(memory, loss, batch_size, start, largest, steps, seed, try_seconds)
    return find(model, data, recipe, wanted, display)


def find_batch_for_target(
    recipe: Recipe,
    target: str | None = None,
    data: Path | None = None,
    verbose: Any = "auto",
    **wanted: Any,
) -> BatchSize:
    """Find the batch for a target of the command line, or for the demo.

    Progress is shown on standard error, so that what is printed is the result alone.

    Args:
        recipe: The recipe, with what the command line changed in it.
        target: `package.module:function` or `path/file.py:function`; None = the demo.
        data: An .npz file; None = the target's or the demo's data.
        verbose: 0 shows no progress.
        **wanted: `memory`, `start`, `largest`, `steps`, `try_seconds`, as above.

    Raises:
        ValueError: For input that cannot be used, one sentence.
    """
    checked = Wanted(**wanted)
    # Before anything is made: else this process would take the GPU from its children.
    batch_device.share_devices()
    with surroundings(recipe):
        model, training, _ = brought(recipe, target, data)
    source = {"kind": "target", "words": target}
    if target is None:
        source = {"kind": "function", "module": digits.__name__, "name": digits.model.__name__}
    return find(
        model,
        training,
        recipe,
        checked,
        None if verbose == 0 else choose_display(sys.stderr),
        source,
        data_of_target=target is not None and data is None,
    )


def find(
    model: Any,
    data: Any,
    recipe: Recipe | None,
    wanted: Wanted,
    display: Display | None,
    source: dict[str, Any] | None = None,
    data_of_target: bool = False,
) -> BatchSize:
    """Find both, for whoever has a display and perhaps words for the model.

    Args:
        model: As `find_batch_size` has it.
        data: The same.
        recipe: The same, loaded.
        wanted: The other arguments.
        display: Where progress is shown; closed at the end.
        source: How the children make the model, as `batch_folder` has it; None = by the model.
        data_of_target: Whether the data come from the target that the source names.
    """
    with contextlib.ExitStack() as stack:
        if display is not None:
            stack.callback(display.close)
        stack.enter_context(keras_seams.kept_randomness())
        if os.environ.get(batch_folder.TRYING):
            raise ValueError(
                "find_batch_size: was called while a try made the model: the script looks for its "
                "batch when it is imported. Received: a call inside a try. Put the call under "
                'if __name__ == "__main__":'
            )
        on_gpu = _on_gpu(recipe)
        limit = limit_of(wanted.memory, on_gpu)
        rate_is_open = False
        if recipe is not None:
            refuse_what_comes_later(recipe)
            rate_is_open = recipe.schedule.peak_learning_rate == "find"
            # How large it is decides no memory; gradients are then measured at the start alone.
            if rate_is_open:
                recipe = recipe.replace(**{"schedule.peak_learning_rate": 1e-3})
        sample = _sampled(data)
        net, recipe = _made(model, recipe, sample)
        way = _way(recipe, wanted, data, sample)
        # Gone before gradients are measured: where a signal ends that, nobody would remove it.
        with batch_folder.temporary_folder() as folder:
            source = source or _source(model, net, folder)
            held = "stream" if sample.kind != "arrays" or on_gpu else "arrays"
            batch_folder.write(
                folder,
                model=source,
                held="target" if data_of_target and held == "arrays" else held,
                rows=batch_folder.some_rows(sample),
                samples=sample.rows if sample.kind == "arrays" else None,
                recipe=None if recipe is None else recipe.as_dict(),
                loss=batch_folder.packed_loss(wanted.loss),
                batch_size=way.batch_size,
                steps_per_epoch=way.steps_per_epoch,
                on_gpu=on_gpu,
                device_limit=limit if on_gpu else None,
            )
            tries = try_sizes(folder, way, sample, wanted, limit, on_gpu, display)
        best, _ = answer_of(tries)
        if best is None:
            raise nothing_fits(tries, limit)
        shown = Now(display)
        noise = measure(
            net,
            sample,
            way,
            micro_batch=best.size,
            steps=_steps(wanted, way, rate_is_open),
            seed=wanted.seed if wanted.seed is not None else way.seed,
            tick=lambda what, done, of: shown(Moment(what, done, of, ())),
        )
        if rate_is_open:
            noise.notes.append(
                "the rate is to be found first: gradients were measured at the start alone."
            )
        samples = sample.rows if sample.kind == "arrays" else None
        size = batch_to_take(noise, way.batch_size, samples)
        cannot_be_cut = keras_seams.has_own_train_step(net)
        last = noise.points[-1] if noise.points else {}
        return BatchSize(
            micro_batch=best.size,
            critical_batch=last.get("critical_batch", math.nan),
            interval=(last.get("low", math.nan), last.get("high", math.nan)),
            batch_size=min(size, best.size) if cannot_be_cut else size,
            points=noise.points,
            tries=[asdict(one) for one in tries],
            memory=limit,
            given_batch=way.batch_size,
            is_stream=samples is None,
            notes=tuple(noise.notes),
        )


def _steps(wanted: Wanted, way: Way, rate_is_open: bool) -> int:
    if rate_is_open:
        return 0
    return steps_before(way) if wanted.steps is None else wanted.steps


# -- before ----------------------------------------------------------------------------------------


def _on_gpu(recipe: Recipe | None) -> bool:
    return bool(accelerators()) and (recipe is None or recipe.train.devices != "cpu")


def _sampled(data: Any) -> Sampled:
    if understand(data).kind == "generator":
        raise ValueError(
            "find_batch_size: data must be readable more than once. Received: a generator. Give "
            "arrays, a tf.data.Dataset, a PyDataset or a DataLoader."
        )
    sample = sampled(data)
    if sample.rows == 0:
        raise ValueError("data: there must be samples. Received: arrays with 0 rows.")
    return sample


def _made(model: Any, recipe: Recipe | None, sample: Sampled) -> tuple[keras.Model, Recipe | None]:
    """The model, built; and the recipe to compile it by, None = its own compiled state."""
    net = model() if recipe is None and _makes_one(model) else model
    if recipe is not None or not _is_compiled(net):
        recipe = recipe or Recipe.load("default")
        net, _ = made(recipe, model if net is model else net, None)
    if not net.built:
        net(keras.tree.map_structure(tf.convert_to_tensor, sample.take(np.arange(1))[0]))
    if net.distribute_strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "find_batch_size: a micro-batch is what one replica takes at once, and is found on "
            f"one. Received: a model on {net.distribute_strategy.num_replicas_in_sync} replicas. "
            "Pass one that was made outside the strategy."
        )
    return net, recipe


def _makes_one(model: Any) -> bool:
    return callable(model) and not isinstance(model, keras.Model)


def _is_compiled(model: Any) -> bool:
    return isinstance(model, keras.Model) and getattr(model, "optimizer", None) is not None


def _way(recipe: Recipe | None, wanted: Wanted, data: Any, sample: Sampled) -> Way:
    size = wanted.batch_size or sample.batch_size
    size = size or (BATCH_SIZE if recipe is None else recipe.train.batch_size)
    if sample.kind == "arrays":
        size = min(size, sample.rows)
        steps = -(-sample.rows // size)
    else:
        steps = understand(data).steps or _UNKNOWN_STEPS
    return Way(recipe, wanted.loss, size, steps)


def _source(model: Any, net: keras.Model, folder: Path) -> dict[str, Any]:
    by_name = batch_folder.source_of_function(model) if _makes_one(model) else None
    return by_name or batch_folder.source_of_model(net, folder)
