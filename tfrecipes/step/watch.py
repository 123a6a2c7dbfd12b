"""What a step notes for those who look at the run: its row, its layers, its bad steps.

Nothing here moves what is trained. Of a small step every operation is a visible share, so that
what a host can do with a thousand rows at once is left to it.
"""

from collections.abc import Sequence
from dataclasses import replace

import keras
import tensorflow as tf

from tfrecipes.arithmetic import layer_groups, norms, telemetry
from tfrecipes.arithmetic.telemetry import StepView
from tfrecipes.step.keras_seams import local
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.state import StepState, read_all


class Notes:
    """What one step notes of itself, gathered where it is there, written once at the end.

    Args:
        plan: Columns and layers that are looked at.
        state: The step's variables.
        variables: The weights, before the update.
    """

    def __init__(
        self, plan: StepPlan, state: StepState, variables: Sequence[keras.Variable]
    ) -> None:
        self._plan, self._state = plan, state
        weights, updates = telemetry.look_at(plan.columns)
        layers = plan.layers is not None
        self._own = bool(telemetry.own(plan.columns))
        self._updates = updates or layers
        # Here, where it waits for nothing and nothing for it.
        self._weights = norms.halves(read_all(variables)) if weights or layers else tf.zeros((0,))

    def of_update(
        self, view: StepView, old: list[tf.Tensor], new: list[tf.Tensor]
    ) -> list[tf.Tensor]:
        """What only the branch knows that updates the weights."""
        view = replace(
            view,
            finite=tf.constant(True),
            weights=old,
            update_source=lambda: [n - o for n, o in zip(new, old, strict=True)],
        )
        return self._of_branch(view, norms.halves(view.updates) if self._updates else None)

    def of_no_update(self, view: StepView, old: list[tf.Tensor]) -> list[tf.Tensor]:
        """The same of the branch that skips the step."""
        view = replace(
            view,
            finite=tf.constant(False),
            weights=old,
            update_source=lambda: [tf.zeros_like(o) for o in old],
        )
        return self._of_branch(view, tf.zeros((len(old),)) if self._updates else None)

    def _of_branch(self, view: StepView, updates: tf.Tensor | None) -> list[tf.Tensor]:
        noted = [] if updates is None else [updates]
        return [*noted, telemetry.own_values(self._plan.columns, view)] if self._own else noted

    def write(self, view: StepView, gradients: tf.Tensor, noted: list[tf.Tensor]) -> None:
        """Write the step's row, and its layers' sums.

        Args:
            view: The step.
            gradients: `norms.halves` of its gradients.
            noted: What the branch noted that was taken.
        """
        left = list(noted)
        updates = left.pop(0) if self._updates else tf.zeros((0,))
        columns, every = self._plan.columns, self._plan.layers
        if columns:
            row = telemetry.measured(view, self._weights, updates)
            self._put(self._state.rings[columns], view.number, tf.concat([row, *left], 0))
        if every is not None:
            groups = self._state.groups
            places = layer_groups.places_with_gradient(view.gradients)
            sums = layer_groups.sums_of(groups, places, gradients, self._weights, updates)
            # Written at every step, which costs less than a branch: rows 0, 1, ... end up with
            # steps 0, every, 2 every, ..., the last ones that write into them.
            place = (view.number + (every - 1)) // every
            self._put(self._state.layer_rings[every, groups], place, sums)

    def _put(self, ring: tf.Variable, number: tf.Tensor, row: tf.Tensor) -> None:
        ring = local(ring)
        ring.scatter_update(tf.IndexedSlices(row, number % ring.shape[0]))


def bad_step(
    state: StepState,
    gradients: Sequence[tf.Tensor | None],
    halves: tf.Tensor,
    loss: tf.Tensor | None,
) -> None:
    """Note where a step that is skipped went bad, if it is the fit's first or the first in a row."""
    finite_loss = tf.constant(True) if loss is None else tf.math.is_finite(loss)
    seen = tf.stack(
        [
            local(state.attempts).read_value(),
            layer_groups.first_not_finite(halves, layer_groups.places_with_gradient(gradients)),
            tf.cast(finite_loss, tf.int64),
        ]
    )
    first, streak = local(state.first_bad), local(state.streak_bad)
    first.assign(tf.where(first.read_value()[0] < 0, seen, first.read_value()))
    begins = tf.equal(local(state.bad_in_a_row).read_value(), 0)
    streak.assign(tf.where(begins, seen, streak.read_value()))
