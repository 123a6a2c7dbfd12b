"""The tree says where things are: no drawers, no long modules, nothing left for later."""

import ast
import re

import pytest

from tests.contracts.tree import PACKAGE, ROOT

MODULES = sorted(PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in MODULES]
MOST_LINES = 400


def own_python():
    """Python files of the project: the package and what is beside it, not environments."""
    folders = ("tfrecipes", "tests", "benchmarks", "notebooks", "docs")
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_is_a_room_and_not_a_drawer(path):
    drawers = {"utils", "util", "common", "helpers", "helper", "misc"}
    names = {part.strip("_") for part in path.relative_to(PACKAGE).with_suffix("").parts}
    assert not names & drawers


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_is_short_enough_to_read(path):
    assert len(path.read_text(encoding="utf-8").splitlines()) <= MOST_LINES


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_a_module_says_what_it_is_for(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert (ast.get_docstring(tree) or "").strip()


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_nothing_is_left_for_later(path):
    text = path.read_text(encoding="utf-8")
    unfinished = [word for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X") if word in text]
    assert not unfinished
    raised = [
        node.lineno
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Raise) and "NotImplementedError" in ast.unparse(node)
    ]
    assert not raised


def swallowed(tree):
    """Lines of handlers that do nothing with what they caught, or that catch everything.

    `continue` after one named exception is a retry or a filter and may stand; after all of them
    it hides a fault.
    """
    lines = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        broad = node.type is None or ast.unparse(node.type) in {"Exception", "BaseException"}
        silent = all(
            isinstance(statement, ast.Pass)
            or (isinstance(statement, ast.Continue) and broad)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        )
        reraises = any(isinstance(inner, ast.Raise) for inner in ast.walk(node))
        if silent or (node.type is None and not reraises):
            lines.append(node.lineno)
    return lines


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_no_exception_is_swallowed(path):
    assert swallowed(ast.parse(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize("path", MODULES, ids=NAMES)
def test_input_is_checked_by_errors_and_not_by_assert(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)] == []


def test_no_test_is_skipped_and_every_known_gap_is_strict():
    wrong = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            called = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            used = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
            if called == "pytest.skip" or used in {"pytest.mark.skip", "pytest.mark.skipif"}:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} skips")
            if called == "pytest.mark.xfail":
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                if keywords.get("strict") != "True" or "reason" not in keywords:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} xfail is not strict")
            if called == "pytest.importorskip" and "parity" not in path.parts:
                wrong.append(f"{path.relative_to(ROOT)}:{node.lineno} importorskip outside parity")
    assert not wrong


def test_a_process_of_tests_has_one_strategy():
    """A second one, of other shapes, aborts in TensorFlow whatever runs after it."""
    made = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if "distributed" not in path.parts and "MirroredStrategy" + "(" in path.read_text("utf-8")
    ]
    assert made == ["tests/strategies.py"]


@pytest.mark.parametrize("name", ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE"])
def test_a_file_that_people_look_for_is_there(name):
    assert (ROOT / name).read_text(encoding="utf-8").strip()


def test_contributing_is_short_and_the_changelog_has_its_unreleased_part():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) < 50
    assert "\n## [Unreleased]\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_no_path_of_a_machine_stands_in_the_project():
    texts = [
        *own_python(),
        *ROOT.glob("*.md"),
        *ROOT.glob("*.toml"),
        *(ROOT / "docs").rglob("*.md"),
    ]
    texts += [ROOT / "Makefile", ROOT / ".ci" / "run", *(ROOT / "saved_recipes").rglob("*.toml")]
    absolute = re.compile(r"(?<![\w./-])/(?:home|root|work|Users|opt|mnt)/\w")
    wrong = [
        f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1}"
        for path in texts
        for text in [path.read_text(encoding="utf-8")]
        for match in absolute.finditer(text)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("source", "caught"),
    [
        ("try:\n    f()\nexcept ValueError:\n    pass", True),
        ("try:\n    f()\nexcept:\n    g()", True),
        ("try:\n    f()\nexcept ValueError:\n    '''why'''", True),
        ("for i in x:\n    try:\n        f()\n    except Exception:\n        continue", True),
        ("for i in x:\n    try:\n        f()\n    except KeyError:\n        continue", False),
        ("try:\n    f()\nexcept ValueError as e:\n    raise KeyError from e", False),
        ("try:\n    f()\nexcept ValueError:\n    found = None", False),
    ],
)
def test_the_search_for_swallowed_exceptions_finds_them(source, caught):
    assert bool(swallowed(ast.parse(source))) is caught
