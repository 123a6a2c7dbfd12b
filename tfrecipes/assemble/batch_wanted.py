"""What a caller of `find_batch_size` wants, checked once for Python and the command line."""

import math
from dataclasses import dataclass
from typing import Any

TRY_SECONDS = 600.0


@dataclass(frozen=True)
class Wanted:
    """The arguments that `find_batch_size` and the command line share."""

    memory: int | str | None = None
    loss: Any = None
    batch_size: int | None = None
    start: int | None = None
    largest: int | None = None
    steps: int | None = None
    seed: int | None = None
    try_seconds: float = TRY_SECONDS

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 1), ("start", 1), ("largest", 1), ("steps", 0)):
            value = getattr(self, name)
            whole = isinstance(value, int) and not isinstance(value, bool)
            if value is not None and not (whole and value >= least):
                raise ValueError(
                    f"find_batch_size: `{name}` must be a whole number >= {least}. "
                    f"Received: {name}={value!r}."
                )
        seconds = self.try_seconds
        number = isinstance(seconds, (int, float)) and not isinstance(seconds, bool)
        if not (number and 0 < seconds < math.inf):
            raise ValueError(
                "find_batch_size: `try_seconds` must be a number > 0. "
                f"Received: try_seconds={seconds!r}."
            )
