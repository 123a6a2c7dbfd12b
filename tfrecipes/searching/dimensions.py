"""What may vary in a search: one dimension a field, said as plain data."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tfrecipes.recipe.durations import Duration
from tfrecipes.recipe.errors import shown

Kind = Literal["log", "linear", "int", "choice"]

_FORMS = '("log", low, high), ("linear", low, high), ("int", low, high[, step]) or a list of values'
_RANGES = ("log", "linear", "int")

# Enough for any training, and a number that a person reads in the saved recipe.
DIGITS = 5


@dataclass(frozen=True)
class Dimension:
    """One field and the values that it may take.

    Args:
        field: The recipe's dotted name.
        kind: "log" and "linear" draw a number evenly on that scale, "int" a whole number, "choice"
            one of `choices`.
        low: The least value, in `unit`.
        high: The greatest.
        step: Between whole numbers.
        unit: What stands behind the number of a duration, "%" or "ep"; else empty.
        choices: The values of a "choice".

    Example:
        >>> warmup = Dimension.parse("schedule.warmup", ("linear", "0%", "10%"))
        >>> warmup.decode(2.5), warmup.place("2.5%")
        ('2.5%', 0.25)
    """

    field: str
    kind: Kind
    low: float = 0.0
    high: float = 0.0
    step: int = 1
    unit: str = ""
    choices: tuple[Any, ...] = ()

    @classmethod
    def parse(cls, field: str, spec: Any) -> "Dimension":
        """Reads what a user wrote.

        Raises:
            ValueError: If it is none of the forms; the sentence names the field.
        """
        if isinstance(spec, Dimension):
            return spec
        if isinstance(spec, list):
            return cls(field, "choice", choices=_distinct(field, spec))
        if not isinstance(spec, tuple) or not spec or spec[0] not in _RANGES:
            raise _wrong(field, f"must be {_FORMS}", spec)
        kind, *numbers = spec
        if not 2 <= len(numbers) <= (3 if kind == "int" else 2):
            raise _wrong(field, f"must be {_FORMS}", spec)
        low, unit = _number(field, numbers[0], spec)
        high, other = _number(field, numbers[1], spec)
        if unit != other:
            raise _wrong(field, "both ends must have one unit", spec)
        if not low < high:
            raise _wrong(field, "the low end must be below the high one", spec)
        if kind == "log" and low <= 0:
            raise _wrong(field, "a log scale must begin above 0", spec)
        step = numbers[2] if len(numbers) == 3 else 1
        if kind == "int" and not all(_is_whole(one) for one in (low, high, step)):
            raise _wrong(field, "must go from one whole number to another", spec)
        if not 1 <= step <= max(1, high - low):
            raise _wrong(field, "the step must lie between 1 and the range's width", spec)
        if kind == "int":
            low, high, step = int(low), int(high), int(step)
        return cls(field, kind, low, high, step, unit)

    @classmethod
    def from_json(cls, given: Mapping[str, Any]) -> "Dimension":
        """What `as_json` wrote."""
        return cls(**{**given, "choices": tuple(given["choices"])})

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {**vars(self), "choices": list(self.choices)}

    @property
    def labels(self) -> tuple[Any, ...]:
        """A "choice"'s values as Keras Tuner takes them: of one type, numbers left numbers."""
        kinds = {type(one) for one in self.choices}
        if kinds in ({int}, {float}, {str}):
            return self.choices
        return tuple("off" if one is None else repr(one) for one in self.choices)

    def decode(self, value: Any) -> Any:
        """What Keras Tuner chose, as the recipe takes it."""
        if self.kind == "choice":
            return self.choices[self.labels.index(value)]
        if self.kind == "int":
            return f"{int(value)}{self.unit}" if self.unit else int(value)
        rounded = min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)
        return f"{rounded:.15f}".rstrip("0").rstrip(".") + self.unit if self.unit else rounded

    def place(self, value: Any) -> float | None:
        """Where a value of the recipe lies between the ends, 0 to 1; None for a choice or a word."""
        try:
            number, unit = _number(self.field, value, value)
        except ValueError:
            return None
        if self.kind == "choice" or unit != self.unit:
            return None
        if self.kind == "log":
            return math.log(number / self.low) / math.log(self.high / self.low) if number > 0 else 0
        return (number - self.low) / (self.high - self.low)

    def ends(self) -> list[Any]:
        """The values that have to be valid for all of them to be: both ends, or each choice."""
        if self.kind == "choice":
            return list(self.choices)
        return [self.decode(self.low), self.decode(self.high)]

    def widened(self, upwards: bool, share: float) -> "Dimension":
        """The same beyond one end, by a share of its width."""
        if self.kind == "log":
            by = (self.high / self.low) ** share
            low, high = (self.low, self.high * by) if upwards else (self.low / by, self.high)
        else:
            more = (self.high - self.low) * share
            low, high = (self.low, self.high + more) if upwards else (self.low - more, self.high)
        if self.kind == "int":
            low, high = math.floor(low), math.ceil(high)
        else:
            low, high = float(f"{low:.2g}"), float(f"{high:.2g}")
        low, high = (self.low, high) if upwards else (low, self.high)
        return Dimension(self.field, self.kind, low, high, self.step, self.unit)

    def __str__(self) -> str:
        """As it is written in Python."""
        if self.kind == "choice":
            return str(list(self.choices))
        ends = [
            repr(f"{end:g}{self.unit}") if self.unit else f"{end:g}"
            for end in (self.low, self.high)
        ]
        step = [str(self.step)] if self.kind == "int" and self.step != 1 else []
        return f"({', '.join([repr(self.kind), *ends, *step])})"


