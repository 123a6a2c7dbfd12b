"""The optimizers, through `apply`, against torch.optim over 200 steps."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import keras  # noqa: E402
import tensorflow as tf  # noqa: E402

from tfrecipes.step.optimizers import SGD, Adam, AdamW  # noqa: E402

SHAPES = [(1,), (7,), (5, 3), (2, 3, 4), (3, 3, 2, 5)]
STEPS = 200
WITHOUT_DECAY, WITH_DECAY = 2e-6, 1.2e-5  # relative to a tensor's norm


def warmup_cosine(t):
    """The rate at iteration t, from 0."""
    return 2e-2 * (t / 20 if t < 20 else (1 + math.cos(math.pi * (t - 20) / 180)) / 2)


@keras.saving.register_keras_serializable(package="tests")
class Table(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that reads the very numbers torch is given."""

    def __init__(self, rates):
        self.rates = rates

    def __call__(self, step):
        return tf.gather(tf.constant(self.rates, tf.float32), tf.cast(step, tf.int64))


RATES = {"constant": [1e-2] * STEPS, "scheduled": [warmup_cosine(t) for t in range(STEPS)]}


def draw(scale: float):
    generator = np.random.default_rng(0)
    weights = [generator.normal(size=shape).astype("float32") for shape in SHAPES]
    grads = [
        [(scale * generator.normal(size=shape)).astype("float32") for shape in SHAPES]
        for _ in range(STEPS)
    ]
    return weights, grads


def run_torch(make, weights, grads, rates, shrink=0.0):
    parameters = [torch.nn.Parameter(torch.tensor(w)) for w in weights]
    optimizer = make(parameters)
    for rate, step in zip(rates, grads, strict=True):
        for group in optimizer.param_groups:
            group["lr"] = rate
        for parameter, g in zip(parameters, step, strict=True):
            if shrink:  # torch's SGD has no decoupled decay
                parameter.data.mul_(1 - rate * shrink)
            parameter.grad = torch.tensor(g)
        optimizer.step()
    return [p.detach().numpy().astype("float64") for p in parameters]


def run_ours(optimizer, weights, grads):
    variables = [keras.Variable(w) for w in weights]
    optimizer.build(variables)

    @tf.function
    def apply(step):
        optimizer.apply(step, variables)

    for step in grads:
        apply([tf.constant(g) for g in step])
    assert int(optimizer.iterations) == len(grads)
    return [v.numpy() for v in variables]


def distance(ours, theirs) -> float:
    return max(
        float(np.linalg.norm(a.astype("float64") - b) / np.linalg.norm(b))
        for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("amsgrad", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_adamw_equals_torch_over_200_steps(rates, amsgrad, decay, scale):
    weights, grads = draw(scale)
    theirs = run_torch(
        lambda p: torch.optim.AdamW(p, weight_decay=decay, amsgrad=amsgrad),
        weights, grads, RATES[rates],
    )  # fmt: skip
    ours = run_ours(
        AdamW(Table(RATES[rates]), weight_decay=decay, amsgrad=amsgrad, exclude=()), weights, grads
    )
    assert distance(ours, theirs) < (WITH_DECAY if decay else WITHOUT_DECAY)


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize("scale", [1.0, 1e-8])
def test_adam_equals_torch_over_200_steps(rates, scale):
    weights, grads = draw(scale)
    theirs = run_torch(lambda p: torch.optim.Adam(p), weights, grads, RATES[rates])
    ours = run_ours(Adam(Table(RATES[rates]), epsilon=1e-8), weights, grads)
    assert distance(ours, theirs) < WITHOUT_DECAY


@pytest.mark.parametrize("rates", RATES)
@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True)])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_sgd_equals_torch_over_200_steps(rates, momentum, nesterov, decay):
    weights, grads = draw(1.0)
    theirs = run_torch(
        lambda p: torch.optim.SGD(p, lr=1.0, momentum=momentum, nesterov=nesterov),
        weights, grads, RATES[rates], shrink=decay,
    )  # fmt: skip
    optimizer = SGD(
        Table(RATES[rates]), momentum=momentum, nesterov=nesterov, weight_decay=decay, exclude=()
    )
    ours = run_ours(optimizer, weights, grads)
    assert distance(ours, theirs) < (WITH_DECAY if decay else WITHOUT_DECAY)


@pytest.mark.xfail(strict=True, reason="Keras folds the rate into the momentum buffer")
def test_keras_sgd_equals_torch_under_a_schedule():
    weights, grads = draw(1.0)
    rates = RATES["scheduled"]
    theirs = run_torch(lambda p: torch.optim.SGD(p, lr=1.0, momentum=0.9), weights, grads, rates)
    ours = run_ours(keras.optimizers.SGD(Table(rates), momentum=0.9), weights, grads)
    assert distance(ours, theirs) < WITHOUT_DECAY


@pytest.mark.xfail(strict=True, reason="Keras's epsilon stands before the bias correction")
def test_keras_adam_equals_torch_where_gradients_are_as_small_as_epsilon():
    weights, grads = draw(1e-8)
    rates = RATES["constant"]
    theirs = run_torch(lambda p: torch.optim.Adam(p), weights, grads, rates)
    ours = run_ours(keras.optimizers.Adam(Table(rates), epsilon=1e-8), weights, grads)
    assert distance(ours, theirs) < WITHOUT_DECAY
