"""What a few steps tell: one batch fitted, inputs zeroed, weights that do not move, the rate."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import keras
import numpy as np

from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.references import References
from tfrecipes.doctor.rules import Finding, Severity
from tfrecipes.doctor.sampled import Sampled
from tfrecipes.doctor.telling import TOLD
from tfrecipes.doctor.traced import Result, Traced
from tfrecipes.step import keras_seams

# The rates that are tried on one batch, the likeliest first.
_RATES = (3e-3, 3e-2, 3e-4)
_STEPS = 150
# Fewer steps than this prove nothing.
ENOUGH_STEPS = 60
FITTED = 0.05  # of the loss's way from knowing nothing to perfect
NOT_FITTED = 0.5
LEARNT = 0.5
_RATE_STEPS = 25
_ROSE = 3.0  # times its start, on the way
_SLOWEST = 1e-7


@dataclass
class Fit:
    """One batch fitted by AdamW.

    Args:
        rate: The rate that did best.
        losses: Its data loss before each step.
        left: The share of the way to a perfect loss that is left; None where no reference is known.
        steps: Steps of the longest attempt.
        result: A last pass, with the weights that did best.
        ended_early: Whether time ran out.
    """

    rate: float
    losses: list[float] = field(default_factory=list)
    left: float | None = None
    steps: int = 0
    result: Result | None = None
    ended_early: bool = False


def fit_one_batch(traced: Traced, known: References | None, ends_at: float) -> Fit:
    """Train on one batch until its loss is near perfect, at up to three rates.

    Args:
        traced: The model with weights of its own; they are left as the best rate left them.
        known: What the loss is worth; None = unknown.
        ends_at: When to stop, of `time.monotonic`.
    """
    best, latest = Fit(_RATES[0], [np.inf]), _RATES[0]
    for rate in _RATES:
        latest = rate
        fit = _attempt(traced, rate, known, ends_at)
        if best.result is None or _last(fit) < _last(best):
            best, fit = fit, best
        best.steps = max(best.steps, fit.steps)
        if _left(_last(best), best.losses, known) <= FITTED or time.monotonic() > ends_at:
            break
    if best.rate != latest:
        _attempt(traced, best.rate, known, np.inf, len(best.losses) - 1)
        best.result = traced.look()
    best.left = None if known is None else _left(_last(best), best.losses, known)
    best.ended_early = best.steps < ENOUGH_STEPS
    return best


def _attempt(
    traced: Traced, rate: float, known: References | None, ends_at: float, steps: int = _STEPS
) -> Fit:
    traced.restart()
    fit = Fit(rate)
    for _ in range(steps):
        loss = _of(traced.step(rate), traced)
        fit.losses.append(loss)
        if not np.isfinite(loss) or loss > 1e3 * abs(fit.losses[0]) + 1e3:
            break
        if _left(loss, fit.losses, known) <= FITTED or time.monotonic() > ends_at:
            break
    fit.steps = len(fit.losses)
    fit.result = traced.look()
    fit.losses.append(_of(fit.result, traced))
    return fit


def _of(result: Result, traced: Traced) -> float:
    """The loss that is watched: penalties are none of the data's, but all there is without labels."""
    return result.loss if traced.batch[1] is None else result.data_loss


def _last(fit: Fit) -> float:
    return fit.losses[-1] if np.isfinite(fit.losses[-1]) else np.inf


def _left(loss: float, losses: list[float], known: References | None) -> float:
    if not np.isfinite(loss):
        return np.inf
    perfect = 0.0 if known is None else known.perfect
    start = losses[0] if np.isfinite(losses[0]) else np.inf
    if known is not None:
        start = min(start, known.constant)
    return (loss - perfect) / max(start - perfect, 1e-12)


def not_fitted(fit: Fit, known: References | None, samples: int) -> Finding | None:
    """One batch that cannot be learnt by heart."""
    if known is None or fit.left is None or fit.left < NOT_FITTED or fit.ended_early:
        return None
    if known.constant - known.perfect < 1e-6:
        return None  # a batch of one class is right from the start
    return Finding(
        "batch_not_fitted",
        "warning",
        f"{samples} samples were trained on for {fit.steps} steps of AdamW at "
        f"{', '.join(f'{rate:g}' for rate in _RATES)}: the loss went from {fit.losses[0]:.4g} to "
        f"{_last(fit):.4g} at best. The best constant answer costs {known.constant:.4g}, a perfect "
        f"one {known.perfect:.3g}.",
        "A model that cannot learn one batch by heart has a fault before it has a capacity: labels "
        "that do not belong to the inputs, a loss that does not fit the output, gradients that do "
        "not arrive, or it is much too small.",
        "Find the smallest case that works: model.fit(x[:2], y[:2], epochs=200), then look at the "
        "other findings.",
    )


