"""Each schedule is its docstring's formula, wherever and with whatever step it is called."""

import copy
import inspect
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.arithmetic.schedule_cases import CASES, EVERY_CASE, TOLERANCE, docstring_rates
from tfrecipes.arithmetic import schedules
from tfrecipes.arithmetic.schedule_base import Schedule

CLASSES = [getattr(schedules, name) for name in schedules.__all__]
P = "peak_learning_rate"


def close(rates, expected, peak):
    np.testing.assert_allclose(rates, expected, rtol=0, atol=TOLERANCE * peak)


def test_the_table_has_every_schedule():
    assert {case.cls for case in CASES} == set(CLASSES)
    assert len(CLASSES) == 9


@pytest.mark.parametrize("case", **EVERY_CASE)
def test_the_code_is_the_formula_of_the_docstring_at_every_step(case):
    schedule = case.make()
    close(schedule(case.steps).numpy(), docstring_rates(schedule, case.steps), case.peak)


@pytest.mark.parametrize("case", **EVERY_CASE)
def test_a_counting_variable_in_a_graph_and_in_xla_gives_every_rate_and_traces_once(case):
    schedule = case.make()
    step = keras.Variable(0, dtype="int64", trainable=False)
    traces = []

    def rate():
        traces.append(1)
        return schedule(step)

    expected = docstring_rates(schedule, case.steps)
    for compiled in tf.function(rate), tf.function(rate, jit_compile=True):
        rates = []
        for t in case.steps:
            step.assign(t)
            rates.append(float(compiled()))
        close(rates, expected, case.peak)
    assert len(traces) == 2


def test_any_kind_of_step_gives_the_same_float32_scalar():
    for case in CASES:
        schedule = case.make()
        expected = schedule(np.int64(13)).numpy()
        kinds = [
            13,
            13.0,
            np.int32(13),
            np.uint8(13),
            np.float32(13),
            tf.constant(13, tf.int32),
            tf.constant(13, tf.int64),
            tf.constant(13, tf.bfloat16),
            tf.Variable(13, dtype=tf.int64),
            keras.Variable(13, dtype="int32"),
            keras.Variable(13.0, dtype="float32"),
        ]
        for step in kinds:
            rate = schedule(step)
            assert (rate.dtype, rate.shape) == (tf.float32, ()), (case.name, step)
            np.testing.assert_array_max_ulp(rate.numpy(), expected, maxulp=2)


def test_a_fractional_step_lies_between_its_neighbours():
    for case in CASES:
        before, rate, after = case.make()([12.0, 12.5, 13.0]).numpy()
        assert min(before, after) <= rate <= max(before, after), case.name


def test_after_the_end_the_rate_is_the_final_one_for_ever():
    for case in CASES:
        if case.ends_at is not None:
            schedule = case.make()
            later = [case.ends_at, case.ends_at + 1, 2**31, 2**40, 2**62]
            expected = docstring_rates(schedule, [case.ends_at])[0]
            np.testing.assert_allclose(
                schedule(later).numpy(), expected, rtol=2e-7, err_msg=case.name
            )


def test_a_step_below_zero_counts_as_zero():
    for case in CASES:
        assert case.make()(-5).numpy() == case.make()(0).numpy(), case.name


def test_rates_are_float32_under_a_16_bit_floatx():
    before = keras.config.floatx()
    keras.config.set_floatx("bfloat16")
    try:
        assert {case.make()(7).dtype for case in CASES} == {tf.float32}
    finally:
        keras.config.set_floatx(before)


def test_a_config_survives_json_and_makes_the_same_schedule():
    for case in CASES:
        schedule = case.make()
        config = json.loads(json.dumps(keras.saving.serialize_keras_object(schedule)))
        again = keras.saving.deserialize_keras_object(config)
        assert type(again) is case.cls
        assert config["registered_name"] == f"tfrecipes>{case.cls.__name__}"
        assert again.get_config() == schedule.get_config() == copy.deepcopy(schedule).get_config()
        assert list(schedule.get_config()) == list(inspect.signature(case.cls).parameters)
        np.testing.assert_array_equal(again(case.steps), schedule(case.steps), case.name)


# Keras 3.15 converts its variables by a protocol that NumPy 2 calls deprecated.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("cls", CLASSES)
def test_a_schedule_comes_back_with_the_saved_model_and_goes_on_from_its_step(cls, tmp_path):
    schedule = next(case for case in CASES if case.cls is cls).make()
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(schedule), "mse")
    model.fit(np.ones((6, 2)), np.ones((6, 1)), batch_size=2, verbose=0)
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    restored = again.optimizer._learning_rate
    assert type(restored) is cls
    assert restored.get_config() == schedule.get_config()
    assert float(again.optimizer.learning_rate) == float(schedule(3))


def test_repr_can_be_typed_in_again():
    for case in CASES:
        schedule = case.make()
        assert eval(repr(schedule), vars(schedules)).get_config() == schedule.get_config()


