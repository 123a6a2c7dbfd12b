"""What can be wrong with a run, one function a rule.

A rule is `f(run) -> Finding | None`. It reads `run.steps` and `run.epochs` (dicts of arrays, either may
be empty) and says nothing where it cannot be sure: a false alarm costs more trust than a late one.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

# Fewer rows than this say nothing about a trend: noise between batches is larger than it.
_ENOUGH_STEPS = 100
_ENOUGH_EPOCHS = 5
# A trend over steps is judged between medians of this many equal parts of the run.
_PARTS = 10


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run, or worth knowing.

    Args:
        rule: Name of the rule that found it.
        severity: "error": the result is not to be used. "warning": it can be better. "info": worth knowing.
        evidence: What was seen, with its numbers.
        cause: What it usually comes from.
        advice: What to do about it.

    Raises:
        ValueError: If `severity` is another word.

    Example:
        >>> print(Finding("mine", "info", "Seen.", "Because.", "Do this."))
        Info (mine): Seen. Because. Do this.
    """

    rule: str
    severity: Severity
    evidence: str
    cause: str
    advice: str

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Finding: `severity` must be one of {', '.join(SEVERITIES)}. "
                f"Received: severity={self.severity!r}."
            )

    def as_dict(self) -> dict[str, str]:
        """The five fields, as `findings.json` holds them."""
        return asdict(self)

    def __str__(self) -> str:
        said = " ".join(part for part in (self.evidence, self.cause, self.advice) if part)
        return f"{self.severity.capitalize()} ({self.rule}): {said}"


class RunLike(Protocol):
    """What a rule may look at."""

    @property
    def steps(self) -> Mapping[str, np.ndarray]: ...
    @property
    def epochs(self) -> Mapping[str, np.ndarray]: ...
    @property
    def recipe(self) -> Mapping[str, Any] | None: ...


Rule = Callable[[Any], Finding | None]


def _column(table: Mapping[str, np.ndarray], name: str) -> np.ndarray | None:
    """A column with at least one value, as float64."""
    if name not in table:
        return None
    values = np.asarray(table[name], dtype=np.float64).ravel()
    return values if values.size else None


