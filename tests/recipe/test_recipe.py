"""Recipes: read, refused with every error at once, changed, written, compared."""

import contextlib
import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.recipe.errors import RecipeError
from tfrecipes.recipe.files import saved_names
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.recipe.schema import FAMILIES, TABLES
from tfrecipes.recipe.validation import keys_of

SHIPPED = 10
LEAST = {"version": 1, "schedule": {"peak_learning_rate": 0.1}}


@pytest.fixture(scope="module")
def default():
    return Recipe.load("default")


def errors_of(recipe, **changes):
    with pytest.raises(RecipeError) as raised:
        recipe.replace(**changes)
    return raised.value.errors


def one_error(recipe, key, value):
    (error,) = errors_of(recipe, **{key: value})
    return error


def test_all_shipped_recipes_are_here():
    assert len(saved_names()) == SHIPPED


@pytest.mark.parametrize("name", saved_names())
def test_a_shipped_recipe_loads_and_round_trips(name, tmp_path):
    recipe = Recipe.load(name)
    assert recipe.name == name
    assert recipe.validate() is recipe
    path = recipe.save(tmp_path / "mine.toml")
    again = Recipe.load(path)
    assert again == recipe
    assert hash(again) == hash(recipe)
    assert again.as_dict() == recipe.as_dict()


def test_a_recipe_is_had_by_attributes_and_cannot_be_changed(default):
    assert default.schedule.peak_learning_rate == 4e-3
    assert default.schedule.warmup == "5%"
    assert default.optimizer.exclude == ("bias", "norm", "prelu", "ndim<2")
    assert default.swa is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        default.ema = None
    with pytest.raises(ValueError, match="frozen"):
        default.schedule.warmup = 3
    assert repr(default) == "<Recipe 'default': adamw, warmup_cosine, 10 epochs>"


def test_what_is_left_out_is_off_or_the_classs_own():
    recipe = Recipe.from_dict(LEAST)
    assert recipe.optimizer.name == "adamw"
    assert recipe.schedule.name == "warmup_cosine"
    assert recipe.optimizer.weight_decay == 0
    assert recipe.loss.label_smoothing == 0
    assert recipe.step.global_clipnorm is None
    assert recipe.step.max_bad_steps == 25
    assert recipe.ema is None
    assert recipe.swa is None
    assert (recipe.resume.every, recipe.resume.keep) == ("5min", 3)


def test_a_default_that_is_written_out_changes_nothing():
    written = {**LEAST, "optimizer": {"name": "adamw", "beta_1": 0.9}, "step": {"jit": "auto"}}
    assert Recipe.from_dict(written) == Recipe.from_dict(LEAST)
    assert hash(Recipe.from_dict(written)) == hash(Recipe.from_dict(LEAST))


def test_the_document_holds_what_is_set_and_no_default():
    recipe = Recipe.from_dict(LEAST, name="mine")
    assert recipe.as_dict() == {
        "version": 1,
        "name": "mine",
        "optimizer": {"name": "adamw"},
        "schedule": {"name": "warmup_cosine", "peak_learning_rate": 0.1},
    }


def test_recipes_survive_pickle_and_deepcopy(default):
    assert pickle.loads(pickle.dumps(default)) == default
    assert copy.deepcopy(default) == default


def test_all_errors_come_at_once_in_the_words_of_the_style(tmp_path):
    path = tmp_path / "r50.toml"
    path.write_text(
        'version = 1\n[optimizer]\nweight_decay = "none"\n'
        "[schedule]\npeak_learning_rate = 0.1\nwarmup_step = 5\n"
    )
    with pytest.raises(RecipeError) as raised:
        Recipe.load(path)
    assert str(raised.value) == (
        f"{path}: 2 errors\n"
        "  optimizer.weight_decay: must be a number >= 0. Received: 'none'. "
        "Leave it out for no decay.\n"
        "  schedule.warmup_step: unknown field. Did you mean `warmup_steps`?"
    )
    assert isinstance(raised.value, ValueError)


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("schedule.peak_learning_rat", "`peak_learning_rate`"),
        ("schedule.learning_rate", "`schedule.peak_learning_rate`"),
        ("optimizer.lr", "`schedule.peak_learning_rate`"),
        ("optimizer.weight_decoy", "`weight_decay`"),
        ("train.precision", "`step.precision`"),
        ("step.epochs", "`train.epochs`"),
        ("epochs", "`train.epochs`"),
        ("optimiser", "`optimizer`"),
    ],
)
def test_an_unknown_key_is_an_error_that_says_what_was_meant(default, key, meant):
    error = one_error(default, key, {} if key == "optimiser" else 1)
    assert error.startswith(f"{key}: unknown ")
    assert error.endswith(f"Did you mean {meant}?")


