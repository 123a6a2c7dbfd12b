"""Faults of the rate, its schedule, the optimizer, and how long it is trained."""

import keras
import numpy as np

from parts.faults import LEARNS_NOTHING, TOO_HIGH, TOO_LOW, UNSTABLE, Fault
from parts.programs import Program

# What a run that barely moves is besides: not at its end.
UNFINISHED = (
    "loss_not_falling",
    "still_improving",
    "plateau",
    "predicting_prior",
    "update_ratio",
    "falling_slowly",
)


def _rate(factor: float):
    def plant(one: Program) -> None:
        one.peak *= factor

    return plant


def _sgd_30_times(one: Program) -> None:
    # AdamW with BatchNorm and a decay forgives 30 times its best rate: tried, and no fault.
    one.optimizer, one.clipnorm = "sgd", None
    one.peak = 30 * {"image": 0.05, "text": 0.3, "table": 0.05}[one.family]


def _no_warmup(one: Program) -> None:
    one.optimizer, one.warmup, one.clipnorm = "sgd", 0.0, None
    one.peak = {"image": 1.0, "text": 3.0, "table": 1.0}[one.family]


def _oscillates(one: Program) -> None:
    one.optimizer, one.warmup, one.decays, one.clipnorm = "sgd", 0.02, False, None
    one.peak = {"image": 0.6, "text": 3.0, "table": 0.6}[one.family]


def _schedule_reset(one: Program) -> None:
    one.callbacks = [Reset()]


class Reset(keras.callbacks.Callback):
    """Puts the optimizer's count back at every epoch, as a careless reload does."""

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """The schedule begins again."""
        self.model.optimizer.iterations.assign(0)


def _schedule_in_epochs(one: Program) -> None:
    # Counted in epochs where steps are meant: the rate has fallen to nothing at once.
    one.total_steps = one.epochs


def _clip_tiny(one: Program) -> None:
    one.optimizer, one.clipnorm, one.peak = "sgd", 1e-3, 0.1


def _decay_huge(one: Program) -> None:
    one.weight_decay = 30.0


def _stopped_early(one: Program) -> None:
    one.peak, one.epochs, one.decays = one.peak / 4, 5, False


def _epochs_too_many(one: Program) -> None:
    # Two classes that are far apart: learnt in an epoch or two, trained for sixty.
    if one.family == "text":
        one.x = np.tile(np.arange(8, dtype="int32"), (256, one.x.shape[1]))[:, : one.x.shape[1]]
        one.y = (one.x + 1) % 8
        one.x_val, one.y_val = one.x[:64], one.y[:64]
        one.x, one.y = one.x[64:], one.y[64:]
    else:
        for x, y in (("x", "y"), ("x_val", "y_val")):
            labels = getattr(one, y)
            keep = np.flatnonzero(labels < 2)[:300]
            setattr(one, x, getattr(one, x)[keep])
            setattr(one, y, labels[keep])
    if one.family == "image":
        one.x, one.x_val = _easy(one.x, one.y), _easy(one.x_val, one.y_val)
    one.epochs, one.changes = 60, {"loss.label_smoothing": 0.0}


def _easy(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Images whose class is their brightness."""
    return x + 3 * (2 * y[:, None, None, None] - 1).astype(x.dtype)


def _float16_overflows(one: Program) -> None:
    one.precision, one.net.scale = "float16", 3e5


def _float16_without_scale(one: Program) -> None:
    # A loss divided once too often, by a count of pixels say: gradients below 6e-8 are 0.
    one.precision, one.loss_scaling, one.loss_weights = "float16", False, 1e-7
    one.optimizer, one.peak, one.clipnorm = "sgd", 1e5, None


FAULTS = (
    Fault(
        "rate_100_times",
        "rate 100 times too high",
        _rate(100),
        TOO_HIGH,
        "the rate, in whichever way it shows",
        (*UNSTABLE, *LEARNS_NOTHING),
    ),
    Fault(
        "rate_30_times",
        "rate 30 times too high, SGD",
        _sgd_30_times,
        TOO_HIGH,
        "as above",
        (*UNSTABLE, *LEARNS_NOTHING),
    ),
    Fault(
        "rate_1000th",
        "rate 1,000 times too low",
        _rate(1e-3),
        TOO_LOW,
        "the rate, by the loss that hardly falls or by updates that are tiny",
        UNFINISHED,
    ),
    Fault(
        "rate_30th",
        "rate 30 times too low",
        _rate(1 / 30),
        TOO_LOW,
        "as above",
        UNFINISHED,
    ),
    Fault(
        "no_warmup",
        "a high rate from the first step",
        _no_warmup,
        ("warmup_missing", *TOO_HIGH),
        "either half of it: a warmup or a lower rate cures it",
        (*UNSTABLE, *LEARNS_NOTHING),
    ),
    Fault(
        "oscillates",
        "a constant rate that is too high, SGD",
        _oscillates,
        TOO_HIGH,
        "the rate",
        (*UNSTABLE, *LEARNS_NOTHING, "warmup_missing"),
    ),
    Fault(
        "schedule_reset",
        "a callback resets the schedule",
        _schedule_reset,
        ("learning_rate_off_schedule",),
        "the rate is not what the schedule says",
        ("oscillating", "falling_slowly", "still_improving", "loss_not_falling"),
    ),
    Fault(
        "schedule_in_epochs",
        "a schedule that ends after a few steps",
        _schedule_in_epochs,
        ("schedule_too_short", "learning_rate_off_schedule", *TOO_LOW),
        "its rate is a hundredth for nearly all of the run",
        UNFINISHED,
        way="stock",  # a recipe counts for itself
    ),
    Fault(
        "clip_tiny",
        "SGD clipped at 0.001",
        _clip_tiny,
        ("mostly_clipped",),
        "every step is clipped",
        UNFINISHED,
    ),
    Fault(
        "decay_huge",
        "weight decay 30",
        _decay_huge,
        ("weight_decay_too_high", "loss_not_falling~decay", "plateau~decay"),
        "decay must be named",
        (*LEARNS_NOTHING, "vanishing_gradients", "update_ratio", "dead_layers", "diverged"),
    ),
    Fault(
        "stopped_early",
        "stopped while it falls",
        _stopped_early,
        ("still_improving",),
        "info counts here: the run is not wrong, only short",
        ("falling_slowly",),
    ),
    Fault(
        "epochs_too_many",
        "trained for long after it was done",
        _epochs_too_many,
        ("saturated_early",),
        "info counts here too",
        ("validation_gap", "validation_leak", "duplicate_samples"),
    ),
    Fault(
        "float16_overflows",
        "activations beyond float16",
        _float16_overflows,
        ("loss_scale_overflows", "not_finite~float16|65|overflow"),
        "the range must be named",
        UNSTABLE,
        ("text", "table"),
    ),
    Fault(
        "float16_without_scale",
        "float16, no loss scale, small gradients",
        _float16_without_scale,
        (
            "float16_without_scale",
            "vanishing_gradients~float16|scal",
            "loss_not_falling~float16|scal",
        ),
        "gradients flushed to zero by the format",
        (*LEARNS_NOTHING, "vanishing_gradients", "dead_layers", "update_ratio", "warmup_missing"),
        ("text", "table"),
        way="stock",  # a recipe scales
    ),
)
