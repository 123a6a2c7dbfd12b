"""Durations as a recipe writes them, and the one place that turns them into steps or seconds."""

import re
from dataclasses import dataclass
from fractions import Fraction
from numbers import Integral

from tfrecipes.recipe.errors import shown

_FORMS = 'steps (2000), epochs ("10ep"), a share of the run ("5%") or a time ("5min", "30s", "2h")'
_TEXT = re.compile(r"\s*([0-9]{1,16}(?:\.[0-9]{1,15})?)\s*(ep|%|s|min|h)?\s*")
_SECONDS = {"s": 1, "min": 60, "h": 3600}

# A float64 counts exactly to 2**53; no run is longer.
_MOST_STEPS = 2**53


@dataclass(frozen=True)
class Duration:
    """A length of training: `2000` or `"2000"` steps, `"10ep"`, `"5%"`, `"5min"`, `"30s"`, `"2h"`.

    Amounts are exact fractions: `"0.1%"` of 3000 steps is 3, whatever floats make of 0.001.

    Args:
        amount: How many of `unit`, >= 0.
        unit: "steps", "ep" (epochs), "%" (of the whole run), "s", "min" or "h".

    Example:
        >>> Duration.parse("1.5ep")
        Duration('1.5ep')
        >>> Duration.parse("2000") == Duration.parse(2000)
        True
    """

    amount: Fraction
    unit: str

    @classmethod
    def parse(cls, value: object, where: str = "duration") -> "Duration":
        """Reads a duration.

        Args:
            value: A whole number of steps, a text, or a `Duration` (returned as it is).
            where: What the error names.

        Raises:
            ValueError: If `value` is none of the forms, negative, or a share above 100%.
        """
        if isinstance(value, Duration):
            return value
        if isinstance(value, Integral) and not isinstance(value, bool):
            amount, unit = Fraction(int(value)), "steps"
        elif isinstance(value, str) and (match := _TEXT.fullmatch(value)):
            amount, unit = Fraction(match[1]), match[2] or "steps"
        else:
            raise _refused(where, f"must be {_FORMS}", value)
        if amount < 0 or (unit == "steps" and amount > _MOST_STEPS):
            raise _refused(where, "must be between 0 and 2**53 steps", value)
        if unit == "steps" and amount.denominator != 1:
            raise _refused(where, 'must be a whole number of steps ("1.5ep" is a duration)', value)
        if unit == "%" and amount > 100:
            raise _refused(where, "must be at most 100% of the run", value)
        return cls(amount, unit)

    @property
    def is_time(self) -> bool:
        """Whether a clock measures it, so that no number of steps is equal to it."""
        return self.unit in _SECONDS

    def share(self, epochs: int) -> Fraction | None:
        """The share of a run of `epochs` epochs that it is; None where only the data can tell."""
        if self.unit == "%":
            return self.amount / 100
        if self.unit == "ep":
            return self.amount / epochs
        return None

    def __str__(self) -> str:
        whole = self.amount.denominator == 1
        text = str(self.amount.numerator) if whole else _decimal(self.amount)
        return text if self.unit == "steps" else text + self.unit

    def __repr__(self) -> str:
        return f"Duration({str(self)!r})"


def to_steps(
    duration: object,
    *,
    total_steps: int | None,
    steps_per_epoch: int | None,
    where: str = "duration",
) -> int:
    """How many optimizer steps a duration is.

        steps(n) = n,   steps("p%") = p / 100 * T,   steps("e ep") = e * S

    rounded to the nearest step, a half up: exact arithmetic, so no float decides. A small share
    of a short run may come to 0 steps.

    Args:
        duration: A `Duration` or what `Duration.parse` takes.
        total_steps: T, the steps of the whole run, >= 1; None = not known.
        steps_per_epoch: S, the steps of one epoch, >= 1; None = not known.
        where: What an error names, such as "schedule.warmup".

    Returns:
        The steps, >= 0.

    Raises:
        ValueError: If it is a time, or needs a length that is not known.

    Example:
        >>> to_steps("5%", total_steps=1000, steps_per_epoch=100)
        50
        >>> to_steps("1.5ep", total_steps=1000, steps_per_epoch=25)
        38
    """
    parsed = Duration.parse(duration, where)
    if parsed.is_time:
        raise _refused(
            where, "must be in steps, epochs or a share of the run, not a time", duration
        )
    if parsed.unit == "steps":
        return int(parsed.amount)
    length = total_steps if parsed.unit == "%" else steps_per_epoch
    if length is None:
        raise ValueError(
            f"{where}: {str(parsed)!r} needs the length of an epoch, which the data do not tell. "
            f"Pass `steps_per_epoch`, or write it in steps."
        )
    if isinstance(length, bool) or not isinstance(length, Integral) or length < 1:
        named = "total_steps" if parsed.unit == "%" else "steps_per_epoch"
        raise ValueError(f"{named}: must be a whole number >= 1. Received: {named}={length!r}.")
    exact = parsed.amount * int(length) / (100 if parsed.unit == "%" else 1)
    return int(exact + Fraction(1, 2))


def to_seconds(duration: object, where: str = "duration") -> float:
    """How many seconds a time is [s].

    Raises:
        ValueError: If it is in steps, epochs or a share of the run.

    Example:
        >>> to_seconds("5min")
        300.0
    """
    parsed = Duration.parse(duration, where)
    if not parsed.is_time:
        raise _refused(where, 'must be a time ("5min", "30s", "2h")', duration)
    return float(parsed.amount * _SECONDS[parsed.unit])


def _decimal(amount: Fraction) -> str:
    """A fraction that was read from decimal digits, written exactly as such."""
    digits = 0
    while (amount * 10**digits).denominator != 1 and digits < 15:
        digits += 1
    return f"{int(amount)}.{int(amount % 1 * 10**digits):0{digits}d}"


def _refused(where: str, rule: str, value: object) -> ValueError:
    return ValueError(f"{where}: {rule}. Received: {shown(value)}.")
