"""Every saved recipe trains the demo, for an epoch: what is shipped runs."""

import math

import pytest

from tfrecipes.assemble.command import train
from tfrecipes.recipe import gallery
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.runs.folder import read_run

NAMES = [card.name for card in gallery.cards()]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_saved_recipe_trains_the_demo(name, tmp_path):
    recipe = Recipe.load(name).replace(**{"train.epochs": 1})
    out = tmp_path / "run"
    assert train(recipe, out=out, verbose=0) == 0
    run = read_run(out)
    assert math.isfinite(run.epochs["val_loss"][0])
    assert (out / "model.keras").is_file()
