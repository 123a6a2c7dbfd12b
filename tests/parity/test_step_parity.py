"""The whole step against torch: clip, scaler, averages, and fifty updates with everything on."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tfrecipes.arithmetic import norms
from tfrecipes.step.installed import step_of

torch = pytest.importorskip("torch")
timm_ema = pytest.importorskip("timm.utils.model_ema")


# ----------------------------------------------------------------------------------------- twins


class Twin(torch.nn.Module):
    """`tiny.dense_model`, or with `norm` the same with BatchNorm, from a Keras net's weights."""

    def __init__(self, net, norm=False):
        super().__init__()
        self.hidden = torch.nn.Linear(tiny.FEATURES, 16)
        # Keras: moving = momentum * moving + (1 - momentum) * batch; torch: the other way round.
        self.norm = torch.nn.BatchNorm1d(16, eps=1e-3, momentum=0.1) if norm else None
        self.logits = torch.nn.Linear(16, tiny.CLASSES)
        with torch.no_grad():
            for name in ("hidden", "logits"):
                kernel, bias = net.get_layer(name).get_weights()
                getattr(self, name).weight.copy_(torch.tensor(kernel.T))
                getattr(self, name).bias.copy_(torch.tensor(bias))

    def forward(self, x):
        x = self.hidden(x)
        return self.logits(torch.tanh(x if self.norm is None else self.norm(x)))

    def as_keras(self):
        """Weights as the Keras net has them: kernels transposed, BatchNorm between."""
        state = {k: v.detach().numpy() for k, v in self.state_dict().items()}
        norm = [state[f"norm.{k}"] for k in ("weight", "bias")] if self.norm is not None else []
        moving = [state[f"norm.running_{k}"] for k in ("mean", "var")] if norm else []
        return [
            state["hidden.weight"].T, state["hidden.bias"], *norm, *moving,
            state["logits.weight"].T, state["logits.bias"],
        ]  # fmt: skip


def norm_model():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((tiny.FEATURES,))
    x = keras.layers.Dense(16, name="hidden")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.9, name="norm")(x)
    x = keras.layers.Activation("tanh")(x)
    return keras.Model(inputs, keras.layers.Dense(tiny.CLASSES, name="logits")(x))


def batches(x, y, size):
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        yield torch.tensor(x[part]), torch.tensor(y[part]).long()


def distance(ours, theirs):
    """Largest |p - q| / |q|; a bias before BatchNorm is 0 but for rounding, hence the floor."""
    return max(
        float(np.linalg.norm(p - q) / max(np.linalg.norm(q), 1e-2))
        for p, q in zip(ours, theirs, strict=True)
    )


# ------------------------------------------------------------------------------------------ clip


@pytest.mark.parametrize("limit", [0.3, 1.0, 1e4])
def test_the_clip_is_clip_grad_norm(limit):
    rng = np.random.default_rng(0)
    grads = [(3 * rng.standard_normal(s)).astype("float32") for s in [(4,), (3, 5), (2, 2, 2)]]
    parameters = [torch.nn.Parameter(torch.zeros(g.shape)) for g in grads]
    for parameter, g in zip(parameters, grads, strict=True):
        parameter.grad = torch.tensor(g)
    total = torch.nn.utils.clip_grad_norm_(parameters, limit)
    norm = norms.global_norm([tf.constant(g) for g in grads])
    assert float(norm) == pytest.approx(float(total), rel=1e-6)
    ours = norms.scaled([tf.constant(g) for g in grads], norms.clip_factor(norm, limit))
    for have, parameter in zip(ours, parameters, strict=True):
        # torch divides by norm + 1e-6: here 7e-8 of 14
        np.testing.assert_allclose(have, parameter.grad.numpy(), rtol=5e-7)


def test_a_gradient_of_norm_0_is_no_division_by_0_in_either():
    parameter = torch.nn.Parameter(torch.zeros(3))
    parameter.grad = torch.zeros(3)
    torch.nn.utils.clip_grad_norm_([parameter], 1.0)
    ours = norms.scaled([tf.zeros(3)], norms.clip_factor(tf.constant(0.0), 1.0))
    assert ours[0].numpy().tolist() == parameter.grad.tolist() == [0, 0, 0]


