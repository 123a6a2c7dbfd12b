"""The saved recipes: listed, shown in full, copied."""

import re

import pytest

from tfrecipes.recipe import files, gallery
from tfrecipes.recipe.errors import RecipeError
from tfrecipes.recipe.recipe import Recipe

NAMES = {"default", "finetune", "cnn_sgd", "cnn_cosine", "transformer", "one_cycle", "constant"}
NAMES |= {"swa", "diffusion", "tiny"}


def test_the_gallery_lists_every_recipe_with_the_first_line_of_its_card():
    cards = gallery.cards()
    assert {card.name for card in cards} == NAMES
    assert [card.name for card in cards] == sorted(NAMES)
    for card in cards:
        assert 20 < len(card.summary) <= 98
        assert not card.summary.startswith("#")


@pytest.mark.parametrize("name", sorted(NAMES))
def test_a_run_card_says_what_for_source_command_and_result(name):
    text = (files.saved_recipes() / f"{name}.toml").read_text(encoding="utf-8")
    head = re.match(r"(#.*\n)+", text)[0]
    for field in ("For", "Source", "Command", "Result"):
        assert re.search(rf"^# {field} +\S", head, re.MULTILINE), field
    command = re.search(r"^# Command +(.*)", head, re.MULTILINE)[1]
    assert command.startswith("tfrecipes train")
    assert name == "default" or f"--recipe {name}" in command


@pytest.mark.parametrize("name", sorted(NAMES))
def test_what_is_shown_loads_as_the_same_recipe(name):
    recipe = Recipe.load(name)
    shown = Recipe.from_toml(gallery.show(recipe))
    assert shown == recipe
    assert gallery.show(recipe).startswith("version = 1\n")


def test_what_is_off_is_shown_and_loads_as_off():
    recipe = Recipe.load("default").replace(ema=None, resume=None)
    shown = gallery.show(recipe)
    assert "# [ema] is off" in shown
    assert Recipe.from_toml(shown) == recipe


def test_every_default_and_automatic_choice_has_its_reason():
    shown = gallery.show(Recipe.from_dict({"version": 1, "schedule": {"peak_learning_rate": 0.1}}))
    assert "\nwarmup = 0  # default\n" in shown
    assert re.search(r'\nprecision = "auto"  # default: decided by the hardware: bfloat16', shown)
    assert re.search(r'\ndevices = "auto"  # default: decided by the hardware', shown)
    assert re.search(r'\njit = "auto"  # default: XLA on a CPU', shown)
    assert "# global_clipnorm is off: no clipping" in shown
    chosen = Recipe.load("default").replace(**{"schedule.peak_learning_rate": "find"})
    assert 'peak_learning_rate = "find"  # found by a sweep' in gallery.show(chosen)


def test_everything_that_can_be_off_says_what_that_means():
    swa = Recipe.from_dict({"version": 1, "schedule": {"peak_learning_rate": 0.1}, "swa": {}})
    shown = gallery.show(swa)
    assert "# learning_rate is off: the schedule's own rate" in shown
    assert Recipe.from_toml(shown) == swa


def test_a_copy_keeps_every_byte_and_refuses_to_overwrite(tmp_path):
    path = gallery.copy("swa", tmp_path / "mine.toml")
    assert path.read_bytes() == (files.saved_recipes() / "swa.toml").read_bytes()
    path.write_text("mine")
    with pytest.raises(RecipeError, match="exists already"):
        gallery.copy("swa", path)
    assert path.read_text() == "mine"


def test_a_copy_goes_into_a_folder_or_here(tmp_path, monkeypatch):
    assert gallery.copy("swa", tmp_path) == tmp_path / "swa.toml"
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    gallery.copy("tiny")
    assert (tmp_path / "here" / "tiny.toml").is_file()
    with pytest.raises(RecipeError, match="exists already"):
        gallery.copy("tiny")


def test_a_copy_does_not_write_through_a_dangling_link(tmp_path):
    (tmp_path / "link.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(RecipeError, match="exists already"):
        gallery.copy("tiny", tmp_path / "link.toml")
    assert not (tmp_path / "elsewhere.toml").exists()
