"""What is wrong with a recipe, said once for all of its errors."""

import difflib
from collections.abc import Iterable, Sequence

_LONGEST_VALUE = 80


class RecipeError(ValueError):
    """A recipe that cannot be used, with every reason at once.

    Args:
        where: The file, or what else the recipe came from.
        errors: One sentence each, `table.key: rule. Received: value. What to do.`

    Example:
        >>> print(RecipeError("r50.toml", ["train.epochs: too few.", "ema.decay: too high."]))
        r50.toml: 2 errors
          train.epochs: too few.
          ema.decay: too high.
    """

    def __init__(self, where: str, errors: Sequence[str]) -> None:
        self.where = where
        self.errors = tuple(errors)
        if len(self.errors) == 1:
            message = f"{where}: {self.errors[0]}"
        else:
            message = "\n  ".join([f"{where}: {len(self.errors)} errors", *self.errors])
        super().__init__(message)

    def __reduce__(self) -> tuple[type, tuple[str, tuple[str, ...]]]:
        return type(self), (self.where, self.errors)


class RecipeNotFoundError(RecipeError, FileNotFoundError):
    """No recipe has that name, and no file that path."""


def shown(value: object) -> str:
    """`repr(value)` for an error: at most 80 characters, and never an error of its own."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an int of more than 4300 digits; a list within itself
        text = f"a {type(value).__name__} too long to print"
    return text if len(text) <= _LONGEST_VALUE else text[: _LONGEST_VALUE - 3] + "..."


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """The nearest known word as a question with a space before it, or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f" Did you mean `{near[0]}`?" if near else ""
