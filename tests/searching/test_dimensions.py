import math

import pytest

from tfrecipes.recipe.recipe import Recipe
from tfrecipes.searching.dimensions import Dimension, combinations, from_words
from tfrecipes.searching.space import Space

DEFAULT = Recipe.load("default")
RATE = "schedule.peak_learning_rate"


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        (("log", 1e-4, 1e-1), "('log', 0.0001, 0.1)"),
        (("linear", 0, 0.2), "('linear', 0, 0.2)"),
        (("int", 32, 256, 32), "('int', 32, 256, 32)"),
        (("linear", "0%", "20%"), "('linear', '0%', '20%')"),
        (("int", "1ep", "5ep"), "('int', '1ep', '5ep')"),
        ([None, 0.9, True], "[None, 0.9, True]"),
    ],
)
def test_a_dimension_is_plain_data_and_prints_as_it_is_written(spec, written):
    one = Dimension.parse("a.b", spec)
    assert str(one) == written
    assert Dimension.from_json(one.as_json()) == one


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        (("log", 0, 1), "a log scale must begin above 0"),
        (("log", 1, 1), "the low end must be below the high one"),
        (("linear", 2, 1), "the low end must be below the high one"),
        (("linear", 0), "must be ("),
        (("linear", 0, 1, 2), "must be ("),
        (("even", 0, 1), "must be ("),
        ((1, 2), "must be ("),
        (0.5, "must be ("),
        ([1], "two values or more"),
        ([1, 1], "two values or more"),
        (("linear", 0, float("nan")), "a finite number"),
        (("linear", True, 2), "a finite number"),
        (("linear", "0%", "1ep"), "one unit"),
        (("linear", "much", "more"), "a number or a duration"),
        (("int", 1.5, 3), "whole number"),
        (("int", 1, 3, 9), "the step"),
    ],
)
def test_what_is_no_dimension_is_one_sentence_that_names_the_field(spec, words):
    with pytest.raises(ValueError, match=r"^space: a\.b: ") as caught:
        Dimension.parse("a.b", spec)
    assert words in str(caught.value)
    assert "Received: " in str(caught.value)


def test_a_number_has_five_digits_and_stays_between_the_ends():
    rate = Dimension.parse(RATE, ("log", 1.234567e-4, 0.987658))
    assert rate.decode(0.00123456789) == 0.0012346
    assert rate.decode(1.2345672e-4) == 1.2346e-4
    assert rate.decode(0.987657) == 0.987658
    warmup = Dimension.parse("schedule.warmup", ("linear", "0%", "20%"))
    assert [warmup.decode(v) for v in (0.0, 3.3333333, 20.0)] == ["0%", "3.3333%", "20%"]
    assert Dimension.parse("train.epochs", ("int", "1ep", "5ep")).decode(3) == "3ep"


def test_choices_keep_their_types_on_the_way_through_keras_tuner():
    mixed = Dimension.parse("ema", [None, {"decay": 0.99}, True])
    assert [mixed.decode(label) for label in mixed.labels] == [None, {"decay": 0.99}, True]
    assert Dimension.parse("a", [1, 2]).labels == (1, 2)
    # 1 and True are two values, whatever Python says.
    assert len(Dimension.parse("a", [1, True]).labels) == 2


def test_a_value_has_its_place_on_the_scale():
    rate = Dimension.parse(RATE, ("log", 1e-4, 1.0))
    assert math.isclose(rate.place(1e-2), 0.5)
    assert Dimension.parse("a", ("linear", "0%", "20%")).place("5%") == 0.25
    assert Dimension.parse("a", ("linear", "0%", "20%")).place("1ep") is None
    assert Dimension.parse("a", [1, 2]).place(1) is None


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("a.b=1e-4:0.1:log", ("a.b", ("log", 1e-4, 0.1))),
        ("a.b=0:0.2", ("a.b", ("linear", 0, 0.2))),
        ("a.b=0%:20%:linear", ("a.b", ("linear", "0%", "20%"))),
        ("a.b=32:256:int:32", ("a.b", ("int", 32, 256, 32))),
        ("schedule.name=warmup_cosine,warmup_linear", None),
        ("ema=off,on", ("ema", [None, "on"])),
        ("train.batch_size = 32, 64", ("train.batch_size", [32, 64])),
    ],
)
def test_the_command_line_s_words_are_the_same_dimensions(words, expected):
    field, spec = from_words(words)
    if expected is None:
        expected = ("schedule.name", ["warmup_cosine", "warmup_linear"])
    assert (field, spec) == expected


