"""AdamW, Adam and SGD with the paper's arithmetic and decay by rule, and the decay report."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.arithmetic import update_rules
from tfrecipes.arithmetic.decay_rules import DEFAULT_EXCLUDE, Decision, Report
from tfrecipes.arithmetic.update_rules import Slots
from tfrecipes.step import keras_seams
from tfrecipes.step.fused import FusedOptimizer, LearningRate, number, path_of


class _FusedAdam(FusedOptimizer):
    """The arithmetic that Adam and AdamW share."""

    def __init__(
        self,
        learning_rate: LearningRate,
        *,
        beta_1: float,
        beta_2: float,
        epsilon: float,
        **arguments: Any,
    ) -> None:
        where = type(self).__name__
        super().__init__(
            learning_rate,
            beta_1=number(where, "beta_1", beta_1, "in [0, 1)"),
            beta_2=number(where, "beta_2", beta_2, "in [0, 1)"),
            epsilon=number(where, "epsilon", epsilon, "> 0"),
            **arguments,
        )

    def rule(
        self,
        grads: Sequence[tf.Tensor | None],
        weights: Sequence[tf.Tensor],
        slots: Sequence[Slots],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        decayed: Sequence[bool],
    ) -> tuple[list[tf.Tensor], list[Slots]]:
        """`update_rules.adam` with this optimizer's numbers."""
        return update_rules.adam(
            grads,
            weights,
            slots,
            learning_rate=learning_rate,
            step=step,
            decayed=decayed,
            weight_decay=self.weight_decay or 0.0,
            beta_1=self.beta_1,
            beta_2=self.beta_2,
            epsilon=self.epsilon,
            amsgrad=self.amsgrad,
        )


