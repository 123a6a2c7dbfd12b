"""Training and validation beside each other."""

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.data import feature_count, input_facts
from tfrecipes.doctor.rules.divergence import has_diverged
from tfrecipes.doctor.rules.finding import Finding, Severity
from tfrecipes.doctor.rules.look import Look
from tfrecipes.doctor.rules.remedies import advise, change, check_data, lower_rate
from tfrecipes.doctor.rules.robust import finite, median, noise, plural, short
from tfrecipes.doctor.rules.tables import mapping


def _accuracy_held(look: Look, best: int, epochs: np.ndarray) -> bool:
    accuracy = look.accuracies[1]
    if accuracy.size != look.epoch("loss").size or not accuracy.size:
        return False
    taken = accuracy[epochs.astype(int) - 1]
    return bool(np.isfinite(taken).all() and taken[-2:].max() >= taken[best])


def _training_then(look: Look, loss: np.ndarray) -> float:
    return look.trend.end if look.trend is not None and look.trend.of_steps else float(loss[-1])


def validation_gap(run: object) -> Finding | None:
    """Overfitting: a validation loss that rose from its best while the training loss went on falling.

    By 10 % (two last epochs agreeing), its best at least 3 epochs and a fifth of the run back; or a
    validation loss that stands at 10 times the training loss and a quarter of what guessing gives (3 times
    and half of it), after training went below a tenth of it. The epoch in which validation was best is where it began.
    """
    look = Look.at(run)
    epochs, loss, validation = look.both_losses
    if epochs.size < at.ENOUGH_EPOCHS or has_diverged(look):
        return None
    best = int(np.argmin(validation))
    since = validation.size - 1 - best
    rise = float(validation[-2:].min() - validation[best])
    level = look.guess if look.guess is not None else abs(float(loss[0]))
    rose = (
        validation[-1] > at.GAP_MATTERS * level
        and since >= max(at.GAP_EPOCHS, validation.size // 5)
        and rise > at.GAP_RISE * abs(validation[best])
        and loss[-1] < loss[best]
    )
    guess = look.guess
    training = _training_then(look, loss)
    stands = float(validation[-2:].min())
    # While it runs, validation that is still at its best may yet catch up (BatchNorm's statistics do).
    wide = (
        guess is not None
        and not (look.running and since < at.GAP_EPOCHS)
        and 0 < training < 0.1 * guess
        and any(
            stands > times * training and stands > share * guess for times, share in at.GAP_WIDE
        )
    )
    if not (rose or wide):
        return None
    if not rose and (lag := _lag(look, validation)) is not None and lag[0] == "info":
        return None  # BatchNormalization's averages are on their way, and validation with them
    held = rose and not wide and _accuracy_held(look, best, epochs)
    where = int(epochs[best])
    if rose:
        seen = (
            f"The validation loss was best in epoch {where} ({validation[best]:.4g}) and ended at "
            f"{validation[-1]:.4g}, while the training loss fell from {loss[best]:.4g} to {loss[-1]:.4g}"
            + ("; the validation accuracy held." if held else ".")
        )
    else:
        apart = int(epochs[int(np.argmax(validation > 2 * loss))])
        seen = (
            f"The training loss ended at {training:.4g}, the validation loss at {validation[-1]:.4g} (best "
            f"{validation[best]:.4g} in epoch {where}); the gap began in epoch {apart}."
        )
    return Finding(
        "validation_gap",
        "info" if held else "warning",
        seen,
        "The model learns its training data by heart: overfitting.",
        advise(
            data="Take more data or augment them; look for duplicates among them.",
            architecture="Add dropout (.1 to .5), or take a smaller model.",
            rest=f"Raise the weight decay (.01 to .3 is the range for AdamW): "
            f"{change(look, 'optimizer.weight_decay', _more_decay(look))}; keep the best epoch: "
            f"{change(look, 'train.best', 'val_loss')}; or stop at it: {change(look, 'train.epochs', max(1, where))}.",
        ),
    )


def _more_decay(look: Look) -> str:
    decay = look.fact_number("optimizer", "weight_decay")
    decay = decay if decay is not None else look.setting("optimizer", "weight_decay")
    now = float(decay) if isinstance(decay, int | float) else 0.0
    return f"{min(0.3, max(0.05, 3 * now)):.2g}"


def _are_few_values(look: Look, share: float) -> bool:
    """Whether equal rows are what such data are made of: few features, and training's rows repeat as often."""
    features = [one for _, one in input_facts(look)]
    repeated, looked = look.fact_number("data", "repeated"), look.fact_number("data", "looked_at")
    own = (repeated or 0.0) / looked if looked else 0.0
    narrow = bool(features) and sum(map(feature_count, features)) < at.REPEATED_FEATURES
    return narrow and 0 < share < at.AS_OFTEN * own


def _shared(look: Look) -> tuple[float, str] | None:
    shared = look.fact_number("validation", "shared")
    if not shared:
        return None
    samples = look.fact_number("validation", "samples")
    looked = min(samples, 10_000) if samples else None
    share = shared / looked if looked else None
    if share is not None and share < at.LEAKED:
        return None
    said = plural(int(shared), "validation sample") + (
        f" ({share:.0%} of those looked at)" if share is not None else ""
    )
    said += " is" if shared == 1 else " are"
    return (1.0 if share is None else share), said


def validation_leak(run: object) -> Finding | None:
    """Validation samples that are training samples too, or validation better than training can explain.

    The second is judged only where the facts say that nothing makes training harder (no dropout, no
    augmentation, no label smoothing, no average, no weights), against the training loss of the epoch after: 20 %
    better in two thirds of the epochs.
    """
    look = Look.at(run)
    if shared := _shared(look):
        share, said = shared
        one = look.fact_number("validation", "shared") == 1
        alone = one and not look.fact_number("validation", "repeated")
        natural = alone or _are_few_values(look, share)
        return Finding(
            "validation_leak",
            "info" if natural else "error" if share > 0.5 else "warning",
            f"{said} among the training samples.",
            "There are few different values, so rows repeat by themselves; or copies lay on both sides of the split."
            if natural
            else "The validation data leak: the validation metrics measure memory.",
            advise(
                data="Split so that no sample (or patient, user, document) is on both sides, duplicates removed first."
            ),
        )
    _, loss, validation = look.both_losses
    known = bool(look.fact("loss", "name")) and look.fact("dropout") is not None
    if (
        loss.size < at.ENOUGH_EPOCHS + 1
        or not known
        or look.noisy_layers
        or look.averaged
        or look.smoothing
        or look.fact("weighted") is True
    ):
        return None
    last = look.loss[-(look.steps_per_epoch or 0) :]
    if last.size and last.mean() > at.HEAVY_TAIL * median(last) > 0:
        return None  # means that a few samples make are not comparable
    after = loss[1:]  # a mean over the next epoch, with weights that are better still
    better = (validation[:-1] < at.BETTER * after) & (after > 0)
    late = better[better.size // 3 :]
    if late.mean() < 2 / 3 or not better[-2:].all():
        return None
    samples = look.fact_number("validation", "samples")
    few = samples is not None and samples < at.FEW_VALIDATION
    return Finding(
        "validation_leak",
        "info" if few or look.fact("data") is None else "warning",
        f"The validation loss was below the next epoch's training loss in {late.mean():.0%} of the last epochs, in the "
        f"last two by {1 - validation[-2] / loss[-1]:.0%}, with no dropout, smoothing or average that would explain it.",
        "The validation data are easier than the training data: they leak from it, hold other classes, or are "
        "not drawn as it is.",
        advise(data=f"Split again, at random and by group. {check_data()}"),
    )


def validation_not_representative(run: object) -> Finding | None:
    """Validation at guessing, from the first epoch on, while training is far below it.

    In the first epoch each training sample is new: a training loss far below guessing there says
    that the task can be learnt from data like the training data; a validation loss that never falls
    below .9 of guessing says that the validation data are of another kind. So does one above 1.1 of it
    throughout, with training below .9 by the end of the second epoch: by heart is at guessing.
    """
    look = Look.at(run)
    if missing := _classes_not_trained(look):
        return missing
    epochs, loss, validation = look.both_losses
    guess = look.guess
    if epochs.size < 3 or guess is None or guess <= 0 or look.early or has_diverged(look):
        return None
    learnt = look.first_epoch if look.first_epoch is not None else float(loss[0])
    best = float(validation.min())
    training = _training_then(look, loss)
    at_guess = best > at.MISFIT * guess and learnt < 0.9 * guess and training < 0.7 * best
    apart = best > 3 * max(learnt, 1e-12) and best > 0.4 * guess and learnt < 0.8 * guess
    # Worse than guessing throughout is no overfitting: labels learnt by heart leave it at guessing.
    second = look.second_epoch if look.second_epoch is not None else learnt
    worse = best > at.WORSE_THAN_GUESS * guess and min(learnt, second) < 0.9 * guess
    if not (at_guess or apart or worse):
        return None
    accuracy = finite(look.accuracies[1])
    known = f", accuracy {accuracy.max():.1%} at most" if accuracy.size else ""
    lag = _lag(look, validation)
    severity, cause, advice = lag or (
        "warning",
        "The validation data are not representative: another distribution, another preprocessing, or labels "
        "that mean something else.",
        advise(
            data="Send a batch of each through the same code and compare ranges and labels; split the "
            f"validation data from the training data at random. {check_data()}"
        ),
    )
    return Finding(
        "validation_not_representative",
        severity,
        f"The training loss was {learnt:.4g} by the end of the first epoch, on samples never seen before; the "
        f"validation loss was never below {best:.4g}{known} (guessing gives {guess:.4g}).",
        cause,
        advice,
    )


def _classes_not_trained(look: Look) -> Finding | None:
    """Classes that validation has, a twentieth of it or more, and training has none of."""
    ours, theirs = (look.fact(which, "labels", "counts") for which in ("data", "validation"))
    if not (isinstance(ours, list) and isinstance(theirs, list) and theirs):
        return None
    if not all(isinstance(n, int) for n in (*ours, *theirs)) or sum(theirs) <= 0:
        return None
    missing = [c for c, n in enumerate(theirs) if n and (c >= len(ours) or not ours[c])]
    share = sum(theirs[c] for c in missing) / sum(theirs)
    if not ours or share < at.CLASSES_NOT_TRAINED:
        return None
    named = ", ".join(map(str, missing[:5])) + ("" if len(missing) <= 5 else " and others")
    return Finding(
        "validation_not_representative",
        "warning",
        f"{share:.0%} of the validation labels are of "
        f"classes that no training sample has ({named}).",
        "The validation data are not representative: classes were lost from training, merged, or split off by class.",
        advise(
            data=f"Split at random or stratified by class, and look at the labels of both. {check_data()}"
        ),
    )


def _lag(look: Look, validation: np.ndarray) -> tuple[Severity, str, str] | None:
    """Averages that have not caught up with the weights: validation is poor, and the data are not to blame."""
    steps, decay = look.column("steps", "loss").size, look.fact_number("average", "decay")
    if decay is not None and decay < 1 and steps * (1 - decay) < at.AVERAGE_SETTLED:
        return (
            "warning",
            f"The average is too slow for the run: decay {decay:g} looks back {1 / (1 - decay):,.0f} updates, and there "
            f"were {steps:,}.",
            advise(
                rest=f"Take a decay of {max(0.9, 1 - 10 / max(100, steps)):.3g}, or `warmup=True`."
            ),
        )
    norms = any("BatchNorm" in str(name) for name in mapping(look.fact("layers")))
    catches_up = validation.size >= 3 and bool((np.diff(validation[-3:]) < 0).all())
    if norms and catches_up and steps < at.BATCH_NORM_SETTLED:
        return (
            "info",
            "BatchNormalization's moving statistics have not caught up: its momentum of .99 takes some 500 steps.",
            advise(architecture="Give it `momentum=0.9` in short runs, or train longer."),
        )
    return None


def _wobble(values: np.ndarray) -> float:
    """From one epoch to the next, what the typical step of a trend leaves."""
    steps = np.diff(values)
    return noise(values[:1] + np.cumsum(steps - np.median(steps))) if steps.size else 0.0


def noisy_validation(run: object) -> Finding | None:
    """A validation loss that jumps from epoch to epoch far more than training does, or a few samples to validate on.

    A warning where the facts say that the validation samples are fewer than 50 and the loss moves by 5 % of its
    level, or fewer than 20: an accuracy of 80 % has a standard error of 6 and of 9 points then. Else worth
    knowing: fewer than 50, or 3 times training's noise and 15 % of its level.
    """
    look = Look.at(run)
    _, loss, validation = look.both_losses
    samples = look.fact_number("validation", "samples")
    few = samples is not None and samples < at.FEW_VALIDATION
    tiny = samples is not None and samples < at.TINY_VALIDATION
    if loss.size < (2 if few else 6) or has_diverged(look):
        return None
    half = loss.size // 3
    own, other = _wobble(loss[half:]), _wobble(validation[half:])
    level = float(np.median(np.abs(validation[half:])))
    jumps = other > at.JUMPS * own and other > 0.15 * level
    if not (jumps or few):
        return None
    return Finding(
        "noisy_validation",
        "warning"
        if tiny or (few and not look.running and other > at.FEW_MOVES * level)
        else "info",
        f"The validation loss moves by about {short(other)} from epoch to epoch around {short(level)}, the training "
        f"loss by {short(own)}"
        + (f"; there are {plural(int(samples), 'validation sample')}." if samples else "."),
        "Too few validation samples: which epoch looks best is chance."
        if few
        else "Validation samples are few or hard, or the learning rate is high for evaluation with single weights.",
        advise(
            data="Take more validation samples (a thousand or more), or cross-validate.",
            rate="" if few else lower_rate(look, 3),
            rest="Compare runs by the mean of the last epochs, or average the weights (`tfr.EMA`).",
        ),
    )
