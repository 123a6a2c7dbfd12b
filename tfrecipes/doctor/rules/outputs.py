"""The last activation, the loss, and what the loss says of them."""

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.divergence import has_diverged
from tfrecipes.doctor.rules.finding import Finding, Severity
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.progress import plateau
from tfrecipes.doctor.rules.remedies import advise, check_data, lower_rate
from tfrecipes.doctor.rules.robust import finite, median, short

_PROBABILITIES = ("softmax", "sigmoid", "hard_sigmoid", "sparsemax")
_SQUARES = (
    "meansquarederror",
    "mse",
    "meanabsoluteerror",
    "mae",
    "huber",
    "logcosh",
    "meansquaredlogarithmicerror",
)


def _activation(look: Look) -> str | None:
    name = look.fact("last_activation")
    return name.lower() if isinstance(name, str) and name else None


def logits_mismatch(run: object) -> Finding | None:
    """Probabilities given to a loss that takes logits, or the other way round."""
    look = Look.at(run)
    last, logits = _activation(look), look.fact("loss", "from_logits")
    if last is None or not isinstance(logits, bool) or not look.cross_entropy:
        return None
    name = look.fact("loss", "name")
    if logits and last in _PROBABILITIES:
        return Finding(
            "logits_mismatch",
            "error",
            f"The last activation is {last}, and the loss {name} has from_logits=True.",
            f"The loss takes the {last}'s probabilities for logits and squashes them again: they lie between 0 "
            "and 1, so that no class can win and gradients are small.",
            advise(
                architecture=f"Compile with `{name}(from_logits=False)`, or take the {last} out of the model."
            ),
        )
    if not logits and last in ("linear", "relu", "tanh", "gelu", "elu", "selu", "leaky_relu"):
        return Finding(
            "logits_mismatch",
            "error",
            f"The last activation is {last}, and the loss {name} has from_logits=False.",
            "The loss takes logits for probabilities: it clips what is below 0 or above 1, and no gradient comes "
            "from there.",
            advise(
                architecture=f"Compile with `{name}(from_logits=True)`"
                + (", with a last layer that has no activation." if last != "linear" else ".")
            ),
        )
    return None


def wrong_loss(run: object) -> Finding | None:
    """A loss or a last activation that does not fit the labels, as far as the facts tell.

    Squared errors of class numbers, a binary cross-entropy for classes that exclude each other, a
    softmax over one output, a cross-entropy of real numbers, a last activation that cuts logits off or
    cannot reach the labels. A squared error of one-hot labels works (Hui & Belkin 2021), and is not named.
    """
    look = Look.at(run)
    said = _misfit_of_classes(look) or _misfit_of_activation(look)
    if said is None:
        return None
    severity, seen, cause, fix = said
    return Finding("wrong_loss", severity, seen, cause, advise(architecture=fix))


Misfit = tuple[Severity, str, str, str]


def _misfit_of_classes(look: Look) -> Misfit | None:
    loss, kind, name = look.loss_name, look.label("kind"), look.fact("loss", "name")
    width = look.fact_number("width") or look.fact_number("classes") or 0
    if loss in _SQUARES and width > 2 and _spread(look, kind, width):
        return (
            "warning",
            f"The labels are {'whole' if kind == 'integer' else 'single'} numbers, one a sample (or a place of it), for "
            f"{int(width)} outputs, and the loss is {name}.",
            "The squared or absolute error spreads one number over all outputs: class numbers are taken for quantities.",
            "Compile with `keras.losses.SparseCategoricalCrossentropy(from_logits=True)`; for a quantity, give the "
            "last layer one output.",
        )
    if "binarycrossentropy" in loss and kind in ("one-hot", "integer") and width > 2:
        return (
            "warning",
            f"The labels are {int(width)} classes ({kind}), and the loss is {name}.",
            "A binary cross-entropy takes each class for a question of its own; of classes that exclude each other "
            "one is true.",
            "Use `softmax` and a categorical cross-entropy; keep it where several labels may be true at once.",
        )
    if look.cross_entropy and kind == "real" and not _are_shares(look, width):
        return (
            "error",
            f"The labels are real numbers, and the loss is {name}.",
            "A cross-entropy needs classes or their shares.",
            "Compile with `keras.losses.MeanSquaredError()` and a last layer without activation; for shares of "
            "classes, see that each row sums to 1.",
        )
    return None


def _are_shares(look: Look, width: float) -> bool:
    """Whether real labels are what a cross-entropy takes: numbers of 0 to 1, and shares of 1 for classes.

    Grey levels under a binary cross-entropy, as in autoencoders; soft labels of a teacher.
    """
    least, largest, mean = (_real(look.label(key)) for key in ("min", "max", "mean"))
    if least is None or largest is None or mean is None or least < 0 or largest > 1:
        return False
    return "binary" in look.loss_name or (width > 1 and abs(mean * width - 1) < 0.01)


def _spread(look: Look, kind: object, width: float) -> bool:
    """Whether there is one label where there are several outputs."""
    shape = look.label("shape")
    if isinstance(shape, list):
        return not shape or shape[-1] != width
    each = look.labels_a_sample
    return kind == "integer" and each is not None and each != width