def test_a_key_of_another_schedule_or_optimizer_names_who_takes_it(default):
    assert one_error(default, "schedule.shape", "linear") == (
        "schedule.shape: `warmup_cosine` has no such field; warmup_stable_decay takes it."
    )
    assert "warmup_cosine, warmup_linear" in one_error(
        default.replace(schedule={"name": "one_cycle", "peak_learning_rate": 0.1}),
        "schedule.warmup",
        5,
    )
    assert "sgd takes it" in one_error(default, "optimizer.momentum", 0.9)


@pytest.mark.parametrize("value", ["constant", "os.system", 3, None, [], {}, True])
def test_an_unknown_schedule_is_refused_with_the_names(default, value):
    assert "must be one of warmup_cosine, " in one_error(
        default, "schedule", {"name": value, "peak_learning_rate": 0.1}
    )


@pytest.mark.parametrize("key", ["schedule.peak_learning_rate", "schedule.end_learning_rate"])
@pytest.mark.parametrize(
    "value",
    [math.nan, math.inf, -math.inf, -1e-3, True, "0.1", 10**400, [], {}, 10**5000],
    ids=lambda value: type(value).__name__,
)
def test_a_rate_is_a_finite_number_that_is_not_negative(default, key, value):
    assert "must be a number >" in one_error(default, key, value)


def test_a_peak_of_zero_is_refused_and_an_end_of_zero_is_not(default):
    assert 'must be a number > 0 or "find"' in one_error(default, "schedule.peak_learning_rate", 0)
    assert default.replace(**{"schedule.end_learning_rate": 0}).schedule.end_learning_rate == 0


def test_find_is_a_peak_that_the_schema_takes(default):
    found = default.replace(**{"schedule.peak_learning_rate": "find"})
    assert found.schedule.peak_learning_rate == "find"
    assert Recipe.from_toml(found.to_toml()) == found


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.epochs", 0),
        ("train.epochs", 1.0),
        ("train.epochs", True),
        ("train.epochs", "10"),
        ("train.epochs", 10**30),
        ("train.batch_size", -1),
        ("train.seed", -1),
        ("train.seed", 2**32),
        ("train.devices", "gpu; rm -rf"),
        ("train.devices", 0),
        ("train.devices", True),
        ("train.best", "../x y"),
        ("train.early_stopping", "5min"),
        ("train.early_stopping", 0),
        ("train.deterministic", 1),
        ("optimizer.beta_1", 1.0),
        ("optimizer.epsilon", 0),
        ("optimizer.exclude", "bias"),
        ("optimizer.exclude", ["("]),
        ("optimizer.exclude", [""]),
        ("optimizer.exclude", [3]),
        ("optimizer.exclude", ["(" * 900]),
        ("optimizer.exclude", ["x" * 1001]),
        ("step.precision", "fp16"),
        ("step.global_clipnorm", 0),
        ("step.global_clipnorm", True),
        ("step.gradient_accumulation_steps", 0),
        ("step.micro_batch", 0),
        ("step.on_nonfinite", "ignore"),
        ("step.jit", "yes"),
        ("step.jit", 1),
        ("step.steps_per_execution", 0),
        ("loss.label_smoothing", 1.0),
        ("ema.decay", 1.0),
        ("ema.warmup", "5%"),
        ("resume.every", 0),
        ("resume.every", "soon"),
        ("resume.keep", 0),
        ("schedule.warmup", "5min"),
        ("schedule.warmup", -1),
        ("schedule.warmup", 0.05),
        ("schedule.warmup", True),
    ],
)
def test_a_value_against_its_rule_is_one_sentence(default, key, value):
    error = one_error(default, key, value)
    assert error.startswith(f"{key}: ")
    assert "Received: " in error
    assert len(error) < 350


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("train.devices", 2),
        ("train.devices", "cpu"),
        ("train.devices", "gpu:0,gpu:1"),
        ("train.best", "val_accuracy"),
        ("train.early_stopping", "5ep"),
        ("optimizer.exclude", ["!head/.*", "type:Dense", "[[a]"]),
        ("step.global_clipnorm", "off"),
        ("step.jit", False),
        ("step.steps_per_execution", 50),
        ("step.micro_batch", 32),
        ("resume.every", 500),
        ("resume.every", "2h"),
        ("schedule.warmup", "2000"),
        ("schedule.warmup", "1.5ep"),
    ],
)
def test_a_value_by_its_rule_round_trips(default, key, value):
    changed = default.replace(**{key: value})
    assert Recipe.from_toml(changed.to_toml()) == changed


def test_numbers_of_numpy_are_numbers(default):
    changed = default.replace(
        **{"schedule.peak_learning_rate": np.float32(0.5), "train.epochs": np.int64(7)}
    )
    assert type(changed.schedule.peak_learning_rate) is float
    assert type(changed.train.epochs) is int
    assert Recipe.from_toml(changed.to_toml()) == changed


