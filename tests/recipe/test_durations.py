"""Durations: what is read, what is refused, and how many steps or seconds it is."""

import contextlib
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.recipe.durations import Duration, to_seconds, to_steps

READ = [
    (2000, Fraction(2000), "steps"),
    ("2000", Fraction(2000), "steps"),
    (0, Fraction(0), "steps"),
    ("10ep", Fraction(10), "ep"),
    ("1.5ep", Fraction(3, 2), "ep"),
    ("5%", Fraction(5), "%"),
    ("0.1%", Fraction(1, 10), "%"),
    ("100%", Fraction(100), "%"),
    ("5min", Fraction(5), "min"),
    ("30s", Fraction(30), "s"),
    ("2h", Fraction(2), "h"),
    (" 5 % ", Fraction(5), "%"),
]
REFUSED = [True, -1, 1.5, 2000.0, float("nan"), None, "", "x%", "-5%", "101%", "1.5", "5 weeks"]
REFUSED += ["1e3", "5%%", "ep", "\u0665%", "5%\n6%", b"5%", [], 2**60, 10**5000, "9" * 400, "5EP"]


@pytest.mark.parametrize(("value", "amount", "unit"), READ)
def test_every_form_is_read(value, amount, unit):
    assert Duration.parse(value) == Duration(amount, unit)


@pytest.mark.parametrize("value", REFUSED, ids=lambda value: type(value).__name__)
def test_anything_else_is_refused_in_a_short_sentence_with_its_place(value):
    with pytest.raises(ValueError, match=r"^schedule\.warmup: must be .*Received: ") as raised:
        Duration.parse(value, "schedule.warmup")
    assert len(str(raised.value)) < 250


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        (7, 7),
        ("7", 7),
        ("10ep", 250),
        ("1.5ep", 38),  # 37.5: a half goes up
        ("0.5ep", 13),  # 12.5
        ("5%", 50),
        ("0.05%", 1),  # 0.5
        ("0.04%", 0),  # 0.4
        ("100%", 1000),
        ("0%", 0),
    ],
)
def test_steps_are_rounded_to_the_nearest_a_half_up(value, steps):
    assert to_steps(value, total_steps=1000, steps_per_epoch=25) == steps


def test_a_share_is_exact_where_floats_are_not():
    # 0.07 * 100 is 7.000000000000001 and 1.15 * 100 is 114.99999999999999 in float64.
    assert to_steps("7%", total_steps=100, steps_per_epoch=1) == 7
    assert to_steps("1.15ep", total_steps=1, steps_per_epoch=100) == 115


@pytest.mark.parametrize(("value", "seconds"), [("30s", 30), ("5min", 300), ("1.5h", 5400)])
def test_times_become_seconds(value, seconds):
    assert to_seconds(value) == seconds


def test_a_time_is_no_number_of_steps_and_steps_are_no_time():
    with pytest.raises(ValueError, match="not a time"):
        to_steps("5min", total_steps=10, steps_per_epoch=10)
    with pytest.raises(ValueError, match="must be a time"):
        to_seconds("5%")


@pytest.mark.parametrize("value", ["5%", "5ep"])
def test_a_length_that_is_not_known_is_asked_for(value):
    with pytest.raises(ValueError, match="Pass `steps_per_epoch`, or write it in steps"):
        to_steps(value, total_steps=None, steps_per_epoch=None, where="schedule.warmup")
    assert to_steps(5, total_steps=None, steps_per_epoch=None) == 5


@pytest.mark.parametrize("length", [0, -3, True, 2.0])
def test_a_length_that_is_no_length_is_refused(length):
    with pytest.raises(ValueError, match="total_steps: must be a whole number >= 1"):
        to_steps("5%", total_steps=length, steps_per_epoch=1)


def test_shares_compare_epochs_with_percent():
    assert Duration.parse("5ep").share(10) == Duration.parse("50%").share(10) == Fraction(1, 2)
    assert Duration.parse(5).share(10) is None


amounts = st.decimals(0, 100, places=3).map(lambda amount: f"{amount:f}")
texts = st.builds(str.__add__, amounts, st.sampled_from(["ep", "%", "s", "min", "h"]))


@settings(deadline=None)
@given(texts | st.integers(0, 2**53))
def test_what_is_read_is_written_and_read_again(value):
    parsed = Duration.parse(value)
    assert Duration.parse(str(parsed)) == parsed


@settings(deadline=None)
@given(texts | st.integers(0, 2**53), st.integers(1, 2**40), st.integers(1, 2**30))
def test_steps_are_within_half_a_step_of_the_exact_length(value, total, epoch):
    parsed = Duration.parse(value)
    if parsed.is_time:
        return
    scale = {"steps": Fraction(1), "%": Fraction(total, 100), "ep": Fraction(epoch)}[parsed.unit]
    exact = parsed.amount * scale
    steps = to_steps(value, total_steps=total, steps_per_epoch=epoch)
    assert isinstance(steps, int)
    assert exact - Fraction(1, 2) < steps <= exact + Fraction(1, 2)


@settings(deadline=None)
@given(st.text() | st.integers() | st.floats() | st.none() | st.booleans() | st.binary())
def test_whatever_is_given_the_only_error_is_a_value_error(value):
    with contextlib.suppress(ValueError):
        assert Duration.parse(value).amount >= 0
