"""What a plan may not be on a given model, said in one sentence before anything is built."""

from dataclasses import replace

import keras

from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import Fit
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.state import RING_ROWS
from tfrecipes.step.update import PureOptimizer, split_scaler


def accepted(model: keras.Model, plan: StepPlan, fit: Fit | None) -> StepPlan:
    """The plan as this model can have it.

    Raises:
        ValueError: If a part of it would be wrong on this model.
    """
    if model.optimizer is None:
        raise ValueError(
            "TrainStep: the model has no optimizer. Received: optimizer=None. "
            "Pass one to `model.compile`."
        )
    _refuse_doubled_features(model)
    _refuse_xla_on_a_split_cpu(model)
    if plan.columns and model.steps_per_execution > RING_ROWS:
        raise ValueError(
            f"Monitor: keeps the rows of {RING_ROWS:,} steps between two looks. Received: "
            f"steps_per_execution={model.steps_per_execution}. Compile with fewer."
        )
    if fit is not None:
        _refuse_in_fit(model, plan, fit)
    if keras_seams.has_own_train_step(model):
        return _for_own_train_step(model, plan)
    return plan


def _refuse_doubled_features(model: keras.Model) -> None:
    inner, _ = split_scaler(model.optimizer)
    name = type(inner).__name__
    if inner.use_ema:
        raise ValueError(
            f"{name}: `use_ema` would be overwritten and restored beside the step's own average. "
            "Received: use_ema=True. Leave it out and use `tfr.EMA()`."
        )
    if inner.gradient_accumulation_steps:
        raise ValueError(
            f"{name}: accumulates by itself, with equal weights for unequal batches. Received: "
            f"gradient_accumulation_steps={inner.gradient_accumulation_steps}. Leave it out and "
            "use `tfr.GradientAccumulation(steps)`."
        )
    if isinstance(inner, keras.optimizers.ScheduleFreeAdamW):
        raise ValueError(
            "ScheduleFreeAdamW: the model holds the point at which it takes gradients, not the "
            "average that the method is about, in evaluation and after `fit` too. Received: "
            f"optimizer={inner.name!r}. Use `tfr.AdamW` with `tfr.EMA()`."
        )


def _refuse_xla_on_a_split_cpu(model: keras.Model) -> None:
    strategy = model.distribute_strategy
    replicas = strategy.num_replicas_in_sync
    if replicas == 1 or not model.jit_compile:
        return  # the default strategy has no list of devices
    if any("CPU" in device for device in strategy.extended.worker_devices):
        raise ValueError(
            "TrainStep: XLA does not compile a step over several devices of a CPU. Received: "
            f"jit_compile=True on {replicas} replicas. Compile with jit_compile=False."
        )


def _refuse_in_fit(model: keras.Model, plan: StepPlan, fit: Fit) -> None:
    inner, _ = split_scaler(model.optimizer)
    schedule = keras_seams.schedule(inner)
    for callback in fit.callbacks.callbacks:
        if schedule is not None and isinstance(
            callback,
            (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau),
        ):
            raise ValueError(
                f"{type(callback).__name__}: sets the learning rate, and the optimizer's is a "
                f"schedule. Received: learning_rate={type(schedule).__name__}. Leave the callback "
                "out, or compile with a number."
            )
    if plan.accumulate > 1 and fit.steps_were_given and fit.data_are_finite:
        raise ValueError(
            "GradientAccumulation: `steps_per_epoch` counts updates, and these data have an end. "
            f"Received: steps_per_epoch={fit.steps}. Leave it out: an epoch is then all the data, "
            "the last partial window included."
        )
    if plan.average is None or not plan.average.shown_in_epochs:
        return
    for callback in fit.callbacks.callbacks:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise ValueError(
                "BackupAndRestore: would save the average and go on from it as raw weights. "
                "Received: it beside an average. Use `tfr.Resume(directory)`."
            )
        if isinstance(callback, keras.callbacks.ModelCheckpoint) and callback.save_freq != "epoch":
            raise ValueError(
                "ModelCheckpoint: inside an epoch the model holds the raw weights, not the "
                f"average. Received: save_freq={callback.save_freq!r}. Use save_freq='epoch'."
            )


def _for_own_train_step(model: keras.Model, plan: StepPlan) -> StepPlan:
    name = type(model).__name__
    if plan.accumulate > 1:
        raise ValueError(
            f"GradientAccumulation: {name} has its own `train_step`, which takes one batch and "
            f"updates. Received: steps={plan.accumulate}. Use larger batches, or move the loss "
            "into `compute_loss` and drop the `train_step`."
        )
    wrapped = isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    ours = isinstance(split_scaler(model.optimizer)[0], PureOptimizer) and not (
        wrapped and type(model.optimizer) is keras.optimizers.LossScaleOptimizer
    )
    works = ["averages"]
    lost = [
        words
        for words, there in (
            ("micro-batches", plan.micro_batch is not None or plan.micro_batches > 1),
            ("columns of each step", bool(plan.columns)),
            ("the recipe's label smoothing", plan.label_smoothing > 0),
        )
        if there
    ]
    # Keras's optimizers clip and decay as Keras does it, and skip nothing.
    (works if ours else lost).append("the skip of steps that are not finite")
    if ours:
        works.append("clipping and decay rules")
    without = f"; {', '.join(lost)} do not reach it" if lost else ""
    print(f"{name} has its own train_step and keeps it: {', '.join(works)} work{without}.")
    return replace(
        plan, micro_batch=None, micro_batches=1, columns=(), layers=None, label_smoothing=0.0
    )