def _finite(table: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    values = _column(table, name)
    return np.empty(0) if values is None else values[np.isfinite(values)]


def _plural(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def _longest_run(bad: np.ndarray) -> int:
    """Most True in a row."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], bad.astype(np.int8), [0]])))
    return int((edges[1::2] - edges[::2]).max(initial=0))


def _trend(run: RunLike) -> tuple[np.ndarray, str] | None:
    """The training loss as a few robust points in time, and what they are made of."""
    loss = _finite(run.steps, "loss")
    if loss.size >= _ENOUGH_STEPS:
        medians = [float(np.median(part)) for part in np.array_split(loss, _PARTS)]
        return np.array(medians), f"{_plural(loss.size, 'step')}, medians of tenths"
    loss = _finite(run.epochs, "loss")
    if loss.size >= _ENOUGH_EPOCHS:
        return loss, _plural(loss.size, "epoch")
    return None


def _has_diverged(loss: np.ndarray) -> bool:
    """Whether the end is far above both the start and the best: on their own scale, of any sign."""
    start, best, end = loss[0], loss.min(), loss[-1]
    return bool(end > start + 0.5 * abs(start) + (start - best))


def _rank_correlation(values: np.ndarray) -> float:
    """Spearman's, of the values with their order; 0 where all are equal."""
    if np.ptp(values) == 0:
        return 0.0
    ranks = np.argsort(np.argsort(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def not_finite(run: RunLike) -> Finding | None:
    """Losses or gradients that are NaN or infinite.

    Under loss scaling a gradient that overflows now and then is how the scale is found, and no
    fault; a loss that is not finite always is one.
    """
    loss = _column(run.steps, "loss")
    if loss is None:
        return _not_finite_epochs(run)
    bad = ~np.isfinite(loss)
    for name, fault in (("grad_norm", lambda v: ~np.isfinite(v)), ("overflow", lambda v: v > 0)):
        values = _column(run.steps, name)
        if values is not None and values.size == loss.size:
            scale = _column(run.steps, "loss_scale")
            scaled = scale > 1 if scale is not None and scale.size == loss.size else False
            bad |= fault(values) & ~np.asarray(scaled, dtype=bool)
    if not bad.any():
        return None
    step = _column(run.steps, "step")
    first = int(np.argmax(bad))
    if step is not None and step.size == loss.size and np.isfinite(step[first]):
        first = int(step[first])
    total, longest = int(bad.sum()), _longest_run(bad)
    lost = bool(bad[-1]) and (longest >= 2 or total == loss.size)
    return Finding(
        "not_finite",
        "error" if lost else "warning",
        f"Loss or gradients were not finite in {total:,} of {_plural(loss.size, 'step')}, "
        f"first at step {first:,}; {longest:,} in a row at most"
        + (", and the run ended so." if lost else "."),
        "The learning rate is too high, an input or label is not finite, or a log, a square root or a "
        "division in the model or its loss meets zero.",
        "Look at the batch of the first such step, lower `schedule.peak_learning_rate` or lengthen "
        "`schedule.warmup`, and keep `step.global_clipnorm` at 1.0.",
    )


def _not_finite_epochs(run: RunLike) -> Finding | None:
    for name in ("loss", "val_loss"):
        values = _column(run.epochs, name)
        if values is None:
            continue
        bad = ~np.isfinite(values)
        # epochs.csv has no value where an epoch had no validation, and that reads as NaN too.
        if not (bad.any() if name == "loss" else bad.all()):
            continue
        first = int(np.argmax(bad)) + 1
        return Finding(
            "not_finite",
            "error" if bad[-1] else "warning",
            f"`{name}` was not finite in {int(bad.sum())} of {_plural(values.size, 'epoch')}, first in epoch {first}.",
            "The learning rate is too high, an input or label is not finite, or the loss meets a log or a "
            "division of zero.",
            "Add `tfr.Monitor(directory)` to see the first bad step, check the data for NaN, and lower "
            "the peak learning rate.",
        )
    return None


def diverged(run: RunLike) -> Finding | None:
    """A training loss that ends far above where it began.

    end > start + |start| / 2 + (start - best), on medians of tenths of the run.
    """
    trend = _trend(run)
    if trend is None or not _has_diverged(trend[0]):
        return None
    loss, basis = trend
    return Finding(
        "diverged",
        "error",
        f"The training loss went from {loss[0]:.4g} through {loss.min():.4g} up to {loss[-1]:.4g} ({basis}).",
        "The learning rate is too high for this model and batch size, or gradients are not clipped.",
        "Lower `schedule.peak_learning_rate` by 3 to 10 times, lengthen `schedule.warmup`, and set "
        "`step.global_clipnorm = 1.0`.",
    )


def loss_not_falling(run: RunLike) -> Finding | None:
    """A training loss that at no time was 5 % below its start, and does not fall slowly either.

    Slowly: Spearman's rank correlation of the loss with time is below -0.6. Silent where a metric
    got better or is high already, as when a trained model is trained on.
    """
    trend = _trend(run)
    if trend is None:
        return None
    loss, basis = trend
    falls = loss.min() < loss[0] - 0.05 * abs(loss[0]) or _rank_correlation(loss) < -0.6
    if falls or _has_diverged(loss) or _some_metric_is_well(run):
        return None
    rates, ratios = _finite(run.steps, "learning_rate"), _finite(run.steps, "update_ratio")
    if rates.size and rates.max() < 1e-7:
        cause = f"The learning rate was never above {rates.max():.2g}."
        advice = "Raise `schedule.peak_learning_rate`; 1e-3 is where AdamW starts."
    elif ratios.size and np.median(ratios) < 1e-6:
        cause = f"Updates are tiny beside the weights (median ratio {np.median(ratios):.2g}; 1e-3 is usual)."
        advice = "Raise `schedule.peak_learning_rate` 10 times, and look for frozen layers."
    else:
        cause = (
            "The learning rate is far too low or too high, labels do not belong to their inputs, the loss "
            "does not fit the last activation (logits or probabilities), or no gradient flows."
        )
        advice = (
            "Train on one batch alone: the loss must go to zero. If it does not, look at loss, labels and "
            "model; if it does, look at the learning rate."
        )
    return Finding(
        "loss_not_falling",
        "warning",
        f"The training loss was {loss[0]:.4g} at the start and {loss.min():.4g} at its best ({basis}).",
        cause,
        advice,
    )


def _some_metric_is_well(run: RunLike) -> bool:
    for name in run.epochs:
        values = _finite(run.epochs, name)
        if "acc" in name and values.size and (values[-1] >= 0.9 or values[-1] > values[0] + 0.02):
            return True
    return False


def loss_scale_overflows(run: RunLike) -> Finding | None:
    """A loss scale that overflows in more than 5 % of the steps, or fell to its floor of 1."""
    scale, overflow = _column(run.steps, "loss_scale"), _column(run.steps, "overflow")
    if (
        scale is None
        or overflow is None
        or scale.size != overflow.size
        or scale.size < _ENOUGH_STEPS
    ):
        return None
    if not (scale > 1).any():
        return None
    late = scale.size // 5  # the first fifth is the scale's search for its height
    share = float((overflow[late:] > 0).mean())
    floor = bool(scale[-1] <= 1)
    if share <= 0.05 and not floor:
        return None
    return Finding(
        "loss_scale_overflows",
        "warning",
        f"Scaled gradients overflowed in {share:.0%} of the steps after the first fifth, and the loss scale "
        f"ended at {scale[-1]:g}" + (", its floor." if floor else "."),
        "Gradients or activations leave float16's range (65,504), often by way of a learning rate that is "
        "too high, or of a sum or an exponential computed in float16.",
        "Lower `schedule.peak_learning_rate`, keep such layers in float32 (`dtype='float32'`), or use "
        '`step.precision = "bfloat16"` where the hardware has it.',
    )


def mostly_clipped(run: RunLike) -> Finding | None:
    """A clip that acts in more than half of the steps after the first fifth."""
    clipped = _finite(run.steps, "clipped")
    if clipped.size < _ENOUGH_STEPS:
        return None
    late = clipped[clipped.size // 5 :]  # gradients are large at the start of any healthy run
    share = float((late > 0).mean())
    if share <= 0.5:
        return None
    norms = _finite(run.steps, "grad_norm")
    median = f"; the gradient norm's median is {np.median(norms):.3g}" if norms.size else ""
    return Finding(
        "mostly_clipped",
        "warning" if share > 0.9 else "info",
        f"The global clip acted in {share:.0%} of the steps after the first fifth{median}.",
        "The limit is below the gradient norm that this model has by nature, so that it scales the step "
        "rather than catching rare large ones.",
        "Under Adam that does little harm. Under SGD raise `step.global_clipnorm` to about twice the "
        "median norm, or lower the learning rate.",
    )


def validation_gap(run: RunLike) -> Finding | None:
    """A validation loss that rose by 10 % from its best while the training loss went on falling.

    Its best must lie at least 3 epochs and a fifth of the run back.
    """
    pair = _loss_and_validation(run)
    if pair is None:
        return None
    loss, validation = pair
    best = int(np.argmin(validation))
    since = validation.size - 1 - best
    if since < max(3, validation.size // 5):
        return None
    # The last two epochs must agree: a single bad evaluation is no trend.
    rise = float(validation[-2:].min() - validation[best])
    if rise <= 0.1 * abs(validation[best]) or loss[-1] >= loss[best]:
        return None
    worse_only_in_loss = False
    accuracy = next(
        (_finite(run.epochs, n) for n in run.epochs if n.startswith("val_") and "acc" in n), None
    )
    if accuracy is not None and accuracy.size == validation.size:
        worse_only_in_loss = bool(accuracy[-2:].max() >= accuracy[best])
    return Finding(
        "validation_gap",
        "info" if worse_only_in_loss else "warning",
        f"The validation loss was best in epoch {best + 1} ({validation[best]:.4g}) and ended at "
        f"{validation[-1]:.4g}, while the training loss fell from {loss[best]:.4g} to {loss[-1]:.4g}"
        + ("; the validation accuracy held." if worse_only_in_loss else "."),
        "The model learns its training data by heart.",
        'Keep the best epoch (`train.best = "val_loss"`), train for fewer epochs, or use more data, '
        "augmentation, dropout or `optimizer.weight_decay`.",
    )


def _loss_and_validation(run: RunLike) -> tuple[np.ndarray, np.ndarray] | None:
    """Both losses in the epochs that have both."""
    loss, validation = _column(run.epochs, "loss"), _column(run.epochs, "val_loss")
    if loss is None or validation is None or loss.size != validation.size:
        return None
    both = np.isfinite(loss) & np.isfinite(validation)
    return (loss[both], validation[both]) if both.sum() >= _ENOUGH_EPOCHS else None


def still_improving(run: RunLike) -> Finding | None:
    """A loss whose last epoch is its best, after falling by 1 % or more in each of the last three."""
    if getattr(run, "state", {}).get("status") in ("running", "preempted", "stopped"):
        return None  # not at its end
    name = "val_loss" if _finite(run.epochs, "val_loss").size else "loss"
    loss = _finite(run.epochs, name)
    if loss.size < _ENOUGH_EPOCHS or loss[-1] > loss.min():
        return None
    falls = -np.diff(loss[-4:])
    if (falls < 0.01 * np.abs(loss[-4:-1])).any():
        return None
    return Finding(
        "still_improving",
        "info",
        f"`{name}` was still falling at the end: {loss[-4]:.4g} to {loss[-1]:.4g} in the last three epochs.",
        "The run ended before the model had learned what it can.",
        "Train for more epochs (`train.epochs`); the schedule stretches with them.",
    )


RULES: tuple[Rule, ...] = (
    not_finite,
    diverged,
    loss_not_falling,
    loss_scale_overflows,
    validation_gap,
    mostly_clipped,
    still_improving,
)
