"""The plain arithmetic of a whole run in float64 NumPy: what every composition has to equal.

A net of two dense layers, its gradients by hand, one big batch a step. It knows no micro-batches,
no loss scale, no replicas, no compiled step: those must not show in the weights.
"""

import math
from dataclasses import dataclass, field

import numpy as np

DECAYED = (True, False, True, False)  # kernels decay, biases do not
EPSILON = 1e-3  # near the gradients' size, so that it shows where AdamW has it


@dataclass(frozen=True)
class Run:
    """What to compute.

    Attributes:
        rate: t -> learning rate of the update after t of them.
        adam: AdamW, or SGD with momentum.
        keras: Keras's form: epsilon beside the uncorrected root, lr inside SGD's buffer, and
            AdamW's powers as float32 has them, which alone is 3e-6 of the weights in six steps.
        decay: Decoupled weight decay.
        decay_all: Whether biases decay too.
        clip: Limit of the global norm, or None.
        smoothing: Label smoothing.
        l2: Factor of an L2 penalty on both kernels.
        ema: (decay, warmup), or None.
        swa: (start, rate or None, steps of a cycle or None), or None; no cycle: ends of epochs.
        bad_limit: Skipped steps in a row after which the run ends.
    """

    rate: object
    adam: bool = True
    keras: bool = False
    decay: float = 0.0
    decay_all: bool = False
    clip: float | None = None
    smoothing: float = 0.0
    l2: float = 0.0
    ema: tuple | None = None
    swa: tuple | None = None
    bad_limit: int = 25


@dataclass
class Result:
    """What came out.

    Attributes:
        raw: The trained weights.
        average: The average, or None where nothing was averaged.
        updates: Steps that were taken.
        rows: One dict an attempted step, with the names of the telemetry's columns.
        losses: An epoch's mean loss over the samples of its good steps.
        stopped: Whether the run ended by `bad_limit`.
    """

    raw: list
    average: list | None = None
    updates: int = 0
    rows: list = field(default_factory=list)
    losses: list = field(default_factory=list)
    stopped: bool = False


def warmup_cosine(peak, total, warmup, end):
    """t -> rate: from 0 up to `peak` at t = `warmup`, down the cosine to `end` at `total`."""

    def rate(t):
        if t < warmup:
            return peak * t / warmup
        p = min(1.0, (t - warmup) / (total - warmup))
        return end + (peak - end) * (1 + math.cos(math.pi * p)) / 2

    return rate


