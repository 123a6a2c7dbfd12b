"""What `find_batch_size` found: numbers, words, a picture."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tfrecipes.tuning.batch_children import in_words
from tfrecipes.views.canvas import BLUE, GREEN, ORANGE, dressed, new_figure, write_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class BatchSize:
    """The largest micro-batch that fits, and how many samples a step can use.

    Attributes:
        micro_batch: The largest that was tried and fits [samples].
        critical_batch: The noise scale at the last point [samples]: a step of so many samples needs
            about twice as many steps as one without noise, and twice as many samples as the
            thriftiest. inf where the gradient is not told from its noise, NaN where it was not
            measured.
        interval: (low, high) of it, 95 %.
        batch_size: What to set, from these two and the batch that was given.
        points: One dict a measurement: `step`, `critical_batch`, `low`, `high`, `trace`,
            `squared_norm`, `samples`.
        tries: One dict a try, in their order: `size`, `fits`, `peak` [bytes], `seconds`, `why`.
        memory: The limit [bytes], or None where the device's own was it.
        given_batch: Samples a step as they were given.
        is_stream: Whether batches come ready made: their size is then the data's, not a recipe's.
        notes: What else is to be known.
    """

    micro_batch: int
    critical_batch: float
    interval: tuple[float, float]
    batch_size: int
    points: list[dict[str, Any]]
    tries: list[dict[str, Any]]
    memory: int | None
    given_batch: int
    is_stream: bool = False
    notes: tuple[str, ...] = field(default=())

    @property
    def gradient_accumulation_steps(self) -> int:
        """Micro-batches of a step of `batch_size` samples: each fits; 1 = it need not be cut."""
        return -(-self.batch_size // self.micro_batch)

    @property
    def changes(self) -> dict[str, Any]:
        """What to change in a recipe: `recipe.replace(**found.changes)`."""
        return {
            "train.batch_size": self.batch_size,
            "step.micro_batch": None,
            "step.gradient_accumulation_steps": self.gradient_accumulation_steps,
        }

    def as_dict(self) -> dict[str, Any]:
        """Everything as JSON takes it; what is not finite is None."""
        low, high = self.interval
        return {
            "micro_batch": self.micro_batch,
            "critical_batch": _finite(self.critical_batch),
            "interval": [_finite(low), _finite(high)],
            "batch_size": self.batch_size,
            "gradient_accumulation_steps": self.gradient_accumulation_steps,
            "memory": self.memory,
            "points": [{k: _finite(v) for k, v in point.items()} for point in self.points],
            "tries": self.tries,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [
            f"Micro-batch     {self._micro_batch()}",
            f"Critical batch  {self._critical_batch()}",
            f"What to do      {self._advice()}",
        ]
        return "\n".join([*lines, *(f"Note            {note}" for note in self.notes)])

    def plot(self, path: str | os.PathLike[str] | None = None) -> Figure:
        """Draw the noise scale over the steps of the short training, beside the batch sizes.

        Args:
            path: Where to write the picture (.png, .svg, .pdf); None writes nothing.

        Returns:
            The matplotlib figure.

        Raises:
            ValueError: If nothing was measured, or the picture cannot be written.
        """
        points = [p for p in self.points if p["low"] > 0 or math.isfinite(p["critical_batch"])]
        if not points:
            raise ValueError(
                "find_batch_size: there must be a noise scale to draw. Received: none was "
                f"measured. {' '.join(self.notes)}"
            )
        figure, (axes,) = new_figure(
            "find_batch_size", "Critical batch", [1.6], "95 % intervals; arrows have no upper end"
        )
        sizes = (self.micro_batch, self.batch_size)
        known = [v for p in points for v in (p["low"], p["critical_batch"], p["high"])]
        known = [v for v in (*known, *sizes) if math.isfinite(v) and v > 0]
        bottom, top = min(known) / 2, max(known) * 2
        for point in points:
            step, middle = point["step"], point["critical_batch"]
            open_ended = not math.isfinite(point["high"])
            low, high = max(point["low"], bottom), top if open_ended else point["high"]
            axes.plot([step, step], [low, high], color=BLUE, lw=2)
            axes.plot([step], [high], color=BLUE, marker="^" if open_ended else "_", ms=9)
            axes.plot([step], [low], color=BLUE, marker="_", ms=9)
            if math.isfinite(middle):
                axes.plot([step], [middle], color=BLUE, marker="o", ms=6)
        axes.axhline(self.micro_batch, color=GREEN, lw=1.6, label="largest micro-batch")
        axes.axhline(self.batch_size, color=ORANGE, lw=1.6, ls="--", label="batch size to take")
        axes.set_yscale("log")
        axes.set_ylim(bottom, top)
        steps = [point["step"] for point in points]
        room = max(1.0, 0.1 * (max(steps) - min(steps)))
        axes.set_xlim(min(steps) - room, max(steps) + room)
        dressed(axes, "samples")
        axes.set_xlabel("steps of training")
        axes.legend(
            loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, frameon=False, fontsize=8
        )
        if path is not None:
            write_figure("find_batch_size", figure, path)
        return figure

    # -- words ---------------------------------------------------------------------------------

    def _micro_batch(self) -> str:
        best = max((t for t in self.tries if t["fits"]), key=lambda t: t["size"])
        where = "the GPU" if self.memory is None else in_words(self.memory)
        peak = "" if best["peak"] is None else f": {in_words(best['peak'])} at its peak"
        text = f"{self.micro_batch} is the largest that fits into {where}{peak}"
        beyond = [t for t in self.tries if not t["fits"]]
        if beyond:
            least = min(beyond, key=lambda t: t["size"])
            text += f"; {least['size']} does not ({least['why']})"
        else:
            text += "; no larger one was to be tried"
        count = len(self.tries)
        return f"{text}. {count} {'try' if count == 1 else 'tries'}."

    def _critical_batch(self) -> str:
        if not self.points:
            return "not measured."
        last, first = self.points[-1], self.points[0]
        text = f"{_about(last)} after {last['step']} steps"
        if first is not last:
            text += f"; {_about(first)} at the start"
        return f"{text}. It mostly grows as training goes on."

    def _advice(self) -> str:
        size, given = self.batch_size, self.given_batch
        low, high = self.interval
        key = "the data's batches of" if self.is_stream else "train.batch_size ="
        put = "Batch the data by" if self.is_stream else "Set train.batch_size ="
        if not self.points:
            reason = f"Keep {key} {given}"
        elif not math.isfinite(high):
            reason = (
                f"Keep {key} {given}: so many samples do not tell the gradient from its noise, "
                "and only the lower end is known"
            )
        elif size == given:
            about = "it is about the critical batch" if low <= given <= high else "it is near it"
            reason = f"Keep {key} {given}: {about}"
        elif size > given:
            reason = (
                f"{put} {size}: {given} is below the critical batch, and up to it more samples a "
                "step save nearly as many steps"
            )
        else:
            reason = (
                f"{put} {size}: {given} is above the critical batch, from where on more samples a "
                "step save few steps"
            )
        steps = self.gradient_accumulation_steps
        cut = (
            "a step needs no micro-batches"
            if steps == 1
            else f"set step.gradient_accumulation_steps = {steps} (micro-batches of "
            f"{-(-size // steps)}) or step.micro_batch = {self.micro_batch}"
        )
        again = "" if size == given else " Find the learning rate anew: it belongs to a batch size."
        return f"{reason}; {cut}.{again}"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _about(point: dict[str, Any]) -> str:
    low, high = point["low"], point["high"]
    if not math.isfinite(high):
        return f"at least {_samples(low)} samples (95 %; no upper end)"
    return (
        f"about {_samples(point['critical_batch'])} samples "
        f"(95 % interval {_samples(low)} to {_samples(high)})"
    )


def _samples(value: float) -> str:
    """A number of samples to two digits: more would not be true."""
    if value < 10:
        return f"{value:.2g}"
    digits = 10 ** (int(math.log10(value)) - 1)
    return f"{round(value / digits) * digits:,d}"
