from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, Finding
from tfrecipes.runs.folder import RunFolder, read_run

RISING = [2.3, 2.0, 4.0, 9.0, 30.0]


def named(severity: str) -> Finding:
    return Finding(f"a {severity}", severity, "e", "c", "a")  # type: ignore[arg-type]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with RunFolder.open(tmp_path) as run:
        for value in RISING:
            run.append_epoch({"loss": value})
    return tmp_path


def test_a_path_a_run_a_history_and_a_dict_say_the_same(folder: Path) -> None:
    history = SimpleNamespace(history={"loss": RISING}, epoch=list(range(5)))
    given = [str(folder), folder, read_run(folder), history, {"loss": RISING}]
    for run in given:
        assert [finding.rule for finding in diagnose(run)] == ["diverged"]


def test_a_dict_with_steps_is_telemetry() -> None:
    (finding,) = diagnose({"step": [0, 1, 2], "loss": [1, np.nan, 1]})
    assert "step 1" in finding.evidence


def test_what_is_no_number_in_a_history_is_passed_over() -> None:
    assert diagnose({"loss": [1.0], "note": ["text"], "swa_val_loss": 0.3}) == []


def test_errors_come_first_and_rules_keep_their_order_within() -> None:
    order = ["info", "warning", "error", "warning"]
    found = diagnose({}, rules=[lambda run, s=s, i=i: named(s) for i, s in enumerate(order)])
    assert [finding.severity for finding in found] == ["error", "warning", "warning", "info"]


def test_a_rule_of_the_users_joins_ours_and_sees_the_run(folder: Path) -> None:
    (folder / "recipe.toml").write_text("name = 'mine'\n")

    def mine(run):  # type: ignore[no-untyped-def]
        assert run.recipe == {"name": "mine"}
        assert run.steps == {}
        return Finding("mine", "info", f"{len(run.epochs['loss'])} epochs.", "", "")

    assert [finding.rule for finding in diagnose(folder, rules=[*RULES, mine])] == [
        "diverged",
        "mine",
    ]


def test_a_rule_that_returns_something_else_is_named() -> None:
    def mine(run):  # type: ignore[no-untyped-def]
        return "bad"

    with pytest.raises(TypeError, match="rule mine must return a Finding or None"):
        diagnose({}, rules=[mine])


@pytest.mark.parametrize("given", [None, 3, [1.0]])
def test_what_is_no_run_is_one_sentence(given: object) -> None:
    with pytest.raises(TypeError, match=r"diagnose: must be given .*Received: run_or_history="):
        diagnose(given)


def test_a_path_that_is_no_run_folder_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no file of a run"):
        diagnose(tmp_path)


def test_the_history_of_a_monitored_run_is_epochs_as_a_dict_too() -> None:
    blown = {"loss": [2.3, 2.9, 4.1, 7.7, 20.0]}
    for monitored in (
        {"step": [31, 63, 95, 127, 159]},
        {"step": [0, 1, 2, 3, 4], "val_loss": [2.0] * 5},
    ):
        (first, *_) = diagnose(blown | monitored)
        assert first.rule == "diverged"
        assert "5 epochs" in first.evidence
