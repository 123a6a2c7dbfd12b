"""What AdamW, Adam and SGD share: decay by rule, and THE update of this package.

They stay Keras's optimizers: Keras makes, names and saves their variables. What is ours is what
happens to them: `apply` goes through `update.apply_gradients`, and the arithmetic is a pure
function of lists of tensors. Each weight's decay is judged once, at build, and saved.
"""

import math
import numbers
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.arithmetic import decay_rules, norms
from tfrecipes.arithmetic.decay_rules import Decision, Weight
from tfrecipes.arithmetic.update_rules import Slots
from tfrecipes.step import keras_seams, update

Schedule = keras.optimizers.schedules.LearningRateSchedule
LearningRate = float | Schedule | Callable[[], Any]


class _Record:
    """What build made. Keras takes variables in an attribute's list or dict for the optimizer's
    own and saves them; it does not look into a plain object."""

    def __init__(self) -> None:
        self.variables: tuple[keras.Variable, ...] = ()
        self.values: tuple[Any, ...] = ()
        self.places: dict[int, int] = {}
        self.decisions: tuple[Decision, ...] = ()
        self.slots: dict[str, list[keras.Variable]] = {}


class FusedOptimizer(keras.optimizers.Optimizer):
    """What AdamW, Adam and SGD share: decay by rule, and one update of all weights at once.

    First base of an optimizer whose second base is Keras's. Keras's `build` makes the slots; a
    subclass says what becomes of them (`rule`).

    Args:
        learning_rate: A number, a Keras schedule, or a function of no arguments. >= 0.
        weight_decay: Decoupled, times the learning rate. >= 0; None = off.
        exclude: Ordered rules, see `decay_rules.decide`; None = every weight decays.
        decayed: For `from_config`: the verdicts of an earlier build, path -> rule.
        **keras_arguments: Of `keras.optimizers.Optimizer`. `use_ema` and
            `gradient_accumulation_steps` are refused: both are wrong in Keras together, and a
            callback does either right.

    Raises:
        ValueError: If an argument is out of its range.
    """

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        weight_decay: float | None,
        exclude: Sequence[str] | None,
        decayed: Mapping[str, str] | None,
        **keras_arguments: Any,
    ) -> None:
        where = type(self).__name__
        if not callable(learning_rate):
            learning_rate = number(where, "learning_rate", learning_rate, ">= 0")
        if weight_decay is not None:
            weight_decay = number(where, "weight_decay", weight_decay, ">= 0")
        for name in ("clipnorm", "clipvalue", "global_clipnorm", "loss_scale_factor"):
            if keras_arguments.get(name) is not None:
                keras_arguments[name] = number(where, name, keras_arguments[name], "> 0")
        for name, instead in (
            ("use_ema", "the callback tfrecipes.EMA"),
            ("gradient_accumulation_steps", "tfrecipes.GradientAccumulation or MicroBatch"),
        ):
            if keras_arguments.get(name):
                raise ValueError(
                    f"{where}: {name} is not done by the optimizer. "
                    f"Received: {name}={keras_arguments[name]!r}. Use {instead}."
                )
        exclude = decay_rules.check_rules(exclude)
        if decayed is not None and not isinstance(decayed, Mapping):
            raise ValueError(
                f"{where}: decayed must be a mapping of paths to rules. "
                f"Received: decayed={decayed!r}. It is written by get_config; use exclude instead."
            )
        super().__init__(learning_rate=learning_rate, weight_decay=weight_decay, **keras_arguments)
        self._exclude = exclude
        self._saved_mask = None if decayed is None else tuple(decayed.items())  # dicts are tracked
        self._record = _Record()

    # ------------------------------------------------------------------------------- what decays

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        foreign = not cls.__module__.startswith("tfrecipes.")
        for name in ("apply", "update_step"):
            if foreign and name in vars(cls):
                raise TypeError(
                    f"{cls.__name__}: the train step calls an optimizer's `rule` on all weights at "
                    f"once, and would pass `{name}` by. Received: a method `{name}`. Override "
                    "`rule`, or start from a Keras optimizer."
                )

    @property
    def exclude(self) -> tuple[str, ...]:
        """The rules by which weights do not decay; settled once the optimizer is built.

        Raises:
            ValueError: If it is set after build: every weight's decay was decided then.
        """
        return self._exclude

    @exclude.setter
    def exclude(self, rules: Sequence[str] | None) -> None:
        self._refuse_after_build(f"exclude={rules!r}")
        self._exclude = decay_rules.check_rules(rules)

    def exclude_from_weight_decay(
        self,
        var_list: Sequence[keras.Variable] | None = None,
        var_names: Sequence[str] | None = None,
    ) -> None:
        """Put rules before `exclude`, so that these weights do not decay whatever it says.

        Unlike Keras's, it works by path, is saved with the optimizer, adds to earlier calls
        instead of forgetting them, and a name that matches no weight is an error at build.

        Args:
            var_list: Weights, whose paths are excluded.
            var_names: Regular expressions on the path; one of them must match a weight.

        Raises:
            ValueError: After build, or if a name is no regular expression.
        """
        self._refuse_after_build(f"var_list={var_list!r}, var_names={var_names!r}")
        rules = [f"^{re.escape(path_of(variable))}$" for variable in var_list or ()]
        if var_names:
            var_names = [var_names] if isinstance(var_names, str) else var_names
            # In brackets: "bias" must be the expression here, not the word.
            rules.append("|".join(f"(?:{name})" for name in var_names))
        self._exclude = (*decay_rules.check_rules(rules), *self._exclude)

    def _refuse_after_build(self, received: str) -> None:
        if self.built:
            raise ValueError(
                f"{type(self).__name__}: what decays was decided at build and cannot change. "
                f"Received: {received}. Make a new optimizer with the rules in `exclude`."
            )

    def decide(
        self, variables: Sequence[keras.Variable], model: keras.Model | None = None
    ) -> list[Decision]:
        """What the rules, and the verdicts loaded with the config, say of these weights.

        Raises:
            ValueError: If `weight_decay` is not 0 and a regular expression or a type in `exclude`
                matches none of them.
        """
        owners = keras_seams.owners(variables, model)
        weights = [
            Weight(path_of(variable), len(variable.shape), owner)
            for variable, owner in zip(variables, owners, strict=True)
        ]
        return decay_rules.decide_again(
            self._exclude,
            weights,
            dict(self._saved_mask or ()),
            must_match=bool(self.weight_decay),
        )

    def decision(self, variable: keras.Variable) -> Decision:
        """What was decided at build about this weight; ValueError for a weight it is not for."""
        return self._record.decisions[self._place(variable)]

    def _use_weight_decay(self, variable: keras.Variable) -> bool:
        """Keras's question, answered from the mask."""
        return self.decision(variable).decayed

    # -------------------------------------------------------------------------------- the update

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Decide what decays and make the slots.

        Raises:
            ValueError: As `decide`, or for a weight of float8 training.
        """
        if self.built:
            return
        variables = list(variables)
        for variable in variables:
            if getattr(variable, "overwrite_with_gradient", False):
                raise ValueError(
                    f"{type(self).__name__}: float8 training is not supported. "
                    f"Received: {path_of(variable)!r}, a weight that its gradient overwrites. "
                    "Use a Keras optimizer for it."
                )
        decisions = self.decide(variables)  # may raise, and then nothing is built
        super().build(variables)
        self._record.decisions = tuple(decisions)
        self._record.variables = tuple(variables)
        # Keras's own protocol hands `update_step` the tf.Variable inside. Both are held, as an id
        # names an object only while it lives.
        self._record.values = tuple(getattr(variable, "value", variable) for variable in variables)
        for known in (self._record.variables, self._record.values):
            self._record.places.update((id(one), place) for place, one in enumerate(known))

    def add_optimizer_variables(
        self,
        trainable_variables: Sequence[keras.Variable],
        name: str | Sequence[str],
        initializer: Any = "zeros",
    ) -> Any:
        """Keras's, which its `build` calls for the slots; we remember what it made."""
        made = super().add_optimizer_variables(trainable_variables, name, initializer)
        kinds = [(name, made)] if isinstance(name, str) else zip(name, made, strict=True)
        self._record.slots.update(kinds)
        return made

    @tf.autograph.experimental.do_not_convert  # nothing to convert, and tracing is faster without
    def apply(
        self,
        grads: Sequence[Any],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Update the weights from gradients: `update.apply_gradients`.

        Under tf.distribute the gradients are summed over the replicas first, so that the clip and
        the check for finite numbers see the step's gradient and not a replica's share of it. An
        update that is not finite changes nothing. A weight without a gradient is left alone.

        Args:
            grads: One gradient or None per weight; embeddings' may be IndexedSlices.
            trainable_variables: The weights; None once built means those it was built for.

        Raises:
            ValueError: If weights and gradients do not correspond, or no weight has a gradient.
        """
        grads = list(grads)
        where = type(self).__name__
        if not grads:
            return
        if trainable_variables is None and not self.built:
            raise ValueError(
                f"{where}.apply: needs the variables on the first call. "
                "Received: trainable_variables=None. Pass them, or call `build` first."
            )
        if trainable_variables is None:
            variables = list(self._record.variables)
        else:
            variables = list(trainable_variables)
        if len(grads) != len(variables):
            raise ValueError(
                f"{where}.apply: needs one gradient or None per weight. "
                f"Received: {len(grads)} gradients for {len(variables)} weights."
            )
        self.build(variables)
        for variable in variables:
            self._place(variable)
        pairs = zip(variables, grads, strict=True)
        missing = [path_of(variable) for variable, grad in pairs if grad is None]
        if 0 < len(missing) < len(variables):
            warnings.warn(
                f"{where}: the loss does not depend on {len(missing)} of {len(variables)} weights, "
                f"which stay as they are. First: {', '.join(missing[:3])}.",
                stacklevel=2,
            )
        update.apply_gradients(self, grads, variables)

    def slot_variables(
        self, variables: Sequence[keras.Variable]
    ) -> list[tuple[keras.Variable, ...]]:
        """Each weight's slots: Adam's (m, v), or (m, v, largest v); SGD's (m,), or ()."""
        kinds = self._record.slots.values()
        return [tuple(kind[self._place(v)] for kind in kinds) for v in variables]

    def new_values(
        self,
        grads: Sequence[tf.Tensor | None],
        weights: Sequence[tf.Tensor],
        slots: Sequence[Slots],
        variables: Sequence[keras.Variable],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
    ) -> tuple[list[tf.Tensor], list[Slots]]:
        """The update as a pure function: decay where the mask says so, then the rule.

        Args:
            grads: Dense, reduced and clipped gradients; None leaves its weight as it is.
            weights: The weights' values.
            slots: Their slots' values, as `slot_variables` orders them.
            variables: The weights themselves, only to look up what decays.
            learning_rate: Of this update.
            step: The number of this update, `iterations + 1` [updates].

        Returns:
            New weights and new slots. Nothing is assigned.
        """
        decayed = [self.decision(variable).decayed for variable in variables]
        return self.rule(grads, weights, slots, learning_rate, step, decayed)

    def update_step(
        self, gradient: Any, variable: keras.Variable, learning_rate: tf.Tensor
    ) -> None:
        """Keras's protocol, which decays on its own before: the same rule, for one weight."""
        slots = self.slot_variables([variable])[0]
        values, new = self.rule(
            [norms.dense(gradient)],
            [tf.convert_to_tensor(variable)],
            [tuple(tf.convert_to_tensor(slot) for slot in slots)],
            learning_rate,
            tf.convert_to_tensor(self.iterations) + 1,
            [False],
        )
        for target, value in zip((variable, *slots), (values[0], *new[0]), strict=True):
            self.assign(target, value)

    def rule(
        self,
        grads: Sequence[tf.Tensor | None],
        weights: Sequence[tf.Tensor],
        slots: Sequence[Slots],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        decayed: Sequence[bool],
    ) -> tuple[list[tf.Tensor], list[Slots]]:
        """The optimizer's arithmetic, a pure function of lists; each subclass has its own."""
        raise TypeError(f"{type(self).__name__}: a subclass of FusedOptimizer must define `rule`.")

    def _place(self, variable: keras.Variable) -> int:
        place = self._record.places.get(id(variable))
        if place is None:
            raise ValueError(
                f"{type(self).__name__}: updates only the weights that it was built for. "
                f"Received: {path_of(variable)!r}, which is none of the "
                f"{len(self._record.variables)}. "
                "Compile again with a new optimizer after `trainable` or the layers changed."
            )
        return place

    def get_config(self) -> dict[str, Any]:
        """Keras's config, the rules, and the verdicts by path once there are any."""
        decayed = decay_rules.mask(self._record.decisions) if self.built else self._saved_mask
        return {
            **super().get_config(),
            "exclude": list(self._exclude),
            "decayed": None if decayed is None else dict(decayed),
        }


def path_of(variable: Any) -> str:
    """A Keras variable's path; of a tf.Variable its name, which is one."""
    return getattr(variable, "path", None) or variable.name.split(":")[0]


_RANGES: dict[str, Callable[[float], bool]] = {
    ">= 0": lambda value: value >= 0,
    "> 0": lambda value: value > 0,
    "in [0, 1)": lambda value: 0 <= value < 1,
}


def number(where: str, name: str, value: Any, allowed: str) -> float:
    """`value` as the float that Keras insists on, if it is a finite number in its range."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    result = float(value) if real else math.nan
    if not math.isfinite(result) or not _RANGES[allowed](result):
        raise ValueError(
            f"{where}: {name} must be a finite number {allowed}. Received: {name}={value!r}. "
            "Leave it out for the default."
        )
    return result
