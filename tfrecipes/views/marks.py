"""Where on a curve a finding is, and the numbered mark that says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tfrecipes.views.canvas import ANCHOR, BLUE, BROWN, PAPER, RED
from tfrecipes.views.curves import Curves

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Which panel shows what a rule looked at, the first that the run has.
PANELS: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        (
            "logits_mismatch",
            "wrong_loss",
            "constant_features",
            "labels_sorted",
            "inputs_not_normalised",
            "targets_not_normalised",
            "dropout_too_high",
            "batch_norm_tiny",
            "initial_loss",
            "diverged",
            "learning_rate_too_high",
            "labels_unrelated",
            "validation_leak",
            "duplicate_samples",
            "validation_not_representative",
            "oscillating",
            "falling_slowly",
            "predicting_prior",
            "loss_not_falling",
            "plateau",
            "loss_spike",
            "validation_gap",
            "noisy_validation",
            "saturated_early",
            "still_improving",
        ),
        ("loss",),
    ),
    "class_collapse": ("metric-1", "loss"),
    "not_finite": ("norm", "loss"),
    "vanishing_gradients": ("layer-norms", "norm"),
    "gradient_spike": ("norm",),
    "mostly_clipped": ("norm",),
    "float16_without_scale": ("scale", "norm"),
    "loss_scale_overflows": ("scale", "norm"),
    "frozen_layers": ("layers", "ratio"),
    "dead_layers": ("layers", "ratio"),
    "update_ratio": ("ratio", "layers"),
    "weight_decay_too_high": ("ratio", "loss"),
    "schedule_too_short": ("rate",),
    "learning_rate_off_schedule": ("rate",),
    "warmup_missing": ("rate",),
    "input_bound": ("waits", "speed"),
    "communication_bound": ("waits", "speed"),
}
# A word in a rule's name or in backticks in its evidence, for rules that are not ours.
_WORDS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("loss_scale", ("scale",)),
    ("layer", ("layers", "ratio")),
    ("update", ("ratio", "layers")),
    ("clip", ("norm",)),
    ("grad", ("norm",)),
    ("rate", ("rate",)),
    ("warmup", ("rate",)),
    ("schedule", ("rate",)),
    ("bound", ("waits", "speed")),
    ("data_wait", ("waits", "speed")),
    ("memory", ("memory",)),
    ("accuracy", ("metric-1",)),
)
_COLOURS = {"error": RED, "warning": BROWN, "info": BLUE}
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d+)(?!\.?\d|\s?%)"
# "step 612", "epochs 3 to 9", "from step 10 to step 20".
_AT = re.compile(
    rf"\b(step|epoch)s?\s+{_NUMBER}(?:\s*(?:to|and|until|through|-)\s*(?:\1\s+)?{_NUMBER})?"
)
# A number's width and a little air, as a share of the narrowest panel's.
_BADGE = 0.075


class Mark(NamedTuple):
    """A finding's place on a curve.

    Attributes:
        number: The finding's, from 1.
        severity: Its word.
        panel: Key of the panel.
        start: x where it begins.
        end: x where it ends; the start again for a single step or epoch.
        whole: Whether it is about the whole run.
        words: The place in words: "step 1,203", "epochs 4 to 9", "the whole run".
    """

    number: int
    severity: str
    panel: str
    start: float
    end: float
    whole: bool
    words: str

    @property
    def anchor(self) -> str:
        """The id that a link leads to."""
        return f"{ANCHOR}{self.number}"


def marks_of(
    curves: Curves, keys: Sequence[str], findings: Iterable[Mapping[str, Any]]
) -> dict[int, Mark]:
    """The places of findings, by the finding's number from 1.

    The panel is what the rule looks at; steps or epochs are those that the evidence names, and the whole
    run where it names none. A finding has no place only where nothing is drawn.

    Args:
        curves: The run.
        keys: Keys of the panels that are drawn.
        findings: Dicts with `rule`, `severity` and `evidence`.
    """
    marks = {}
    for number, finding in enumerate(findings, 1):
        panel = _panel(str(finding.get("rule")), str(finding.get("evidence")), keys)
        if panel is not None:
            place = _place(curves, str(finding.get("evidence")))
            severity = str(finding.get("severity"))
            marks[number] = Mark(number, severity, panel, *place)
    return marks


def _panel(rule: str, evidence: str, keys: Sequence[str]) -> str | None:
    named = " ".join([rule, *re.findall(r"`([^`]*)`", evidence)])
    wanted = PANELS.get(rule) or [k for word, some in _WORDS if word in named for k in some]
    return next((key for key in (*wanted, "loss", *keys) if key in keys), None)


def _place(curves: Curves, evidence: str) -> tuple[float, float, bool, str]:
    first, last = curves.extent
    found = [match for match in _AT.finditer(evidence) if match[1] == "step" and curves.by_step]
    found = found or [match for match in _AT.finditer(evidence) if match[1] == "epoch"]
    numbers = [int(n.replace(",", "")) for m in found for n in m.groups()[1:] if n]
    xs = [x for x in (_x(curves, found[0][1], n) for n in numbers) if x is not None]
    if not xs:
        return first, last, True, "the whole run"
    low, high = min(numbers), max(numbers)
    unit = found[0][1]
    words = f"{unit} {low:,}" if low == high else f"{unit}s {low:,} to {high:,}"
    return min(xs), max(xs), False, words


def _x(curves: Curves, unit: str, number: int) -> float | None:
    """Where a step or an epoch (from 1) stands on the x axis; None if it is outside of the run."""
    if unit == "epoch":
        x = curves.epoch_x
        return (
            float(x[number - 1]) if 1 <= number <= x.size and np.isfinite(x[number - 1]) else None
        )
    first, last = curves.extent
    return float(number) if first <= number <= last else None


def draw_marks(axes: Axes, curves: Curves, marks: Sequence[Mark]) -> None:
    """Marks places on a panel whose lines are drawn: a span and, above it, the finding's number.

    A number is a link back to the finding, and has the mark's anchor as its id. Numbers that would
    cover each other stand side by side.

    Args:
        axes: The panel, with its limits as they stay.
        curves: The run.
        marks: Of this panel.
    """
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    marks = sorted(marks, key=lambda mark: (mark.start + mark.end, mark.number))
    middles = [(mark.start + mark.end) / 2 for mark in marks]
    wanted = np.array([(x - left) / ((right - left) or 1) for x in middles])
    for mark, x in zip(marks, _apart(wanted, _BADGE), strict=True):
        colour = _COLOURS.get(mark.severity, BLUE)
        if mark.whole:
            span = [max(mark.start, left), min(mark.end, right)]
            axes.plot(
                span,
                [1, 1],
                color=colour,
                lw=3,
                alpha=0.6,
                clip_on=False,
                zorder=4,
                transform=axes.get_xaxis_transform(),
                solid_capstyle="butt",
                label="_",
            )
        elif mark.start == mark.end:
            axes.axvline(mark.start, color=colour, lw=1.4, ls=(0, (4, 2)), zorder=1.5, label="_")
        else:
            axes.axvspan(mark.start, mark.end, color=colour, alpha=0.13, lw=0, zorder=0.5)
        badge = axes.annotate(
            str(mark.number),
            (x, 1),
            xycoords="axes fraction",
            xytext=(0, 9),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=8,
            fontweight="bold",
            color=PAPER,
            annotation_clip=False,
            zorder=5,
            bbox={"boxstyle": "circle,pad=0.28", "facecolor": colour, "edgecolor": PAPER},
        )
        badge.set_gid(mark.anchor)
        badge.set_url(f"#{mark.anchor}-text")
    axes.set_xlim(left, right)
    axes.set_ylim(bottom, top)


def _apart(wanted: np.ndarray, least: float) -> np.ndarray:
    """Sorted positions in 0..1, moved as little as needed to be `least` apart, as far as all fit."""
    if wanted.size == 0:
        return wanted
    least = min(least, 1 / max(wanted.size - 1, 1))
    steps = least * np.arange(wanted.size)
    placed = np.maximum.accumulate(np.clip(wanted, 0, 1) - steps) + steps
    return placed - np.maximum(placed + least * np.arange(wanted.size)[::-1] - 1, 0)
