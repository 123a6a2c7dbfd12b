"""The plan of a step: what every callback and the recipe claimed, sealed before anything is built.

Callbacks do not run inside the step; they say beforehand what the step must do. So their order
cannot matter, and two of them that want the same thing differently are an error with both names.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import tensorflow as tf

    from tfrecipes.arithmetic.telemetry import Column


class Averaging(Protocol):
    """What the step asks of an average; `tfrecipes.callbacks.averages` has the classes.

    `shown_in_epochs`: whether validation and checkpoints see the average (EMA) or raw weights.
    """

    shown_in_epochs: bool

    def resolve(self, fit: Any) -> None: ...
    def coefficient(self, n: "tf.Tensor") -> "tf.Tensor": ...
    def due(self, t: "tf.Tensor") -> "tf.Tensor": ...
    def rate(self, t: "tf.Tensor", scheduled: "tf.Tensor") -> "tf.Tensor": ...
    def key(self) -> tuple[Any, ...]: ...
    def kind(self) -> tuple[Any, ...]: ...


@dataclass(frozen=True)
class StepPlan:
    """What one optimizer step does beyond forward, backward and update.

    Attributes:
        micro_batch: Samples of one forward and backward pass on one replica; None = the batch.
        micro_batches: Equal parts that a step's batch is split into; 1 = off.
        accumulate: Batches of fit's iterator that make one step; 1 = off.
        average: The average to keep, or None.
        columns: Columns of the telemetry's row; () = no telemetry.
        layers: Every how many steps each layer group's norms are written; None = never.
        on_nonfinite: What a step that is not finite leads to: "skip", then stop; or "stop".
        max_bad_steps: Skipped steps in a row after which the run stops.
        label_smoothing: Smoothing in training of every cross-entropy without one of its own.
    """

    micro_batch: int | None = None
    micro_batches: int = 1
    accumulate: int = 1
    average: Averaging | None = None
    columns: "tuple[Column, ...]" = ()
    layers: int | None = None
    on_nonfinite: str = "skip"
    max_bad_steps: int = 25
    label_smoothing: float = 0.0

    def key(self) -> tuple[Any, ...]:
        """What two plans that build the same step have in common."""
        return tuple(
            (f.name, value.key() if f.name == "average" and value else value)
            for f in fields(self)
            if f.name not in _HOST_FIELDS
            for value in [getattr(self, f.name)]
        )


# Fields that only the host looks at: another value is no reason to trace again.
_HOST_FIELDS = ("on_nonfinite", "max_bad_steps")
# Three ways to say how a step's batch is cut; a plan has at most one.
_CUTS = ("micro_batch", "micro_batches", "accumulate")


class Claims:
    """Fields of the plan as claimed so far, each with the name of who claimed it."""

    def __init__(self) -> None:
        self._claimed: dict[str, tuple[Any, str]] = {}

    def __bool__(self) -> bool:
        return bool(self._claimed)

    def claim(self, by: str, values: Mapping[str, Any]) -> None:
        """Claim fields.

        Raises:
            ValueError: If another claimed one of them with another value.
        """
        known = {f.name for f in fields(StepPlan)}
        for field, value in values.items():
            if field not in known:
                raise ValueError(f"StepPlan: has no field {field!r}. Fields: {sorted(known)}.")
            if field in self._claimed:
                taken, other = self._claimed[field]
                raise ValueError(
                    f"{by}: `{field}` is already claimed by {other}. Received: {value!r} beside "
                    f"{taken!r}. Keep one of the two."
                )
            self._claimed[field] = (value, by)

    def seal(self, base: StepPlan) -> StepPlan:
        """The frozen plan: what was claimed over `base`.

        Raises:
            ValueError: If a step would be cut into micro-batches in two ways.
        """
        plan = replace(base, **{field: value for field, (value, _) in self._claimed.items()})
        defaults = StepPlan()
        cuts = {f: getattr(plan, f) for f in _CUTS if getattr(plan, f) != getattr(defaults, f)}
        if len(cuts) > 1:
            named = [self._claimed[f][1] if f in self._claimed else "the recipe" for f in cuts]
            raise ValueError(
                f"{named[1]}: a step is cut into micro-batches once, and {named[0]} does it "
                f"already. Received: {cuts}. Keep one of MicroBatch, GradientAccumulation and the "
                "recipe's `gradient_accumulation_steps`."
            )
        return plan
