"""The rows: a number of docs/keras_faults.md, and a check that stock Keras fails and ours passes.

A check is `f(ours, folder)`: it does one thing by stock Keras or by tfrecipes and asserts what is
right of either.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "keras_faults.md"


@dataclass(frozen=True)
class Row:
    """One check.

    Attributes:
        number: Of the fault.
        check: The function.
        raises: How stock Keras fails: AssertionError where its result is wrong, else its error.
    """

    number: int
    check: object
    raises: type

    @property
    def name(self):
        return f"{self.number:02}-{self.check.__name__}"


class Table:
    """Checks as a module lists them."""

    def __init__(self):
        self.rows = []

    def row(self, number, raises=AssertionError):
        """Register the decorated check."""

        def add(check):
            self.rows.append(Row(number, check, raises))
            return check

        return add

    def ours(self):
        return pytest.mark.parametrize(
            "check", [pytest.param(r.check, id=r.name) for r in self.rows]
        )

    def stock(self):
        """Each check is expected to fail, in just this way: the day it passes we want to know."""
        return pytest.mark.parametrize(
            "check",
            [
                pytest.param(
                    r.check,
                    id=r.name,
                    marks=pytest.mark.xfail(
                        strict=True,
                        raises=r.raises,
                        reason=f"Keras 3.15, docs/keras_faults.md {r.number}",
                    ),
                )
                for r in self.rows
            ],
        )


def refusal(call):
    """The sentence with which `call()` is refused, or ""."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def documented():
    """{(number, name of a check)} as the page lists them, in the last column of its table."""
    found = set()
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if re.match(r"\| \d+ \|", line):
            number, last = int(line.split("|")[1]), line.split("|")[-2]
            found |= {(number, name) for name in re.findall(r"`(\w+)`", last)}
    return found
