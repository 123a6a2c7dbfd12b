"""Why a run stops for good: what the device counted, in words."""

import keras

from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import local
from tfrecipes.step.state import StepState
from tfrecipes.step.update import split_scaler


def bad_step_in_words(model: keras.Model, noted: tuple[int, int, int]) -> str:
    """Where a step went bad.

    Args:
        model: The model.
        noted: As `StepState.first_bad`.

    Returns:
        "`grad_norm` became non-finite at step 1203 (first: block3/conv2/kernel)".
    """
    step, place, loss_was_finite = noted
    weights = model.trainable_variables
    first = f" (first: {weights[place].path})" if 0 <= place < len(weights) else ""
    # A loss that is not finite makes every gradient so: the loss is what is to be looked at.
    quantity = "grad_norm" if loss_was_finite else "loss"
    return f"`{quantity}` became non-finite at step {step}{first}"


def noted(variable: object) -> tuple[int, int, int]:
    """`StepState.first_bad` or `.streak_bad`, read now."""
    step, place, loss_was_finite = (int(value) for value in local(variable).numpy())
    return step, place, loss_was_finite


def reason(model: keras.Model, state: StepState) -> str | None:
    """Why the run must stop, or None: too many steps in a row were not finite."""
    if not bool(local(state.halted)):
        return None
    bad = int(local(state.bad_in_a_row))
    inner, scaler = split_scaler(model.optimizer)
    rates = f"learning rate {float(keras_seams.scheduled_rate(inner)):g}"
    if scaler is not None:
        rates = f"loss scale {float(local(scaler.dynamic_scale)):g}, {rates}"
    times = "that step" if bad == 1 else f"{bad} steps in a row"
    return (
        f"Training stopped: {bad_step_in_words(model, noted(state.streak_bad))}. "
        f"{rates[0].upper()}{rates[1:]}. Loss or gradients were not finite in {times}; the "
        "weights are those before it. Look for NaN or inf in the data first, then lower the "
        "learning rate."
    )
