import sys
import textwrap

import keras
import pytest

from tfrecipes.training.targets import TargetError, call_target, load_target

SOURCE = """
    import keras
    import numpy as np

    def model():
        return keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def with_data(n=4):
        return model(), (np.zeros((n, 2)), np.zeros(n))

    def with_both():
        return (*with_data(), (np.zeros((2, 2)), np.zeros(2)))

    def nothing(): pass
    def data_first(): return np.zeros(2), model()
    def four(): return model(), 1, 2, 3
    def a_list(): return [model(), 1]
    def needs(x, *, y, z=1): return model()
    def fails(): raise RuntimeError("the disk\\nis on fire")
    a_model = model()
    number = 3
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    (tmp_path / "h6_pkg").mkdir()
    (tmp_path / "h6_pkg" / "__init__.py").touch()
    for place in ("h6_pkg/mine.py", "h6_mine.py", "keras_like.py"):
        (tmp_path / place).write_text(textwrap.dedent(SOURCE))
    (tmp_path / "h6_broken.py").write_text("import h6_not_there\n")
    (tmp_path / "h6_raises.py").write_text("raise OSError('no\\nluck')\n")
    (tmp_path / "h6_syntax.py").write_text("def f(:\n")
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith(("h6_", "<target")):
            del sys.modules[name]


@pytest.mark.parametrize("place", ["h6_pkg.mine", "h6_mine", "h6_mine.py", "h6_pkg/mine.py"])
def test_modules_and_files_of_the_current_folder_are_targets(folder, place):
    alone = call_target(load_target(f"{place}:model"))
    assert isinstance(alone.model, keras.Model)
    assert alone.data is None
    with_data = call_target(load_target(f"{place}:with_data"))
    assert len(with_data.data) == 2
    assert with_data.validation_data is None
    assert call_target(load_target(f"{place}:with_both")).validation_data is not None


def test_an_absolute_path_is_a_target_from_anywhere(folder, tmp_path_factory, monkeypatch):
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    (folder / "h6_mine.py").write_text(
        "import h6_pkg.mine\n\ndef f(): return h6_pkg.mine.model()\n"
    )
    assert call_target(load_target(f"{folder / 'h6_mine.py'}:f")).model.built


def test_a_file_takes_no_other_modules_name(folder):
    (folder / "numpy.py").write_text("def f(): return 1\n")
    before = sys.modules["numpy"]
    assert load_target(f"{folder / 'numpy.py'}:f")() == 1
    assert sys.modules["numpy"] is before
    assert "h6_mine" not in sys.modules
    load_target("h6_mine.py:model")
    assert "h6_mine" not in sys.modules


def test_a_failed_import_leaves_nothing_behind(folder):
    path, modules = list(sys.path), set(sys.modules)
    with pytest.raises(TargetError):
        load_target("h6_raises.py:f")
    assert sys.path == path
    assert set(sys.modules) == modules


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("h6_mine", "must be package.module:function"),
        (":f", "must be package.module:function"),
        ("h6_mine:", "must be package.module:function"),
        ("h6_mine:a b", "must be package.module:function"),
        ("h6_nowhere:f", "there is no module h6_nowhere"),
        ("h6_pkg.nowhere:f", "there is no module h6_pkg.nowhere"),
        ("h6_nowhere.py:f", "there is no file h6_nowhere.py"),
        ("h6_pkg/:f", "there is no file h6_pkg/"),
        ("h6_mine:modle", "must have a function modle. Received: model, with_data"),
        ("h6_mine.py:modle", "must have a function modle. Received: model, with_data"),
        ("h6_mine:number", "must be a function. Received: a int"),
        ("h6_mine:a_model", "must be a function. Received: a Sequential"),
        ("h6_broken:f", "importing h6_broken raised ModuleNotFoundError: No module named 'h6_not"),
        ("h6_broken.py:f", "raised ModuleNotFoundError: No module named 'h6_not_there'"),
        ("h6_raises:f", "importing h6_raises raised OSError: no luck"),
        ("h6_raises.py:f", "importing h6_raises.py raised OSError: no luck"),
        ("h6_syntax.py:f", "raised SyntaxError"),
    ],
)
def test_what_cannot_be_imported_gets_one_sentence(folder, target, sentence):
    with pytest.raises(TargetError, match=sentence) as caught:
        load_target(target)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("nothing", "Received: NoneType. Put the model first"),
        ("data_first", r"Received: \(ndarray, Sequential\)"),
        ("four", r"Received: \(Sequential, int, int, int\)"),
        ("a_list", "Received: list"),
        ("needs", "a function that needs x, y. Give them default values"),
        ("fails", "raised RuntimeError: the disk is on fire"),
    ],
)
def test_what_returns_something_else_gets_one_sentence(folder, name, sentence):
    with pytest.raises(TargetError, match=sentence) as caught:
        call_target(load_target(f"h6_mine:{name}"), f"h6_mine:{name}")
    assert str(caught.value).startswith(f"target h6_mine:{name}: ")
    assert "\n" not in str(caught.value)
