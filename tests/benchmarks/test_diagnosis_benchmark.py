"""The benchmark of the diagnosis: its table of faults is whole, and its arithmetic right.

That it trains and scores, its quick run in test_benchmarks_run.py shows.
"""

import re
import sys

import pytest

from tests.contracts.tree import PACKAGE, ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))  # as for a script that is run there

from parts import faults, programs, scoring

FAULTS = faults.every()
SAID = "\n".join(path.read_text(encoding="utf-8") for path in (PACKAGE / "doctor").rglob("*.py"))
RIGHT = {"rule": "diverged", "severity": "error", "cause": "The learning rate.", "advice": ""}
WRONG = {"rule": "input_bound", "severity": "warning", "cause": "", "advice": ""}
QUIET = {"rule": "still_improving", "severity": "info", "cause": "", "advice": ""}


def fault(**changes):
    fields = {"causes": ("diverged~rate",), "accepted": ()} | changes
    return faults.Fault("name", "title", lambda one: None, why="", **fields)


def test_there_are_enough_faults_for_each_family():
    for family in ("image", "text"):
        assert sum(family in one.families for one in FAULTS) >= 24
    assert len({one.name for one in FAULTS}) == len(FAULTS)


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: one.name)
def test_every_cause_of_a_fault_is_a_rule_that_exists(one):
    assert [c for c in one.causes if f'"{c.partition("~")[0]}"' not in SAID] == []
    for cause in (*one.causes, *one.accepted):
        re.compile(cause.partition("~")[2])


def test_half_of_the_programs_are_stock_keras():
    ways = [
        faults.way_of(one, family, seed)
        for one in FAULTS
        for family in one.families
        for seed in range(4)
    ]
    assert 0.4 < ways.count("stock") / len(ways) < 0.65


def test_every_saved_recipe_is_among_the_healthy():
    from parts import healthy

    names = {one.name for one in healthy.every()}
    recipes = {f"recipe_{path.stem}" for path in (ROOT / "saved_recipes").glob("*.toml")}
    assert recipes <= names
    assert len(names) * 2 >= 20


def test_a_cause_is_a_hit_where_it_ranks_first_or_second():
    assert scoring.judge(fault(), [RIGHT])["hit"]
    assert scoring.judge(fault(), [WRONG, RIGHT])["hit"]
    late = scoring.judge(fault(), [WRONG, QUIET, RIGHT])
    assert not late["hit"]
    assert late["rank"] == 3
    assert late["wrong"] == ["input_bound"]


def test_a_rule_that_must_say_a_word_is_no_cause_without_it():
    assert not scoring.judge(fault(causes=("diverged~label",)), [RIGHT])["hit"]


def test_an_accepted_consequence_is_neither_hit_nor_wrong():
    judged = scoring.judge(fault(accepted=("input_bound",)), [WRONG])
    assert not judged["hit"]
    assert judged["wrong"] == []


def test_precision_counts_what_is_above_info_and_healthy_runs_too():
    runs = [scoring.judge(fault(), [RIGHT, WRONG, QUIET])]
    assert scoring.precision(runs)["share"] == 1 / 2
    assert scoring.precision(runs, false=2)["share"] == 1 / 4
    assert scoring.alarms([QUIET, WRONG]) == ["input_bound"]


def test_wilsons_interval_holds_at_the_ends():
    assert scoring.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert scoring.wilson(10, 10) == pytest.approx((0.7225, 1.0), abs=1e-4)
    assert scoring.wilson(8, 10) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert scoring.wilson(0, 0) == (0.0, 1.0)


def test_the_healthy_program_of_a_seed_is_the_same_again():
    first, again = (programs.program("table", "report", 2, "stock") for _ in range(2))
    assert (first.x == again.x).all()
    assert (first.y_val == again.y_val).all()
    assert len(first.x) == len(first.y)
