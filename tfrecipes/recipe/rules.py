"""What the value of one key of a recipe must be: the check and the sentence, said together."""

import math
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import PydanticCustomError, core_schema

from tfrecipes.recipe.durations import Duration
from tfrecipes.recipe.errors import shown

_MOST = 2**31 - 1
_EXCLUDE_WORDS = ("bias", "norm", "prelu", "ndim<2", "embedding")
_DEVICES = re.compile(r"(cpu|gpu|tpu)(:[0-9]{1,3})?(,(cpu|gpu|tpu)(:[0-9]{1,3})?)*")


@dataclass(frozen=True)
class Rule:
    """A key's rule; stands in a model's `Annotated` and does the whole validation of the key.

    Args:
        kind: What sort of value it is. Under another kind the same key means something else.
        says: The rule after "must be".
        check: Gives the plain value to keep; raises ValueError (its words replace `says` where
            it has some) for a value that breaks the rule.
        advice: A last sentence of the error: what to write instead.
    """

    kind: str
    says: str
    check: Callable[[object], object]
    advice: str = ""

    def __get_pydantic_core_schema__(
        self, source: object, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def _validate(self, value: object) -> object:
        try:
            return self.check(value)
        except ValueError as error:
            rule = str(error) or f"must be {self.says}"
            sentence = f"{rule}. Received: {shown(value)}. {self.advice}".rstrip()
        raise PydanticCustomError("rule", "{sentence}", {"sentence": sentence})


def _plain(value: object) -> Any:
    """NumPy's numbers as Python's; `True`, texts and the rest are no numbers."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    raise ValueError


def _is_word(value: object, words: dict[str, object]) -> bool:
    """Whether a value is one of the words, or the None that one of them stands for."""
    return (value is None and None in words.values()) or (isinstance(value, str) and value in words)


def _word(value: object, words: dict[str, object]) -> object:
    return words[value] if isinstance(value, str) else None


def _named(words: dict[str, object]) -> str:
    return "".join(f' or "{word}"' for word in words)


def number(
    *,
    above: float | None = None,
    least: float | None = None,
    below: float | None = None,
    most: float | None = None,
    words: dict[str, object] | None = None,
    advice: str = "",
) -> Rule:
    """A finite number within bounds, kept as a float; or one of `words`, which maps to a value.

    Args:
        above: Exclusive lower bound.
        least: Inclusive lower bound.
        below: Exclusive upper bound.
        most: Inclusive upper bound.
        words: Texts (or None) that are allowed besides, and what they become.
        advice: As in `Rule`.
    """
    words = words or {}
    bounds = [("> {:g}", above), (">= {:g}", least), ("< {:g}", below), ("<= {:g}", most)]
    limits = " and ".join(text.format(bound) for text, bound in bounds if bound is not None)

    def check(value: object) -> object:
        if _is_word(value, words):
            return _word(value, words)
        try:
            plain = float(_plain(value))
        except OverflowError:
            raise ValueError from None
        inside = (
            math.isfinite(plain)
            and (above is None or plain > above)
            and (least is None or plain >= least)
            and (below is None or plain < below)
            and (most is None or plain <= most)
        )
        if not inside:
            raise ValueError
        return plain

    return Rule("number", f"a number {limits}".rstrip() + _named(words), check, advice)


def whole(
    least: int = 1, most: int = _MOST, words: dict[str, object] | None = None, advice: str = ""
) -> Rule:
    """A whole number within bounds; `128.0` is none. Or one of `words`, which maps to a value."""
    words = words or {}

    def check(value: object) -> object:
        if _is_word(value, words):
            return _word(value, words)
        plain = _plain(value)
        if not isinstance(plain, int) or plain < least:
            raise ValueError
        if plain > most:
            raise ValueError(f"must be at most {most}")
        return plain

    return Rule("whole", f"a whole number >= {least}" + _named(words), check, advice)


def choice(*allowed: object, advice: str = "") -> Rule:
    """One of some texts and booleans. `1` is not `true`."""

    def check(value: object) -> object:
        if any(type(value) is type(one) and value == one for one in allowed):
            return value
        raise ValueError

    names = [str(a).lower() if isinstance(a, bool) else f'"{a}"' for a in allowed]
    return Rule("choice", " or ".join([", ".join(names[:-1]), names[-1]]), check, advice)


def duration(
    *, time: bool = False, zero: bool = True, words: dict[str, object] | None = None
) -> Rule:
    """A duration, kept as it is written; a quoted number of steps becomes the number.

    Args:
        time: Whether a time ("5min") may be given.
        zero: Whether it may be 0.
        words: Texts (or None) that are allowed besides, and what they become.
    """
    words = words or {}
    forms = 'steps (2000), epochs ("10ep")' + (', a share of the run ("5%")' if time else "")
    forms += ' or a time ("5min")' if time else ' or a share of the run ("5%")'
    forms += _named(words) + ("" if zero else ", above 0")

    def check(value: object) -> object:
        if _is_word(value, words):
            return _word(value, words)
        if isinstance(value, Duration):
            value = str(value) if value.unit != "steps" else int(value.amount)
        parsed = _parsed(value)
        if (parsed.is_time and not time) or (parsed.amount == 0 and not zero):
            raise ValueError
        return int(parsed.amount) if parsed.unit == "steps" else str(parsed)

    return Rule("duration", forms, check)


def durations() -> Rule:
    """A list of one duration or more, none of them a time, kept as a tuple."""
    one = duration()

    def check(value: object) -> object:
        if not isinstance(value, list | tuple) or not value:
            raise ValueError
        return tuple(one.check(item) for item in value)

    return Rule("durations", 'a list of durations, as in ["30ep", "60ep"]', check)


def exclusions() -> Rule:
    """A list of decay rules, each a word, `type:Layer` or a regular expression, kept as a tuple."""

    def check(value: object) -> object:
        if not isinstance(value, list | tuple):
            raise ValueError
        for rule in value:
            if not isinstance(rule, str) or not rule.removeprefix("!"):
                raise ValueError
            _check_exclusion(rule.removeprefix("!"))
        return tuple(value)

    words = ", ".join(f'"{word}"' for word in _EXCLUDE_WORDS)
    says = f'a list of texts: {words}, "type:Dense" or a regular expression on the path'
    return Rule("exclusions", says, check, "Write [] to decay every weight.")


def text(says: str, pattern: str, words: dict[str, object] | None = None, advice: str = "") -> Rule:
    """A text that matches a pattern as a whole, or one of `words`, which maps to a value."""
    words = words or {}
    compiled = re.compile(pattern)

    def check(value: object) -> object:
        if _is_word(value, words):
            return _word(value, words)
        if not isinstance(value, str) or not compiled.fullmatch(value):
            raise ValueError
        return value

    return Rule("text", says + _named(words), check, advice)


def device_names() -> Rule:
    """Where to train: "auto", how many devices, or their names."""

    def check(value: object) -> object:
        if isinstance(value, str):
            if value == "auto" or _DEVICES.fullmatch(value):
                return value
            raise ValueError
        plain = _plain(value)
        if not isinstance(plain, int) or not 1 <= plain <= 4096:
            raise ValueError
        return plain

    return Rule("devices", '"auto", how many (2), or names ("cpu", "gpu:0,gpu:1")', check)


def _parsed(value: object) -> Duration:
    """A duration, or a ValueError without words: the rule has its own."""
    try:
        return Duration.parse(value)
    except ValueError:
        raise ValueError from None


def _check_exclusion(rule: str) -> None:
    """Refuses a regular expression that Python cannot compile, or that no path could need."""
    if rule in _EXCLUDE_WORDS or (rule.startswith("type:") and len(rule) > len("type:")):
        return
    if len(rule) > 1000:
        raise ValueError("must be a regular expression of at most 1000 characters")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "possible nested set" is a remark on style
            re.compile(rule)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{shown(rule)} is no regular expression ({error})") from None
