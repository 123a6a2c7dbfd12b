"""Every schedule by name; here are those that rise once and then fall all the way.

Those that stay for a while are in `plateaus`, those that rise again in `cycles`.
"""

from __future__ import annotations

import keras
import tensorflow as tf

from tfrecipes.arithmetic.cycles import CosineRestarts, OneCycle
from tfrecipes.arithmetic.plateaus import StepDecay, WarmupConstant, WarmupStableDecay
from tfrecipes.arithmetic.schedule_base import Schedule, between, half_cosine, plus, share, warmup

__all__ = [
    "CosineRestarts",
    "InverseSqrt",
    "OneCycle",
    "Polynomial",
    "StepDecay",
    "WarmupConstant",
    "WarmupCosine",
    "WarmupLinear",
    "WarmupStableDecay",
]


class _WarmupThenFall(Schedule):
    """Linear warmup to the peak at W, then a fall that ends at T.  `_fall(t)`: 1 at W, 0 at T."""

    def __init__(
        self,
        peak_learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        end_learning_rate: float = 0.0,
    ) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.total_steps = self._steps("total_steps", total_steps, least=1)
        self.warmup_steps = self._warmup_before("total_steps", self.total_steps, warmup_steps)
        self.end_learning_rate = self._rate("end_learning_rate", end_learning_rate)

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        fallen = between(self.end_learning_rate, self.peak_learning_rate, self._fall(t))
        return warmup(t, self.warmup_steps) * fallen

    def _fall(self, t: tf.Tensor) -> tf.Tensor:
        """The straight line: T - t of T - W steps are left."""
        return share(-plus(t, -self.total_steps), self.total_steps - self.warmup_steps)


@keras.saving.register_keras_serializable(package="tfrecipes")
class WarmupCosine(_WarmupThenFall):
    """Linear warmup from zero, then cosine decay to `end_learning_rate`.

        lr(t) = peak * t / W                                   t < W
        lr(t) = end + (peak - end) * (1 + cos(pi * p)) / 2     W <= t < T
        lr(t) = end                                            T <= t
        with p = (t - W) / (T - W)

    Unlike `keras.optimizers.schedules.CosineDecay`, `total_steps` includes
    the warmup and `end_learning_rate` is a rate, not a fraction of the peak.
    The paper's eq. 5 is one such decay, without the warmup.

    Args:
        peak_learning_rate: Rate reached at t = W, >= 0.
        total_steps: T, the step at which the decay ends [optimizer steps], >= 1.
        warmup_steps: W [optimizer steps], 0 <= W < T. 0 disables the warmup.
        end_learning_rate: Rate from t = T on, >= 0.

    Raises:
        ValueError: If a rate is negative or not finite, `total_steps` < 1, or
            not `0 <= warmup_steps < total_steps`.

    Example:
        >>> lr = WarmupCosine(0.1, total_steps=110, warmup_steps=10)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 60, 110, 999)]
        [0.0, 0.05, 0.1, 0.05, 0.0, 0.0]

    References:
        Loshchilov & Hutter, SGDR, 2017. https://arxiv.org/abs/1608.03983 (eq. 5)
    """

    def _fall(self, t: tf.Tensor) -> tf.Tensor:
        return half_cosine(super()._fall(t))


@keras.saving.register_keras_serializable(package="tfrecipes")
class WarmupLinear(_WarmupThenFall):
    """Linear warmup from zero, then a straight line to `end_learning_rate`.

        lr(t) = peak * t / W                     t < W
        lr(t) = peak + (end - peak) * p          W <= t < T
        lr(t) = end                              T <= t
        with p = (t - W) / (T - W)

    Args:
        peak_learning_rate: Rate reached at t = W, >= 0.
        total_steps: T, the step at which the decay ends [optimizer steps], >= 1;
            it includes the warmup.
        warmup_steps: W [optimizer steps], 0 <= W < T. 0 disables the warmup.
        end_learning_rate: Rate from t = T on, >= 0.

    Raises:
        ValueError: If a rate is negative or not finite, `total_steps` < 1, or
            not `0 <= warmup_steps < total_steps`.

    Example:
        >>> lr = WarmupLinear(0.1, total_steps=110, warmup_steps=10)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 35, 110, 999)]
        [0.0, 0.05, 0.1, 0.075, 0.0, 0.0]

    References:
        Devlin et al., BERT, 2019. https://arxiv.org/abs/1810.04805 (A.2)
    """


