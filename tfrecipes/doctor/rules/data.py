"""What the facts say of the data, and what the loss says of their order and labels."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.finding import Finding
from tfrecipes.doctor.rules.layers import gradients_alive
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, check_data, lower_rate
from tfrecipes.doctor.rules.robust import finite, plural, short

_SCALED = ("Normalization", "Rescaling", "Discretization", "Hashing", "TextVectorization")


def input_facts(look: Look) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each input's facts; of validation where training data are a stream."""
    for which, words in (("data", "inputs"), ("validation", "validation inputs")):
        inputs = look.fact(which, "inputs")
        if isinstance(inputs, list | tuple) and inputs:
            for one in inputs:
                if isinstance(one, Mapping):
                    yield f"{words} {one.get('name') or 'x'}", one
            return


def feature_count(one: Mapping[str, Any]) -> int:
    """Features of an input, 0 where its shape is not known."""
    shape = one.get("shape")
    try:
        return int(np.prod([int(n) for n in shape])) if isinstance(shape, list | tuple) else 0
    except (TypeError, ValueError, OverflowError):
        return 0


def _features(look: Look) -> int:
    return sum(feature_count(one) for _, one in input_facts(look))


def _number(part: Mapping[str, Any], key: str) -> float | None:
    value = part.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
        return None
    return float(value)


def inputs_not_normalised(run: object) -> Finding | None:
    """Inputs with a mean or a deviation above 30, or a deviation below 1e-3, and no layer that scales them.

    A value 1,000 deviations out counts too. Indices of an Embedding are no quantities.
    """
    look = Look.at(run)
    layers = look.fact("layers")
    names = [str(n) for n in layers] if isinstance(layers, Mapping) else []
    if any(n in _SCALED or n == "Normalization" for n in names):
        return None
    for name, one in input_facts(look):
        kind = str(one.get("dtype") or "float32")
        if kind.startswith(("int", "uint", "string", "bool")) and "Embedding" in names:
            continue
        mean, deviation = _number(one, "mean"), _number(one, "std")
        low, high = _number(one, "min"), _number(one, "max")
        if mean is None or deviation is None:
            continue
        size = max(abs(mean), deviation)
        far, known = max(abs(low or 0.0), abs(high or 0.0)), low is not None and high is not None
        if size > at.INPUT_LARGE:
            what = "large"
        elif far > 1000 * max(deviation, 1.0) / 10 and far > at.INPUT_LARGE:
            what = "large in places"
        elif deviation > 0 and (far if known else 3 * size) < at.INPUT_SMALL:
            what = "tiny"
        elif size > at.INPUT_ODD:
            what = "somewhat large"
        else:
            continue
        spread = (
            f", from {short(low)} to {short(high)}" if low is not None and high is not None else ""
        )
        inside = what != "tiny" and _scaled_inside(look)
        if inside:
            return Finding(
                "inputs_not_normalised",
                "info",
                f"The {name} have a mean of {short(mean)} and a deviation of {short(deviation)}{spread}: {what}; but the "
                f"first step's loss was {look.loss[0]:.4g}, no more than that of a model that knows nothing.",
                "Something in the model scales them: a division in `call`, or a normalisation right behind the first layer.",
                advise(data="If nothing is meant to, scale them: see `tfr.check(model, data)`."),
            )
        return Finding(
            "inputs_not_normalised",
            "info" if what == "somewhat large" else "warning",
            f"The {name} have a mean of {short(mean)} and a deviation of {short(deviation)}{spread}: {what}.",
            "The inputs are not normalised: the first layer's outputs and gradients take their scale, and a "
            "learning rate that is usual is too high or too low for it.",
            advise(
                data="Bring every feature to mean 0 and deviation 1 with the training data's numbers: "
                "`layer = keras.layers.Normalization(); layer.adapt(x_train)` as the first layer, or "
                "`keras.layers.Rescaling(1 / 255)` for pixels."
            ),
        )
    return None


def _scaled_inside(look: Look) -> bool:
    """Whether the first loss says that inputs of such a size do not reach the first weights as they are.

    Logits grow as the inputs do: a cross-entropy then begins at many times log K. Measured: .9 to 1.3 times
    where the model divides them, 20 times and more where it does not.
    """
    known = look.untrained
    return bool(
        known
        and look.cross_entropy
        and look.loss.size >= at.FIRST_STEPS
        and look.number(0) == 0
        and look.loss[0] < at.INITIAL_ODD * known
    )


