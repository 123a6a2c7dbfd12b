"""The train functions of one model, each traced once however often `fit` is called."""

from collections.abc import Callable
from typing import Any

import keras

from tfrecipes.step import keras_seams
from tfrecipes.step.plan import StepPlan
from tfrecipes.step.state import StepState
from tfrecipes.step.train_step import build_step

# Train functions kept for a model that is fitted again with another plan.
FUNCTIONS_KEPT = 4


class TracedFunctions:
    """Compiled train functions by everything that would make another one.

    Args:
        model: The model that they train.
    """

    def __init__(self, model: keras.Model) -> None:
        self._model = model
        self._functions: dict[Any, tuple[Any, Callable[[Any], Any]]] = {}

    def clear(self) -> None:
        """Forget them: there is another optimizer."""
        self._functions.clear()

    def function(
        self, plan: StepPlan, state: StepState, force: bool = False
    ) -> Callable[[Any], Any]:
        """The train function of this plan, as the model is now.

        Args:
            plan: What its step does.
            state: The step's variables.
            force: Make it anew.
        """
        model = self._model
        if keras_seams.is_built_for_training(model):
            state.make(model, plan)
        key = (
            plan.key(),
            id(keras_seams.compiled_loss(model)),
            tuple(id(v) for v in model.trainable_variables),
            keras_seams.settings(model.optimizer),
            model.jit_compile,
            model.run_eagerly,
            model.steps_per_execution,
        )
        if force or key not in self._functions:
            step = build_step(model, plan, state)
            if keras_seams.loops_on_the_host(model, plan.accumulate):
                function = keras_seams.make_grouped_function(
                    model, step, plan.accumulate, state.waits
                )
            else:
                function = keras_seams.make_function(model, step, state.waits)
            # The loss is kept with its function: its id must not be given to another object.
            self._functions[key] = (keras_seams.compiled_loss(model), function)
            while len(self._functions) > FUNCTIONS_KEPT:
                self._functions.pop(next(iter(self._functions)))
        return self._functions[key][1]

    def shorter(self, plan: StepPlan, state: StepState, steps: int) -> Callable[[Any], Any]:
        """The same for one call of `steps` steps, fewer than the model's `steps_per_execution`."""

        def call(iterator: Any) -> Any:
            with keras_seams.calls_of(self._model, steps):
                return self.function(plan, state)(iterator)

        return call
