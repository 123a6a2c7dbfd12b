import io
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

from tfrecipes.training.archives import load_npz


def save(path, **arrays):
    np.savez(path, **arrays)
    return path


@pytest.fixture
def pair():
    return {"x_train": np.arange(6.0).reshape(3, 2), "y_train": np.array([0, 1, 0])}


@pytest.mark.parametrize("saver", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_saved(tmp_path, saver, pair):
    pair["x_train"] = np.asfortranarray(pair["x_train"])
    pair["y_train"] = pair["y_train"].astype(">i4")
    saver(tmp_path / "a.npz", **pair, other=np.zeros(2))
    data = load_npz(tmp_path / "a.npz")
    np.testing.assert_array_equal(data.x, pair["x_train"])
    np.testing.assert_array_equal(data.y, pair["y_train"])
    assert data.y.dtype.isnative
    assert data.validation is None
    assert data.x.flags.writeable


@pytest.mark.parametrize(
    ("parts", "chosen"), [(("val",), "val"), (("test",), "test"), (("test", "val"), "val")]
)
def test_validation_data_are_taken_when_there(tmp_path, pair, parts, chosen):
    more = {f"{k}_{p}": np.full(len(p), 7) for p in parts for k in "xy"}
    data = load_npz(save(tmp_path / "a.npz", **pair, **more))
    assert len(data.validation[0]) == len(chosen)


class Bomb:
    def __reduce__(self):
        return os.mkdir, ("executed",)


def member(shape="(3,)", descr="'<f8'", body=b"\0" * 24):
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def write(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


def bad_files(tmp_path, pair):
    good = member()
    yield tmp_path / "none.npz", "there is no such file"
    yield tmp_path, "cannot be read"
    (tmp_path / "text.npz").write_text("hello")
    yield tmp_path / "text.npz", "must be a .npz file"
    (tmp_path / "empty.npz").write_bytes(b"")
    yield tmp_path / "empty.npz", "must be a .npz file"
    np.save(tmp_path / "one.npy", np.zeros(2))
    yield tmp_path / "one.npy", "must be a .npz file"
    yield save(tmp_path / "b.npz", x_train=np.zeros(2)), "Received: x_train. Add y_train"
    yield save(tmp_path / "c.npz", x=np.zeros(2), y=np.zeros(2)), "Add x_train and y_train"
    yield save(tmp_path / "d.npz", **pair, x_val=np.zeros(2)), "x_val alone"
    yield (
        save(tmp_path / "e.npz", x_train=np.zeros(2), y_train=np.zeros(3)),
        "x has 2, y has 3",
    )
    objects = np.array([1, None], object)
    yield save(tmp_path / "f.npz", x_train=objects, y_train=np.zeros(2)), "dtype object"
    yield write(tmp_path / "g.npz", x_train=pickle.dumps(Bomb()), y_train=good), "must be an array"
    yield write(tmp_path / "h.npz", x_train=member("(3000000000000,)"), y_train=good), "is damaged"
    yield (
        write(tmp_path / "i.npz", x_train=member("__import__('os')"), y_train=good),
        ("must be an array"),
    )
    yield write(tmp_path / "j.npz", x_train=member(descr="'O'"), y_train=good), "dtype object"
    yield write(tmp_path / "k.npz", x_train=member(body=b"\0" * 23), y_train=good), "is damaged"
    whole = save(tmp_path / "l.npz", **pair).read_bytes()
    flipped = bytearray(whole)
    flipped[whole.index(np.float64(5).tobytes()) + 6] ^= 1
    (tmp_path / "m.npz").write_bytes(flipped)
    yield tmp_path / "m.npz", "Bad CRC-32"
    (tmp_path / "n.npz").write_bytes(whole[:-40])
    yield tmp_path / "n.npz", "must be a .npz file"
    deflated = write(tmp_path / "o.npz", x_train=member(), y_train=member()).read_bytes()
    start = deflated.index(b"x_train.npy") + 11
    (tmp_path / "o.npz").write_bytes(deflated[:start] + b"\xff" * 20 + deflated[start + 20 :])
    yield tmp_path / "o.npz", "must be a .npz file. Received: Error -3"


def test_a_bad_file_gets_one_sentence_and_nothing_in_it_runs(tmp_path, pair, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cases = list(bad_files(tmp_path, pair))
    assert len(cases) == 18
    for path, sentence in cases:
        with pytest.raises(ValueError, match=sentence) as caught:
            load_npz(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)
    assert not (tmp_path / "executed").exists()


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path):
    zeros = io.BytesIO()
    np.lib.format.write_array(zeros, np.zeros(10_000_000, "uint8"))
    path = write(tmp_path / "bomb.npz", x_train=zeros.getvalue(), y_train=zeros.getvalue())
    assert path.stat().st_size < 50_000
    with pytest.raises(ValueError, match="must fit into memory twice"):
        load_npz(path, limit=1_000_000)
    assert len(load_npz(path).x) == 10_000_000


def test_a_file_that_lies_about_its_size_is_refused(tmp_path):
    zeros = io.BytesIO()
    np.lib.format.write_array(zeros, np.zeros(1_000_000, "uint8"))
    path = write(tmp_path / "a.npz", x_train=zeros.getvalue(), y_train=member())
    data = bytearray(path.read_bytes())
    size = struct.pack("<I", len(zeros.getvalue()))
    place = data.index(size, data.index(b"PK\x01\x02"))  # in the central directory
    data[place : place + 4] = struct.pack("<I", 200)
    path.write_bytes(data)
    with pytest.raises(ValueError, match="Bad CRC-32"):
        load_npz(path)
