"""The columns of a step's row against plain arithmetic on the step's tensors."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.arithmetic import telemetry
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
        "clip_limit": None,
        "gradient_norm": tf.constant(1.0),
        "gradient_squares": tf.zeros((0,)),
    }
    return StepView(**(fields | changes))


def values(**changes):
    row = telemetry.row(COLUMNS, view(**changes))
    assert row.dtype == tf.float32
    return dict(zip(telemetry.names(COLUMNS), row.numpy().tolist(), strict=True))


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
    [(1.0, 0.5, 1), (1.0, 1.0, 0), (1.0, 2.0, 0), (1.0, None, 0), (0.0, 1.0, 0)],
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


def test_updates_are_taken_once_and_only_where_a_column_looks():
    calls = []

    def source():
        calls.append(1)
        return [tf.ones(2)]

    telemetry.row([telemetry.loss, telemetry.samples], view(update_source=source))
    assert not calls
    telemetry.row([telemetry.update_norm, telemetry.update_ratio], view(update_source=source))
    assert len(calls) == 1


def test_a_column_of_ones_own_sees_the_step_and_must_give_one_number():
    def largest(step):
        return tf.reduce_max(tf.abs(step.gradients[0]))

    def integer(step):
        return tf.size(step.weights[0])

    row = telemetry.row([largest, integer], view())
    np.testing.assert_allclose(row, [0.8, 2.0])

    def vector(step):
        return step.gradients[0]

    with pytest.raises(ValueError, match=r"column 'vector' must return a scalar.*shape=\(2,\)"):
        telemetry.row([vector], view())


@pytest.mark.parametrize("columns", [[lambda step: 0.0], ["loss"], [object()]])
def test_a_column_without_a_name_is_refused(columns):
    with pytest.raises(ValueError, match="named by their"):
        telemetry.names(columns)


def test_two_columns_of_one_name_are_refused():
    with pytest.raises(ValueError, match="two columns are named 'loss'"):
        telemetry.names([*COLUMNS, telemetry.loss])


def test_what_needs_no_tensorflow_knows_the_same_columns():
    assert set(telemetry.names(telemetry.COLUMNS)) == steps.TELEMETRY
