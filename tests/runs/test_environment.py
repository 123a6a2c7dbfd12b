import json
import subprocess
from pathlib import Path

import pytest

from tfrecipes.runs import environment
from tfrecipes.runs.environment import collect_environment


def git(directory: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org"]
    done = subprocess.run(
        ["git", "-C", str(directory), *identity, *arguments],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


def test_the_facts_are_json_and_name_the_versions(tmp_path: Path) -> None:
    facts = collect_environment(devices=["CPU:0"], directory=tmp_path)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["devices"] == ["CPU:0"]
    assert facts["packages"]["numpy"]
    assert facts["started_at"].endswith("+00:00")
    assert facts["git_commit"] is None
    assert facts["git_modified"] is None


def test_the_commit_is_that_of_the_users_code(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    (tmp_path / "train.py").write_text("1\n")
    git(tmp_path, "add", "train.py")
    git(tmp_path, "commit", "-qm", "first")
    facts = collect_environment(directory=tmp_path)
    assert facts["git_commit"] == git(tmp_path, "rev-parse", "HEAD")
    assert facts["git_modified"] is False
    (tmp_path / "train.py").write_text("2\n")
    assert collect_environment(directory=tmp_path)["git_modified"] is True


def test_no_git_on_the_machine_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object, **keywords: object) -> None:
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", missing)
    assert collect_environment()["git_commit"] is None


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package-here"))
    assert list(collect_environment()["packages"]) == ["numpy"]
