"""Learning rates that go up and down: one cycle, and warm restarts."""

from __future__ import annotations

import decimal
import math

import keras
import numpy as np
import tensorflow as tf

from tfrecipes.arithmetic.schedule_base import Schedule, between, half_cosine, plus, share, warmup

# A run of 2**40 steps, 1000 a second, takes 35 years.
RESTARTS_UNTIL = 2**40


@keras.saving.register_keras_serializable(package="tfrecipes")
class OneCycle(Schedule):
    """One cosine up from `peak / initial_factor`, one cosine down to nearly zero.

        lr(t) = peak + (start - peak) * (1 + cos(pi * t / U)) / 2      t < U
        lr(t) = end + (peak - end) * (1 + cos(pi * p)) / 2             U <= t < T
        lr(t) = end                                                    T <= t
        with U = int(warmup_fraction * T)
        with start = peak / initial_factor
        with end = start / final_factor
        with p = (t - U) / (T - U)

    As `optax.cosine_onecycle_schedule`: `final_factor` divides the start, not
    the peak.  `torch.optim.lr_scheduler.OneCycleLR` has the same values but
    reaches its end one step sooner, at T - 1.  The paper moves momentum
    against the rate and goes in straight lines; here momentum stays.

    Args:
        peak_learning_rate: Rate reached at t = U, >= 0.
        total_steps: T, the step at which the cycle ends [optimizer steps], >= 1.
        warmup_fraction: Share of `total_steps` spent rising, 0 <= fraction < 1;
            U is rounded down.
        initial_factor: Peak over first rate, >= 1.
        final_factor: First over last rate, > 0; the last rate may not be above
            the peak.

    Raises:
        ValueError: If the rate is negative or not finite, `total_steps` < 1, or
            the fraction or a factor is out of range.

    Example:
        >>> lr = OneCycle(0.1, total_steps=100, warmup_fraction=0.3)
        >>> [round(float(lr(t)), 4) for t in (0, 15, 30, 65, 100, 999)]
        [0.004, 0.052, 0.1, 0.05, 0.0, 0.0]

    References:
        Smith & Topin, Super-Convergence, 2018. https://arxiv.org/abs/1708.07120
    """

    def __init__(
        self,
        peak_learning_rate: float,
        total_steps: int,
        warmup_fraction: float = 0.3,
        initial_factor: float = 25.0,
        final_factor: float = 1e4,
    ) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.total_steps = self._steps("total_steps", total_steps, least=1)
        self.warmup_fraction = self._number(
            "warmup_fraction",
            warmup_fraction,
            "a number with 0 <= fraction < 1",
            lambda x: 0 <= x < 1,
            "0.3 rises for 30 % of the steps.",
        )
        self.initial_factor = self._number(
            "initial_factor", initial_factor, "a finite number >= 1", lambda x: x >= 1, "Often 25."
        )
        self.final_factor = self._number(
            "final_factor", final_factor, "a finite number > 0", lambda x: x > 0, "Often 1e4."
        )
        if self.initial_factor * self.final_factor < 1:
            self._refuse(
                "`initial_factor` * `final_factor` must not be below 1",
                {"initial_factor": self.initial_factor, "final_factor": self.final_factor},
                "The last rate, peak / initial_factor / final_factor, would be above the peak.",
            )

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        rise_steps = int(self.warmup_fraction * self.total_steps)
        start = self.peak_learning_rate / self.initial_factor
        end = start / self.final_factor
        rising = between(start, self.peak_learning_rate, half_cosine(share(t, rise_steps)))
        left = share(-plus(t, -self.total_steps), self.total_steps - rise_steps)
        falling = between(end, self.peak_learning_rate, half_cosine(left))
        return tf.where(t < tf.constant(rise_steps, t.dtype), rising, falling)


