import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tfrecipes.runs import steps as steps_module
from tfrecipes.runs.atomic import RunWriteError
from tfrecipes.runs.steps import StepsFile, format_rows, read_table

COLUMNS = ["step", "loss", "overflow"]


def rows(*steps: int) -> np.ndarray:
    return np.array([[step, step / 3, 0] for step in steps], dtype=np.float64).reshape(-1, 3)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "steps.csv"


def test_integers_are_printed_as_integers_and_floats_shortest(path: Path) -> None:
    with StepsFile(path) as steps:
        steps.append(
            ["step", "learning_rate", "loss_scale", "samples"],
            np.array([[0, np.float32(0.1), 2**15, 64], [16777217, 1e-9, np.inf, np.nan]]),
        )
    assert path.read_text() == (
        "step,learning_rate,loss_scale,samples\n0,0.1,32768.0,64\n16777217,1e-09,inf,nan\n"
    )


@given(st.lists(st.floats(width=32), min_size=1))
def test_a_float32_comes_back_bit_for_bit(values: list[float]) -> None:
    column = np.array(values, dtype=np.float64)[:, None]
    back = np.array(format_rows(["loss"], column).split(), dtype=np.float32)
    np.testing.assert_array_equal(back, column[:, 0].astype(np.float32))


def test_rows_are_in_the_file_as_soon_as_append_returns(path: Path) -> None:
    steps = StepsFile(path)
    for step in range(3):
        steps.append(COLUMNS, rows(step))
        assert read_table(path)["step"].tolist() == list(range(step + 1))
    steps.close()


def test_a_block_of_rows_is_one_write(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    real = os.write

    def count(descriptor: int, data: bytes) -> int:
        sizes.append(len(data))
        return real(descriptor, data)

    with StepsFile(path) as steps:
        steps.append(COLUMNS, rows(0))
        monkeypatch.setattr(os, "write", count)
        steps.append(COLUMNS, rows(*range(1, 2000)))
    assert len(sizes) == 1
    assert len(read_table(path)["step"]) == 2000


def test_no_file_appears_before_the_first_row(path: Path) -> None:
    with StepsFile(path) as steps:
        steps.append(COLUMNS, np.empty((0, 3)))
    assert not path.exists()


@pytest.mark.parametrize("tail", ["3,0.", "3", "\0\0\0\0", ""])
def test_a_cut_last_line_is_ignored_by_the_reader_and_removed_by_the_next_writer(
    path: Path, tail: str
) -> None:
    with StepsFile(path) as steps:
        steps.append(COLUMNS, rows(0, 1, 2))
    whole = path.read_text()
    path.write_text(whole + tail)
    assert read_table(path)["step"].tolist() == [0, 1, 2]
    StepsFile(path).close()
    assert path.read_text() == whole


def test_a_broken_line_in_the_middle_is_left_out(path: Path) -> None:
    path.write_text("step,loss,overflow\n0,1,0\n1,0\n\n2,x,0\n3,,0\n")
    table = read_table(path)
    assert table["step"].tolist() == [0, 3]
    assert np.isnan(table["loss"][1])


def test_resuming_drops_the_rows_that_will_be_written_again(path: Path) -> None:
    with StepsFile(path) as steps:
        steps.append(COLUMNS, rows(*range(10)))
    with StepsFile(path, resume_step=7) as steps:
        steps.append(COLUMNS, rows(7, 8))
    assert read_table(path)["step"].tolist() == list(range(9))
    assert path.read_text().count("step") == 1


def test_resuming_from_the_beginning_keeps_the_header_alone(path: Path) -> None:
    with StepsFile(path) as steps:
        steps.append(COLUMNS, rows(0, 1))
    StepsFile(path, resume_step=0).close()
    assert path.read_text() == "step,loss,overflow\n"
    assert read_table(path)["step"].tolist() == []


def test_a_file_without_a_table_is_started_anew(path: Path) -> None:
    path.write_text("no newline")
    with StepsFile(path) as steps:
        steps.append(COLUMNS, rows(0))
    assert read_table(path)["step"].tolist() == [0]


def test_new_columns_join_and_earlier_rows_are_empty_there(path: Path) -> None:
    with StepsFile(path) as steps:
        steps.append(["step", "loss"], np.array([[0, 1.0]]))
        steps.append(["step", "mine", "loss"], np.array([[1, 7.0, 0.5]]))
        steps.append(["loss", "step"], np.array([[0.25, 2]]))
    assert path.read_text() == "step,loss,mine\n0,1.0,\n1,0.5,7.0\n2,0.25,\n"


@pytest.mark.parametrize(
    ("columns", "shape"),
    [(["step"], (2, 2)), (["step"], (2,)), (["a,b"], (1, 1)), (["a", "a"], (1, 2))],
)
def test_rows_that_fit_no_table_are_refused(
    path: Path, columns: list[str], shape: tuple[int, ...]
) -> None:
    with StepsFile(path) as steps, pytest.raises(ValueError, match=r"steps\.csv: .*Received"):
        steps.append(columns, np.zeros(shape))


def test_a_full_disk_keeps_the_file_whole_and_the_rows_come_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    steps = StepsFile(path)
    steps.append(COLUMNS, rows(0))
    whole = path.read_text()
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:5]))
    with pytest.raises(RunWriteError, match="took 5 of"):
        steps.append(COLUMNS, rows(1))
    assert path.read_text() == whole

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(RunWriteError, match="No space left"):
        steps.append(COLUMNS, rows(2))
    monkeypatch.undo()
    steps.append(COLUMNS, rows(3))
    steps.close()
    assert read_table(path)["step"].tolist() == [0, 1, 2, 3]


