import errno
import os
from pathlib import Path

import pytest

from tfrecipes.runs.atomic import RunWriteError, write_atomically, write_whole


def test_text_and_bytes_are_written_whole(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "a", "ä\n").read_bytes() == "ä\n".encode()
    assert write_atomically(tmp_path / "a", b"\x00" * 70_000).stat().st_size == 70_000
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "open"])
def test_a_failure_at_any_stage_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    path = write_atomically(tmp_path / "a", "old")

    def fail(*arguments: object, **keywords: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(RunWriteError, match=r"a: could not be written \(No space left on device\)"):
        write_atomically(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a"]


def test_an_interrupt_leaves_nothing_behind_and_passes_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a", "new")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_system_cuts_short_is_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:3]))
    assert write_atomically(tmp_path / "a", "0123456789").read_text() == "0123456789"


def test_a_system_that_writes_nothing_is_an_error_and_no_endless_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "write", lambda descriptor, data: 0)
    with pytest.raises(OSError, match="no byte"):
        write_whole(1, b"x")


def test_a_symbolic_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = write_atomically(tmp_path / "target", "theirs")
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", "ours")
    assert target.read_text() == "theirs"
    assert (tmp_path / "link").read_text() == "ours"