@keras.saving.register_keras_serializable(package="tfrecipes")
class CosineRestarts(Schedule):
    """Linear warmup from zero, then cosine decays, each from a fresh start (SGDR).

        lr(t) = peak * t / W                                             t < W
        lr(t) = end + (peak * decay ** i - end) * (1 + cos(pi * p)) / 2  W <= t
        with p = (t - S) / (C * m ** i)
        and S = W + C * (1 + m + ... + m ** (i - 1)), the start of cycle i = 0, 1, ...,
        i the last cycle with S <= t

    C is `first_cycle_steps`, m is `cycle_factor`.  There is no last step: cycles
    go on.  To end at the bottom of one, train for W + C, W + C (1 + m), ... steps.
    A warmup comes once, before the first cycle.  `decay` lowers the peak, not the
    end.  The paper has no warmup and no decay of the peak.  Unlike
    `keras.optimizers.schedules.CosineDecayRestarts`, `end_learning_rate` is a
    rate, not a fraction, and the cycle is found by comparing whole numbers, not
    by a float32 logarithm that errs near a restart.

    Args:
        peak_learning_rate: Rate at the start of the first cycle, >= 0.
        first_cycle_steps: C [optimizer steps], >= 1.
        cycle_factor: m, 1 or from 1.01 up; each cycle is m times the one before.
        decay: 0 < decay <= 1; each cycle's peak is `decay` times the one before.
        warmup_steps: W [optimizer steps], >= 0. 0 disables the warmup.
        end_learning_rate: Rate towards which each cycle falls, >= 0.

    Raises:
        ValueError: If a rate is negative or not finite, `first_cycle_steps` < 1,
            `warmup_steps` < 0, or a factor is out of range.

    Example:
        >>> lr = CosineRestarts(0.1, first_cycle_steps=10, decay=0.5)
        >>> [round(float(lr(t)), 3) for t in (0, 5, 10, 20, 30)]
        [0.1, 0.05, 0.05, 0.025, 0.025]

    References:
        Loshchilov & Hutter, SGDR, 2017. https://arxiv.org/abs/1608.03983 (eq. 5)
    """

    def __init__(
        self,
        peak_learning_rate: float,
        first_cycle_steps: int,
        cycle_factor: float = 2.0,
        decay: float = 1.0,
        warmup_steps: int = 0,
        end_learning_rate: float = 0.0,
    ) -> None:
        self.peak_learning_rate = self._rate("peak_learning_rate", peak_learning_rate)
        self.first_cycle_steps = self._steps("first_cycle_steps", first_cycle_steps, least=1)
        self.cycle_factor = self._number(
            "cycle_factor",
            cycle_factor,
            "1 or a finite number >= 1.01",
            lambda x: x == 1 or x >= 1.01,
            "2.0 doubles every cycle.",
        )
        self.decay = self._number(
            "decay", decay, "a number with 0 < decay <= 1", lambda x: 0 < x <= 1, "1.0 is off."
        )
        self.warmup_steps = self._steps("warmup_steps", warmup_steps)
        self.end_learning_rate = self._rate("end_learning_rate", end_learning_rate)

    def _rate_at(self, t: tf.Tensor) -> tf.Tensor:
        after = tf.maximum(plus(t, -self.warmup_steps), tf.zeros((), t.dtype))
        cycle, left = self._equal_cycles(after) if self.cycle_factor == 1 else self._growing(after)
        # The logarithm in Python's float64: 0.999 ** i with a float32 base loses three digits.
        peak = self.peak_learning_rate * tf.exp(math.log(self.decay) * cycle)
        fallen = between(self.end_learning_rate, peak, half_cosine(left))
        return warmup(t, self.warmup_steps) * fallen

    def _equal_cycles(self, after: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        length = tf.constant(self.first_cycle_steps, after.dtype)
        cycle = after // length
        left = share(length - (after - cycle * length), self.first_cycle_steps)
        return tf.cast(cycle, tf.float32), left

    def _growing(self, after: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        ends, beyond, lengths = self._cycles()
        ends = tf.constant(ends, after.dtype)
        cycle = tf.reduce_sum(tf.cast(after[..., tf.newaxis] >= ends, tf.int32), axis=-1)
        cycle = tf.minimum(cycle, len(lengths) - 1)
        to_end = tf.cast(tf.gather(ends, cycle) - after, tf.float32) - tf.gather(beyond, cycle)
        left = tf.clip_by_value(to_end / tf.gather(lengths, cycle), 0.0, 1.0)
        return tf.cast(cycle, tf.float32), left

    def _cycles(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """For each cycle: first whole step after it, how far that is past its end, its length.

        In decimals, as the factor was written: in float64, cycles of 100 that grow
        by 1.1 would have their second end just above 210 and restart at 211.
        """
        ends, beyond, lengths = [], [], []
        with decimal.localcontext() as context:
            context.prec = 60
            factor = decimal.Decimal(repr(self.cycle_factor))
            length, end = decimal.Decimal(self.first_cycle_steps), decimal.Decimal(0)
            while end < RESTARTS_UNTIL:
                end += length
                whole = math.ceil(end)
                ends.append(min(whole, 2**62))
                beyond.append(float(whole - end))
                lengths.append(float(min(length, decimal.Decimal(2**62))))
                length *= factor
        return np.array(ends, np.int64), np.array(beyond, np.float32), np.array(lengths, np.float32)