def ignored_inputs(traced: Traced, fit: Fit) -> Finding | None:
    """Inputs that change nothing when they are zeroed, after a batch was fitted."""
    if fit.result is None or not np.isfinite(fit.result.data_loss):
        return None
    x, y, weight = traced.batch
    leaves = list(keras.tree.flatten_with_path(x))
    unused, said = [], ""
    for path, leaf in leaves:
        array = np.asarray(leaf)
        if array.dtype.kind not in "biuf" or not array.any():
            continue
        zeroed = keras.tree.map_structure(
            lambda one, this=leaf: np.zeros_like(one) if one is this else one, x
        )
        without = traced.look((zeroed, y, weight))
        moved = max(
            float(abs(a - b).max())
            for a, b in zip(fit.result.outputs, without.outputs, strict=True)
        )
        spread = max(float(abs(o).max()) for o in fit.result.outputs)
        if moved <= 1e-6 * max(spread, 1e-6):
            unused.append("x" + "".join(f"[{key!r}]" for key in path))
            said = f"the loss is {fit.result.data_loss:.4g} with it and {without.data_loss:.4g} without"
    if not unused:
        return None
    everything = len(unused) == len(leaves)
    return Finding(
        "inputs_ignored",
        "error" if everything else "warning",
        f"With {', '.join(unused)} set to 0 the outputs stay the same; {said}.",
        "Nothing of it reaches the output: a branch that is not joined, units that are all dead, or "
        "weights that are all zero.",
        "Follow it: keras.Model(model.input, layer.output).predict(x[:8]).std(0) layer by layer, "
        "until it is 0.",
    )


def dead_weights(
    traced: Traced, first: Result, fit: Fit, nothing_comes_in: bool = False
) -> Finding | None:
    """Kernels whose gradient is zero before and after training, or whose units stay alike."""
    if fit.result is None or fit.steps < 5:
        return None
    paths, values = traced.weight_paths(), traced.weights()
    kernels = [i for i, value in enumerate(values) if value.ndim >= 2]
    zero = [
        i
        for i in kernels
        if traced.seen.connected[i] and first.largest[i] == 0 and fit.result.largest[i] == 0
    ]
    if nothing_comes_in and all(values[i].any() for i in zero):
        zero = []
    alike = [i for i in kernels if i not in zero and _is_one_unit(traced.trained(i), paths[i])]
    if not zero and not alike:
        return None
    named = [paths[i] for i in zero or alike]
    what = (
        f"{len(zero)} of {len(kernels)} kernels get a gradient of exactly 0 before and after "
        f"{fit.steps} steps"
        if zero
        else f"all units of {len(alike)} of {len(kernels)} kernels are still the same after "
        f"{fit.steps} steps"
    )
    return Finding(
        "dead_layers",
        "error" if len(zero) >= len(kernels) else "warning",
        f"{what}: {', '.join(named[:4])}.",
        "Layers that start from zero on both sides never move; units that start alike stay alike; "
        "or the units in between are dead.",
        'Start from kernel_initializer="glorot_uniform" (or "he_normal" with relu): only biases, '
        "and the last layer of a branch, may start from zero.",
    )


def _is_one_unit(value: np.ndarray, path: str) -> bool:
    units = value.reshape(-1, value.shape[-1])
    if path.rpartition("/")[2] != "kernel" or units.shape[1] < 2 or not value.any():
        return False
    return bool((units == units[:, :1]).all())


def learning_rate(
    model: keras.Model,
    traced: Traced,
    fit: Fit | None,
    known: References | None,
    ends_at: float,
) -> Finding | None:
    """The compiled optimizer's rate, tried on the batch that a rate of ours has fitted.

    A model that has learnt already is not judged: near its minimum a step of any size that trains
    a fresh model goes up.
    """
    optimizer = getattr(model, "optimizer", None)
    if optimizer is None or getattr(model, "loss", None) is None:
        return None
    inner = getattr(optimizer, "inner_optimizer", optimizer)
    rate, scheduled = _rate(inner)
    name = type(inner).__name__
    if rate == 0 and not scheduled:
        return _rate_finding(
            "low", "error", f"{name}'s learning rate is 0.", "No weight can move.", 1e-3
        )
    if rate < _SLOWEST and not scheduled:
        return _rate_finding(
            "low",
            "warning",
            f"{name}'s learning rate is {rate:g}.",
            "Weights of about 0.1 would need a million steps to change.",
            1e-3,
        )
    if fit is None or fit.left is None or fit.left > NOT_FITTED or scheduled:
        return None
    adaptive = any(word in name for word in ("Adam", "RMSprop", "Lion", "Adagrad", "Adafactor"))
    if (not adaptive and name != "SGD") or time.monotonic() > ends_at:
        return None
    momentum = float(getattr(inner, "momentum", 0.0) or 0.0) if name == "SGD" else 0.0
    factor = 1 / (1 - min(momentum, 0.99))
    losses = _tried(traced, rate * factor, adaptive, ends_at)
    if not _overshoots(losses) or _left(losses[0], [np.inf], known) < LEARNT:
        return None
    better = rate / 10
    while better > rate * 1e-5 and time.monotonic() < ends_at:
        if not _overshoots(_tried(traced, better * factor, adaptive, ends_at)):
            break
        better /= 10
    return _rate_finding(
        "high",
        "warning",
        f"{name}'s learning rate is {rate:g}: on one batch the loss went from {losses[0]:.4g} to "
        f"{losses[-1]:.4g} in {len(losses)} steps, by way of {max(losses):.4g}; at {fit.rate:g} AdamW brought it to "
        f"{_last(fit):.4g}.",
        "The rate is too high: steps overshoot.",
        better,
    )