def test_a_class_argument_s_name_is_read_as_the_key_it_is(default):
    assert default.replace(**{"schedule.warmup_steps": 500}).schedule.warmup == 500
    both = {"peak_learning_rate": 0.1, "warmup": 5, "warmup_steps": 5}
    assert one_error(default, "schedule", both) == (
        "schedule.warmup_steps: is `warmup` again. Keep one of them."
    )
    assert default.replace(**{"schedule.warmup": "2000"}) == default.replace(
        **{"schedule.warmup_steps": 2000}
    )


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"schedule.warmup": "10ep"}, "schedule.warmup"),
        ({"schedule.warmup": "100%"}, "schedule.warmup"),
        ({"schedule.warmup": "3ep", "train.epochs": 2}, "schedule.warmup"),
        (
            {"schedule.name": "warmup_stable_decay", "schedule.decay": "9.6ep"},
            "schedule.decay",
        ),
        (
            {"schedule.name": "step_decay", "schedule.boundaries": ["60%", "5ep"]},
            "schedule.boundaries",
        ),
        (
            {"schedule.name": "step_decay", "schedule.boundaries": [900, 900]},
            "schedule.boundaries",
        ),
        (
            {"schedule.name": "step_decay", "schedule.boundaries": ["2%"]},
            "schedule.warmup",
        ),
        (
            {
                "schedule.name": "cosine_restarts",
                "schedule.first_cycle": 9,
                "schedule.cycle_factor": 1.001,
            },
            "schedule.cycle_factor",
        ),
        ({"schedule.name": "one_cycle", "schedule.final_factor": 0.01}, "schedule.final_factor"),
        (
            {"optimizer.name": "sgd", "optimizer.nesterov": True, "optimizer.momentum": 0},
            "optimizer.nesterov",
        ),
        ({"step.micro_batch": 8, "step.gradient_accumulation_steps": 2}, "step.micro_batch"),
        ({"swa": {}}, "swa"),
        ({"ema": None, "swa": {"start": "10ep"}}, "swa.start"),
    ],
)
def test_keys_that_cannot_both_hold_are_refused(default, changes, place):
    (error,) = errors_of(default, **changes)
    assert error.startswith(f"{place}: ")


def test_units_that_only_the_data_can_compare_are_left_to_the_run(default):
    default.replace(**{"schedule.warmup": 10**9})
    default.replace(**{"schedule.name": "step_decay", "schedule.boundaries": [900, "50%", "6ep"]})


def test_replace_takes_tables_and_keys_in_any_order(default):
    changed = default.replace(
        **{"swa.learning_rate": 0.05, "ema": None, "swa": {"start": "5ep"}, "name": "mine"}
    )
    assert changed.ema is None
    assert (changed.swa.start, changed.swa.learning_rate) == ("5ep", 0.05)
    assert changed.name == "mine"
    assert default.ema is not None


def test_a_table_that_is_replaced_keeps_nothing(default):
    changed = default.replace(optimizer={"name": "sgd"})
    assert changed.optimizer.weight_decay == 0


def test_another_schedule_keeps_what_means_the_same_in_it(default):
    constant = default.replace(**{"schedule.name": "warmup_constant"})
    assert constant.as_dict()["schedule"] == {
        "name": "warmup_constant",
        "peak_learning_rate": 4e-3,
        "warmup": "5%",
    }
    stable = default.replace(**{"schedule.decay": "20%", "schedule.name": "warmup_stable_decay"})
    # `decay` is a duration there and a factor here.
    restarts = stable.replace(**{"schedule.name": "cosine_restarts", "schedule.first_cycle": "2ep"})
    assert restarts.schedule.decay == 1.0
    assert restarts.schedule.end_learning_rate == 1e-5


def test_another_schedule_refuses_a_key_that_is_given_with_it(default):
    (error,) = errors_of(
        default, **{"schedule.name": "warmup_constant", "schedule.end_learning_rate": 0.0}
    )
    assert "`warmup_constant` has no such field" in error


def test_another_schedule_asks_for_what_it_needs(default):
    assert "schedule.boundaries: is missing. It must be a list of durations" in one_error(
        default, "schedule.name", "step_decay"
    )


@pytest.mark.parametrize("table", ["ema", "step", "loss", "resume"])
def test_none_removes_a_table(default, table):
    changed = default.replace(**{table: None})
    assert Recipe.from_toml(changed.to_toml()) == changed
    if table in ("ema", "resume"):
        assert getattr(changed, table) is None
    else:
        assert getattr(changed, table) == type(getattr(default, table))()


@pytest.mark.parametrize("table", ["optimizer", "schedule", "train"])
def test_a_table_that_a_recipe_needs_cannot_be_removed(default, table):
    assert f"{table}: must be a table" in one_error(default, table, None)