def loss_and_gradients(w, x, y, s, smoothing, l2):
    """Mean over the samples of s_i times the cross-entropy, plus the penalty; its gradients.

    Args:
        w: [W1, b1, W2, b2].
        x: (samples, features).
        y: Class of each sample, int (samples,).
        s: Weight of each sample (samples,). The mean divides by their count, as Keras does.
    """
    kernel1, bias1, kernel2, bias2 = w
    n, classes = len(x), len(bias2)
    hidden = np.tanh(x @ kernel1 + bias1)
    logits = hidden @ kernel2 + bias2
    logits = logits - logits.max(1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    target = (1 - smoothing) * np.eye(classes)[y] + smoothing / classes
    loss = -(s * (target * log_p).sum(1)).sum() / n
    loss += l2 * ((kernel1**2).sum() + (kernel2**2).sum())
    by_logits = s[:, None] * (np.exp(log_p) - target) / n
    by_hidden = (by_logits @ kernel2.T) * (1 - hidden**2)
    return loss, [
        x.T @ by_hidden + 2 * l2 * kernel1,
        by_hidden.sum(0),
        hidden.T @ by_logits + 2 * l2 * kernel2,
        by_logits.sum(0),
    ]


def norm(tensors):
    return math.sqrt(sum(float((t**2).sum()) for t in tensors))


class Average:
    """EMA: d a + (1 - d) w after every update. SWA: the mean at ends of cycles, or of epochs."""

    def __init__(self, run, w):
        self.ema, self.swa = run.ema, run.swa
        self.value, self.n = [v.copy() for v in w], 0

    def rate(self, t, scheduled):
        """The rate of the update after t of them: from its start on, SWA's own."""
        if self.swa is None or self.swa[1] is None or t < self.swa[0]:
            return scheduled
        start, rate, cycle = self.swa
        if cycle is None:
            return rate
        p = ((t - start) % cycle + 1) / cycle
        return (1 - p) * rate + p * rate / 100

    def after_update(self, w, t):
        """Take the weights after the t-th update, if they are due."""
        if self.ema is not None:
            decay, warmup = self.ema
            self._move(w, min(decay, (1 + self.n) / (10 + self.n)) if warmup else decay)
        elif self.swa is not None and self.swa[2] is not None:
            start, _, cycle = self.swa
            if t > start and (t - start) % cycle == 0:
                self._move(w, self.n / (self.n + 1))

    def after_epoch(self, w, t):
        """Take the weights at an epoch's end, where SWA has no cycle; t updates were made."""
        if self.swa is not None and self.swa[2] is None and t > self.swa[0]:
            self._move(w, self.n / (self.n + 1))

    def _move(self, w, c):
        self.value = [c * a + (1 - c) * v for a, v in zip(self.value, w, strict=True)]
        self.n += 1


class Optimizer:
    """AdamW or SGD with momentum, in the paper's form or in Keras's; decay is decoupled."""

    def __init__(self, run, w):
        self.run = run
        self.m = [np.zeros_like(v) for v in w]
        self.v = [np.zeros_like(v) for v in w]

    def step(self, w, g, lr, t):
        """The weights after the t-th update, t from 1."""
        run = self.run
        return [
            self._one(
                i, v * (1 - lr * run.decay) if run.decay_all or DECAYED[i] else v, g[i], lr, t
            )
            for i, v in enumerate(w)
        ]

    def _one(self, i, w, g, lr, t, b1=0.9, b2=0.999, mu=0.9):
        if not self.run.adam:
            if self.run.keras:
                self.m[i] = mu * self.m[i] - lr * g
                return w + self.m[i]
            self.m[i] = mu * self.m[i] + g
            return w - lr * self.m[i]
        self.m[i] = b1 * self.m[i] + (1 - b1) * g
        self.v[i] = b2 * self.v[i] + (1 - b2) * g * g
        if self.run.keras:
            c1, c2 = (float(np.float32(1) - np.float32(b) ** np.float32(t)) for b in (b1, b2))
            return w - lr * math.sqrt(c2) / c1 * self.m[i] / (np.sqrt(self.v[i]) + EPSILON)
        c1, c2 = 1 - b1**t, 1 - b2**t
        return w - lr * (self.m[i] / c1) / (np.sqrt(self.v[i] / c2) + EPSILON)


def train(run, weights, epochs):
    """Train.

    Args:
        run: What to compute.
        weights: [W1, b1, W2, b2] at the start.
        epochs: One list of steps an epoch; a step is (x, y, sample weights).
    """
    w = [np.asarray(v, np.float64) for v in weights]
    optimizer, average, result, bad = Optimizer(run, w), Average(run, w), Result(w), 0
    for steps in epochs:
        total, samples = 0.0, 0
        for x, y, s in steps:
            t = result.updates
            loss, g = loss_and_gradients(w, x, y, s, run.smoothing, run.l2)
            lr = average.rate(t, run.rate(t))
            size, finite, old = norm(g), math.isfinite(loss), w
            clips = run.clip is not None and size > run.clip
            if finite:
                w = optimizer.step(w, [v * run.clip / size for v in g] if clips else g, lr, t + 1)
                average.after_update(w, t + 1)
                total, samples = total + loss * len(x), samples + len(x)
            result.updates, bad = (t + 1, 0) if finite else (t, bad + 1)
            result.rows.append(
                {
                    "step": len(result.rows),
                    "learning_rate": lr,
                    "loss": loss,
                    "grad_norm": size,
                    "param_norm": norm(old),
                    "update_norm": norm([a - b for a, b in zip(w, old, strict=True)]),
                    "clipped": float(clips),
                    "overflow": float(not finite),
                    "samples": float(len(x)),
                }
            )
            result.stopped = bad >= run.bad_limit
            if result.stopped:
                break
        average.after_epoch(w, result.updates)
        result.losses.append(total / samples if samples else 0.0)
        if result.stopped:
            break
    result.raw, result.average = w, average.value if average.n else None
    return result
