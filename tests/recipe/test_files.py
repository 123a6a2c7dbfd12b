"""Recipe files: what is not one is refused in a sentence, and a write is whole or not at all."""

import os

import pytest

from tfrecipes.recipe import files
from tfrecipes.recipe.errors import RecipeError, RecipeNotFoundError
from tfrecipes.recipe.recipe import Recipe

GOOD = b"version = 1\n[schedule]\npeak_learning_rate = 0.1\n"


def refused(path):
    with pytest.raises(RecipeError) as raised:
        Recipe.load(path)
    assert len(raised.value.errors) == 1
    assert str(raised.value).startswith(f"{path}: ")
    return raised.value.errors[0]


def put(folder, data):
    path = folder / "mine.toml"
    path.write_bytes(data)
    return path


def test_a_file_is_named_after_itself_where_it_has_no_name(tmp_path):
    assert Recipe.load(put(tmp_path, GOOD)).name == "mine"
    odd = tmp_path / "my recipe.toml"
    odd.write_bytes(GOOD)
    assert Recipe.load(odd).name == "recipe"


def test_a_file_of_one_megabyte_is_read_and_one_more_byte_is_refused(tmp_path):
    padding = b"#" * (files.MOST_BYTES - len(GOOD))
    assert Recipe.load(put(tmp_path, GOOD + padding)).name == "mine"
    assert refused(put(tmp_path, GOOD + padding + b"#")).startswith("is larger than 1 MB")


@pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
def test_what_is_no_regular_file_is_refused_at_once(make, tmp_path):
    path = tmp_path / "x.toml"
    make(path)
    assert refused(path).startswith("is not a regular file")


def test_a_device_is_refused():
    assert refused("/dev/zero").startswith("is not a regular file")


def test_a_loop_of_links_is_refused(tmp_path):
    (tmp_path / "a.toml").symlink_to(tmp_path / "b.toml")
    (tmp_path / "b.toml").symlink_to(tmp_path / "a.toml")
    assert refused(tmp_path / "a.toml").startswith("cannot be read (")


def test_a_link_to_a_recipe_is_followed(tmp_path):
    (tmp_path / "link.toml").symlink_to(put(tmp_path, GOOD))
    assert Recipe.load(tmp_path / "link.toml") == Recipe.load(tmp_path / "mine.toml").replace(
        name="link"
    )


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"\x89PNG\r\n\x1a\n\x00", "line 1: is not UTF-8 text"),
        (b"version = 1\n# \xff\n", "line 2: is not UTF-8 text"),
        (b"version = 1\nname = \x00\n", "line 2, column 8: is not valid TOML"),
        (b"version = 1\nversion = 1\n", "line 2, column 12: is not valid TOML: a key or table s"),
        (b"version = 1\n[ema]\n[ema]\n", "line 3, column 5: is not valid TOML: a key or table s"),
        (b"version = 1\n[train\n", "line 2, column 7: is not valid TOML"),
        (b"a = {b = 1, b = 2}", "line 1, column 18: is not valid TOML: a key or table s"),
        (b"version: 1\n", "line 1, column 8: is not valid TOML"),
        (b"a = " + b"[" * 5000, "is nested too deeply"),
        (b"a = " + b"9" * 5000, "holds a value that cannot be read"),
        (b"a = 2024-02-30", "line 1, column 5: is not valid TOML"),
        (b"", "version: is missing"),
        (b"version = !!python/object 1", "line 1, column 11: is not valid TOML"),
    ],
)
def test_what_is_no_toml_is_one_error_with_its_line(data, rule, tmp_path):
    assert refused(put(tmp_path, data)).startswith(rule)


def test_a_date_is_no_value_of_a_recipe(tmp_path):
    error = refused(put(tmp_path, GOOD + b"warmup = 2024-01-01\n"))
    assert error.startswith("schedule.warmup: must be steps")


def test_a_byte_order_mark_and_other_line_ends_are_read(tmp_path):
    data = b"\xef\xbb\xbf" + GOOD.replace(b"\n", b"\r\n")
    assert Recipe.load(put(tmp_path, data)) == Recipe.load(put(tmp_path, GOOD))


@pytest.mark.parametrize("given", ["defualt", "defaults"])
def test_a_name_that_is_none_gets_the_nearest(given):
    with pytest.raises(RecipeNotFoundError, match="Did you mean `default`") as raised:
        Recipe.load(given)
    assert isinstance(raised.value, FileNotFoundError)


@pytest.mark.parametrize(
    "given", ["nowhere/default.toml", "../default", "", None, 3, b"default", "a\0b", "x" * 5000]
)
def test_what_names_no_recipe_is_a_recipe_error(given):
    with pytest.raises(RecipeError):
        Recipe.load(given)


def test_a_missing_file_that_has_a_saved_recipes_name_says_so():
    with pytest.raises(RecipeNotFoundError, match="Did you mean the saved recipe `default`"):
        Recipe.load("nowhere/default.toml")


def test_a_name_beats_a_file_of_that_name_and_a_path_reaches_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "default").write_bytes(GOOD)
    assert Recipe.load("default").loss.label_smoothing == 0.1
    assert Recipe.load("./default").loss.label_smoothing == 0


def test_a_save_replaces_the_file_whole(tmp_path):
    path = put(tmp_path, b"old")
    assert Recipe.load("tiny").save(path) == path
    assert Recipe.load(path) == Recipe.load("tiny")
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.toml"]


def test_a_save_that_fails_keeps_what_was_there(tmp_path, monkeypatch):
    path = put(tmp_path, b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        Recipe.load("tiny").save(path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["mine.toml"]


def test_an_installed_package_s_own_folder_is_looked_at_first(tmp_path, monkeypatch):
    package = tmp_path / "site" / "tfrecipes"
    (package / "recipe").mkdir(parents=True)
    (package.parent / "saved_recipes").mkdir()
    monkeypatch.setattr(files, "__file__", str(package / "recipe" / "files.py"))
    assert files.saved_recipes() == package.parent / "saved_recipes"
    (package / "saved_recipes").mkdir()
    assert files.saved_recipes() == package / "saved_recipes"
