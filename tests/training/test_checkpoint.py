import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.training import checkpoint_files
from tfrecipes.training.checkpoint import CheckpointError, CheckpointWarning, latest, load, save
from tfrecipes.training.checkpoint_files import ARRAYS, DIGEST, MANIFEST

FILES = [ARRAYS, MANIFEST, DIGEST]


def state(step: int) -> dict[str, np.ndarray]:
    return {"dense/kernel": np.full((3, 4), step, np.float32), "iterations": np.array(step)}


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A directory with two good checkpoints, of steps 1 and 2."""
    for step in (1, 2):
        save(tmp_path, state(step), {"step": step})
    return tmp_path


def step_of(directory: Path) -> int | None:
    found = latest(directory, on_broken=lambda reason: None)
    if found is None:
        return None
    np.testing.assert_array_equal(found.arrays["iterations"], found.meta["step"])
    return found.meta["step"]


def names(directory: Path) -> list[str]:
    return sorted(entry.name for entry in directory.iterdir())


class TestRoundTrip:
    def test_every_dtype_shape_and_order_comes_back_bit_for_bit(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(0)
        dtypes = [
            bool,
            "u1",
            "i1",
            "u2",
            "i2",
            "u4",
            "i4",
            "u8",
            "i8",
            "f2",
            "f4",
            "f8",
            ml_dtypes.bfloat16,
        ]
        arrays = {
            f"{np.dtype(dtype).name} {shape}": (rng.standard_normal(shape) * 9).astype(dtype)
            for dtype in dtypes
            for shape in [(), (1,), (0, 3), (2, 3), (2, 1, 4)]
        }
        arrays["transposed"] = rng.standard_normal((3, 4)).T
        arrays["strided"] = np.arange(10)[::3]
        arrays["ä/β:0 \N{SNOWMAN}"] = np.float32([np.nan, np.inf, -0.0])
        back = load(save(tmp_path, arrays, {})).arrays
        assert set(back) == set(arrays)
        for name, array in arrays.items():
            assert back[name].dtype == array.dtype, name
            assert back[name].shape == array.shape, name
            assert back[name].tobytes() == array.tobytes(), name
            assert back[name].flags.writeable

    def test_a_scalar_stays_a_scalar(self, tmp_path: Path) -> None:
        arrays = {"zero_d": np.array(5), "numpy": np.float32(2), "one_d": np.array([5])}
        back = load(save(tmp_path, arrays, {})).arrays
        assert {name: array.shape for name, array in back.items()} == {
            "zero_d": (), "numpy": (), "one_d": (1,),
        }  # fmt: skip

    def test_big_endian_values_are_kept(self, tmp_path: Path) -> None:
        back = load(save(tmp_path, {"a": np.arange(3, dtype=">f4")}, {})).arrays["a"]
        np.testing.assert_array_equal(back, [0, 1, 2])

    def test_an_empty_state_is_a_state(self, tmp_path: Path) -> None:
        assert load(save(tmp_path, {}, {})).arrays == {}

    def test_meta_comes_back_with_numbers_that_are_not_finite(self, tmp_path: Path) -> None:
        meta = {"best": float("inf"), "history": {"loss": [1.5, None]}, "text": "ä"}
        assert load(save(tmp_path, {}, meta)).meta == meta

    def test_the_arrays_are_a_file_that_safetensors_reads(self, tmp_path: Path) -> None:
        arrays = {"b": np.bool_([1]), "a": np.arange(3.0), "i": np.array(7), "h": np.float16([1])}
        back = load_file(save(tmp_path, arrays, {}) / ARRAYS)
        assert {name: array.tolist() for name, array in back.items()} == {
            name: array.tolist() for name, array in arrays.items()
        }

    def test_the_manifest_names_shapes_dtypes_and_version(self, tmp_path: Path) -> None:
        path = save(tmp_path, state(3), {"step": 3})
        manifest = json.loads((path / MANIFEST).read_text())
        assert (manifest["format"], manifest["version"]) == ("tfrecipes-checkpoint", 1)
        assert manifest["arrays"]["dense/kernel"] == {"dtype": "F32", "shape": [3, 4]}
        assert manifest["files"][ARRAYS]["bytes"] == (path / ARRAYS).stat().st_size

    def test_a_checkpoint_may_be_moved_and_renamed(self, two: Path) -> None:
        shutil.move(two / "checkpoint-000001", two / "kept")
        assert load(two / "kept").meta == {"step": 1}

    @settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.lists(st.floats(width=32)),
            max_size=5,
        )
    )
    def test_any_names_and_values(self, tmp_path: Path, values: dict[str, list[float]]) -> None:
        values.pop("__metadata__", None)
        arrays = {name: np.array(value, np.float32) for name, value in values.items()}
        back = load(save(tmp_path, arrays, {}, keep=1)).arrays
        assert {n: a.tobytes() for n, a in back.items()} == {
            n: a.tobytes() for n, a in arrays.items()
        }


class TestKeeping:
    def test_the_newest_few_stay(self, tmp_path: Path) -> None:
        for step in range(5):
            save(tmp_path, state(step), {"step": step}, keep=2)
        assert names(tmp_path) == ["checkpoint-000004", "checkpoint-000005"]
        assert step_of(tmp_path) == 4

    def test_newest_is_what_was_saved_last_also_after_a_rewind(self, tmp_path: Path) -> None:
        for step in (10, 20, 5):
            save(tmp_path, state(step), {"step": step})
        assert step_of(tmp_path) == 5

    def test_a_number_is_never_used_twice(self, two: Path) -> None:
        (two / "checkpoint-000002" / MANIFEST).unlink()
        assert step_of(two) == 1
        assert save(two, state(3), {"step": 3}).name == "checkpoint-000003"

    def test_old_ones_go_only_after_the_new_one_verified(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write

        def flip(descriptor: int, data: memoryview) -> int:
            written = real(descriptor, bytes([data[0] ^ 1]) + bytes(data[1:]))
            return written

        monkeypatch.setattr(os, "write", flip)
        with pytest.raises(CheckpointError, match=r"set aside as checkpoint-000003\.corrupt"):
            save(two, state(3), {"step": 3}, keep=1)
        monkeypatch.undo()
        assert names(two) == ["checkpoint-000001", "checkpoint-000002", "checkpoint-000003.corrupt"]
        assert step_of(two) == 2

    def test_one_that_cannot_be_removed_is_a_warning(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> None:
            raise OSError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(shutil, "rmtree", refuse)
        with pytest.warns(CheckpointWarning, match="000001: could not be removed"):
            save(two, state(3), {"step": 3}, keep=2)

    def test_what_others_put_there_is_left_alone(self, two: Path) -> None:
        (two / "notes.txt").write_text("mine")
        (two / "checkpoint-last").mkdir()
        (two / ".checkpoint-12.tmp").mkdir()
        save(two, state(3), {"step": 3}, keep=1)
        assert names(two) == [
            ".checkpoint-12.tmp",
            "checkpoint-000003",
            "checkpoint-last",
            "notes.txt",
        ]


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def damage_empty(path: Path) -> None:
    path.write_bytes(b"")


def damage_zero_tail(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2] + b"\0" * (len(data) - len(data) // 2))


def damage_append(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"\0")


def damage_remove(path: Path) -> None:
    path.unlink()


def damage_directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def damage_link(path: Path) -> None:
    elsewhere = path.parent.parent / f"elsewhere {path.name}"
    shutil.move(path, elsewhere)
    path.symlink_to(elsewhere)


def damage_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


DAMAGES = [value for name, value in sorted(globals().items()) if name.startswith("damage_")]


class TestDamage:
    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_a_damaged_one_is_set_aside_and_the_one_before_is_used(
        self, two: Path, file: str, damage: Callable[[Path], None]
    ) -> None:
        damage(two / "checkpoint-000002" / file)
        reasons: list[str] = []
        found = latest(two, on_broken=reasons.append)
        assert found is not None
        assert found.meta == {"step": 1}
        assert found.set_aside == tuple(reasons)
        assert len(reasons) == 1
        assert "checkpoint-000002: the checkpoint cannot be used" in reasons[0]
        assert "set aside as checkpoint-000002.corrupt." in reasons[0]
        assert not (two / "checkpoint-000002").exists()

    @pytest.mark.parametrize("file", FILES)
    @pytest.mark.parametrize("damage", DAMAGES)
    def test_an_explicit_path_is_an_error_and_never_a_fallback(
        self, two: Path, file: str, damage: Callable[[Path], None]
    ) -> None:
        damage(two / "checkpoint-000002" / file)
        with pytest.raises(
            CheckpointError, match="checkpoint-000002: the checkpoint cannot be used"
        ):
            load(two / "checkpoint-000002")
        assert (two / "checkpoint-000002").is_dir()

    @pytest.mark.parametrize("file", FILES)
    def test_every_single_bit_flip_is_detected(self, two: Path, file: str) -> None:
        path = two / "checkpoint-000002" / file
        whole = path.read_bytes()
        # Every byte once, a different bit each: all of them would be eight times as slow.
        for place in range(len(whole)):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << (place % 8)
            path.write_bytes(flipped)
            with pytest.raises(CheckpointError):
                load(path.parent)
        path.write_bytes(whole)
        assert load(path.parent).meta == {"step": 2}

    def test_a_swapped_file_of_the_same_size_is_detected(self, two: Path) -> None:
        shutil.copy(two / "checkpoint-000001" / ARRAYS, two / "checkpoint-000002" / ARRAYS)
        with pytest.raises(CheckpointError, match="sha256"):
            load(two / "checkpoint-000002")

    def test_nothing_good_left_is_none_and_said_aloud(self, two: Path) -> None:
        for number in (1, 2):
            damage_empty(two / f"checkpoint-00000{number}" / ARRAYS)
        with pytest.warns(CheckpointWarning) as caught:
            assert latest(two) is None
        assert len(caught) == 2
        assert names(two) == ["checkpoint-000001.corrupt", "checkpoint-000002.corrupt"]

    def test_a_name_taken_by_an_earlier_corrupt_one_is_not_overwritten(self, two: Path) -> None:
        (two / "checkpoint-000002.corrupt").mkdir()
        damage_empty(two / "checkpoint-000002" / ARRAYS)
        assert step_of(two) == 1
        assert "checkpoint-000002.2.corrupt" in names(two)

    def test_one_that_cannot_be_set_aside_is_passed_over(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        damage_empty(two / "checkpoint-000002" / ARRAYS)

        def refuse(source: Path, target: Path) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

        monkeypatch.setattr(os, "rename", refuse)
        reasons: list[str] = []
        found = latest(two, on_broken=reasons.append)
        assert found is not None
        assert found.meta == {"step": 1}
        assert "could not be set aside (Read-only file system)" in reasons[0]

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"version": 2}, "its version is 2, and this release reads 1"),
            ({"format": "other"}, "its format is 'other'"),
            ({"arrays": {}}, "the arrays are not those of the manifest"),
            ({"files": None}, "not what this release writes"),
            ({"meta": ...}, "not what this release writes"),
        ],
    )
    def test_a_manifest_that_verifies_and_says_something_else_is_refused(
        self, two: Path, change: dict[str, object], words: str
    ) -> None:
        path = two / "checkpoint-000002"
        manifest = json.loads((path / MANIFEST).read_text()) | change
        manifest = {key: value for key, value in manifest.items() if value is not ...}
        text = json.dumps(manifest).encode()
        (path / MANIFEST).write_bytes(text)
        (path / DIGEST).write_bytes(checkpoint_files._digest_line(text))
        with pytest.raises(CheckpointError, match=words):
            load(path)

    def test_a_manifest_of_another_shape_is_refused(self, two: Path) -> None:
        path = two / "checkpoint-000002"
        manifest = json.loads((path / MANIFEST).read_text())
        manifest["arrays"]["dense/kernel"]["shape"] = [4, 3]
        text = json.dumps(manifest).encode()
        (path / MANIFEST).write_bytes(text)
        (path / DIGEST).write_bytes(checkpoint_files._digest_line(text))
        with pytest.raises(CheckpointError, match="'dense/kernel' is not the manifest's"):
            load(path)

    def test_a_huge_manifest_is_refused_before_it_is_parsed(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(checkpoint_files, "_MOST_MANIFEST_BYTES", 100)
        with pytest.raises(CheckpointError, match="larger than 100 bytes"):
            load(two / "checkpoint-000002")

    def test_a_linked_checkpoint_is_neither_followed_nor_touched(self, two: Path) -> None:
        elsewhere = two / "elsewhere"
        save(elsewhere, state(9), {"step": 9})
        (two / "checkpoint-000009").symlink_to(elsewhere / "checkpoint-000001")
        assert step_of(two) == 2
        with pytest.raises(CheckpointError, match="symbolic link"):
            load(two / "checkpoint-000009")
        for step in (3, 4):
            save(two, state(step), {"step": step}, keep=1)
        assert (two / "checkpoint-000009").is_symlink()
        assert load(elsewhere / "checkpoint-000001").meta == {"step": 9}

    def test_no_directory_and_no_checkpoint_are_none(self, tmp_path: Path) -> None:
        assert latest(tmp_path) is None
        assert latest(tmp_path / "missing") is None
        with pytest.raises(CheckpointError, match="No such file"):
            load(tmp_path / "missing")


class TestFailures:
    @pytest.mark.parametrize("call", ["write", "fsync", "rename", "open", "mkdir"])
    def test_a_system_that_refuses_leaves_the_old_ones_and_no_leftover(
        self, two: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        real = os.open

        def full(*arguments: object, **keywords: object) -> object:
            if call == "open" and not arguments[1] & os.O_CREAT:  # reading goes on
                return real(*arguments, **keywords)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, call, full)
        with pytest.raises(RunWriteError, match="No space left on device"):
            save(two, state(3), {"step": 3}, keep=1)
        monkeypatch.undo()
        assert names(two) == ["checkpoint-000001", "checkpoint-000002"]
        assert step_of(two) == 2
        save(two, state(3), {"step": 3})
        assert step_of(two) == 3

    def test_a_disk_that_fills_up_in_the_middle(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.write
        room = [100]

        def filling(descriptor: int, data: memoryview) -> int:
            if not room[0]:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            written = real(descriptor, data[: room[0]])
            room[0] -= written
            return written

        monkeypatch.setattr(os, "write", filling)
        with pytest.raises(RunWriteError, match="No space left"):
            save(two, state(3), {"step": 3})
        monkeypatch.undo()
        assert step_of(two) == 2

    def test_an_interrupt_passes_through_and_leaves_no_leftover(
        self, two: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(descriptor: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            save(two, state(3), {"step": 3})
        assert names(two) == ["checkpoint-000001", "checkpoint-000002"]

    # A save here calls, in order: 3 x (write ..., fsync), fsync of the folder, rename, fsync of the
    # parent, rename of an old one, its removal.
    @pytest.mark.parametrize(
        ("call", "count", "step"),
        [
            ("open", 1, 2),
            ("write", 1, 2),
            ("write", 3, 2),
            ("fsync", 1, 2),
            ("fsync", 2, 2),
            ("fsync", 3, 2),
            ("fsync", 4, 2),
            ("rename", 1, 2),
            ("fsync", 5, 3),
            ("rename", 2, 3),
            ("unlink", 1, 3),
            ("unlink", 2, 3),
            ("rmdir", 1, 3),
        ],
    )
    def test_a_kill_at_any_stage_leaves_a_whole_checkpoint(
        self, two: Path, call: str, count: int, step: int
    ) -> None:
        program = f"""