# ------------------------------------------------------------------------------------- loss scale


@pytest.mark.parametrize("growth", [1, 3])
def test_the_loss_scale_decides_as_grad_scaler(growth):
    """The same skips, scales and weights over 150 random steps; floor and ceiling are ours alone."""
    rng = np.random.default_rng(growth)
    start = 2.0**12
    p = torch.nn.Parameter(torch.zeros(4))
    sgd = torch.optim.SGD([p], lr=0.125)
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=start, growth_factor=2.0, backoff_factor=0.5, growth_interval=growth
    )
    w = keras.Variable(np.zeros(4, "float32"))
    optimizer = tfr.LossScaleOptimizer(
        tfr.SGD(0.125, momentum=0.0), initial_scale=start, dynamic_growth_steps=growth
    )
    optimizer.build([w])
    apply = tf.function(lambda g: optimizer.apply([g], [w]))
    scale, skipped = start, 0
    for _ in range(150):
        g = rng.standard_normal(4).astype("float32")
        # Pushed back to the middle, so that no walk meets a bound.
        bad = rng.random() < (0.8 if scale > start else 0.1)
        if bad:
            g[rng.integers(4)] = rng.choice([np.inf, -np.inf, np.nan])
        scaled = g * np.float32(scale)
        scaler.scale(torch.zeros(()))
        p.grad = torch.tensor(scaled)
        scaler.step(sgd)
        scaler.update()
        apply(tf.constant(scaled))
        skipped += bad
        assert scaler.get_scale() == float(optimizer.dynamic_scale)
        scale = scaler.get_scale()
        assert 1 < scale < 2**24
        np.testing.assert_array_equal(w.numpy(), p.detach().numpy())
    assert int(optimizer.overflow_count) == skipped > 20
    assert int(optimizer.iterations) == 150 - skipped


# ------------------------------------------------------------------------------------ whole steps


@pytest.mark.parametrize("callbacks", [[], [tfr.MicroBatch(7)]], ids=["whole", "micro"])
def test_fifty_updates_with_clip_decay_and_exclusion_are_torchs(callbacks):
    x, y = tiny.data(160)
    net = tiny.dense_model()
    twin = Twin(net)
    schedule = tfr.WarmupCosine(2e-2, 50, warmup_steps=5)
    rates = [float(schedule(t)) for t in range(50)]
    net.compile(tfr.AdamW(schedule, weight_decay=0.1, global_clipnorm=0.5), tiny.loss())
    monitor = tfr.Monitor()
    history = net.fit(
        x, y, batch_size=32, epochs=10, shuffle=False, verbose=0, callbacks=[monitor, *callbacks]
    ).history
    decayed = [q for n, q in twin.named_parameters() if not n.endswith("bias")]
    rest = [q for n, q in twin.named_parameters() if n.endswith("bias")]
    adamw = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    )
    step, clipped, losses, norm = 0, 0, [], None
    for _ in range(10):
        seen = []
        for xb, yb in batches(x, y, 32):
            for group in adamw.param_groups:
                group["lr"] = rates[step]
            adamw.zero_grad()
            loss = torch.nn.functional.cross_entropy(twin(xb), yb)
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
            clipped += float(norm) > 0.5
            adamw.step()
            seen.append(loss.item())
            step += 1
        losses.append(np.mean(seen))
    assert clipped > 3
    # Measured 5e-7; torch's clip divides by norm + 1e-6.
    assert distance(net.get_weights(), twin.as_keras()) < 2e-6
    np.testing.assert_allclose(history["loss"], losses, rtol=1e-5)
    assert history["grad_norm"][-1] == pytest.approx(float(norm), rel=1e-4)


# --------------------------------------------------------------------------------------- averages


def test_ema_without_warmup_is_timms_model_ema_v3_with_batch_norm_along():
    x, y = tiny.data(96)
    net = norm_model()
    twin = Twin(net, norm=True)
    ema = timm_ema.ModelEmaV3(twin, decay=0.9, use_warmup=False)
    net.compile(tfr.SGD(0.1, momentum=0.0), tiny.loss())
    callbacks = [tfr.EMA(0.9, warmup=False)]
    net.fit(x, y, batch_size=32, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1)
    for _ in range(4):
        for xb, yb in batches(x, y, 32):
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(twin(xb), yb).backward()
            sgd.step()
            _biased(twin.norm, len(xb))
            ema.update(twin)
    # The model holds the average. Measured 7e-7: float32 through BatchNorm and 12 steps.
    assert distance(net.get_weights(), ema.module.as_keras()) < 3e-6