def test_resume_that_is_off_stays_off_through_a_file(default):
    off = default.replace(**{"resume.every": None})
    assert off.resume is None
    assert Recipe.from_toml(off.to_toml()).resume is None
    assert off.replace(**{"resume.every": "1h"}).resume.every == "1h"


@pytest.mark.parametrize(
    ("key", "off"),
    [
        ("step.global_clipnorm", None),
        ("optimizer.weight_decay", 0.0),
        ("loss.label_smoothing", 0.0),
        ("step.jit", False),
        ("ema.warmup", False),
        ("train.best", None),
        ("schedule.warmup", 0),
    ],
)
def test_none_turns_off_what_can_be_off(default, key, off):
    table, _, field = key.partition(".")
    assert getattr(getattr(default.replace(**{key: None}), table), field) == off


@pytest.mark.parametrize("key", ["ema.decay", "train.epochs", "optimizer.exclude", "name"])
def test_none_is_refused_where_there_is_no_off(default, key):
    assert "Received: None" in one_error(default, key, None)


@pytest.mark.parametrize("version", [2, 0, "1", 1.0, True, None, []])
def test_another_version_is_refused_in_a_sentence_and_nothing_else_is_said(version):
    with pytest.raises(RecipeError, match=r"version: (must be 1|is missing)") as raised:
        Recipe.from_dict({"version": version, "future": {"key": 1}})
    assert len(raised.value.errors) == 1


@pytest.mark.parametrize("name", ["../x", "", "a/b", ".hidden", "x" * 65, 3, "a\nb", "<script>"])
def test_a_name_is_fit_for_a_folder(default, name):
    assert "name: must be a name of letters" in one_error(default, "name", name)


def test_the_methods_that_train_hand_over_to_assemble(default, monkeypatch):
    import sys
    import types

    import tfrecipes

    calls = []
    fake = types.ModuleType("tfrecipes.assemble")
    for verb in ("fit", "compile", "callbacks"):
        setattr(fake, verb, lambda *args, verb=verb, **named: calls.append((verb, args, named)))
    monkeypatch.setitem(sys.modules, "tfrecipes.assemble", fake)
    monkeypatch.setattr(tfrecipes, "assemble", fake, raising=False)
    default.fit("model", "data", epochs=3)
    default.compile("model", 100, metrics=["accuracy"])
    default.callbacks("runs/x")
    assert calls[0][:2] == ("fit", (default, "model", "data"))
    assert calls[0][2]["epochs"] == 3
    assert calls[0][2]["verbose"] == "auto"
    assert calls[1] == (
        "compile",
        (default, "model", 100),
        {"loss": None, "metrics": ["accuracy"], "schedule": None},
    )
    assert calls[2] == ("callbacks", (default,), {"directory": "runs/x"})


def test_texts_that_name_code_stay_texts(default):
    changed = default.replace(**{"optimizer.exclude": ["os.system", "type:os.system"]})
    assert changed.optimizer.exclude == ("os.system", "type:os.system")


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["off", "auto", "find", "5%", "3ep", "5min", "os.system", 10**400])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=4,
)
every_key = sorted(
    {
        f"{table}.{key}"
        for table, model in TABLES.items()
        for member in [model, *FAMILIES.get(table, {}).values()]
        for key in [*keys_of(member), "name"]
    }
    | set(TABLES)
    | {"version", "name", "schedule.", ".", "", "a.b.c"}
)
good = {
    "schedule.name": st.sampled_from(sorted(FAMILIES["schedule"])),
    "optimizer.name": st.sampled_from(sorted(FAMILIES["optimizer"])),
    "schedule.boundaries": st.lists(st.integers(0, 9), max_size=3),
    "schedule.first_cycle": st.sampled_from([10, "2ep"]),
    "ema": st.none(),
    "swa": st.none() | st.just({}),
}
keys = st.sampled_from([*every_key, *good]) | st.text(max_size=8)
changes = st.lists(
    keys.flatmap(lambda key: st.tuples(st.just(key), good.get(key, values) | values)), max_size=5
).map(dict)


@settings(max_examples=200, deadline=None)
@given(name=st.sampled_from(saved_names()), changed=changes)
def test_any_change_gives_a_recipe_that_round_trips_or_a_recipe_error(name, changed):
    try:
        recipe = Recipe.load(name).replace(**changed)
    except RecipeError:
        return
    again = Recipe.from_toml(recipe.to_toml())
    assert again == recipe
    assert hash(again) == hash(recipe)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from([*TABLES, "version", "name"]) | st.text(), values))
def test_any_document_is_a_recipe_or_a_recipe_error(document):
    for whole in (document, {**document, "version": 1}):
        with contextlib.suppress(RecipeError):
            assert Recipe.from_dict(whole).validate()
