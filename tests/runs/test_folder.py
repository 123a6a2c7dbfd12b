import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.folder import Run, RunFolder, read_run


class TestOpening:
    def test_fresh_folders_count_up(self, tmp_path: Path) -> None:
        root = tmp_path / "runs"
        with RunFolder.fresh("digits", root) as one, RunFolder.fresh("digits", root) as two:
            assert (one.path, two.path) == (root / "digits-1", root / "digits-2")
            assert not two.holds_run

    def test_a_fresh_number_is_past_the_highest_and_other_names_do_not_count(
        self, tmp_path: Path
    ) -> None:
        for name in ("a-7", "a-b-9", "xa-11", "a-x"):
            (tmp_path / name).mkdir()
        with RunFolder.fresh("a", tmp_path) as folder:
            assert folder.path.name == "a-8"

    def test_a_number_that_another_run_just_took_is_passed_over(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "a-1").mkdir()
        monkeypatch.setattr(Path, "iterdir", lambda self: iter(()))
        with RunFolder.fresh("a", tmp_path) as folder:
            assert folder.path.name == "a-2"

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../x", "a\nb", "x" * 300])
    def test_a_name_that_is_no_file_name_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="plain file name"):
            RunFolder.fresh(name, tmp_path)

    def test_a_named_folder_is_made_with_its_parents(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path / "a" / "b") as folder:
            assert folder.path.is_dir()
            assert not folder.holds_run

    def test_a_folder_with_a_run_says_so_also_when_it_was_moved(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path / "a") as folder:
            folder.write_state("running", epochs=0)
        shutil.move(tmp_path / "a", tmp_path / "b")
        with RunFolder.open(tmp_path / "b") as folder:
            assert folder.holds_run

    @pytest.mark.parametrize("place", ["file", "file/run"])
    def test_a_file_in_the_way_is_one_sentence(self, tmp_path: Path, place: str) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(ValueError, match=r"run folder: .*Received: directory=.*Name another"):
            RunFolder.open(tmp_path / place)

    def test_an_unwritable_folder_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        with pytest.raises(ValueError, match="must be able to write its folder"):
            RunFolder.open(tmp_path)

    def test_a_lock_that_cannot_be_made_is_one_sentence(self, tmp_path: Path) -> None:
        (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ValueError, match="must be able to write its folder"):
            RunFolder.open(tmp_path)


class TestLock:
    def test_two_runs_in_one_folder_are_refused(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path), pytest.raises(ValueError, match="another run is writing"):
            RunFolder.open(tmp_path)

    def test_another_process_is_refused_and_a_killed_one_leaves_no_lock(
        self, tmp_path: Path
    ) -> None:
        program = f"""
import time
from tfrecipes.runs.folder import RunFolder
folder = RunFolder.open({str(tmp_path)!r})
print("locked", flush=True)
time.sleep(600)
"""
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            other.stdout.readline()
            with pytest.raises(ValueError, match="another run is writing"):
                RunFolder.open(tmp_path)
            other.kill()
        RunFolder.open(tmp_path).close()


class TestReadingBack:
    def test_everything_that_was_written_is_read(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path) as folder:
            folder.write_recipe('name = "default"\n[ema]\ndecay = 0.9\n')
            folder.write_environment(devices=["CPU:0"], xla="off")
            folder.write_findings([{"rule": "not_finite", "severity": "error"}])
            folder.write_state("stopped", epochs=2, exit_code=4, reason="not finite")
            with folder.open_steps() as steps:
                steps.append(["step", "loss"], np.array([[0, 2.0], [1, np.nan]]))
            folder.append_epoch({"loss": 2.0})
            folder.append_epoch({"loss": 1.0, "val_loss": 0.1})
        run = read_run(tmp_path)
        assert run.recipe == {"name": "default", "ema": {"decay": 0.9}}
        assert run.recipe_text is not None
        assert run.environment["devices"] == ["CPU:0"]
        assert run.environment["xla"] == "off"
        assert run.findings == [{"rule": "not_finite", "severity": "error"}]
        assert run.state == {
            "status": "stopped", "epochs": 2, "exit_code": 4, "reason": "not finite",
        }  # fmt: skip
        np.testing.assert_array_equal(run.steps["loss"], [2.0, np.nan])
        np.testing.assert_array_equal(run.epochs["val_loss"], [np.nan, 0.1])
        assert run.problems == ()

    def test_findings_may_be_objects(self, tmp_path: Path) -> None:
        class Finding:
            def as_dict(self) -> dict[str, str]:
                return {"rule": "mine"}

        with RunFolder.open(tmp_path) as folder:
            folder.write_findings([Finding()])
        assert json.loads((tmp_path / "findings.json").read_text()) == [{"rule": "mine"}]

    def test_a_folder_with_only_steps_is_a_run(self, tmp_path: Path) -> None:
        (tmp_path / "steps.csv").write_text("step,loss\n0,1.5\n1,0.")
        run = read_run(tmp_path)
        assert run.steps["step"].tolist() == [0]
        assert (run.recipe, run.epochs, run.findings, run.state) == (None, {}, [], {})

    def test_broken_files_are_named_and_the_rest_is_read(self, tmp_path: Path) -> None:
        (tmp_path / "recipe.toml").write_text("= =")
        (tmp_path / "environment.json").write_text("[]")
        (tmp_path / "findings.json").write_text("[" * 100_000)
        (tmp_path / "state.json").write_bytes(b"\xff\xfe")
        (tmp_path / "epochs.csv").mkdir()
        (tmp_path / "steps.csv").write_text("step\n0\n")
        run = read_run(tmp_path)
        assert run.steps["step"].tolist() == [0]
        assert run.recipe is None
        assert [problem.split()[0] for problem in run.problems] == [
            "epochs.csv", "recipe.toml", "environment.json", "findings.json", "state.json",
        ]  # fmt: skip

    @pytest.mark.parametrize("make", [True, False])
    def test_what_is_no_run_folder_is_one_sentence(self, tmp_path: Path, make: bool) -> None:
        path = tmp_path / "x"
        if make:
            path.mkdir()
        with pytest.raises(ValueError, match=r"run.*Received: path="):
            read_run(path)

    def test_a_run_is_empty_by_default(self) -> None:
        assert Run().steps == {}


