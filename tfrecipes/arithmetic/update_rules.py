"""The optimizers' arithmetic: lists of tensors in, lists out; in a graph, in XLA, eagerly.

Nothing here knows a variable, so that a caller may put the whole list into one compiled island,
select between old and new, and assign once. The arithmetic is in float32, or in float64 for a
float64 weight; a 16-bit weight is widened, updated, and rounded once at the end.
"""

import math
from collections.abc import Callable, Sequence

import tensorflow as tf

Slots = tuple[tf.Tensor, ...]


def adam(
    grads: Sequence[tf.Tensor | None],
    weights: Sequence[tf.Tensor],
    slots: Sequence[Slots],
    *,
    learning_rate: tf.Tensor | float,
    step: tf.Tensor | int,
    decayed: Sequence[bool],
    weight_decay: float,
    beta_1: float,
    beta_2: float,
    epsilon: float,
    amsgrad: bool = False,
) -> tuple[list[tf.Tensor], list[Slots]]:
    """One update of AdamW; with `weight_decay` 0 of Adam.

        w <- w (1 - lr wd)                        for decayed weights
        m <- b1 m + (1 - b1) g
        v <- b2 v + (1 - b2) g^2
        s <- max(s, v)                            amsgrad; else s = v
        w <- w - lr (m / c1) / (sqrt(s / c2) + epsilon)
        with c1 = 1 - b1^t, c2 = 1 - b2^t

    This is Algorithm 1 of the paper, torch and optax: epsilon stands beside the corrected root.
    Keras's Adam puts it beside sqrt(v) before the correction (the paper's "epsilon hat"), which in
    the first steps acts as an epsilon of epsilon / sqrt(c2), 32 times as large at t = 1. amsgrad
    takes the maximum of the uncorrected v, as torch and Keras do; optax corrects it first.

    Args:
        grads: Gradients; None leaves the weight and its slots as they are, undecayed.
        weights: w, each of its gradient's shape.
        slots: (m, v), or (m, v, s) with amsgrad, for every weight.
        learning_rate: lr of this update. >= 0.
        step: t, the number of this update, counted from 1 [updates].
        decayed: Whether the weight decays, for every weight.
        weight_decay: wd [share of the weight per unit of lr]. >= 0.
        beta_1: b1 in [0, 1).
        beta_2: b2 in [0, 1).
        epsilon: > 0.
        amsgrad: Whether the largest v so far is divided by.

    Returns:
        New weights and new slots, in the order and the dtypes given.

    Example:
        >>> w, s = adam([tf.constant([2.0])], [tf.constant([1.0])], [(tf.zeros(1), tf.zeros(1))],
        ...             learning_rate=0.1, step=1, decayed=[True], weight_decay=0.1,
        ...             beta_1=0.9, beta_2=0.999, epsilon=1e-8)
        >>> round(float(w[0][0]), 6)
        0.89

    References:
        Kingma & Ba, Adam, 2015. https://arxiv.org/abs/1412.6980 (Algorithm 1)
        Loshchilov & Hutter, Decoupled weight decay, 2019. https://arxiv.org/abs/1711.05101
        Reddi et al., On the convergence of Adam, 2018. https://openreview.net/pdf?id=ryQu7f-RZ
    """

    def update(g: tf.Tensor, w: tf.Tensor, slot: Slots, lr: tf.Tensor) -> tuple[tf.Tensor, Slots]:
        dtype = w.dtype
        m, v = slot[:2]
        # Not b m + (1 - b) g: float32 rounds .999 and .001 apart, and their sum is 1 + 1.3e-8,
        # which makes v 1.3e-5 too large in the long run. This form has a sum of 1.
        m = m + (g - m) * (1.0 - beta_1)
        v = v + (g * g - v) * (1.0 - beta_2)
        slot = (m, v, tf.maximum(slot[2], v)) if amsgrad else (m, v)
        root = tf.sqrt(slot[-1]) / tf.sqrt(bias_correction(beta_2, step, dtype))
        rate = lr / bias_correction(beta_1, step, dtype)
        return w - rate * (m / (root + epsilon)), slot

    return _each(update, grads, weights, slots, learning_rate, decayed, weight_decay)


