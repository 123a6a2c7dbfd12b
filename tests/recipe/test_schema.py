"""The tables agree with the classes that they become."""

import inspect

import pytest

from tfrecipes.recipe.schema import DEFAULT_EXCLUDE, FAMILIES, TABLES
from tfrecipes.recipe.validation import keys_of, rule_of

LEAST = {
    "step_decay": {"boundaries": ["30%", "60%"]},
    "inverse_sqrt": {"warmup": "10%"},
    "cosine_restarts": {"first_cycle": "2ep"},
}


def table(name, **keys):
    model = FAMILIES["schedule"][name]
    return model.model_validate({"peak_learning_rate": 0.1, **LEAST.get(name, {}), **keys})


@pytest.mark.parametrize("name", FAMILIES["schedule"])
def test_every_argument_of_a_schedules_class_is_a_key_with_the_same_default(name):
    from tfrecipes.arithmetic import schedules

    model = FAMILIES["schedule"][name]
    parameters = inspect.signature(getattr(schedules, model.class_name)).parameters
    assert model.takes_total == ("total_steps" in parameters)
    assert set(parameters) - {"total_steps"} <= set(keys_of(model))
    given = table(name).arguments(total_steps=100, steps_per_epoch=10)
    assert set(given) == set(parameters)
    for key, parameter in parameters.items():
        told = key in ("peak_learning_rate", "total_steps") or parameter.default is None
        if not told and parameter.default is not inspect.Parameter.empty:
            assert given[key] == parameter.default


@pytest.mark.parametrize("name", FAMILIES["schedule"])
def test_every_schedule_is_made_from_its_table(name):
    from tfrecipes.arithmetic import schedules

    made = table(name)
    arguments = made.arguments(total_steps=100, steps_per_epoch=10)
    schedule = getattr(schedules, made.class_name)(**arguments)
    assert max(float(schedule(t)) for t in range(100)) == pytest.approx(0.1)


@pytest.mark.parametrize("total", range(3, 40))
def test_a_warmup_and_a_decay_that_share_a_run_fit_in_it_whatever_its_length(total):
    halves = table("warmup_stable_decay", warmup="50%", decay="50%")
    given = halves.arguments(total_steps=total, steps_per_epoch=1)
    assert given["warmup_steps"] + given["decay_steps"] == total


@pytest.mark.parametrize("name", FAMILIES["optimizer"])
def test_every_argument_of_an_optimizers_table_is_one_of_its_class(name):
    from tfrecipes.step import optimizers

    model = FAMILIES["optimizer"][name]
    made = getattr(optimizers, model.class_name)(learning_rate=0.1, **model().arguments())
    assert made.get_config()["name"]


def test_the_default_exclusion_is_the_optimizers_own():
    from tfrecipes.arithmetic import decay_rules

    assert DEFAULT_EXCLUDE == decay_rules.DEFAULT_EXCLUDE


def test_every_key_has_a_rule_and_every_default_keeps_it():
    count = 0
    for table_name, model in TABLES.items():
        for member in FAMILIES.get(table_name, {"": model}).values():
            for key, field in member.model_fields.items():
                if key == "name":
                    continue
                rule = rule_of(member, key)
                assert rule is not None, (member, key)
                count += 1
                if not field.is_required():
                    assert rule.check(field.default) == field.default
    assert count > 60


def test_a_schedule_that_needs_an_epoch_says_which_key_does():
    with pytest.raises(ValueError, match=r"^schedule\.first_cycle: .*steps_per_epoch"):
        table("cosine_restarts").arguments(total_steps=100, steps_per_epoch=None)
