"""The tables of a recipe and their keys: frozen, strict, one model a table.

A key that is left out has the value beside it. What regularises or limits (weight decay,
smoothing, clipping, averages) is off unless the recipe says it; constants of a method (betas,
momentum) are those of its class. A schedule's class takes steps where a recipe takes durations:
`warmup_steps` there is `warmup` here, and both spellings are read.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from tfrecipes.recipe.durations import to_steps
from tfrecipes.recipe.rules import (
    choice,
    device_names,
    duration,
    durations,
    exclusions,
    number,
    text,
    whole,
)

VERSION = 1

# The same as `tfrecipes.DEFAULT_EXCLUDE`, which lives in a later room; a test holds them equal.
DEFAULT_EXCLUDE = ("bias", "norm", "prelu", "ndim<2")

_OFF: dict[str, object] = {"off": None}
_BETA = number(least=0, below=1)
_RATE = number(least=0)
_WARMUP = duration()


class Table(BaseModel):
    """One table: frozen, and a key that it does not have is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Key -> the argument of the class that it becomes; read under both names.
    arguments_in_steps: ClassVar[dict[str, str]] = {}


class Optimizer(Table):
    """`[optimizer]`, what all of them take. `class_name` is the public class it becomes."""

    class_name: ClassVar[str]

    name: str
    weight_decay: Annotated[float, number(least=0, advice="Leave it out for no decay.")] = 0.0
    exclude: Annotated[tuple[str, ...], exclusions()] = DEFAULT_EXCLUDE

    def arguments(self) -> dict[str, Any]:
        """The arguments of `class_name`, without the learning rate."""
        return {key: getattr(self, key) for key in type(self).model_fields if key != "name"}


class _Moments(Optimizer):
    beta_1: Annotated[float, _BETA] = 0.9
    beta_2: Annotated[float, _BETA] = 0.999
    epsilon: Annotated[float, number(above=0)] = 1e-8


class AdamW(_Moments):
    """Adam with decoupled weight decay."""

    class_name: ClassVar[str] = "AdamW"
    name: str = "adamw"


class Adam(_Moments):
    """Adam."""

    class_name: ClassVar[str] = "Adam"
    name: str = "adam"


class SGD(Optimizer):
    """Gradient descent with momentum."""

    class_name: ClassVar[str] = "SGD"
    name: str = "sgd"
    momentum: Annotated[float, _BETA] = 0.9
    nesterov: Annotated[bool, choice(True, False)] = False


