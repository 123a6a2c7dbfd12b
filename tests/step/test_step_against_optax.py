"""The step against optax: MultiSteps, apply_if_finite, incremental_update, and a whole run."""

import jax
import keras
import numpy as np
import optax
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.arithmetic.averaging import averaged

BATCHES, SIZE = 12, 8


def loss(params, x, y):
    """`tiny.dense_model` with its loss, on [kernel, bias, kernel, bias]."""
    logits = jax.numpy.tanh(x @ params[0] + params[1]) @ params[2] + params[3]
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()


gradient = jax.jit(jax.grad(loss))


def run(transform, params, epochs=2):
    x, y = tiny.data(BATCHES * SIZE)
    state = transform.init(params)
    update = jax.jit(transform.update)
    for _ in range(epochs):
        for i in range(BATCHES):
            part = slice(i * SIZE, (i + 1) * SIZE)
            updates, state = update(gradient(params, x[part], y[part]), state, params)
            params = optax.apply_updates(params, updates)
    return params, state


def distance(ours, theirs):
    return max(
        float(np.linalg.norm(p - q) / np.linalg.norm(q)) for p, q in zip(ours, theirs, strict=True)
    )


def decayed(params):
    return [p.ndim > 1 for p in params]


@pytest.mark.parametrize("k", [3, 4])
def test_accumulation_of_equal_batches_is_multi_steps(k):
    schedule = tfr.WarmupCosine(2e-2, 8, warmup_steps=2)
    twin = optax.warmup_cosine_decay_schedule(0.0, 2e-2, 2, 8)
    net = tiny.dense_model()
    start = net.get_weights()
    net.compile(tfr.AdamW(schedule, weight_decay=0.1, global_clipnorm=0.3), tiny.loss())
    x, y = tiny.data(BATCHES * SIZE)
    net.fit(
        x, y, batch_size=SIZE, epochs=2, shuffle=False, verbose=0,
        callbacks=[tfr.GradientAccumulation(k)],
    )  # fmt: skip
    inner = optax.chain(
        optax.clip_by_global_norm(0.3),
        optax.adamw(twin, weight_decay=0.1, mask=decayed),
    )
    theirs, state = run(optax.MultiSteps(inner, k).gradient_transformation(), start)
    assert int(net.optimizer.iterations) == int(state.gradient_step) == 2 * BATCHES // k
    # optax takes 1 - .999^t in float32, 3e-5 of the first updates.
    assert distance(net.get_weights(), theirs) < 1.2e-5


def test_a_last_partial_window_is_applied_where_multi_steps_carries_it():
    net = tiny.dense_model()
    net.compile(tfr.SGD(0.1, momentum=0.0), tiny.loss())
    start = net.get_weights()
    x, y = tiny.data(BATCHES * SIZE)
    net.fit(
        x, y, batch_size=SIZE, shuffle=False, verbose=0, callbacks=[tfr.GradientAccumulation(5)]
    )
    _, state = run(optax.MultiSteps(optax.sgd(0.1), 5).gradient_transformation(), start, epochs=1)
    assert int(net.optimizer.iterations) == 3
    assert (int(state.gradient_step), int(state.mini_step)) == (2, 2)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_skip_is_apply_if_finite(seed):
    rng = np.random.default_rng(seed)
    w = keras.Variable(rng.standard_normal((3, 4)).astype("float32"))
    params = np.array(w.numpy())
    optimizer = tfr.AdamW(1e-2, weight_decay=0.1, exclude=())
    optimizer.build([w])
    apply = tf.function(lambda g: optimizer.apply([g], [w]))
    # It accepts a bad update after so many errors in a row; ours then stops the run.
    twin = optax.apply_if_finite(optax.adamw(1e-2, weight_decay=0.1), max_consecutive_errors=999)
    state, update = twin.init(params), jax.jit(twin.update)
    for attempt in range(1, 61):
        g = rng.standard_normal((3, 4)).astype("float32")
        if rng.random() < 0.4:
            g[rng.integers(3), rng.integers(4)] = rng.choice([np.nan, np.inf, -np.inf])
        updates, state = update(g, state, params)
        params = optax.apply_updates(params, updates)
        apply(tf.constant(g))
        assert int(optimizer.iterations) == attempt - int(state.total_notfinite)
    assert int(state.total_notfinite) > 10
    assert distance([w.numpy()], [np.asarray(params)]) < 2e-6


def test_the_averages_move_is_incremental_update():
    rng = np.random.default_rng(0)
    old = [rng.standard_normal(s).astype("float32") for s in [(3,), (2, 2)]]
    new = [rng.standard_normal(s).astype("float32") for s in [(3,), (2, 2)]]
    for share in (0.0, 0.001, 0.1, 1.0):
        ours = averaged(
            [tf.constant(a) for a in old], [tf.constant(w) for w in new], tf.constant(1 - share)
        )
        theirs = optax.incremental_update(new, old, share)
        for p, q in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(p, q, rtol=1e-6, atol=1e-7)