def _misfit_of_activation(look: Look) -> Misfit | None:
    last, name = _activation(look), look.fact("loss", "name")
    width = look.fact_number("width") or look.fact_number("classes")
    if look.cross_entropy and last == "softmax" and width == 1:
        return (
            "error",
            f"The last layer is a softmax over one output, and the loss is {name}.",
            "A softmax over one output is always 1: nothing can be learnt.",
            "Use a `sigmoid` with `BinaryCrossentropy`, or as many outputs as there are classes.",
        )
    if look.cross_entropy and last in ("relu", "tanh"):
        return (
            "warning",
            f"The last activation is {last}, and the loss is {name}.",
            "It cuts half of the logits off."
            if last == "relu"
            else "It keeps the logits within 1 of zero.",
            "Take the activation out of the last layer and compile with `from_logits=True`.",
        )
    mean, deviation = (_real(look.label(key)) for key in ("mean", "std"))
    if look.loss_name in _SQUARES and look.label("kind") == "real" and _out_of_reach(look, last):
        return (
            "warning",
            f"The labels have a mean of {short(mean or 0.0)} and a deviation of {short(deviation or 0.0)}; the last "
            f"activation is {last}.",
            f"A {last} cannot reach such values.",
            "Take the activation out of the last layer, or scale the labels into its range.",
        )
    return None


def _real(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)


def _out_of_reach(look: Look, last: str | None) -> bool:
    """Whether labels lie outside an activation's range, for certain.

    By the least and the largest label where they are known. Else: values within [a, b] have a
    variance of at most (mean - a) (b - mean).
    """
    ranges = {
        "sigmoid": (0.0, 1.0),
        "softmax": (0.0, 1.0),
        "tanh": (-1.0, 1.0),
        "relu": (0.0, np.inf),
    }
    if last not in ranges:
        return False
    low, high = ranges[last]
    least, largest = (_real(look.label(key)) for key in ("min", "max"))
    mean, deviation = (_real(look.label(key)) for key in ("mean", "std"))
    if least is not None and largest is not None:
        slack = 0.05 * (largest - least)  # a few labels just outside cost little
        return least < low - slack or largest > high + slack
    if mean is None or deviation is None:
        return False
    return mean < low or mean > high or (mean - low) * (high - mean) < 0.99 * deviation**2


def initial_loss(run: object) -> Finding | None:
    """A first loss far above log K: 3 times for a warning, 1.6 times worth knowing.

    A model that knows nothing and is sure of nothing begins at log K.
    """
    look = Look.at(run)
    untrained = look.untrained
    if (
        untrained is None
        or untrained <= 0
        or not look.cross_entropy
        or look.loss.size < at.FIRST_STEPS
    ):
        return None
    first = float(look.loss[0])
    if look.number(0) > 0 or first < at.INITIAL_ODD * untrained:
        return None
    severe = first > at.INITIAL_HIGH * untrained
    return Finding(
        "initial_loss",
        "warning" if severe else "info",
        f"The first step's loss was {first:.4g}; a model that knows nothing yet begins at log K = {untrained:.4g}.",
        "The initialisation is too large (the logits begin far from zero, and the model is sure of wrong answers), or "
        "the inputs are."
        if severe
        else "The initialisation makes the logits begin away from zero.",
        advise(
            data="Scale the inputs to a deviation of about 1." if severe else "",
            architecture="Use the layers' own initialisers (`glorot_uniform`, `he_normal`), a normalisation before the "
            "last layer, and a last kernel that begins small.",
        ),
    )


def predicting_prior(run: object) -> Finding | None:
    """A training loss that ends within 4 % of what guessing by the labels' frequencies gives.

    Their entropy, log K where they were not counted, the variance for a squared error.
    """
    look = Look.at(run)
    guess, trend = look.guess, look.trend
    if guess is None or guess <= 0 or trend is None or look.early or has_diverged(look):
        return None
    near = abs(trend.end - guess) <= at.NEAR_GUESS * guess + at.SURE * trend.errors[-1] * 0.5
    if not near or trend.best < (1 - 2 * at.NEAR_GUESS) * guess or not look.flat(at.FLAT_AT_GUESS):
        return None
    shares = look.label_shares
    if shares.size and guess < 0.5 * np.log(shares.size):
        return None  # one class dominates: guessing is most of what there is
    if look.tiny and plateau(look) is not None:
        return None  # which says so
    if look.running or (look.smoothing >= 0.5 and look.beats_chance):
        return (
            None  # it may yet learn; smoothing by half leaves little below guessing to be reached
        )
    cause, advice = _why_guessing(look)
    return Finding(
        "predicting_prior",
        "warning",
        f"The training loss ended at {trend.end:.4g} ({trend.basis}); guessing by the labels' frequencies gives {guess:.4g}.",
        cause,
        advice,
    )


def _why_guessing(look: Look) -> tuple[str, str]:
    ratio, growth = look.ratio, look.growth
    if (growth or 0) > at.WEIGHTS_GREW or (ratio or 0) > at.RATIO_HIGH:
        return (
            "The learning rate is too high: it threw the weights to where the outputs no longer depend on the inputs.",
            advise(rate=lower_rate(look)),
        )
    norms = finite(look.step("grad_norm"))
    if norms.size and median(norms[norms.size // 2 :]) < 1e-6:
        return (
            "No gradient reaches the weights: dead activations, an initialisation at zero, or a path that is cut.",
            advise(
                architecture="Initialise at random, use activations that leak, and look for `stop_gradient`."
            ),
        )
    if look.tiny:
        parameters = look.fact_number("parameters") or 0
        return (
            f"The model is too small for the task (capacity): {parameters:,.0f} parameters for {look.classes} classes.",
            advise(architecture="Take a larger model: twice as wide first, then deeper."),
        )
    return (
        "The outputs do not depend on the inputs: the labels do not belong to them, the inputs arrive empty, or no "
        "gradient gets past the last layer.",
        advise(
            data=f"Look at a batch as the model gets it, inputs and labels. {check_data()}",
            rate=lower_rate(look),
            architecture="Train on one batch alone: the loss must go to zero.",
        ),
    )