def _biased(norm, samples):
    """torch moves its running variance by the unbiased one, n / (n - 1) times Keras's."""
    previous = getattr(norm, "before", torch.ones_like(norm.running_var))
    batch = (norm.running_var - 0.9 * previous) / 0.1
    norm.running_var.copy_(0.9 * previous + 0.1 * batch * (samples - 1) / samples)
    norm.before = norm.running_var.clone()


@pytest.mark.parametrize("size", [32, 40], ids=["equal batches", "ragged last batch"])
def test_swa_is_torchs_averaged_model_swalr_and_update_bn(size):
    """Comparable: averages at epoch ends, SWALR without annealing, update_bn's plain mean.

    Not comparable: SWALR's annealing (our rate is constant from the start on), and the unbiased
    variance that torch keeps in BatchNorm.
    """
    x, y = tiny.data(96)
    net = norm_model()
    twin = Twin(net, norm=True)
    net.compile(tfr.SGD(0.1, momentum=0.9), tiny.loss())
    net.fit(
        x, y, batch_size=size, epochs=5, shuffle=False, verbose=0,
        callbacks=[tfr.SWA(start="2ep", learning_rate=0.03)],
    )  # fmt: skip
    sgd = torch.optim.SGD(twin.parameters(), lr=0.1, momentum=0.9)
    averaged = torch.optim.swa_utils.AveragedModel(twin)
    scheduler = None
    for epoch in range(5):
        if epoch == 2:
            scheduler = torch.optim.swa_utils.SWALR(sgd, swa_lr=0.03, anneal_epochs=0)
        for xb, yb in batches(x, y, size):
            sgd.zero_grad()
            torch.nn.functional.cross_entropy(twin(xb), yb).backward()
            sgd.step()
        if epoch >= 2:
            averaged.update_parameters(twin)
            scheduler.step()
            assert sgd.param_groups[0]["lr"] == 0.03
    assert int(averaged.n_averaged) == int(step_of(net).state.averaged) == 3
    torch.optim.swa_utils.update_bn(list(batches(x, y, size)), averaged)
    theirs = averaged.module.as_keras()
    ours = net.get_weights()
    # Unbiased means of batches of n: mean of v n / (n - 1). Undone batch by batch only where all
    # are of one size; else the variance is compared by the law itself.
    if len(x) % size == 0:
        theirs[5] = theirs[5] * (size - 1) / size
    else:
        hidden = [x[i : i + size] @ ours[0] + ours[1] for i in range(0, len(x), size)]
        unbiased = np.mean([h.var(0, ddof=1) for h in hidden], 0)
        np.testing.assert_allclose(theirs[5], unbiased, rtol=1e-3)
        theirs[5] = np.mean([h.var(0) for h in hidden], 0)
    assert distance(ours, theirs) < 1e-5  # measured 3e-6: momentum through BatchNorm, 15 steps


def test_swas_running_mean_is_averaged_models_on_one_trajectory():
    rng = np.random.default_rng(0)
    points = rng.standard_normal((6, 3, 2)).astype("float32")
    layer = torch.nn.Linear(2, 3, bias=False)
    averaged = torch.optim.swa_utils.AveragedModel(layer)
    from tfrecipes.arithmetic.averaging import averaged as move
    from tfrecipes.arithmetic.averaging import mean_coefficient

    ours = [tf.zeros((3, 2))]
    for n, point in enumerate(points):
        with torch.no_grad():
            layer.weight.copy_(torch.tensor(point))
        averaged.update_parameters(layer)
        ours = move(ours, [tf.constant(point)], mean_coefficient(tf.constant(n)))
        theirs = averaged.module.weight.detach().numpy()
        np.testing.assert_allclose(ours[0], theirs, rtol=1e-6, atol=1e-7)
