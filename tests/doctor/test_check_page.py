"""docs/check.md names every rule in its order, and its examples run."""

import re

from tests.contracts.tree import ROOT
from tfrecipes.doctor.ranking import RULES_IN_ORDER

PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")


def test_every_rule_stands_on_the_page_in_its_order():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.M) == list(RULES_IN_ORDER)


def test_every_rule_that_is_found_has_its_place():
    named = set()
    for path in (ROOT / "tfrecipes" / "doctor").glob("*.py"):
        named |= set(re.findall(r'Finding\(\s*"(\w+)"', path.read_text(encoding="utf-8")))
    ours = named - {"mine"}
    assert ours
    assert ours <= set(RULES_IN_ORDER)


def test_the_examples_run():
    space: dict[str, object] = {}
    examples = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    assert len(examples) == 2
    for example in examples:
        exec(example, space)