def _tried(traced: Traced, rate: float, adaptive: bool, ends_at: float) -> list[float]:
    """The losses of some steps from the model's weights."""
    traced.restart()
    losses: list[float] = []
    for _ in range(_RATE_STEPS):
        losses.append(traced.step(rate, plain=not adaptive).data_loss)
        if not np.isfinite(losses[-1]) or time.monotonic() > ends_at + 1.0:
            break
    return losses


def _overshoots(losses: list[float]) -> bool:
    if not np.isfinite(losses[-1]) or len(losses) < 10:
        return not np.isfinite(losses[-1])
    return min(losses[-5:]) > losses[0] or max(losses) > _ROSE * losses[0]


def _rate_finding(
    end: str, severity: Severity, evidence: str, cause: str, better: float
) -> Finding:
    return Finding(
        f"learning_rate_too_{end}",
        severity,
        evidence,
        cause,
        f"Try {better:g}, or sweep: tfr.find_learning_rate(model, data).suggestion; a warmup lets "
        "a high peak be reached.",
    )


def _rate(optimizer: keras.optimizers.Optimizer) -> tuple[float, bool]:
    """(the rate of the first update, whether a schedule will change it)."""
    return float(keras_seams.scheduled_rate(optimizer)), keras_seams.schedule(optimizer) is not None


def told_by_model(
    traced: Traced, sample: Sampled, output: Output, size: int, ends_at: float
) -> tuple[bool, float, int] | None:
    """Whether the model, trained for a moment, tells held-out true labels from shuffled ones.

    Args:
        traced: The model with weights of its own.
        sample: The data.
        output: The labels; one output.
        size: Samples a batch.
        ends_at: When to stop training, of `time.monotonic`.

    Returns:
        (told, deviations above shuffled, steps); None where there are too few samples or steps.
    """
    rows = np.random.default_rng(2).permutation(sample.rows)[: 64 * size]
    batches = [rows[i : i + size] for i in range(0, len(rows) - size + 1, size)]
    held, learnt = batches[: len(batches) // 4], batches[len(batches) // 4 :]
    if not held or len(held) * size < 64:
        return None
    traced.restart()
    steps = 0
    for number in range(300):
        batch = sample.take(learnt[number % len(learnt)])
        if not np.isfinite(traced.step(3e-3, batch).loss):
            return None
        steps += 1
        if time.monotonic() > ends_at:
            break
    if steps < 30:
        return None
    guesses = np.concatenate([traced.look(sample.take(rows)).outputs[0] for rows in held])
    truth = output.y[np.concatenate(held)]
    score = _score(output, guesses)
    if score is None:
        return None
    rng = np.random.default_rng(3)
    true = score(truth)
    shuffled = [score(truth[rng.permutation(len(truth))]) for _ in range(200)]
    above = (true - float(np.mean(shuffled))) / (float(np.std(shuffled)) + 1e-12)
    return above > TOLD, above, steps


def _score(output: Output, guesses: np.ndarray) -> Callable[[np.ndarray], float] | None:
    """Higher is better: the guesses' centred values where the label is."""
    centred = guesses - guesses.mean(0, keepdims=True)
    if output.kind == "sparse":
        flat = centred.reshape(-1, centred.shape[-1])

        def at_label(y: np.ndarray) -> float:
            ids = np.clip(y.reshape(-1).astype(int), 0, flat.shape[1] - 1)
            return float(flat[np.arange(len(flat)), ids].mean())

        return at_label if len(flat) == output.y[: len(guesses)].size else None
    if output.y[: len(guesses)].size != guesses.size:
        return None
    return lambda y: float((centred * y.reshape(centred.shape)).mean())