class Schedule(Table):
    """`[schedule]`, what all of them take. `class_name` is the public class it becomes."""

    class_name: ClassVar[str]
    takes_total: ClassVar[bool] = True

    name: str
    peak_learning_rate: Annotated[float | Literal["find"], number(above=0, words={"find": "find"})]

    def arguments(self, *, total_steps: int, steps_per_epoch: int | None) -> dict[str, Any]:
        """The arguments of `class_name`, durations turned into steps.

        Args:
            total_steps: Steps of the whole run, >= 1.
            steps_per_epoch: Steps of an epoch, >= 1; None = not known.

        Raises:
            ValueError: If a duration needs a length that is not known.
        """
        length = {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
        given: dict[str, Any] = {"total_steps": total_steps} if self.takes_total else {}
        for key in type(self).model_fields:
            value = getattr(self, key)
            if key in self.arguments_in_steps:
                where = f"schedule.{key}"
                if isinstance(value, tuple):
                    value = [to_steps(one, **length, where=where) for one in value]
                else:
                    value = to_steps(value, **length, where=where)
            if key != "name":
                given[self.arguments_in_steps.get(key, key)] = value
        return given


class _Warmup(Schedule):
    arguments_in_steps: ClassVar[dict[str, str]] = {"warmup": "warmup_steps"}
    warmup: Annotated[int | str, _WARMUP] = 0


class _WarmupThenFall(_Warmup):
    end_learning_rate: Annotated[float, _RATE] = 0.0


class WarmupCosine(_WarmupThenFall):
    """Linear warmup, then a cosine."""

    class_name: ClassVar[str] = "WarmupCosine"
    name: str = "warmup_cosine"


class WarmupLinear(_WarmupThenFall):
    """Linear warmup, then a straight line."""

    class_name: ClassVar[str] = "WarmupLinear"
    name: str = "warmup_linear"


class Polynomial(_WarmupThenFall):
    """Linear warmup, then a power of what is left."""

    class_name: ClassVar[str] = "Polynomial"
    name: str = "polynomial"
    power: Annotated[float, number(above=0)] = 1.0


class WarmupConstant(_Warmup):
    """Linear warmup, then the peak."""

    class_name: ClassVar[str] = "WarmupConstant"
    takes_total: ClassVar[bool] = False
    name: str = "warmup_constant"


class StepDecay(_Warmup):
    """Linear warmup, then the peak, times `factor` from each boundary on."""

    class_name: ClassVar[str] = "StepDecay"
    takes_total: ClassVar[bool] = False
    arguments_in_steps: ClassVar[dict[str, str]] = {
        "warmup": "warmup_steps",
        "boundaries": "boundaries",
    }
    name: str = "step_decay"
    boundaries: Annotated[tuple[int | str, ...], durations()]
    factor: Annotated[float, number(above=0, most=1)] = 0.1


class WarmupStableDecay(_WarmupThenFall):
    """Linear warmup, a plateau, a short decay."""

    class_name: ClassVar[str] = "WarmupStableDecay"
    arguments_in_steps: ClassVar[dict[str, str]] = {
        "warmup": "warmup_steps",
        "decay": "decay_steps",
    }
    name: str = "warmup_stable_decay"
    decay: Annotated[int | str, duration()] = "10%"
    shape: Annotated[str, choice("1-sqrt", "linear", "cosine")] = "1-sqrt"

    def arguments(self, *, total_steps: int, steps_per_epoch: int | None) -> dict[str, Any]:
        """As in `Schedule`. Halves that are both rounded up do not overrun the end."""
        given = super().arguments(total_steps=total_steps, steps_per_epoch=steps_per_epoch)
        if given["warmup_steps"] + given["decay_steps"] == total_steps + 1:
            given["decay_steps"] -= 1
        return given


class OneCycle(Schedule):
    """Up, down, and far below the start."""

    class_name: ClassVar[str] = "OneCycle"
    name: str = "one_cycle"
    warmup_fraction: Annotated[float, number(least=0, below=1)] = 0.3
    initial_factor: Annotated[float, number(least=1)] = 25.0
    final_factor: Annotated[float, number(above=0)] = 1e4


class InverseSqrt(Schedule):
    """Linear warmup, then a fall with the root of the step."""

    class_name: ClassVar[str] = "InverseSqrt"
    takes_total: ClassVar[bool] = False
    arguments_in_steps: ClassVar[dict[str, str]] = {"warmup": "warmup_steps"}
    name: str = "inverse_sqrt"
    warmup: Annotated[int | str, duration(zero=False)]


class CosineRestarts(_WarmupThenFall):
    """Linear warmup, then cosines that start again."""

    class_name: ClassVar[str] = "CosineRestarts"
    takes_total: ClassVar[bool] = False
    arguments_in_steps: ClassVar[dict[str, str]] = {
        "warmup": "warmup_steps",
        "first_cycle": "first_cycle_steps",
    }
    name: str = "cosine_restarts"
    first_cycle: Annotated[int | str, duration(zero=False)]
    cycle_factor: Annotated[float, number(least=1)] = 2.0
    decay: Annotated[float, number(above=0, most=1)] = 1.0


class Step(Table):
    """`[step]`: one optimizer update."""

    precision: Annotated[str, choice("auto", "float32", "bfloat16", "float16")] = "auto"
    global_clipnorm: Annotated[float | None, number(above=0, words=_OFF)] = None
    gradient_accumulation_steps: Annotated[int, whole(advice="1 is off.")] = 1
    micro_batch: Annotated[int | None, whole(words=_OFF)] = None
    on_nonfinite: Annotated[Literal["skip", "rewind", "stop"], choice("skip", "rewind", "stop")] = (
        "skip"
    )
    max_bad_steps: Annotated[int, whole()] = 25
    jit: Annotated[bool | str, choice("auto", True, False)] = "auto"
    steps_per_execution: Annotated[int | str, whole(words={"auto": "auto"})] = "auto"


class Loss(Table):
    """`[loss]`."""

    label_smoothing: Annotated[float, number(least=0, below=1)] = 0.0


class EMA(Table):
    """`[ema]`, off when left out."""

    decay: Annotated[float, number(least=0, below=1)] = 0.999
    warmup: Annotated[bool, choice(True, False)] = True


class SWA(Table):
    """`[swa]`, off when left out. No rate: the schedule's own; no cycle: one average an epoch."""

    start: Annotated[int | str, duration()] = "75%"
    learning_rate: Annotated[float | None, number(above=0, words=_OFF)] = None
    cycle: Annotated[int | str | None, duration(zero=False, words=_OFF)] = None


class Train(Table):
    """`[train]`: the run."""

    epochs: Annotated[int, whole()] = 10
    batch_size: Annotated[int, whole()] = 128
    seed: Annotated[int, whole(least=0, most=2**32 - 1)] = 0
    devices: Annotated[int | str, device_names()] = "auto"
    best: Annotated[
        str | None, text('the name of a metric, such as "val_loss"', "[A-Za-z0-9_./-]{1,100}", _OFF)
    ] = None
    early_stopping: Annotated[int | str | None, duration(zero=False, words=_OFF)] = None
    deterministic: Annotated[bool, choice(True, False)] = False


class Resume(Table):
    """`[resume]`; `every = "off"` writes no checkpoints."""

    every: Annotated[int | str | None, duration(time=True, zero=False, words=_OFF)] = "5min"
    keep: Annotated[int, whole()] = 3


_SCHEDULES: tuple[type[Schedule], ...] = (
    WarmupCosine,
    WarmupLinear,
    WarmupConstant,
    StepDecay,
    WarmupStableDecay,
    OneCycle,
    InverseSqrt,
    CosineRestarts,
    Polynomial,
)
_OPTIMIZERS: tuple[type[Optimizer], ...] = (AdamW, Adam, SGD)

# Tables that are one of several by their `name`, and the name that stands where none is given.
FAMILIES: dict[str, dict[str, type[Table]]] = {
    "optimizer": {str(m.model_fields["name"].default): m for m in _OPTIMIZERS},
    "schedule": {str(m.model_fields["name"].default): m for m in _SCHEDULES},
}
DEFAULT_MEMBER = {"optimizer": "adamw", "schedule": "warmup_cosine"}

# In the order of a recipe file.
TABLES: dict[str, type[Table]] = {
    "optimizer": Optimizer,
    "schedule": Schedule,
    "step": Step,
    "loss": Loss,
    "ema": EMA,
    "swa": SWA,
    "train": Train,
    "resume": Resume,
}
OPTIONAL_TABLES = ("ema", "swa")