def sgd(
    grads: Sequence[tf.Tensor | None],
    weights: Sequence[tf.Tensor],
    slots: Sequence[Slots],
    *,
    learning_rate: tf.Tensor | float,
    decayed: Sequence[bool],
    weight_decay: float,
    momentum: float,
    nesterov: bool = False,
) -> tuple[list[tf.Tensor], list[Slots]]:
    """One update of SGD with momentum and decoupled decay.

        w <- w (1 - lr wd)                        for decayed weights
        m <- mu m + g
        w <- w - lr m                             Nesterov: w <- w - lr (g + mu m)

    Keras folds lr into the buffer (m <- mu m - lr g, w <- w + m), so that under a schedule every
    past gradient keeps the rate of its own step. Here, as in torch and optax, a rate that falls
    makes all of the next step smaller. torch's `weight_decay` for SGD is not this one: it is added
    to the gradient.

    Args:
        grads: Gradients; None leaves the weight and its slots as they are, undecayed.
        weights: w, each of its gradient's shape.
        slots: (m,) for every weight, or () where `momentum` is 0.
        learning_rate: lr of this update. >= 0.
        decayed: Whether the weight decays, for every weight.
        weight_decay: wd [share of the weight per unit of lr]. >= 0.
        momentum: mu in [0, 1).
        nesterov: Whether to look ahead by the momentum.

    Returns:
        New weights and new slots, in the order and the dtypes given.

    Example:
        >>> w, s = sgd([tf.constant([1.0])], [tf.constant([1.0])], [(tf.constant([2.0]),)],
        ...            learning_rate=0.1, decayed=[False], weight_decay=0.0, momentum=0.5)
        >>> round(float(w[0][0]), 6), float(s[0][0][0])
        (0.8, 2.0)

    References:
        Sutskever et al., On the importance of initialization and momentum, 2013.
        https://proceedings.mlr.press/v28/sutskever13.html
    """

    def update(g: tf.Tensor, w: tf.Tensor, slot: Slots, lr: tf.Tensor) -> tuple[tf.Tensor, Slots]:
        if momentum == 0:
            return w - lr * g, slot
        m = momentum * slot[0] + g
        return w - lr * (g + momentum * m if nesterov else m), (m,)

    return _each(update, grads, weights, slots, learning_rate, decayed, weight_decay)


def bias_correction(beta: float, step: tf.Tensor | int, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """1 - beta^t, to the last digits also where beta^t is near 1.

    It is computed as -expm1(t log(beta)) with log(beta) in double precision. The power itself
    loses digits in float32: at beta .999 the result is off by up to 5.8e-6 relative, here by 5e-7.

    Args:
        beta: In [0, 1).
        step: t, counted from 1 [updates].
        dtype: Of the result.

    Returns:
        The factor by which a moment that began at zero is too small. In (0, 1].

    Example:
        >>> round(float(bias_correction(0.9, 2)), 6)
        0.19
    """
    if beta == 0:  # log(0)
        return tf.ones((), dtype)
    return -tf.math.expm1(tf.cast(step, dtype) * tf.constant(math.log(beta), dtype))


def _each(
    update: Callable[[tf.Tensor, tf.Tensor, Slots, tf.Tensor], tuple[tf.Tensor, Slots]],
    grads: Sequence[tf.Tensor | None],
    weights: Sequence[tf.Tensor],
    slots: Sequence[Slots],
    learning_rate: tf.Tensor | float,
    decayed: Sequence[bool],
    weight_decay: float,
) -> tuple[list[tf.Tensor], list[Slots]]:
    """Decay and update weight by weight, in a dtype that is wide enough, and cast back."""
    new_weights, new_slots = [], []
    for grad, weight, slot, decays in zip(grads, weights, slots, decayed, strict=True):
        if grad is None:
            new_weights.append(weight)
            new_slots.append(tuple(slot))
            continue
        wide = tf.float64 if weight.dtype == tf.float64 else tf.float32
        rate = tf.cast(learning_rate, wide)
        w = tf.cast(weight, wide)
        if decays and weight_decay:
            # Not w * (1 - lr wd): float32 rounds that factor by up to 3e-8, the same way every
            # step, which adds up; the rounding of this product has no direction.
            w = w - w * (rate * weight_decay)
        w, new = update(tf.cast(grad, wide), w, tuple(tf.cast(s, wide) for s in slot), rate)
        new_weights.append(tf.cast(w, weight.dtype))
        new_slots.append(tuple(tf.cast(n, s.dtype) for n, s in zip(new, slot, strict=True)))
    return new_weights, new_slots