def test_rows_waiting_for_a_full_disk_are_bounded_and_cut_at_a_line(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps_module, "_MOST_WAITING_BYTES", 25)
    steps = StepsFile(path)
    steps.append(COLUMNS, rows(0))
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    for step in (3, 6, 9, 12, 15):
        with pytest.raises(RunWriteError):
            steps.append(COLUMNS, rows(step))
    monkeypatch.undo()
    steps.close()
    kept = read_table(path)["step"].tolist()
    assert kept == [0, 12, 15]
    assert steps.dropped_rows == 3


def test_rows_with_a_new_column_that_a_full_disk_refuses_are_counted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with StepsFile(path) as steps:
        steps.append(["step"], np.array([[0.0]]))
        monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
        with pytest.raises(RunWriteError):
            steps.append(["step", "mine"], np.array([[1.0, 2.0]]))
        monkeypatch.undo()
        steps.append(["step", "mine"], np.array([[2.0, 3.0]]))
    assert path.read_text() == "step,mine\n0,\n2,3.0\n"
    assert steps.dropped_rows == 1


def test_closing_says_so_when_waiting_rows_still_cannot_be_written(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = StepsFile(path)
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    with pytest.raises(RunWriteError):
        steps.append(COLUMNS, rows(0))
    with pytest.raises(RunWriteError):
        steps.close()


def test_a_killed_writer_leaves_whole_rows(path: Path) -> None:
    program = f"""
import numpy as np
from tfrecipes.runs.steps import StepsFile
steps = StepsFile({str(path)!r})
print("go", flush=True)
for i in range(10**9):
    steps.append(["step", "loss"], np.array([[2 * i, i / 3], [2 * i + 1, i / 7]]))
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()
        while not path.exists() or path.stat().st_size < 50_000:
            pass
        writer.send_signal(signal.SIGKILL)
    text = path.read_text()
    assert text.endswith("\n")
    steps = read_table(path)["step"]
    assert steps.tolist() == list(range(len(steps)))
    assert len(steps) == text.count("\n") - 1


def test_what_stands_in_a_column_of_integers_is_never_cut_short() -> None:
    values = [2.0**53, -3.0, 1e30, np.nan, np.inf, -0.0]
    cells = format_rows(["step"], np.array(values)[:, None]).split()
    assert cells == [str(2**53), "-3", str(int(1e30)), "nan", "inf", "0"]
    assert format_rows(["step"], np.array([[7.0], [7.0]])) == "7\n7\n"
    assert format_rows(["step"], np.empty((0, 1))) == ""
