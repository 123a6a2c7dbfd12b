"""The loss-scale wrapper for float16, with a floor, a ceiling and a count of overflows."""

import math
from collections.abc import Sequence
from typing import Any

import keras

from tfrecipes.arithmetic.loss_scale import CEILING, FLOOR
from tfrecipes.step import keras_seams, update


@keras.saving.register_keras_serializable(package="tfrecipes")
class LossScaleOptimizer(keras.optimizers.LossScaleOptimizer):
    """Scale the loss so that float16 gradients neither underflow nor overflow.

        L' = s L,  g = g' / s
        g finite:      update;  s <- min(2 s, 2**24) after `dynamic_growth_steps` good ones
        g not finite:  nothing moves but s <- max(s / 2, 1)

    Unlike `keras.optimizers.LossScaleOptimizer` the scale has a floor and a ceiling (Keras's
    reaches 0 after 142 bad steps, and then divides 0 by 0), overflows are counted, and under
    tf.distribute one verdict on the reduced gradients holds on every replica and worker.

    Args:
        inner_optimizer: The optimizer to wrap; its `global_clipnorm` sees unscaled gradients.
        initial_scale: s at the start, in [1, 2**24].
        dynamic_growth_steps: Finite steps after which s doubles [steps], >= 1.
        name: Name of the optimizer's variables.

    Raises:
        ValueError: If the scale or the growth interval is out of range, or there is no optimizer
            to wrap, or one that scales already.

    Saved: `dynamic_scale`, `step_counter` and `overflow_count`, with the inner optimizer.

    Example:
        >>> import tfrecipes as tfr
        >>> optimizer = tfr.LossScaleOptimizer(tfr.AdamW(1e-3), initial_scale=1024.0)
        >>> optimizer.initial_scale
        1024.0

    References:
        Micikevicius et al., Mixed Precision Training, 2018. https://arxiv.org/abs/1710.03740
        (section 3.2)
    """

    def __init__(
        self,
        inner_optimizer: keras.optimizers.Optimizer,
        initial_scale: float = 2.0**15,
        dynamic_growth_steps: int = 2000,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(inner_optimizer, keras.optimizers.Optimizer):
            raise ValueError(
                "LossScaleOptimizer: `inner_optimizer` must be a Keras optimizer. "
                f"Received: inner_optimizer={inner_optimizer!r}. Pass one, such as tfr.AdamW()."
            )
        if not (
            isinstance(initial_scale, (int, float))
            and not isinstance(initial_scale, bool)
            and math.isfinite(initial_scale)
            and FLOOR <= initial_scale <= CEILING
        ):
            raise ValueError(
                "LossScaleOptimizer: `initial_scale` must be in [1, 2**24]. "
                f"Received: initial_scale={initial_scale!r}. Keras's default is 2**15."
            )
        if (
            isinstance(dynamic_growth_steps, bool)
            or not isinstance(dynamic_growth_steps, int)
            or dynamic_growth_steps < 1
        ):
            raise ValueError(
                "LossScaleOptimizer: `dynamic_growth_steps` must be an integer >= 1. "
                f"Received: dynamic_growth_steps={dynamic_growth_steps!r}."
            )
        if isinstance(inner_optimizer, keras.optimizers.LossScaleOptimizer):
            raise ValueError(
                "LossScaleOptimizer: `inner_optimizer` already scales the loss. "
                f"Received: inner_optimizer={inner_optimizer.name!r}. Wrap it once."
            )
        super().__init__(
            inner_optimizer,
            initial_scale=float(initial_scale),
            dynamic_growth_steps=dynamic_growth_steps,
            name=name,
            **kwargs,
        )

    def build(self, var_list: Sequence[keras.Variable]) -> None:
        """Make the scale, its counters and the inner optimizer's variables."""
        if self.built:
            return
        super().build(var_list)
        self.overflow_count = self.add_variable(
            shape=(), dtype="int64", initializer="zeros", name="overflow_count"
        )

    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Update from gradients of the scaled loss, or skip if they are not finite."""
        if not self.built:
            if trainable_variables is None:
                raise ValueError(
                    "LossScaleOptimizer.apply: needs the variables on the first call. "
                    "Received: trainable_variables=None. Pass them, or call `build` first."
                )
            self.build(list(trainable_variables))
        if trainable_variables is None:
            trainable_variables = keras_seams.built_variables(self.inner_optimizer)
        update.apply_gradients(self, list(grads), list(trainable_variables))
