"""docs/doctor.md is the rule book: each rule, in its order, and what explains what."""

import re
from pathlib import Path

import pytest

from tests.contracts.tree import ROOT
from tfrecipes.doctor.rules import RULES
from tfrecipes.doctor.rules.ranking import EXPLAINS

PAGE = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
NAMES = [rule.__name__ for rule in RULES]
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def section(title: str) -> str:
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def rows(title: str) -> list[list[str]]:
    lines = [line for line in section(title).splitlines() if line.startswith("| `")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_the_page_lists_every_rule_in_the_order_of_belief() -> None:
    assert [row[0].strip(" `") for row in rows("The rules")] == NAMES


def test_every_rule_says_what_it_reads_at_what_it_fires_and_where_that_is_from() -> None:
    for row in rows("The rules"):
        assert len(row) == 6
        assert all(row)
        assert set(row[1].split()) <= {"E", "W", "I"}


def test_every_source_that_is_cited_is_listed() -> None:
    cited = set(map(int, re.findall(r"\[(\d+)\]", section("The rules"))))
    listed = set(map(int, re.findall(r"^(\d+)\. ", section("Sources"), re.MULTILINE)))
    assert cited == listed


def test_what_explains_what_is_what_the_code_does() -> None:
    told = {
        row[0].strip(" `"): set(re.findall(r"`(\w+)`", row[1]))
        for row in rows("Which finding explains which")
    }
    assert told == {cause: set(symptoms) for cause, symptoms in EXPLAINS.items()}


def test_causes_and_symptoms_are_rules_and_no_rule_explains_itself() -> None:
    for cause, symptoms in EXPLAINS.items():
        assert cause in NAMES
        assert set(symptoms) <= set(NAMES) - {cause}


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_run(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(example, "docs/doctor.md", "exec"), {})
