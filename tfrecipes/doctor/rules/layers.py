"""Layers that do not learn: dead, frozen, starved of gradient, or held by regularisation."""

from collections.abc import Iterator

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.divergence import has_diverged
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, change, lower_rate
from tfrecipes.doctor.rules.robust import finite, highest, median, medians, plural, short

_NORM = "grad_norm/"


def _groups(look: Look) -> Iterator[tuple[str, np.ndarray]]:
    """Each layer group's gradient norms, in the model's order where it is known."""
    known = look.fact("groups")
    names = [n.removeprefix(_NORM) for n in map(str, look.layers) if n.startswith(_NORM)]
    if isinstance(known, list | tuple):
        order = {str(name): i for i, name in enumerate(known)}
        names.sort(key=lambda name: order.get(name, len(order)))
    for name in names:
        values = finite(look.column("layers", _NORM + name))
        if values.size >= 4:
            yield name, values


def _listed(names: list[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def dead_layers(run: object) -> Finding | None:
    """Layers whose gradient is zero in nine of ten of the rows of the second half of the run.

    Without layers.csv: the whole model's gradient.
    """
    look = Look.at(run)
    norms = dict(_groups(look))
    dead, begun_dead = [], []
    for name, values in norms.items():
        if (values[values.size // 2 :] <= 1e-12).mean() >= at.DEAD_SHARE:
            dead.append(name)
            # Row 0 counts too: a layer that began so was never alive.
            if (values[: max(1, values.size // 10)] <= 1e-12).all():
                begun_dead.append(name)
    if not norms:
        norm = finite(look.step("grad_norm"))
        if norm.size < at.FEW_STEPS or (norm[norm.size // 2 :] > 1e-12).mean() > 1 - at.DEAD_SHARE:
            return None
        loss = look.trend
        if loss is not None and loss.end < 1e-6:
            return None  # nothing is left to learn
        dead = ["the whole model"]
        begun_dead = dead if (norm[: max(1, norm.size // 10)] <= 1e-12).all() else []
    if not dead:
        return None
    every = norms and len(dead) == len(norms)
    if every and look.trend is not None and look.trend.end < 1e-6:
        return None
    of = (
        f"{len(dead)} of {plural(len(norms), 'layer group')} ({_listed(dead)})"
        if norms
        else dead[0]
    )
    if begun_dead:
        cause = (
            "No gradient reaches them from the first step on: ReLUs that are dead from the start (a negative "
            "bias), weights that begin at zero (a poor initialisation), or a path that is cut."
        )
        advice = advise(
            architecture="Initialise kernels at random (`he_normal` before a ReLU) and biases at 0, use a leaky "
            "activation (`leaky_relu`, `gelu`), and look for `stop_gradient` and integer casts."
        )
    else:
        blown = (look.growth or 0) > at.WEIGHTS_GREW or (look.ratio or 0) > at.RATIO_HIGH
        cause = (
            "Their units died during training: the learning rate is too high, and ReLUs were pushed where "
            "they are zero for every sample."
            if blown
            else "Their units died during training: ReLUs were pushed where they are zero for every sample, by "
            "the learning rate or by targets that do not depend on the inputs."
        )
        advice = advise(
            rate=lower_rate(look),
            architecture="Use an activation that leaks (`leaky_relu`, `gelu`).",
        )
    return Finding(
        "dead_layers",
        "warning",
        f"The gradient was 0 in the second half of the run in {of}"
        + (", from the first step on." if begun_dead else "."),
        cause,
        advice,
    )


def vanishing_gradients(run: object) -> Finding | None:
    """A first third of the layers whose gradient is a thousandth of a later layer's and below 1e-4.

    Without layers.csv: a gradient norm below 1e-4 of its first value while the loss is poor.
    """
    look = Look.at(run)
    trend = look.trend
    if look.early or has_diverged(look):
        return None
    level = look.guess if look.guess is not None else (trend.start if trend else 0.0)
    if trend is not None and trend.end < at.POOR_OUTCOME * level:
        return None  # it learns all the same
    norms = [(name, values) for name, values in _groups(look) if (values > 1e-12).any()]
    if len(norms) >= 3:
        typical = [median(values[: max(4, values.size // 2)]) for _, values in norms]
        first = max(1, len(typical) // 3)
        early, high = float(np.median(typical[:first])), int(np.argmax(typical))
        ratio = early / typical[high] if typical[high] > 0 else 1.0
        if high < first or ratio >= at.VANISHED or early >= at.VANISHED_NORM:
            return None
        seen = (
            f"The median gradient norm is {short(early)} in the first layers ({_listed([n for n, _ in norms[:first]])}) "
            f"and {short(typical[high])} in {norms[high][0]}: a ratio of {short(ratio)}."
        )
    else:
        norm = finite(look.step("grad_norm"))
        if norm.size < at.ENOUGH_STEPS or norm[0] <= 0 or look.layers:
            return None
        end = median(norm[norm.size // 2 :])
        if not 1e-12 < end < at.VANISHED_NORM * norm[0]:
            return None
        seen = f"The gradient norm fell from {short(float(norm[0]))} to {short(end)} while the loss is still poor."
    return Finding(
        "vanishing_gradients",
        "warning",
        seen,
        "Gradients vanish on their way to the first layers: saturating activations (sigmoid, tanh) in many "
        "layers, or an initialisation that shrinks them.",
        advise(
            architecture="Use `relu` or `gelu` with `he_normal`, put a normalisation (BatchNormalization, "
            "LayerNormalization) into each block, and add residual connections."
        ),
    )


def frozen_layers(run: object) -> Finding | None:
    """Weights that are not trained.

    An error where none is trained; a warning where the model began at guessing, so that the frozen
    weights know nothing of the task, and stays near it; else worth knowing, as in fine-tuning.
    """
    look = Look.at(run)
    frozen, trained = look.fact_number("frozen_weights"), look.fact_number("trainable_weights")
    if not frozen or trained is None:
        return None
    trend, guess = look.trend, look.guess
    random = (
        trend is not None
        and guess is not None
        and trend.end > 0.35 * guess
        and trend.start > 0.8 * guess
        and frozen > trained
        and not look.running  # a new head over good features begins at guessing too
    )
    severity = "error" if not trained else "warning" if random else "info"
    return Finding(
        "frozen_layers",
        severity,
        f"{plural(int(frozen), 'weight')} of {int(frozen + trained)} are frozen (`trainable = False`)"
        + (
            f"; the training loss went from {trend.start:.4g} to only {trend.end:.4g}."
            if random and trend is not None
            else "."
        ),
        "Layers are frozen that know nothing of this task: that is meant for weights that were trained before."
        if severity != "info"
        else "Layers are frozen, as in fine-tuning.",
        advise(
            architecture="Set `layer.trainable = True` before `compile`, or load the weights that the frozen layers "
            "should hold."
        ),
    )


def batch_norm_tiny(run: object) -> Finding | None:
    """BatchNormalization over fewer than 16 samples (a warning at 4 or fewer) of a micro-batch."""
    look = Look.at(run)
    names = look.fact("layers")
    norms = [str(n) for n in names if "BatchNorm" in str(n)] if isinstance(names, dict) else []
    if not norms:
        return None
    size = look.fact_number("micro_batch")
    if not size:
        batch = look.fact_number("batch_size") or look.setting("train", "batch_size")
        parts = look.setting("step", "gradient_accumulation_steps") or 1
        replicas = look.fact_number("replicas") or 1
        if not isinstance(batch, int | float) or not isinstance(parts, int | float):
            return None
        size = batch / max(1, parts) / replicas
    if size >= at.BATCH_NORM_SMALL or size <= 0:
        return None
    return Finding(
        "batch_norm_tiny",
        "warning" if size <= at.BATCH_NORM_BAD else "info",
        f"BatchNormalization takes its mean and variance over {size:g} samples at a time.",
        "Statistics of so few samples are noise: training sees other activations than validation.",
        advise(
            architecture="Use `keras.layers.GroupNormalization` or LayerNormalization instead,",
            rest=f"or larger micro-batches: {change(look, 'train.batch_size', 32)}, with fewer parts a step.",
        ),
    )


def dropout_too_high(run: object) -> Finding | None:
    """Dropout of three quarters or more, a poor training loss, and validation that is better than it."""
    look = Look.at(run)
    dropout = look.fact_number("dropout")
    trend = look.trend
    if dropout is None or dropout < at.DROPOUT_HIGH or trend is None:
        return None
    _, loss, validation = look.both_losses
    apart = loss.size > 0 and float(validation.min()) < 0.9 * float(loss.min())
    level = look.guess if look.guess is not None else trend.start
    if not (apart or trend.end > at.POOR_OUTCOME * level > 0):
        return None
    better = f", validation {validation.min():.4g}" if loss.size else ""
    return Finding(
        "dropout_too_high",
        "warning",
        f"Dropout drops {dropout:.0%} of a layer's units; the training loss ended at {trend.end:.4g}{better}.",
        "The dropout is too high: what is left of the layer cannot learn the task.",
        advise(architecture="Lower it to .1 to .5."),
    )


def gradients_alive(look: Look) -> bool:
    """Whether the model could learn as far as its gradients and updates say, at its start."""
    begun = [median(values[: max(4, values.size // 10)]) for _, values in _groups(look)]
    if begun and (min(begun) <= 1e-12 or min(begun) < at.VANISHED * max(begun)):
        return False
    norm = finite(look.step("grad_norm"))
    if norm.size < at.FEW_STEPS:
        return False
    early = medians(norm[: max(at.FEW_STEPS, norm.size // 10)], 3)
    sane = look.ratio is not None and at.RATIO_LOW < look.ratio < at.RATIO_HIGH_POOR
    grew = look.growth is None or look.growth < at.WEIGHTS_GREW_POOR
    return bool(sane and grew and -highest(-early) > 1e-6)
