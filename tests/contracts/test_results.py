"""Nobody types a number: what the pages and the cards say is what the benchmarks wrote."""

import importlib.util
import json
import re
import subprocess
import sys

import pytest

from tests.contracts.tree import ROOT

RESULTS = sorted((ROOT / "benchmarks" / "results").glob("*.json"))


def test_the_pages_say_what_the_benchmarks_wrote():
    done = subprocess.run(
        [sys.executable, str(ROOT / "docs" / "write_results.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_a_result_says_what_makes_it_again_and_where_it_was_made(path):
    written = json.loads(path.read_text(encoding="utf-8"))
    assert written["command"] == f"python benchmarks/{path.stem}.py"
    assert (ROOT / "benchmarks" / f"{path.stem}.py").is_file()
    assert written["machine"]
    assert written["packages"]["tensorflow"]


def test_the_default_beats_stock_on_both_tasks():
    path = ROOT / "benchmarks" / "results" / "default_against_stock.json"
    tasks = json.loads(path.read_text(encoding="utf-8"))["results"]["tasks"]
    assert len(tasks) == 2
    for task in tasks.values():
        assert len(task["runs"]["default"]) == len(task["runs"]["stock"]) == 3
        # Every seed of ours above every seed of stock's, not only the means.
        assert task["default"]["accuracy"]["min"] > task["stock"]["accuracy"]["max"]
        assert task["default"]["loss"]["max"] < task["stock"]["loss"]["min"]


@pytest.fixture(scope="module")
def writer():
    spec = importlib.util.spec_from_file_location("write_results", ROOT / "docs/write_results.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_section_takes_the_place_of_the_old_one_alone(writer):
    begin, end = writer.MARKS
    text = f"before\n{begin}\nold\n{end}\nafter\n"
    new = writer.between_marks(text, "new")
    assert new == f"before\n{begin}\nnew\n{end}\nafter\n"
    assert writer.between_marks(new, "new") == new
    with pytest.raises(ValueError, match="once each"):
        writer.between_marks("no marks", "new")


def test_a_card_keeps_what_no_benchmark_measured(writer):
    text = (ROOT / "saved_recipes" / "default.toml").read_text(encoding="utf-8")
    demo = re.search(r"^# Result .*$", text, re.M)[0]
    measured = json.loads(
        (ROOT / "benchmarks/results/default_against_stock.json").read_text(encoding="utf-8")
    )
    once = writer.default_card(text, measured)
    assert demo in once.splitlines()
    assert writer.default_card(once, measured) == once
    assert once.count("# Result") == 1
