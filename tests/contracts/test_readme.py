"""The README: two commands that do all the set-up, and Python that runs as it stands."""

import re

import pytest

from tests.contracts.tree import ROOT
from tests.pages import blocks, page, run

README = page("README.md")


def test_two_commands_of_one_line_do_all_the_set_up():
    commands = blocks(README, "sh")
    assert len(commands) == 2
    assert [command.count("\n") for command in commands] == [0, 0]
    main_job, tests = commands
    assert main_job.endswith("tfrecipes train")
    assert "pytest" in tests
    assert all("-m venv .venv" in command and "pip install" in command for command in commands)


def test_no_block_hides_a_third_command():
    fences = re.findall(r"^```(\w*)$", README, re.M)
    assert set(fences) <= {"sh", "python", ""}
    assert not blocks(README, "bash")


def test_ci_reads_its_commands_from_the_readme():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert '"${commands[0]}"' in script
    assert '"${commands[1]}"' in script


def test_the_first_python_is_at_most_ten_lines():
    first = blocks(README, "python")[0]
    assert len([line for line in first.splitlines() if line.strip()]) <= 10


@pytest.mark.parametrize("number", range(len(blocks(README, "python"))))
def test_python_in_the_readme_runs_as_it_stands(number, tmp_path):
    run(tmp_path, "-c", blocks(README, "python")[number])


def test_every_file_that_the_readme_names_exists():
    linked = re.findall(r"\]\(([^)#:]+)\)", README)
    mapped = re.findall(r"^\| `([\w/.]+/[\w.]*)`", README, re.M)
    missing = [name for name in [*linked, *mapped] if not (ROOT / name).exists()]
    assert not missing
