"""What a fault is, and all of them: planted one at a time in a healthy program.

The causes and the accepted consequences of each were written down before any run was looked at.
A name is a rule's; `rule~words` is a rule whose finding must say one of the words (a regular
expression) in its cause or its advice, for rules that name several causes.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from parts.programs import FAMILIES, Program

# A rate that is too high shows in one of these ways, by chance of the seed.
TOO_HIGH = (
    "learning_rate_too_high",
    "diverged~learning rate",
    "not_finite~learning rate",
    "oscillating",
    "loss_not_falling~learning rate",
    "update_ratio~high|large|lower",
)
TOO_LOW = (
    "falling_slowly",
    "loss_not_falling~(raise|low)[^.]*learning.rate|learning.rate[^.]*(raise|low)",
    "update_ratio~low|small|tiny|raise",
)
# What a net that learns nothing shows, whatever the reason: true, and not yet the cause.
LEARNS_NOTHING = (
    "loss_not_falling",
    "falling_slowly",
    "plateau",
    "predicting_prior",
    "class_collapse",
    "saturated_early",
)
# What a loss that jumps shows.
UNSTABLE = (
    "loss_not_falling",
    "diverged",
    "not_finite",
    "oscillating",
    "loss_spike",
    "gradient_spike",
    "mostly_clipped",
    "update_ratio",
    "plateau",
    "predicting_prior",
    "dead_layers",
    "vanishing_gradients",
    "noisy_validation",
    "loss_scale_overflows",
)


@dataclass(frozen=True)
class Fault:
    """One fault.

    Attributes:
        name: Its folder.
        title: For the table.
        plant: Changes a healthy program.
        causes: Rules that name the cause; one of them, ranked first or second, is a hit.
        why: Why those.
        accepted: Rules that name a true consequence: no hit, and no false alarm.
        families: Where it can be planted.
        way: stock or recipe, where only that one lets it through; None = half and half.
        checked: Whether `tfr.check`, before training, is asked too.
    """

    name: str
    title: str
    plant: Callable[[Program], None]
    causes: tuple[str, ...]
    why: str
    accepted: tuple[str, ...] = ()
    families: tuple[str, ...] = FAMILIES
    way: str | None = None
    checked: bool = False


def names(finding: Mapping[str, str], wanted: tuple[str, ...]) -> bool:
    """Whether a finding is one of the wanted."""
    said = f"{finding['cause']} {finding['advice']}".lower()
    for one in wanted:
        rule, _, words = one.partition("~")
        if finding["rule"] == rule and (not words or re.search(words, said)):
            return True
    return False


def every() -> tuple[Fault, ...]:
    """All faults, in the order of the table."""
    from parts import faults_data, faults_model, faults_rate

    found = (*faults_data.FAULTS, *faults_rate.FAULTS, *faults_model.FAULTS)
    doubles = len(found) - len({fault.name for fault in found})
    if doubles:
        raise ValueError(f"faults: names must be different. Received: {doubles} doubles.")
    return found


def way_of(fault: Fault, family: str, seed: int) -> str:
    """Stock or recipe, half and half over faults, families and seeds."""
    if fault.way is not None:
        return fault.way
    number = [one.name for one in every()].index(fault.name) + FAMILIES.index(family) + seed
    return ("stock", "recipe")[number % 2]
