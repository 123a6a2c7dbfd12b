"""The scale as a pure function of (scale, good steps, verdict)."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.arithmetic.loss_scale import CEILING, FLOOR, next_scale


def walk(verdicts, scale, growth, counter=tf.int32):
    """Scales and counts after each step, in a graph as in the train step."""
    step = tf.function(lambda s, g, ok: next_scale(s, g, ok, growth))
    s, g = tf.constant(scale, tf.float32), tf.constant(0, counter)
    seen = []
    for ok in verdicts:
        s, g = step(s, g, tf.constant(bool(ok)))
        assert s.dtype == tf.float32
        assert g.dtype == counter
        seen.append((float(s), int(g)))
    return seen


def plain(verdicts, scale, growth):
    good, seen = 0, []
    for ok in verdicts:
        if not ok:
            scale, good = max(scale / 2, 1.0), 0
        elif good + 1 == growth:
            scale, good = min(scale * 2, 2.0**24), 0
        else:
            good += 1
        seen.append((scale, good))
    return seen


@settings(deadline=None, max_examples=25)
@given(
    verdicts=st.lists(st.booleans(), min_size=1, max_size=60),
    exponent=st.integers(0, 24),
    growth=st.integers(1, 5),
)
def test_the_scale_is_its_rule_over_any_verdicts(verdicts, exponent, growth):
    have = walk(verdicts, 2.0**exponent, growth)
    assert have == plain(verdicts, 2.0**exponent, growth)
    assert all(FLOOR <= scale <= CEILING for scale, _ in have)


@pytest.mark.parametrize("counter", [tf.int32, tf.int64])
def test_floor_and_ceiling_are_reached_and_held(counter):
    down = walk([False] * 200, 2.0**15, 2000, counter)
    assert down[14] == (1.0, 0)
    assert set(down[14:]) == {(1.0, 0)}
    up = walk([True] * 40, 2.0**15, 1, counter)
    assert up[8] == (2.0**24, 0)
    assert set(up[8:]) == {(2.0**24, 0)}
    # From the floor it comes back.
    assert walk([False, True, True], 1.0, 2)[-1] == (2.0, 0)


def test_a_count_beyond_a_shorter_interval_grows_at_once():
    # A saved run that is loaded with fewer growth steps than it had counted.
    scale, good = next_scale(tf.constant(8.0), tf.constant(50), tf.constant(True), 10)
    assert (float(scale), int(good)) == (16.0, 0)


def test_a_scale_that_is_no_power_of_two_stays_in_its_bounds():
    scales = [scale for scale, _ in walk([False] * 9 + [True] * 40, 400.0, 1)]
    assert scales[:3] == [200.0, 100.0, 50.0]
    assert scales[8] == 1.0
    assert scales[-1] == CEILING
    assert np.isfinite(scales).all()