def targets_not_normalised(run: object) -> Finding | None:
    """Numbers to be predicted with a root mean square above 50 or below 1e-3, and a loss still poor.

    Poor: above a third of what guessing their mean gives, or of its start where that is not known.
    """
    look = Look.at(run)
    mean, deviation = look.label("mean"), look.label("std")
    known = isinstance(mean, int | float) and isinstance(deviation, int | float)
    if look.label("kind") != "real" or not known or look.trend is None:
        return None
    size = math.hypot(mean, deviation)
    guess = look.guess if look.guess is not None else look.trend.start
    if at.TARGET_SMALL <= size <= at.TARGET_LARGE or not look.trend.end > at.TARGETS_POOR * guess:
        return None
    return Finding(
        "targets_not_normalised",
        "warning",
        f"The targets have a mean of {short(mean)} and a deviation of {short(deviation)}; the training "
        f"loss ended at {short(look.trend.end)}, and guessing their mean gives {short(guess)}.",
        "The targets are not normalised: weights that begin near 1 have to travel that far, and gradients and "
        "losses take their scale.",
        advise(
            data="Train on `(y - y_train.mean()) / y_train.std()`, and multiply predictions back: a last "
            f"`keras.layers.Rescaling({deviation:.6g}, offset={mean:.6g})` after the trained model does it."
        ),
    )


def constant_features(run: object) -> Finding | None:
    """Inputs of which nine tenths or more never change (an error where all do not); few are worth knowing."""
    look = Look.at(run)
    for name, one in input_facts(look):
        constant, deviation = _number(one, "constant_features"), _number(one, "std")
        low, high = _number(one, "min"), _number(one, "max")
        features = feature_count(one)
        same = deviation == 0 or (low is not None and low == high)
        if not same and str(one.get("dtype") or "").startswith(("int", "uint")) and look.embeds:
            continue  # a place of a text that always has the same word
        share = 1.0 if same else min(1.0, (constant or 0) / features) if features else 0.0
        if share < at.CONSTANT_SOME:
            continue
        count = features if same else int(constant or 0)
        return Finding(
            "constant_features",
            "error" if share >= 1 else "warning" if share >= at.CONSTANT_MOST else "info",
            f"{count:,} of {features:,} features of the {name} have one value for every sample looked at.",
            "The inputs hold nothing that tells samples apart: they were lost on their way, or filled with zeros."
            if share >= 1
            else "These features carry nothing.",
            advise(
                data="Look at a batch as the model gets it. " + check_data()
                if share >= at.CONSTANT_MOST
                else "Leave them out, if they are not padding or borders."
            ),
        )
    return None