@keras.saving.register_keras_serializable(package="tfrecipes")
class AdamW(_FusedAdam, keras.optimizers.AdamW):  # pyright: ignore[reportIncompatibleMethodOverride]  # Keras: variables or var_list
    """Adam with decoupled weight decay that leaves biases, norms, PReLUs and vectors alone.

        w <- w (1 - lr wd)                        for decayed weights
        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        w <- w - lr (m / c1) / (sqrt(v / c2) + epsilon)
        with c1 = 1 - b1^t, c2 = 1 - b2^t, t = 1 for the first update

    That is torch's AdamW and the paper's Algorithm 1. Keras's AdamW has epsilon beside sqrt(v)
    before the bias correction ("epsilon hat"), which makes it 32 times as large in the first step
    and matters where gradients are as small as it; and there everything decays, and an exclusion
    is not saved.

    Args:
        learning_rate: lr: a number, a Keras schedule, or a function of no arguments. >= 0.
        weight_decay: wd, times the learning rate. >= 0; None = 0, off.
        beta_1: b1, in [0, 1).
        beta_2: b2, in [0, 1).
        epsilon: > 0.
        exclude: Ordered rules by which weights do not decay, the first match wins: the words
            "bias", "norm", "prelu", "ndim<2", "embedding"; "type:Dense", a layer class; else a
            regular expression on the variable's path; a leading "!" keeps the decay.
        global_clipnorm: Largest norm of all gradients together, after the sum over replicas. > 0.
        amsgrad: Divide by the largest v so far, as torch does.
        clipnorm: Largest norm of one gradient. > 0.
        clipvalue: Largest absolute value of an element. > 0.
        loss_scale_factor: What the loss was multiplied by. > 0.
        name: Of the optimizer, in its variables' paths.
        decayed: Written by `get_config` after build: the verdicts, path -> rule.
        **keras_arguments: Keras's `use_ema` and `gradient_accumulation_steps` are refused: use
            `tfrecipes.EMA` and `tfrecipes.GradientAccumulation`. An unknown one is an error.

    Raises:
        ValueError: If an argument is out of its range; at build if a regular expression or a type
            in `exclude` matches no weight and `weight_decay` is not 0.

    State: m and v of every weight, `iterations`. What decays is decided at build, and saved.

    Example:
        >>> optimizer = AdamW(1e-3, exclude=["bias", "embedding"])
        >>> optimizer.exclude
        ('bias', 'embedding')

    References:
        Loshchilov & Hutter, Decoupled weight decay, 2019. https://arxiv.org/abs/1711.05101
        Kingma & Ba, Adam, 2015. https://arxiv.org/abs/1412.6980 (Algorithm 1)
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        weight_decay: float | None = 0.05,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        exclude: Sequence[str] | None = DEFAULT_EXCLUDE,
        global_clipnorm: float | None = None,
        amsgrad: bool = False,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        loss_scale_factor: float | None = None,
        name: str | None = None,
        decayed: Mapping[str, str] | None = None,
        **keras_arguments: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            weight_decay=0.0 if weight_decay is None else weight_decay,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            exclude=exclude,
            global_clipnorm=global_clipnorm,
            amsgrad=amsgrad,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            loss_scale_factor=loss_scale_factor,
            name=name,
            decayed=decayed,
            **keras_arguments,
        )


@keras.saving.register_keras_serializable(package="tfrecipes")
class Adam(_FusedAdam, keras.optimizers.Adam):  # pyright: ignore[reportIncompatibleMethodOverride]  # Keras: variables or var_list
    """Adam as in the paper's Algorithm 1 and in torch; `AdamW` without decay.

        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        w <- w - lr (m / c1) / (sqrt(v / c2) + epsilon)
        with c1 = 1 - b1^t, c2 = 1 - b2^t, t = 1 for the first update

    As in Keras a `weight_decay` is decoupled, w <- w (1 - lr wd) first; torch's Adam adds it to
    the gradient instead. Keras's epsilon stands elsewhere: see `AdamW`.

    Args:
        learning_rate: lr: a number, a Keras schedule, or a function of no arguments. >= 0.
        beta_1: b1, in [0, 1).
        beta_2: b2, in [0, 1).
        epsilon: > 0.
        amsgrad: Divide by the largest v so far, as torch does.
        weight_decay: wd, decoupled. >= 0; None = off.
        exclude: Rules by which weights do not decay, as for `AdamW`.
        global_clipnorm: Largest norm of all gradients together, after the sum over replicas. > 0.
        clipnorm: Largest norm of one gradient. > 0.
        clipvalue: Largest absolute value of an element. > 0.
        loss_scale_factor: What the loss was multiplied by. > 0.
        name: Of the optimizer, in its variables' paths.
        decayed: Written by `get_config` after build: the verdicts, path -> rule.
        **keras_arguments: Keras's `use_ema` and `gradient_accumulation_steps` are refused: use
            `tfrecipes.EMA` and `tfrecipes.GradientAccumulation`. An unknown one is an error.

    Raises:
        ValueError: If an argument is out of its range; at build as `AdamW`.

    State: m and v of every weight, `iterations`. What decays is decided at build, and saved.

    Example:
        >>> Adam(1e-3).weight_decay is None
        True

    References:
        Kingma & Ba, Adam, 2015. https://arxiv.org/abs/1412.6980 (Algorithm 1)
        Reddi et al., On the convergence of Adam, 2018. https://openreview.net/pdf?id=ryQu7f-RZ
    """

    def __init__(
        self,
        learning_rate: LearningRate = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        amsgrad: bool = False,
        weight_decay: float | None = None,
        exclude: Sequence[str] | None = DEFAULT_EXCLUDE,
        global_clipnorm: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        loss_scale_factor: float | None = None,
        name: str | None = None,
        decayed: Mapping[str, str] | None = None,
        **keras_arguments: Any,
    ) -> None:
        super().__init__(
            learning_rate,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            amsgrad=amsgrad,
            weight_decay=weight_decay,
            exclude=exclude,
            global_clipnorm=global_clipnorm,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            loss_scale_factor=loss_scale_factor,
            name=name,
            decayed=decayed,
            **keras_arguments,
        )


@keras.saving.register_keras_serializable(package="tfrecipes")
class SGD(FusedOptimizer, keras.optimizers.SGD):
    """Gradient descent with momentum and decoupled weight decay.

        w <- w (1 - lr wd)                        for decayed weights
        m <- mu m + g
        w <- w - lr m                             nesterov: w <- w - lr (g + mu m)

    As in torch and optax the rate stands outside the buffer: when a schedule lowers it, all of the
    next step is smaller. Keras folds it in (m <- mu m - lr g, w <- w + m), so that a past gradient
    keeps the rate of its own step. torch's `weight_decay` for SGD is added to the gradient
    instead.

    Args:
        learning_rate: lr: a number, a Keras schedule, or a function of no arguments. >= 0.
        momentum: mu, in [0, 1). 0 keeps no buffer.
        nesterov: Look ahead by the momentum, which must not be 0.
        weight_decay: wd, times the learning rate. >= 0; None = off.
        exclude: Rules by which weights do not decay, as for `AdamW`.
        global_clipnorm: Largest norm of all gradients together, after the sum over replicas. > 0.
        clipnorm: Largest norm of one gradient. > 0.
        clipvalue: Largest absolute value of an element. > 0.
        loss_scale_factor: What the loss was multiplied by. > 0.
        name: Of the optimizer, in its variables' paths.
        decayed: Written by `get_config` after build: the verdicts, path -> rule.
        **keras_arguments: Keras's `use_ema` and `gradient_accumulation_steps` are refused: use
            `tfrecipes.EMA` and `tfrecipes.GradientAccumulation`. An unknown one is an error.

    Raises:
        ValueError: If an argument is out of its range, or `nesterov` without momentum; at build
            as `AdamW`.

    State: m of every weight where mu is not 0, `iterations`. What decays is decided at build.

    Example:
        >>> SGD(momentum=0.9, nesterov=True).momentum
        0.9

    References:
        Sutskever et al., On the importance of initialization and momentum, 2013.
        https://proceedings.mlr.press/v28/sutskever13.html
    """

    def __init__(
        self,
        learning_rate: LearningRate = 0.1,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float | None = 0.0,
        exclude: Sequence[str] | None = DEFAULT_EXCLUDE,
        global_clipnorm: float | None = None,
        clipnorm: float | None = None,
        clipvalue: float | None = None,
        loss_scale_factor: float | None = None,
        name: str | None = None,
        decayed: Mapping[str, str] | None = None,
        **keras_arguments: Any,
    ) -> None:
        momentum = number("SGD", "momentum", momentum, "in [0, 1)")
        if nesterov and momentum == 0:
            raise ValueError(
                "SGD: nesterov looks ahead by the momentum. "
                f"Received: nesterov={nesterov!r}, momentum={momentum!r}. Give a momentum, say 0.9."
            )
        super().__init__(
            learning_rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
            exclude=exclude,
            global_clipnorm=global_clipnorm,
            clipnorm=clipnorm,
            clipvalue=clipvalue,
            loss_scale_factor=loss_scale_factor,
            name=name,
            decayed=decayed,
            **keras_arguments,
        )

    def rule(
        self,
        grads: Sequence[tf.Tensor | None],
        weights: Sequence[tf.Tensor],
        slots: Sequence[Slots],
        learning_rate: tf.Tensor,
        step: tf.Tensor,
        decayed: Sequence[bool],
    ) -> tuple[list[tf.Tensor], list[Slots]]:
        """`update_rules.sgd` with this optimizer's numbers."""
        return update_rules.sgd(
            grads,
            weights,
            slots,
            learning_rate=learning_rate,
            decayed=decayed,
            weight_decay=self.weight_decay or 0.0,
            momentum=self.momentum,
            nesterov=self.nesterov,
        )


