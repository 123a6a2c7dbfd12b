"""What the probes of `telling` mean, in words."""

from collections.abc import Iterator

from tfrecipes.doctor.label_checks import Output
from tfrecipes.doctor.rules import Finding
from tfrecipes.doctor.telling import TOLD, Telling

NOISY = 0.2
# Validation scores less than this share of what training's held-out half does above chance.
CARRIED = 0.3


def not_told(told: Telling, by_model: tuple[bool, float, int] | None, output: Output) -> Finding:
    """Labels that nothing tells from shuffled ones, with what would have been seen."""
    kind = "correlation" if output.kind == "regression" else "balanced accuracy"
    also = (
        ""
        if by_model is None
        else f" The model itself, after {by_model[2]} steps, is {by_model[1]:.1f} deviations above "
        "shuffled labels."
    )
    return Finding(
        "labels_unrelated",
        "warning",
        f"data: learnt from {told.samples:,} samples, {told.probe} reaches a {kind} of "
        f"{told.true:.3f} on held-out ones with the true {output.name}, and {told.chance:.3f} "
        f"(deviation {told.deviation:.3f}) with shuffled labels.{also} {kind.capitalize()} above "
        f"{told.chance + TOLD * told.deviation:.3f} would have been seen; what neither sees, "
        "parity for one, is not excluded.",
        "Inputs and labels do not belong together: one of them was shuffled, sorted or cut without "
        "the other, or the inputs do not hold the answer.",
        "Look at some pairs: for i in range(8): print(y[i], x[i]). Shuffle both by one order: "
        "order = rng.permutation(len(y)); x, y = x[order], y[order].",
    )


def told_but(told: Telling, output: Output) -> Iterator[Finding]:
    """Labels that can be told, though many are random, or though not in validation."""
    kind = "correlation" if output.kind == "regression" else "balanced accuracy"
    if told.noise is not None and told.noise > NOISY:
        yield Finding(
            "labels_unrelated",
            "warning",
            f"data: up to {told.noise:.0%} of {output.name} look drawn at random: {told.probe} is "
            f"right in {told.true:.1%} (balanced) of held-out samples, and where it is wrong, the "
            "labels are spread over the other classes as chance would spread them.",
            "Many labels do not belong to their inputs. A hard task is another picture: there "
            "certain classes are taken for certain others.",
            "Look at some pairs: for i in range(20): print(y[i], x[i]). Mend how they are "
            "labelled or joined; until then label smoothing and early stopping limit the harm.",
        )
    above = told.true - told.chance
    if told.elsewhere is not None and told.elsewhere - told.chance < CARRIED * above:
        yield Finding(
            "validation_not_representative",
            "warning",
            f"validation_data: {told.probe}, learnt from training data, reaches a {kind} of "
            f"{told.true:.3f} on held-out training samples and of {told.elsewhere:.3f} on validation "
            f"data (shuffled labels: {told.chance:.3f}).",
            "Inputs or labels mean something else in validation: other numbers for the classes, "
            "another order of rows, another preparation.",
            "Compare some pairs of one class: x[y == 0][:4] and x_val[y_val == 0][:4]; make both "
            "from one whole: order = rng.permutation(len(y)).",
        )