@keras.saving.register_keras_serializable(package="tfrecipes")
class Polynomial(_WarmupThenFall):
    """Linear warmup from zero, then a power of the share of steps that is left.

        lr(t) = peak * t / W                                t < W
        lr(t) = end + (peak - end) * (1 - p) ** power       W <= t < T
        lr(t) = end                                         T <= t
        with p = (t - W) / (T - W)

    Unlike `keras.optimizers.schedules.PolynomialDecay`, there is a warmup,
    `total_steps` includes it, and nothing cycles.

    Args:
        peak_learning_rate: Rate reached at t = W, >= 0.
        total_steps: T, the step at which the decay ends [optimizer steps], >= 1.
        warmup_steps: W [optimizer steps], 0 <= W < T. 0 disables the warmup.
        end_learning_rate: Rate from t = T on, >= 0.
        power: > 0. 1 is `WarmupLinear`; above 1 falls early, below 1 late.

    Raises:
        ValueError: If a rate is negative or not finite, `total_steps` < 1, not
            `0 <= warmup_steps < total_steps`, or `power` is not above 0.

    Example:
        >>> lr = Polynomial(0.1, total_steps=110, warmup_steps=10, power=2.0)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 60, 110, 999)]
        [0.0, 0.05, 0.1, 0.025, 0.0, 0.0]

    References:
        Chen et al., DeepLab, 2017. https://arxiv.org/abs/1606.00915 (4.3.1)
    """

    def __init__(
        self,
        peak_learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        end_learning_rate: float = 0.0,
        power: float = 1.0,
    ) -> None:
        super().__init__(peak_learning_rate, total_steps, warmup_steps, end_learning_rate)
        self.power = self._number(
            "power", power, "a finite number > 0", lambda x: x > 0, "1.0 is a straight line."
        )

    def _fall(self, t: tf.Tensor) -> tf.Tensor:
        left = super()._fall(t)
        if self.power == 1.0:
            return left
        # left ** 30 in float32 would be 2e-6 off just after the peak: log(left) loses its
        # digits near left = 1, log1p(-gone) does not.
        gone = share(plus(t, -self.warmup_steps), self.total_steps - self.warmup_steps)
        log = tf.where(gone < 0.5, tf.math.log1p(-gone), tf.math.log(left))
        return tf.exp(self.power * log)


@keras.saving.register_keras_serializable(package="tfrecipes")
class InverseSqrt(Schedule):
    """Linear warmup from zero, then a fall with the square root of the step.

        lr(t) = peak * t / W             t < W
        lr(t) = peak * sqrt(W / t)       W <= t

    The paper's rate with the peak named: its d_model ** -0.5 * W ** -0.5 is
    `peak_learning_rate` here, and step 0 has rate 0 (the paper counts from 1).

    Args:
        peak_learning_rate: Rate reached at t = W, >= 0.
        warmup_steps: W [optimizer steps], >= 1, as it also sets the pace of the fall.

    Raises:
        ValueError: If the rate is negative or not finite, or `warmup_steps` < 1.

    Example:
        >>> lr = InverseSqrt(0.1, warmup_steps=10)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 40, 1000)]
        [0.0, 0.05, 0.1, 0.05, 0.01]

    References:
        Vaswani et al., Attention Is All You Need, 2017.
        https://arxiv.org/abs/1706.03762 (eq. 3)
    """

    def __init__(self, peak_learning_rate: float, warmup_steps: int) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.warmup_steps = self._steps("warmup_steps", warmup_steps, least=1)

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        later = tf.maximum(t, tf.constant(self.warmup_steps, t.dtype))
        fallen = tf.sqrt(float(self.warmup_steps) / tf.cast(later, tf.float32))
        return self.peak_learning_rate * warmup(t, self.warmup_steps) * fallen
