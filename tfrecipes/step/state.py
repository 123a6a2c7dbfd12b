"""What a step remembers outside the model: counters, the average, the telemetry's ring.

Plain tf.Variables that Keras does not track: a saved model and `model.variables` stay as they
were. They are made in the model's strategy scope, one copy a replica, all equal.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic import telemetry
from tfrecipes.arithmetic.layer_groups import Group, groups
from tfrecipes.step import keras_seams
from tfrecipes.step.keras_seams import local
from tfrecipes.step.plan import StepPlan

# Rows between two reads by the host at most; it reads when half of them are new.
RING_ROWS = 4096

NO_BAD_STEP = (-1, -1, 1)


class StepState:
    """Variables of the step on one model, made as the plan needs them.

    Attributes:
        attempts: Steps attempted, skipped ones too, int64.
        bad_in_a_row: Skipped steps since the last good one, int32.
        overflows: Skipped steps altogether, int64.
        averaged: Updates that went into the average, int64.
        bad_limit: Skipped steps in a row after which no step does anything more, int32.
        stops_at_first: Whether one skipped step is too many already, at the smallest scale, bool.
        halted: Whether the limit was reached: the rest of a call of several steps is idle, bool.
        average_start: Updates at the beginning of this fit, from which an average counts, int64.
        rings: The last rows of telemetry by their columns, (RING_ROWS + 1, width) float32.
        layer_rings: The last rows of the layer groups' sums by how often they are written and
            by their groups.
        first_bad: The first skipped step of this fit, int64 (3,): its number, the place of the
            first weight whose gradient was not finite or -1, and whether its loss was finite.
        streak_bad: The same of the first of the last skipped steps in a row.
        groups: The groups of layers, once the weights are there.
        waits: How long train functions waited for data.
        averages: One tensor a member of `averaged_variables`, or [].
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        self._strategy = strategy
        self.attempts = self._variable(0, tf.int64)
        self.bad_in_a_row = self._variable(0, tf.int32)
        self.overflows = self._variable(0, tf.int64)
        self.averaged = self._variable(0, tf.int64)
        self.average_start = self._variable(0, tf.int64)
        # Variables and not constants of the trace: another limit is no reason to trace again.
        self.bad_limit = self._variable(StepPlan().max_bad_steps, tf.int32)
        self.stops_at_first = self._variable(False, tf.bool)
        self.halted = self._variable(False, tf.bool)
        self.first_bad = self._variable(NO_BAD_STEP, tf.int64)
        self.streak_bad = self._variable(NO_BAD_STEP, tf.int64)
        self.waits = keras_seams.Waits()
        self.rings: dict[tuple[Any, ...], tf.Variable] = {}
        self.groups: tuple[Group, ...] = ()
        self.layer_rings: dict[tuple[int, tuple[Group, ...]], tf.Variable] = {}
        self.averages: list[tf.Variable] = []
        self.averaged_variables: list[keras.Variable] = []

    def _variable(self, value: object, dtype: tf.DType) -> tf.Variable:
        with tf.init_scope(), self._strategy.scope():
            return tf.Variable(
                value,
                dtype=dtype,
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )

    def make(self, model: keras.Model, plan: StepPlan) -> None:
        """Make what this plan needs and is not there yet."""
        # One for each tuple of columns: a function that was traced keeps writing into its own.
        if plan.columns and plan.columns not in self.rings:
            # One more than are read: a run that was stopped goes on to write into its next one.
            rows = np.zeros((RING_ROWS + 1, telemetry.width(plan.columns)))
            self.rings[plan.columns] = self._variable(rows, tf.float32)
        if plan.layers is not None:
            self.groups = found = groups([v.path for v in model.trainable_variables])
            if (plan.layers, found) not in self.layer_rings:
                # One more: the row of the steps that are not complete yet.
                ring = np.zeros((-(-RING_ROWS // plan.layers) + 1, 3 * len(found)))
                self.layer_rings[plan.layers, found] = self._variable(ring, tf.float32)
        if plan.average is not None:
            self._make_averages(model)

    def _make_averages(self, model: keras.Model) -> None:
        # BatchNorm's moving statistics are averaged along: they belong to the weights that made
        # them, and an average of weights with the last statistics is neither. Frozen weights are
        # in it too, so that layers may be frozen and thawed between two fits.
        wanted = keras_seams.weights_and_statistics(model)
        if [id(v) for v in wanted] == [id(v) for v in self.averaged_variables]:
            return
        self.averaged_variables = wanted
        with tf.init_scope():
            self.averages = [
                self._variable(tf.cast(host_value(v), average_dtype(v)), average_dtype(v))
                for v in wanted
            ]

    def begin(self, plan: StepPlan) -> None:
        """A fit begins: it counts its bad steps anew, by its own limit."""
        self.bad_in_a_row.assign(0)
        self.first_bad.assign(NO_BAD_STEP)
        self.bad_limit.assign(plan.max_bad_steps)
        self.stops_at_first.assign(plan.on_nonfinite == "stop")
        self.halted.assign(False)

    def restart_average(self) -> None:
        """Begin the average anew from the model's present weights."""
        self.averaged.assign(0)
        for average, variable in zip(self.averages, self.averaged_variables, strict=True):
            average.assign(tf.cast(host_value(variable), average.dtype))

    def variables(self) -> dict[str, tf.Variable]:
        """Everything that a checkpoint must hold, by name."""
        named = {
            name: getattr(self, name)
            for name in ("attempts", "bad_in_a_row", "overflows", "averaged", "average_start")
        }
        named |= {f"average/{i}": variable for i, variable in enumerate(self.averages)}
        return named


def average_dtype(variable: keras.Variable) -> tf.DType:
    """float32, or float64 for a weight that is: wide enough for many small moves."""
    return tf.float64 if variable.dtype == "float64" else tf.float32


def host_value(variable: keras.Variable | tf.Variable) -> tf.Tensor:
    """A variable's value seen from the host, the first replica's where there are several."""
    return tf.convert_to_tensor(local(variable))


def read_all(variables: Sequence[keras.Variable | tf.Variable]) -> list[tf.Tensor]:
    """This replica's values, as tensors that a later assign does not change."""
    return [local(v).read_value() for v in variables]