def test_the_default_decay_is_a_tenth_of_the_total_and_in_the_config():
    assert schedules.WarmupStableDecay(0.1, 1004).get_config()["decay_steps"] == 100
    assert schedules.WarmupStableDecay(0.1, 1).decay_steps == 1


def test_cycles_that_grow_by_a_decimal_restart_where_the_decimals_say():
    # 100 + 110 is 210; in float64 100 (1.1**2 - 1) / 0.1 is 210.00000000000017.
    schedule = schedules.CosineRestarts(0.1, first_cycle_steps=100, cycle_factor=1.1)
    assert float(schedule(210)) == float(schedule(0))


def test_a_schedule_of_ones_own_needs_a_rate():
    class Mine(Schedule):
        pass

    with pytest.raises(TypeError, match=r"Mine: a schedule must define `_rate_at\(t\)`"):
        Mine()(0)


BAD_RATES = [-1e-3, float("nan"), float("inf"), True, "0.1", None, [0.1], 1e39]
BAD_STEPS = [-1, 10.0, True, "10", None, 2**60]
GOOD = {
    case.cls: case.arguments | {"warmup_steps": 10}
    if "warmup_steps" in case.arguments
    else case.arguments
    for case in reversed(CASES)
    if len(case.steps) == 160
}


def refused(cls, **changes):
    with pytest.raises(ValueError, match=rf"^{cls.__name__}: .+\. Received: .+\. .+\.$") as caught:
        cls(**{**GOOD[cls], **changes})
    return str(caught.value)


def parameters(*names):
    return [(c, n) for c in CLASSES for n in inspect.signature(c).parameters if n in names]


@pytest.mark.parametrize("value", BAD_RATES, ids=repr)
def test_a_rate_that_is_no_rate_is_refused(value):
    for cls, name in parameters(P, "end_learning_rate"):
        words = f"`{name}` must be a finite number >= 0. Received: {name}={value!r}."
        assert words in refused(cls, **{name: value})


STEP_NAMES = ("total_steps", "warmup_steps", "first_cycle_steps")


@pytest.mark.parametrize("value", BAD_STEPS, ids=repr)
def test_a_count_of_steps_that_is_none_is_refused(value):
    for cls, name in parameters(*STEP_NAMES):
        assert f"`{name}` must be an int from" in refused(cls, **{name: value})


PLANS_THAT_CANNOT_BE = (
    (schedules.WarmupCosine, {"total_steps": 0}, "`total_steps` must be an int from 1"),
    (schedules.WarmupCosine, {"warmup_steps": 100}, "`warmup_steps` must be below `total_steps`"),
    (schedules.WarmupLinear, {"warmup_steps": 101}, "warmup_steps=101, total_steps=100"),
    (schedules.Polynomial, {"warmup_steps": 500}, "Shorten the warmup"),
    (schedules.Polynomial, {"power": 0}, "`power` must be a finite number > 0"),
    (schedules.Polynomial, {"power": float("nan")}, "`power`"),
    (schedules.WarmupStableDecay, {"warmup_steps": 100}, "must be below"),
    (schedules.WarmupStableDecay, {"decay_steps": 91}, "must not be above `total_steps`"),
    (schedules.WarmupStableDecay, {"decay_steps": -1}, "`decay_steps` must be an int"),
    (schedules.WarmupStableDecay, {"shape": "sqrt"}, "'1-sqrt', 'linear', 'cosine'"),
    (schedules.WarmupStableDecay, {"shape": 1}, "Received: shape=1"),
    (schedules.WarmupStableDecay, {"shape": ["linear"]}, "`shape`"),
    (schedules.StepDecay, {"boundaries": [90, 60]}, "`boundaries` must rise"),
    (schedules.StepDecay, {"boundaries": [60, 60]}, "`boundaries` must rise"),
    (schedules.StepDecay, {"boundaries": "60"}, "must be a list of steps"),
    (schedules.StepDecay, {"boundaries": 60}, "must be a list of steps"),
    (schedules.StepDecay, {"boundaries": [60, 90.0]}, "boundaries[1]=90.0"),
    (schedules.StepDecay, {"boundaries": [-1, 90]}, "boundaries[0]=-1"),
    (schedules.StepDecay, {"warmup_steps": 61}, "must not be above the first boundary"),
    (schedules.StepDecay, {"factor": 0}, "`factor` must be a number with 0 < factor <= 1"),
    (schedules.StepDecay, {"factor": 1.5}, "`factor`"),
    (schedules.StepDecay, {"factor": "0.1"}, "`factor`"),
    (schedules.OneCycle, {"warmup_fraction": 1.0}, "0 <= fraction < 1"),
    (schedules.OneCycle, {"warmup_fraction": -0.1}, "0 <= fraction < 1"),
    (schedules.OneCycle, {"initial_factor": 0.5}, "`initial_factor`"),
    (schedules.OneCycle, {"final_factor": 0}, "`final_factor`"),
    (schedules.OneCycle, {"final_factor": 0.03}, "must not be below 1"),
    (schedules.InverseSqrt, {"warmup_steps": 0}, "`warmup_steps` must be an int from 1"),
    (schedules.CosineRestarts, {"first_cycle_steps": 0}, "`first_cycle_steps`"),
    (schedules.CosineRestarts, {"cycle_factor": 0.5}, "1 or a finite number >= 1.01"),
    (schedules.CosineRestarts, {"decay": 0.0}, "`decay`"),
    (schedules.CosineRestarts, {"decay": 1.1}, "`decay`"),
)


