"""One set of tools, pinned once: the same here, before a commit and in CI; one version number."""

import re
import tomllib

import tfrecipes
from tests.contracts.tree import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PRE_COMMIT = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
EXTRAS = PROJECT["project"]["optional-dependencies"]


def recipe_of(verb):
    """The commands of a verb of the Makefile."""
    found = re.search(rf"^{verb}:.*\n((?:\t.*\n?)+)", MAKEFILE, re.M)
    assert found, f"Makefile has no {verb}"
    return [line.strip() for line in found[1].splitlines()]


def test_the_checking_tools_are_pinned_exactly():
    pinned = {name.split("==")[0] for name in EXTRAS["test"] if "==" in name}
    assert {"ruff", "basedpyright"} <= pinned


def test_pre_commit_runs_what_make_check_runs():
    hooks = re.findall(r"entry: python (-m .+)$", PRE_COMMIT, re.M)
    # make names the environment that pre-commit finds active
    where = r"^\$\(PYTHON\) | --pythonpath .+$| \.$"
    check = [re.sub(where, "", command) for command in recipe_of("check")]
    assert hooks == check
    assert re.findall(r"repo: (\S+)", PRE_COMMIT) == ["local"]


def test_ci_calls_the_verbs_of_the_makefile():
    assert re.findall(r"\bmake ([\w-]+)", CI) == ["check", "test-wide"]
    for verb in ("check", "test", "test-wide", "docs", "bench"):
        assert recipe_of(verb)


def test_make_test_is_the_test_command_of_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    arguments = re.search(r"^PYTEST = \$\(PYTHON\) (.+)$", MAKEFILE, re.M)
    assert arguments is not None
    assert f".venv/bin/python {arguments[1]}\n" in readme


def test_the_tests_that_no_command_runs_need_a_gpu():
    (default,) = [o for o in PROJECT["tool"]["pytest"]["ini_options"]["addopts"] if o[:2] == "-m"]
    left_out = set(re.findall(r"not (\w+)", default))
    markers = {m.split(":")[0] for m in PROJECT["tool"]["pytest"]["ini_options"]["markers"]}
    assert left_out == markers
    (wide,) = recipe_of("test-wide")
    run_by_wide = set(re.findall(r"\b(\w+)\b", re.search(r'"\((.+?)\)', wide)[1])) - {"or"}
    assert left_out - run_by_wide == {"gpu"}


def test_every_warning_that_is_let_through_has_a_date_and_a_reason():
    first, *exceptions = PROJECT["tool"]["pytest"]["ini_options"]["filterwarnings"]
    assert first == "error"
    lines = (ROOT / "pyproject.toml").read_text(encoding="utf-8").splitlines()
    for exception in exceptions:
        (at,) = [i for i, line in enumerate(lines) if exception in line.replace("\\\\", "\\")]
        reason = []
        while lines[at - 1 - len(reason)].strip().startswith("#"):
            reason.insert(0, lines[at - 1 - len(reason)].strip("# "))
        assert re.match(r"20\d\d-\d\d-\d\d: \w+", " ".join(reason)), exception


def test_the_version_is_the_same_wherever_it_stands():
    citation = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert tfrecipes.__version__ == PROJECT["project"]["version"]
    assert f"\nversion: {PROJECT['project']['version']}\n" in citation