@pytest.mark.parametrize("words", ["a", "=1:2", "a=", "a=1:2:even", "a=1:2:log:3", "a=1:2:int:3:4"])
def test_other_words_are_one_sentence(words):
    with pytest.raises(ValueError, match=r"^--dimension"):
        from_words(words)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ({"schedule.peak_rate": ("log", 1e-4, 1)}, "schedule.peak_rate: unknown field"),
        ({"lr": ("log", 1e-4, 1)}, "Did you mean `schedule.peak_learning_rate`?"),
        ({"optimizer.weight_decay": ("linear", -1, 1)}, "must be a number >= 0. Received: -1"),
        ({"loss.label_smoothing": ("linear", 0, 1.5)}, "Received: 1.5"),
        ({"train.batch_size": ("linear", 8, 64)}, 'Write ("int", low, high).'),
        ({"train.batch_size": [32, "many"]}, "Received: 'many'"),
        ({"train.seed": [0, 1]}, "a seed is noise"),
        ({"schedule.name": ["warmup_cosine", "step_decay"]}, "schedule.boundaries: is missing"),
        ({"schedule.name": ["warmup_cosine", "cosine"]}, "must be one of"),
        ({"swa.start": ("linear", "50%", "90%")}, "swa: cannot be on together with ema"),
        ([RATE], "space: must be a dict"),
    ],
)
def test_both_ends_are_checked_against_the_schema_before_anything_trains(space, words):
    with pytest.raises(ValueError, match=r"^space:") as caught:
        Space.parse(space, DEFAULT)
    assert words in str(caught.value)


def test_every_error_of_a_space_comes_at_once():
    with pytest.raises(ValueError, match="2 errors") as caught:
        Space.parse({"a.b": ("log", 0, 1), "optimizer.weight_decay": ("linear", -1, 1)}, DEFAULT)
    assert "a.b: a log scale" in str(caught.value)
    assert "optimizer.weight_decay: must be" in str(caught.value)


def test_a_field_that_only_one_schedule_has_is_left_out_with_the_other():
    space = Space.parse(
        {
            "schedule.name": ["warmup_cosine", "warmup_constant"],
            "schedule.end_learning_rate": ("log", 1e-6, 1e-4),
        },
        DEFAULT,
    )
    assert len(combinations(space.dimensions)) == 2
    chosen = {"schedule.name": "warmup_constant", "schedule.end_learning_rate": 1e-5}
    assert space.changes(chosen) == {"schedule.name": "warmup_constant"}
    assert space.recipe(space.changes(chosen)).schedule.name == "warmup_constant"
    chosen["schedule.name"] = "warmup_cosine"
    assert space.recipe(space.changes(chosen)).schedule.end_learning_rate == 1e-5


def test_a_best_on_an_end_is_told_with_the_wider_range():
    space = Space.parse({RATE: ("log", 1e-4, 1e-1), "train.batch_size": [32, 64]}, DEFAULT)
    (said,) = space.at_the_edge({RATE: 0.099, "train.batch_size": 64}, DEFAULT)
    assert "lies on the high end of ('log', 0.0001, 0.1)" in said
    assert "Try ('log', 0.0001, 3.2)" in said
    (said,) = space.at_the_edge({RATE: 1.01e-4}, DEFAULT)
    assert "low end" in said
    assert "Try ('log', 3.2e-06, 0.1)" in said
    assert space.at_the_edge({RATE: 3e-3}, DEFAULT) == []


def test_an_end_that_the_schema_ends_at_too_is_none():
    space = Space.parse(
        {
            "schedule.warmup": ("linear", "0%", "20%"),
            "loss.label_smoothing": ("linear", 0, 0.2),
            "ema.decay": ("linear", 0.9, 0.9999),
        },
        DEFAULT,
    )
    at_ends = {"schedule.warmup": "0.1%", "loss.label_smoothing": 0.001, "ema.decay": 0.9998}
    assert space.at_the_edge(at_ends, DEFAULT) == []