def test_a_plan_that_cannot_be_is_refused_in_one_sentence():
    for cls, changes, words in PLANS_THAT_CANNOT_BE:
        assert words in refused(cls, **changes), (cls, changes)


@st.composite
def plans(draw):
    """Any legal schedule, by the names of its constructor's parameters."""
    cls = draw(st.sampled_from(CLASSES))
    total = draw(st.integers(3, 10_000_000))
    warmup = draw(st.integers(1, total - 2))
    peak = draw(st.floats(1e-8, 10.0))
    choices = {
        P: st.just(peak),
        "total_steps": st.just(total),
        "warmup_steps": st.just(warmup),
        "end_learning_rate": st.floats(0.0, peak),
        "decay_steps": st.integers(0, total - warmup),
        "shape": st.sampled_from(schedules.WarmupStableDecay.SHAPES),
        "boundaries": st.lists(st.integers(warmup + 1, 2 * total), unique=True).map(sorted),
        "factor": st.floats(1e-6, 1.0),
        "power": st.floats(0.1, 50.0),
        "warmup_fraction": st.floats(0.0, 0.99),
        "initial_factor": st.floats(1.0, 1e3),
        "final_factor": st.floats(1.0, 1e6),
        "first_cycle_steps": st.integers(1, total),
        "cycle_factor": st.just(1.0) | st.floats(1.01, 4.0),
        "decay": st.floats(0.1, 1.0),
    }
    schedule = cls(**{name: draw(choices[name]) for name in inspect.signature(cls).parameters})
    steps = draw(st.lists(st.integers(0, 4 * total), min_size=1, max_size=20))
    return schedule, np.array(steps), total, warmup


@settings(max_examples=200, deadline=None)
@given(plans())
def test_a_rate_is_never_below_zero_or_above_the_peak(plan):
    schedule, steps, _, _ = plan
    rates = schedule(steps).numpy()
    assert np.isfinite(rates).all()
    assert (rates >= 0).all()
    assert (rates <= schedule.peak_learning_rate * (1 + 2e-7)).all()


@settings(max_examples=200, deadline=None)
@given(plans())
def test_the_warmup_ends_at_the_peak_without_a_jump(plan):
    schedule, _, _, warmup = plan
    if isinstance(schedule, schedules.OneCycle):
        warmup = int(schedule.warmup_fraction * schedule.total_steps)
    last, peak = schedule([warmup - 1, warmup]).numpy()
    assert peak == np.float32(schedule.peak_learning_rate)
    # A cosine's steepest step is pi / 2 times a straight line's.
    assert peak - last <= peak * (1.571 / max(warmup, 1) + 2e-7)


@settings(max_examples=200, deadline=None)
@given(plans())
def test_the_last_step_has_the_end_rate(plan):
    schedule, _, total, _ = plan
    end = getattr(schedule, "end_learning_rate", None)
    if isinstance(schedule, schedules.OneCycle):
        end = schedule.peak_learning_rate / schedule.initial_factor / schedule.final_factor
    if hasattr(schedule, "total_steps"):
        rates = schedule([total, total + 1, 9 * total]).numpy()
        # TensorFlow flushes subnormal numbers to 0.
        np.testing.assert_allclose(rates, np.float32(end), rtol=0, atol=1.2e-38)


@settings(max_examples=200, deadline=None)
@given(plans())
def test_after_the_peak_a_rate_never_rises_but_at_a_restart(plan):
    schedule, steps, _, warmup = plan
    if isinstance(schedule, schedules.CosineRestarts):
        return
    if isinstance(schedule, schedules.OneCycle):
        warmup = int(schedule.warmup_fraction * schedule.total_steps)
    rates = schedule(warmup + np.sort(steps)).numpy()
    assert (np.diff(rates) <= 2e-7 * schedule.peak_learning_rate).all()


@settings(max_examples=100, deadline=None)
@given(plans())
def test_any_legal_plan_is_the_formula_of_its_docstring(plan):
    schedule, steps, _, _ = plan
    close(
        schedule(steps).numpy(),
        docstring_rates(schedule, steps),
        schedule.peak_learning_rate,
    )