def decay_report(optimizer: keras.optimizers.Optimizer, model: keras.Model) -> Report:
    """Say of every weight of `model` whether `optimizer` decays it, and by which rule.

    Before build by the rules, after build from what was decided then.

    Args:
        optimizer: One of ours or any Keras optimizer, in a loss-scale wrapper or not. Of a Keras
            optimizer it tells what Keras will do.
        model: A model that has its weights.

    Returns:
        A `Report`; print it.

    Raises:
        ValueError: If the model has no weights yet, or a rule matches none of them.
    """
    while isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
        optimizer = optimizer.inner_optimizer
    if not model.weights:
        raise ValueError(
            f"decay_report: the model has no weights yet. Received: model={model.name!r}. "
            "Call it on a batch, or `model.build(input_shape)`, first."
        )
    decisions = _decisions(optimizer, model)
    trained = {id(variable) for variable, _ in decisions}
    title = f"{type(optimizer).__name__}, weight_decay={optimizer.weight_decay}"
    return Report(
        title if optimizer.weight_decay else f"{title}, which is off",
        tuple(decision for _, decision in decisions),
        tuple(path_of(weight) for weight in model.weights if id(weight) not in trained),
    )


def _decisions(
    optimizer: keras.optimizers.Optimizer, model: keras.Model
) -> list[tuple[keras.Variable, Decision]]:
    variables = list(model.trainable_variables)
    off = None if optimizer.weight_decay else "weight_decay is off"
    if isinstance(optimizer, FusedOptimizer):
        if optimizer.built:
            found = [optimizer.decision(variable) for variable in variables]
        else:
            found = optimizer.decide(variables, model)
        if off:
            found = [Decision(d.path, False, off if d.decayed else d.rule) for d in found]
    else:
        found = []
        for variable in variables:
            decayed = keras_seams.is_decayed_by_keras(optimizer, variable)
            rule = "" if decayed else off or "exclude_from_weight_decay"
            found.append(Decision(path_of(variable), decayed, rule))
    return list(zip(variables, found, strict=True))
