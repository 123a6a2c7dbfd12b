"""What a rule is given, and what it says."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, Protocol

import numpy as np

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong with a run, or worth knowing.

    Args:
        rule: Name of the rule that found it.
        severity: "error": the result is not to be used. "warning": it can be better. "info": worth knowing.
        evidence: What was seen, with its numbers and steps.
        cause: What it most likely comes from.
        advice: What to do about it: data, learning rate, architecture, the rest, in this order.

    Raises:
        ValueError: If `severity` is another word.

    Example:
        >>> print(Finding("mine", "info", "Seen.", "Because.", "Do this."))
        Info (mine): Seen. Because. Do this.
    """

    rule: str
    severity: Severity
    evidence: str
    cause: str
    advice: str

    def __post_init__(self) -> None:
        if self.severity not in SEVERITIES:
            raise ValueError(
                f"Finding: `severity` must be one of {', '.join(SEVERITIES)}. "
                f"Received: severity={self.severity!r}."
            )

    def as_dict(self) -> dict[str, str]:
        """The five fields, as `findings.json` holds them."""
        return asdict(self)

    def __str__(self) -> str:
        said = " ".join(part for part in (self.evidence, self.cause, self.advice) if part)
        return f"{self.severity.capitalize()} ({self.rule}): {said}"


class RunLike(Protocol):
    """What a rule may look at: promised are these three; `.facts`, `.system`, `.layers` and `.state` where there are any."""

    @property
    def steps(self) -> Mapping[str, np.ndarray]: ...
    @property
    def epochs(self) -> Mapping[str, np.ndarray]: ...
    @property
    def recipe(self) -> Mapping[str, Any] | None: ...


Rule = Callable[[Any], Finding | None]