def _order_repeats(look: Look) -> float | None:
    """How alike the epochs' patterns of step losses are, where they are smooth over the epoch.

    The mean correlation of an epoch's step losses with the next one's, or that of neighbouring steps,
    whichever is less: shuffled data give noise, sorted data a saw-tooth that comes back. A parabola is
    taken out of each epoch first, which is how the loss falls within it; what is left must be more
    than 1.5 % of the loss.
    """
    per, loss = look.steps_per_epoch, look.column("steps", "loss")
    if not per or per < 10 or loss.size < 3 * per:
        return None
    epochs = min(20, loss.size // per)
    table = loss[: epochs * per].reshape(epochs, per)[1:]
    if not np.isfinite(table).all() or np.abs(table).max() > 1e100:
        return None
    place = np.linspace(-1, 1, per)
    waves = np.linalg.qr(np.stack([np.ones(per), place, place**2], 1))[0]
    left = table - (table @ waves) @ waves.T
    deviation = left.std(1, keepdims=True)
    if (deviation <= at.ORDER_SWING * np.abs(table.mean(1, keepdims=True))).any():
        return None
    left = left / deviation
    across = float(np.mean([(left[i] * left[i + 1]).mean() for i in range(len(left) - 1)]))
    along = float((left[:, 1:] * left[:, :-1]).mean())
    return min(across, along)


def labels_sorted(run: object) -> Finding | None:
    """Data that come in one order, and a loss that shows it: a saw-tooth that comes back in every epoch.

    The epochs' step losses correlate with each other and with their neighbours by more than .4 (of
    shuffled data by .2 at most). Sorted labels alone are worth knowing: `fit` shuffles arrays.
    """
    look = Look.at(run)
    told = look.fact("data", "labels", "sorted") is True
    repeats = _order_repeats(look)
    shown = repeats is not None and repeats > at.ORDER_CORRELATION
    if not shown:
        if not told:
            return None
        return Finding(
            "labels_sorted",
            "info",
            "The labels are sorted.",
            "The data lie in the order of their classes; that does no harm while they are shuffled.",
            advise(
                data="Keep `shuffle=True` in `fit`; shuffle a `tf.data.Dataset` over all of its samples."
            ),
        )
    return Finding(
        "labels_sorted",
        "warning",
        ("The labels are sorted, and the" if told else "The")
        + f" training loss makes the same saw-tooth in every epoch (correlation {repeats:.2f} from epoch to epoch and from "
        "step to step; shuffled data give about 0).",
        "The data are not shuffled: each batch holds one class or one source, and the model forgets the others.",
        advise(
            data="Shuffle them: `fit(..., shuffle=True)` for arrays; `dataset.shuffle(n)` with n the number of samples, "
            "before `batch`, for a `tf.data.Dataset`; or permute the files once on disk."
        ),
    )


def labels_unrelated(run: object) -> Finding | None:
    """Labels that the inputs say nothing of: what training learns, it learns by heart.

    By the end of the first epoch, on samples never seen before, the training loss is not below .95
    of guessing, the validation loss never is, and gradients and updates were sane, so that a model
    that could learn would have. Silent where validation is right more often than chance explains.
    """
    look = Look.at(run)
    guess, trend = look.guess, look.trend
    if (
        guess is None
        or guess <= 0
        or trend is None
        or not trend.of_steps
        or not gradients_alive(look)
    ):
        return None
    frozen, trained = look.fact_number("frozen_weights"), look.fact_number("trainable_weights")
    if (frozen or 0) > (trained or 0):
        return None
    _, loss, validation = look.both_losses
    if loss.size < 3 or look.beats_chance:
        return None
    first = look.first_epoch if look.first_epoch is not None else float(loss[0])
    best = float(validation.min())
    if not 0.95 * guess < first < 1.25 * guess or best < 0.93 * guess:
        return None
    heart = trend.end < 0.9 * guess
    if look.early or not (heart or look.flat(at.FLAT_AT_GUESS)):
        return None
    if not heart and look.running:
        return None  # many a model stands at guessing for a while and then learns
    # A net whose first layers get no gradient looks the same from the loss: only what it learnt by
    # heart, or gradients in every layer, tells.
    if not heart and not look.layers:
        return None
    return Finding(
        "labels_unrelated",
        "warning",
        f"The training loss was {first:.4g} at the end of the first epoch, the validation loss {best:.4g} at its best; "
        f"guessing by the labels' frequencies gives {guess:.4g}"
        + (
            f". Training then fell to {trend.end:.4g}, by heart."
            if heart
            else f", and training ended at {trend.end:.4g}."
        ),
        "The labels do not belong to their inputs: shuffled apart, misaligned by a join or a filter, or mostly wrong."
        + (
            ""
            if heart
            else " Or the inputs hold next to nothing of them, or the model cannot express what links them (no "
            "activation between its layers, a softmax inside)."
        ),
        advise(
            data=f"Look at twenty samples with their labels; shuffle both with one permutation. {check_data()}",
            rate=f"If they are right: {lower_rate(look)[0].lower()}{lower_rate(look)[1:]}",
            architecture=""
            if heart
            else "Train on one batch alone: where the loss does not go to zero, it is the model.",
        ),
    )


def duplicate_samples(run: object) -> Finding | None:
    """Training samples that are copies of others: a warning from one in five on, of 8 features or more."""
    look = Look.at(run)
    repeated, samples = look.fact_number("data", "repeated"), look.fact_number("data", "samples")
    if not repeated or not samples:
        return None
    looked = min(samples, 10_000)
    share = min(1.0, repeated / looked)
    if share < at.REPEATED_SOME:
        return None
    return Finding(
        "duplicate_samples",
        "warning"
        if share >= at.REPEATED_MANY and _features(look) >= at.REPEATED_FEATURES
        else "info",
        f"{int(repeated):,} of {plural(int(looked), 'training sample')} looked at are copies of others ({share:.0%}).",
        "Samples are repeated: the data are fewer than they look, and copies may lie on both sides of a split.",
        advise(
            data="Remove duplicates before splitting; to weight samples or classes use `sample_weight` or `class_weight`."
        ),
    )


def class_collapse(run: object) -> Finding | None:
    """A class far more frequent than the others, and an accuracy that is its share.

    The majority has half of the labels and 3 times its even share, or 80 %. A warning where accuracy
    stays within 2 points of it, or from 90 % on; else, and where accuracy (validation's where there is
    one) is half of the way from that share to 1, worth knowing.
    """
    look = Look.at(run)
    shares = look.label_shares
    if shares.size < 2:
        return None
    most = float(shares.max())
    if most < at.MAJORITY or (most < at.MAJORITY_LARGE and most * shares.size < at.IMBALANCED):
        return None
    accuracy, validation = (finite(a) for a in look.accuracies)
    last = accuracy if accuracy.size else validation
    stuck = not look.early and last.size >= 2 and bool((last[-2:] <= most + at.COLLAPSE).all())
    judged = validation if validation.size else accuracy
    learnt = judged.size > 0 and judged[-1] >= most + at.COLLAPSE_LEARNT * (1 - most)
    stuck = stuck and not learnt
    known = f"; the accuracy ended at {last[-1]:.1%}" if last.size else ""
    return Finding(
        "class_collapse",
        "warning"
        if stuck or (most >= at.MAJORITY_HUGE and not learnt and not look.running)
        else "info",
        f"Class {int(np.argmax(shares))} is {most:.1%} of {shares.size} classes' labels{known}.",
        "The classes are imbalanced, and the model answers with the most frequent one."
        if stuck
        else "The classes are imbalanced: accuracy says little of the rare ones.",
        advise(
            data="Collect or draw more of the rare classes; mask padding out of the loss; or weight them: "
            "`fit(..., class_weight={c: n / (k * count[c])})`.",
            rest="Watch a metric per class (`keras.metrics.F1Score(average='macro')`) instead of accuracy.",
        ),
    )
