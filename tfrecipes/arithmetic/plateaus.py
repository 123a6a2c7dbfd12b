"""Learning rates that stay where they are for a while: constant, steps, plateau then decay."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import keras
import tensorflow as tf

from tfrecipes.arithmetic.schedule_base import Schedule, between, half_cosine, plus, share, warmup


@keras.saving.register_keras_serializable(package="tfrecipes")
class WarmupConstant(Schedule):
    """Linear warmup from zero, then the peak for ever.

        lr(t) = peak * t / W       t < W
        lr(t) = peak               W <= t

    Args:
        peak_learning_rate: Rate reached at t = W, >= 0.
        warmup_steps: W [optimizer steps], >= 0. 0 disables the warmup.

    Raises:
        ValueError: If the rate is negative or not finite, or `warmup_steps` < 0.

    Example:
        >>> lr = WarmupConstant(0.1, warmup_steps=10)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 999)]
        [0.0, 0.05, 0.1, 0.1]

    References:
        Goyal et al., Accurate, Large Minibatch SGD, 2017.
        https://arxiv.org/abs/1706.02677 (2.2)
    """

    def __init__(self, peak_learning_rate: float, warmup_steps: int = 0) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.warmup_steps = self._steps("warmup_steps", warmup_steps)

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        return self.peak_learning_rate * warmup(t, self.warmup_steps)


@keras.saving.register_keras_serializable(package="tfrecipes")
class StepDecay(Schedule):
    """Linear warmup from zero, then the peak, times `factor` from each boundary on.

        lr(t) = peak * t / W               t < W
        lr(t) = peak * factor ** k         W <= t
        with k = sum(b <= t for b in boundaries)

    Unlike `keras.optimizers.schedules.PiecewiseConstantDecay`, the new rate
    holds at t = boundary already, not one step later.

    Args:
        peak_learning_rate: Rate reached at t = W, >= 0.
        boundaries: Rising steps, counted from 0, the warmup included
            [optimizer steps].
        factor: 0 < factor <= 1.
        warmup_steps: W [optimizer steps], 0 <= W <= first boundary. 0 disables
            the warmup.

    Raises:
        ValueError: If the rate is negative or not finite, the boundaries do not
            rise, the warmup goes past the first, or `factor` is out of range.

    Example:
        >>> lr = StepDecay(0.1, boundaries=[60, 90], factor=0.1, warmup_steps=10)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 59, 60, 90, 999)]
        [0.0, 0.05, 0.1, 0.1, 0.01, 0.001, 0.001]

    References:
        He et al., Deep Residual Learning, 2015. https://arxiv.org/abs/1512.03385 (3.4)
    """

    def __init__(
        self,
        peak_learning_rate: float,
        boundaries: Iterable[int],
        factor: float = 0.1,
        warmup_steps: int = 0,
    ) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.boundaries = self._rising(boundaries)
        self.factor = self._number(
            "factor", factor, "a number with 0 < factor <= 1", lambda x: 0 < x <= 1, "Often 0.1."
        )
        self.warmup_steps = self._steps("warmup_steps", warmup_steps)
        if self.boundaries and self.warmup_steps > self.boundaries[0]:
            self._refuse(
                "`warmup_steps` must not be above the first boundary",
                {"warmup_steps": self.warmup_steps, "boundaries": list(self.boundaries)},
                "Shorten the warmup: boundaries count from step 0.",
            )

    def _rising(self, boundaries: Any) -> tuple[int, ...]:
        advice = "Give rising steps, such as [3000, 6000]."
        if isinstance(boundaries, (str, bytes)) or not isinstance(boundaries, Iterable):
            self._refuse("`boundaries` must be a list of steps", {"boundaries": boundaries}, advice)
        steps = tuple(
            self._steps(f"boundaries[{i}]", boundary) for i, boundary in enumerate(boundaries)
        )
        if any(after <= before for before, after in itertools.pairwise(steps)):
            self._refuse("`boundaries` must rise", {"boundaries": list(steps)}, advice)
        return steps

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        # Powers in Python's float64: factor ** k in float32 would drift with k.
        rates = [self.peak_learning_rate * self.factor**k for k in range(len(self.boundaries) + 1)]
        passed = t[..., tf.newaxis] >= tf.constant(self.boundaries, t.dtype)
        stage = tf.reduce_sum(tf.cast(passed, tf.int32), axis=-1)
        return warmup(t, self.warmup_steps) * tf.gather(tf.constant(rates, tf.float32), stage)


@keras.saving.register_keras_serializable(package="tfrecipes")
class WarmupStableDecay(Schedule):
    """Linear warmup from zero, a plateau at the peak, then a short decay (WSD).

        lr(t) = peak * t / W                     t < W
        lr(t) = peak                             W <= t < T - D
        lr(t) = end + (peak - end) * f           T - D <= t < T
        lr(t) = end                              T <= t
        with p = (t - (T - D)) / D
        with f = {"1-sqrt": 1 - sqrt(p), "linear": 1 - p, "cosine": (1 + cos(pi * p)) / 2}[shape]

    The plateau needs no end in advance: train on from any step of it with a
    longer `total_steps`.  "1-sqrt" is the shape that the paper found best.

    Args:
        peak_learning_rate: Rate of the plateau, >= 0.
        total_steps: T, the step at which the decay ends [optimizer steps], >= 1;
            it includes warmup and decay.
        warmup_steps: W [optimizer steps], 0 <= W < T. 0 disables the warmup.
        decay_steps: D [optimizer steps], 0 <= D <= T - W. None takes a tenth of
            `total_steps`, rounded, at least 1. 0 drops to the end rate at T.
        end_learning_rate: Rate from t = T on, >= 0.
        shape: "1-sqrt", "linear" or "cosine".

    Raises:
        ValueError: If a rate is negative or not finite, `total_steps` < 1,
            warmup plus decay are longer than the total, or `shape` is unknown.

    Example:
        >>> lr = WarmupStableDecay(0.1, total_steps=100, warmup_steps=10, decay_steps=20)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 80, 85, 100, 999)]
        [0.0, 0.05, 0.1, 0.1, 0.05, 0.0, 0.0]

    References:
        Hägele et al., Scaling Laws and Compute-Optimal Training Beyond Fixed
        Training Durations, 2024. https://arxiv.org/abs/2405.18392 (eq. 1, 2)
    """

    SHAPES = ("1-sqrt", "linear", "cosine")

    def __init__(
        self,
        peak_learning_rate: float,
        total_steps: int,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        end_learning_rate: float = 0.0,
        shape: str = "1-sqrt",
    ) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.total_steps = self._steps("total_steps", total_steps, least=1)
        self.warmup_steps = self._warmup_before("total_steps", self.total_steps, warmup_steps)
        if decay_steps is None:
            decay_steps = max(1, round(self.total_steps / 10))
        self.decay_steps = self._steps("decay_steps", decay_steps)
        if self.warmup_steps + self.decay_steps > self.total_steps:
            self._refuse(
                "`warmup_steps` + `decay_steps` must not be above `total_steps`",
                {
                    "warmup_steps": self.warmup_steps,
                    "decay_steps": self.decay_steps,
                    "total_steps": self.total_steps,
                },
                "Shorten one of the two: the total includes both.",
            )
        self.end_learning_rate = self._rate("end_learning_rate", end_learning_rate)
        if not (isinstance(shape, str) and shape in self.SHAPES):
            self._refuse(
                "`shape` must be one of " + ", ".join(map(repr, self.SHAPES)),
                {"shape": shape},
                "'1-sqrt' is the default.",
            )
        self.shape = shape

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        left = share(-plus(t, -self.total_steps), self.decay_steps)
        if self.shape == "cosine":
            left = half_cosine(left)
        elif self.shape == "1-sqrt":
            # (1 - p) / (1 + sqrt(p)) is 1 - sqrt(p) without the cancellation near the end.
            gone = share(plus(t, self.decay_steps - self.total_steps), self.decay_steps)
            left = left / (1.0 + tf.sqrt(gone))
        fallen = between(self.end_learning_rate, self.peak_learning_rate, left)
        return warmup(t, self.warmup_steps) * fallen