class TestEpochs:
    def test_a_key_that_comes_later_becomes_a_column(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path) as folder:
            folder.append_epoch({"loss": 1})
            folder.append_epoch({"loss": 0.1, "val_loss": float("nan")})
            folder.amend_last_epoch({"swa_val_loss": 0.3})
        assert (tmp_path / "epochs.csv").read_text() == (
            "loss,val_loss,swa_val_loss\n1.0,,\n0.1,nan,0.3\n"
        )

    def test_values_come_back_bit_for_bit(self, tmp_path: Path) -> None:
        values = [1 / 3, 1e-300, float(np.float32(0.1))]
        with RunFolder.open(tmp_path) as folder:
            for value in values:
                folder.append_epoch({"loss": value})
        assert read_run(tmp_path).epochs["loss"].tolist() == values

    def test_a_resumed_run_goes_on_after_the_epochs_it_keeps(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path) as folder:
            for value in (3.0, 2.0, 1.0):
                folder.append_epoch({"loss": value})
        with RunFolder.open(tmp_path) as folder:
            folder.keep_epochs(1)
            folder.append_epoch({"loss": 2.5})
        assert read_run(tmp_path).epochs["loss"].tolist() == [3.0, 2.5]

    def test_a_metric_may_have_any_name(self, tmp_path: Path) -> None:
        names = ["a,b", '<script>"x"</script>', "two\nlines"]
        with RunFolder.open(tmp_path) as folder:
            folder.append_epoch(dict.fromkeys(names, 1.0))
        assert list(read_run(tmp_path).epochs) == ["a,b", '<script>"x"</script>', "two lines"]

    def test_amending_before_the_first_epoch_makes_a_row(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path) as folder:
            folder.amend_last_epoch({"swa_val_loss": 0.3})
        assert read_run(tmp_path).epochs["swa_val_loss"].tolist() == [0.3]


def test_an_unknown_status_is_refused(tmp_path: Path) -> None:
    with RunFolder.open(tmp_path) as folder, pytest.raises(ValueError, match="must be one of"):
        folder.write_state("done", epochs=0)  # type: ignore[arg-type]


def test_a_failing_write_is_an_error_of_its_own_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with RunFolder.open(tmp_path) as folder:
        folder.append_epoch({"loss": 1.0})
        folder.write_recipe("a = 1\n")
        monkeypatch.setattr(os, "write", full)
        for write in (
            lambda: folder.append_epoch({"loss": 0.5}),
            lambda: folder.write_recipe("a = 2\n"),
            lambda: folder.write_environment(),
            lambda: folder.write_findings([]),
            lambda: folder.write_state("running", 0),
        ):
            with pytest.raises(RunWriteError, match="No space left"):
                write()
        monkeypatch.undo()
        folder.append_epoch({"loss": 0.25})
    run = read_run(tmp_path)
    assert run.recipe == {"a": 1}
    assert run.epochs["loss"].tolist() == [1.0, 0.5, 0.25]


def test_the_room_needs_neither_keras_nor_tensorflow() -> None:
    program = (
        "import sys, tfrecipes.runs.folder, tfrecipes.doctor.diagnosis\n"
        "print([m for m in ('keras', 'tensorflow', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


class TestWhatTheMonitorAdds:
    def test_facts_system_and_layers_are_read_back(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path) as folder:
            folder.write_facts({"loss": {"name": "mse"}, "mean": float("nan"), "counts": (1, 2)})
            with folder.open_system() as system:
                system.append(
                    ["step", "seconds", "gpu", "host_memory"],
                    np.array([[9, 1.5, np.nan, 2**33 + 1]]),
                )
            with folder.open_layers() as layers:
                layers.append(["step", "grad_norm/a/b"], np.array([[0, np.nan]]))
        run = read_run(tmp_path)
        assert run.facts == {"loss": {"name": "mse"}, "mean": None, "counts": [1, 2]}
        assert (tmp_path / "system.csv").read_text() == (
            "step,seconds,gpu,host_memory\n9,1.5,,8589934593\n"
        )
        assert np.isnan(run.system["gpu"][0])
        assert run.system["host_memory"].tolist() == [2**33 + 1]
        assert (tmp_path / "layers.csv").read_text() == "step,grad_norm/a/b\n0,nan\n"
        assert list(run.layers) == ["step", "grad_norm/a/b"]
        assert run.problems == ()

    def test_a_run_without_them_has_none(self, tmp_path: Path) -> None:
        (tmp_path / "steps.csv").write_text("step\n0\n")
        run = read_run(tmp_path)
        assert (run.facts, run.system, run.layers) == ({}, {}, {})

    def test_a_name_that_ends_in_nan_is_no_empty_cell(self, tmp_path: Path) -> None:
        with RunFolder.open(tmp_path) as folder, folder.open_system() as system:
            system.append(["nan", "banan"], np.array([[np.nan, 1.0]]))
        assert (tmp_path / "system.csv").read_text() == "nan,banan\n,1.0\n"