import os, signal
import numpy as np
from tfrecipes.training.checkpoint import save
real, left = os.{call}, [{count}]
def die(*arguments, **keywords):
    left[0] -= 1
    if not left[0]:
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*arguments, **keywords)
os.{call} = die
save({str(two)!r}, {{"iterations": np.array(3)}}, {{"step": 3}}, keep=1)
"""
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
        assert done.returncode == -signal.SIGKILL, done.stderr
        assert step_of(two) == step
        assert not [name for name in names(two) if name.endswith(".corrupt")]
        save(two, state(4), {"step": 4}, keep=2)
        assert step_of(two) == 4
        assert [name for name in names(two) if name.endswith(".tmp")] == []


class TestBadInput:
    @pytest.mark.parametrize("keep", [0, -1, 1.5, True, None])
    def test_keep_must_be_a_count(self, tmp_path: Path, keep: object) -> None:
        with pytest.raises(ValueError, match="`keep` must be an integer >= 1"):
            save(tmp_path, {}, {}, keep=keep)  # type: ignore[arg-type]

    @pytest.mark.parametrize(
        "array", [np.array([object()]), np.array(["text"]), np.array([1j]), np.array(0, "M8[s]")]
    )
    def test_an_array_that_is_no_number_is_refused_and_nothing_is_written(
        self, tmp_path: Path, array: np.ndarray
    ) -> None:
        with pytest.raises(ValueError, match="array 'a' must be of bools, integers or floats"):
            save(tmp_path, {"a": array}, {})
        assert names(tmp_path) == []

    @pytest.mark.parametrize("name", ["", "__metadata__"])
    def test_a_name_that_the_format_cannot_hold_is_refused(self, tmp_path: Path, name: str) -> None:
        with pytest.raises(ValueError, match="name must be a text"):
            save(tmp_path, {name: np.zeros(1)}, {})

    def test_meta_that_json_cannot_hold_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="`meta` must be JSON-able"):
            save(tmp_path, {}, {"model": object()})