def from_words(words: str) -> tuple[str, Any]:
    """Reads one `--dimension` of the command line.

    Args:
        words: `field=low:high[:log|linear|int[:step]]` or `field=value,value,...`.

    Returns:
        The field, and its values as `Dimension.parse` takes them.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> from_words("schedule.peak_learning_rate=1e-4:1e-1:log")
        ('schedule.peak_learning_rate', ('log', 0.0001, 0.1))
        >>> from_words("train.batch_size=32,64,128")
        ('train.batch_size', [32, 64, 128])
    """
    field, equals, rest = words.partition("=")
    field, parts = field.strip(), [part.strip() for part in rest.split(":")]
    if not field or not equals or not rest.strip():
        raise ValueError(
            f"--dimension: must be field=low:high:log or field=a,b,c. Received: {words!r}."
        )
    if len(parts) == 1:
        return field, [_value(part.strip()) for part in rest.split(",") if part.strip()]
    low, high, *more = parts
    kind = more[0] if more else "linear"
    if kind not in _RANGES or len(more) > (2 if kind == "int" else 1):
        raise ValueError(
            f"--dimension {field}: must be low:high and then log, linear, int or int:step. "
            f"Received: {rest!r}."
        )
    return field, (kind, _value(low), _value(high), *map(_value, more[1:]))


def combinations(dimensions: Sequence[Dimension]) -> list[dict[str, Any]]:
    """Every combination of those choices that say which optimizer and which schedule it is."""
    names = [d for d in dimensions if d.kind == "choice" and d.field.endswith(".name")]
    fields = [d.field for d in names]
    return [
        dict(zip(fields, chosen, strict=True))
        for chosen in itertools.product(*(d.choices for d in names))
    ]


def _value(text: str) -> Any:
    if text in ("off", "true", "false"):
        return {"off": None, "true": True, "false": False}[text]
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            continue
    return text


def _distinct(field: str, values: list[Any]) -> tuple[Any, ...]:
    kept: list[Any] = []
    for value in values:
        if not any(type(one) is type(value) and one == value for one in kept):
            kept.append(value)
    if len(kept) < 2:
        raise _wrong(field, "a list must have two values or more", values)
    return tuple(kept)


def _number(field: str, value: Any, spec: Any) -> tuple[float, str]:
    """A number and its unit."""
    if isinstance(value, str):
        try:
            duration = Duration.parse(value)
        except ValueError:
            raise _wrong(field, "an end must be a number or a duration", spec) from None
        unit = "" if duration.unit == "steps" else duration.unit
        return float(duration.amount), unit
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise _wrong(field, "an end must be a finite number or a duration", spec)
    return value, ""


def _is_whole(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float)) and value == int(value)


def _wrong(field: str, rule: str, value: Any) -> ValueError:
    return ValueError(f"space: {field}: {rule}. Received: {shown(value)}.")
