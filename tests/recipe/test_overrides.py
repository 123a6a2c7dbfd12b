"""`--set table.key=value`: what a value is read as."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.recipe.errors import RecipeError
from tfrecipes.recipe.overrides import parse_override


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("ema=off", "ema", None),
        ("step.global_clipnorm=off", "step.global_clipnorm", None),
        ("schedule.warmup=5%", "schedule.warmup", "5%"),
        ("schedule.warmup = 2000", "schedule.warmup", 2000),
        ("schedule.peak_learning_rate=3e-3", "schedule.peak_learning_rate", 3e-3),
        ("schedule.peak_learning_rate=find", "schedule.peak_learning_rate", "find"),
        ("schedule.name=warmup_linear", "schedule.name", "warmup_linear"),
        ('name="off"', "name", "off"),
        ("step.jit=true", "step.jit", True),
        ("step.jit=True", "step.jit", "True"),
        ('schedule.boundaries=["30ep", "60ep"]', "schedule.boundaries", ["30ep", "60ep"]),
        ("schedule.boundaries=[30ep, 60ep]", "schedule.boundaries", ["30ep", "60ep"]),
        ("schedule.boundaries=[30ep,900]", "schedule.boundaries", ["30ep", 900]),
        ("optimizer.exclude=[]", "optimizer.exclude", []),
        ('swa={start = "50%"}', "swa", {"start": "50%"}),
        ("train.best=val=loss", "train.best", "val=loss"),
        ("name=5 # no comment", "name", "5 # no comment"),
        ("name=2024-01-01", "name", "2024-01-01"),
        ("name=1\ntrain = 2", "name", "1\ntrain = 2"),
        ("name=" + "[" * 5000, "name", "[" * 5000),
        ("name=" + "9" * 5000, "name", "9" * 5000),
        ("name=os.system", "name", "os.system"),
    ],
)
def test_a_value_is_toml_where_it_is_and_a_text_else(text, key, value):
    read = parse_override(text)
    assert read == (key, value)
    assert type(read[1]) is type(value)


@pytest.mark.parametrize("text", ["ema", "=5", "ema=", " = ", ""])
def test_what_sets_nothing_is_refused(text):
    with pytest.raises(RecipeError, match=r"^--set: must be `table\.key=value`\. Received: "):
        parse_override(text)


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_key_and_a_value_or_a_recipe_error(text):
    try:
        key, _ = parse_override(text)
    except RecipeError:
        return
    assert key
