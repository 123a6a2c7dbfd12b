"""The columns of a step's row against plain arithmetic on the step's tensors."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.arithmetic import norms, telemetry
from tfrecipes.arithmetic.telemetry import COLUMNS, StepView
from tfrecipes.runs import steps

WEIGHTS = [np.array([3.0, 4.0], "float32"), np.array([[12.0]], "float32")]
GRADIENTS = [np.array([0.6, 0.8], "float32"), None]
UPDATES = [np.array([-0.03, 0.0], "float32"), np.array([[0.04]], "float32")]


def view(**changes):
    fields = {
        "number": tf.constant(7, tf.int64),
        "loss": tf.constant(0.25),
        "learning_rate": tf.constant(1e-3),
        "gradients": [None if g is None else tf.constant(g) for g in GRADIENTS],
        "weights": [tf.constant(w) for w in WEIGHTS],
        "update_source": lambda: [tf.constant(u) for u in UPDATES],
        "finite": tf.constant(True),
        "loss_scale": tf.constant(1.0),
        "samples": tf.constant(32.0),
        "clip_limit": math.inf,
        "gradient_norm": tf.constant(1.0),
    }
    return StepView(**(fields | changes))


def values(**changes):
    """Our columns of a step as they are read: from the numbers that it wrote."""
    step = view(**changes)
    row = telemetry.measured(step, norms.halves(step.weights), norms.halves(step.updates))
    assert (row.dtype, row.shape) == (tf.float32, (telemetry.width(COLUMNS),))
    table = telemetry.table(COLUMNS, np.array([int(step.number)]), row.numpy()[None])
    return dict(zip(telemetry.names(COLUMNS), table[0].tolist(), strict=True))


def test_the_columns_are_those_promised_in_their_order():
    assert telemetry.names(COLUMNS) == (
        "step", "learning_rate", "loss", "grad_norm", "param_norm", "update_norm",
        "update_ratio", "grad_param_ratio", "clipped", "overflow", "loss_scale", "samples",
    )  # fmt: skip


def test_every_column_is_its_definition():
    assert values() == pytest.approx(
        {
            "step": 7,
            "learning_rate": 1e-3,
            "loss": 0.25,
            "grad_norm": 1.0,
            "param_norm": 13.0,
            "update_norm": 0.05,
            "update_ratio": 0.05 / 13,
            "grad_param_ratio": 1 / 13,
            "clipped": 0,
            "overflow": 0,
            "loss_scale": 1,
            "samples": 32,
        },
        rel=1e-6,
    )


def test_ratios_to_weights_of_norm_0_are_0_and_not_nan():
    zero = values(weights=[tf.zeros(3)])
    assert zero["param_norm"] == zero["update_ratio"] == zero["grad_param_ratio"] == 0


@pytest.mark.parametrize(
    ("norm", "limit", "clipped"),
    [(1.0, 0.5, 1), (1.0, 1.0, 0), (1.0, 2.0, 0), (1.0, math.inf, 0), (0.0, 1.0, 0)],
)
def test_clipped_says_whether_the_limit_bound(norm, limit, clipped):
    row = values(gradient_norm=tf.constant(norm), clip_limit=limit)
    assert row["clipped"] == clipped


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_a_skipped_step_is_an_overflow_and_was_not_clipped(norm):
    row = values(
        gradient_norm=tf.constant(norm),
        finite=tf.constant(False),
        clip_limit=1.0,
        loss_scale=tf.constant(1024.0),
        update_source=lambda: [tf.zeros(2)],
    )
    assert (row["overflow"], row["clipped"], row["update_norm"]) == (1, 0, 0)
    assert row["loss_scale"] == 1024


@pytest.mark.parametrize(
    "changes",
    [{}, {"finite": tf.constant(False)}, {"clip_limit": 0.3}, {"weights": [tf.zeros(3)]}],
)
def test_a_column_is_the_same_in_the_step_as_from_what_the_step_wrote(changes):
    read = values(**changes)
    step = view(**changes)
    assert {c.__name__: np.float64(np.float32(c(step))) for c in COLUMNS} == read


def test_what_no_column_looks_at_is_not_asked_for():
    assert telemetry.look_at([telemetry.loss, telemetry.samples]) == (False, False)
    assert telemetry.look_at([telemetry.param_norm]) == (True, False)
    assert telemetry.look_at([telemetry.update_ratio]) == (True, True)


def test_a_number_is_whole_where_float32_no_longer_counts():
    row = np.zeros((1, telemetry.width(COLUMNS)), np.float32)
    table = telemetry.table(COLUMNS, np.array([2**24 + 1]), row)
    assert table[0, 0] == 2**24 + 1


def test_a_column_of_ones_own_sees_the_step_and_must_give_one_number():
    def largest(step):
        return tf.reduce_max(tf.abs(step.gradients[0]))

    def integer(step):
        return tf.size(step.weights[0])

    columns = [largest, telemetry.loss, integer]
    own = telemetry.own_values(columns, view())
    np.testing.assert_allclose(own, [0.8, 2.0])
    row = tf.concat([telemetry.measured(view(), tf.zeros(1), tf.zeros(1)), own], 0)
    table = telemetry.table(columns, np.array([7]), row.numpy()[None])
    np.testing.assert_allclose(table, [[0.8, 0.25, 2.0]])

    def vector(step):
        return step.gradients[0]

    with pytest.raises(ValueError, match=r"column 'vector' must return a scalar.*shape=\(2,\)"):
        telemetry.own_values([vector], view())


@pytest.mark.parametrize("columns", [[lambda step: 0.0], ["loss"], [object()]])
def test_a_column_without_a_name_is_refused(columns):
    with pytest.raises(ValueError, match="named by their"):
        telemetry.names(columns)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two columns are named 'loss'"):
        telemetry.names([*COLUMNS, telemetry.loss])


def test_what_needs_no_tensorflow_knows_the_same_columns():
    assert set(telemetry.names(telemetry.COLUMNS)) == steps.TELEMETRY
