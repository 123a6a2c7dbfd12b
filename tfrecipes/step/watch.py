"""What a step notes for those who look at the run: its layers now and then, its bad steps.

Nothing here moves what is trained. A step that is not due, and is good, pays one comparison.
"""

from collections.abc import Sequence

import tensorflow as tf

from tfrecipes.arithmetic import layer_groups
from tfrecipes.arithmetic.telemetry import StepView
from tfrecipes.step.keras_seams import local
from tfrecipes.step.state import StepState


def layers(every: int, state: StepState, view: StepView) -> None:
    """Write each layer group's norms into their ring, if this step's number is a multiple of `every`.

    Args:
        every: Steps from one row to the next.
        state: The step's variables.
        view: The step.
    """
    groups = state.groups
    ring = local(state.layer_rings[every, groups])
    # Taken here: the columns want the sums of squares too, and a branch is handed three vectors
    # and not every weight, update and gradient.
    _ = view.weight_squares, view.update_squares

    def write() -> tf.Tensor:
        row = layer_groups.norms_of(groups, view)
        ring.scatter_nd_update([[view.number // every % ring.shape[0]]], row[None])
        return tf.zeros(())

    tf.cond(tf.equal(view.number % every, 0), write, lambda: tf.zeros(()))


def bad_step(
    state: StepState,
    gradients: Sequence[tf.Tensor | None],
    squares: tf.Tensor,
    loss: tf.Tensor | None,
) -> None:
    """Note where a step that is skipped went bad, if it is the fit's first or the first in a row."""
    finite_loss = tf.constant(True) if loss is None else tf.math.is_finite(loss)
    seen = tf.stack(
        [
            local(state.attempts).read_value(),
            layer_groups.first_not_finite(squares, layer_groups.places_with_gradient(gradients)),
            tf.cast(finite_loss, tf.int64),
        ]
    )
    first, streak = local(state.first_bad), local(state.streak_bad)
    first.assign(tf.where(first.read_value()[0] < 0, seen, first.read_value()))
    begins = tf.equal(local(state.bad_in_a_row).read_value(), 0)
    streak.assign(tf.where(begins, seen, streak.read_value()))
