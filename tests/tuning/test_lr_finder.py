"""find_learning_rate: what it answers, what it leaves as it was, on whatever it is given."""

import json
import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfrecipes as tfr
from tests import tiny
from tests.strategies import mirrored
from tfrecipes.tuning.sweep import SweepCallback
from tfrecipes.views.sweeps import plot_sweep


def find(net, data=None, recipe=None, **arguments):
    given = {"verbose": 0, "sweeps": 2, "steps": 20} | arguments
    return tfr.find_learning_rate(net, tiny.data() if data is None else data, recipe, **given)


def compiled(optimizer=None, **arguments):
    net = tiny.model()
    net.compile(optimizer or keras.optimizers.SGD(0.1, momentum=0.9), tiny.loss(), **arguments)
    return net


def recipe(**changes):
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    return tfr.Recipe.load("default").replace(**{"train.batch_size": 32, **keys})


# -- the answer ----------------------------------------------------------------------------------


def quadratic_data():
    """Noise-free regression whose largest stable rate of plain SGD is known: 2 / eigenvalue."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((256, 4)).astype("float32")
    return x, x @ np.array([[1.0], [-2.0], [0.5], [3.0]], "float32")


def test_the_suggestion_lies_below_the_largest_stable_rate_and_not_far():
    x, y = quadratic_data()
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    net.compile(keras.optimizers.SGD(0.1), "mse")
    stable = 2 / np.linalg.eigvalsh(2 * x.T @ x / len(x)).max()
    found = find(net, (x, y), sweeps=3, steps=40, batch_size=256)
    assert stable / 30 < found.suggestion < stable
    assert found.interval[0] <= found.suggestion <= found.interval[1]
    assert not found.warning


def test_the_result_has_the_promised_form(tmp_path):
    found = find(compiled(), sweeps=2, steps=24)
    assert found.learning_rates.shape == (24,)
    assert (np.diff(found.learning_rates) > 0).all()
    assert found.learning_rates[-1] / found.learning_rates[0] >= 1000
    assert found.losses.shape == (2, 24)
    assert found.rules.keys() == {"steepest", "valley", "lowest", "rise"}
    found.plot(tmp_path / "found.png")
    assert (tmp_path / "found.png").read_bytes()[:4] == b"\x89PNG"
    assert json.loads(json.dumps(found.as_dict()))["suggestion"] == found.suggestion
    assert f"{found.suggestion:.2g}" in str(found)


def test_losses_are_those_of_plain_training_at_the_rising_rates():
    """Stock Keras's train_on_batch at the same rates, batch by batch, is the reference."""
    x, y = tiny.data()
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)
    net = tiny.dense_model()
    net.compile(keras.optimizers.SGD(0.1, momentum=0.9), tiny.loss())
    found = find(net, data, sweeps=1, low=1e-3, high=1.0)
    reference = tiny.dense_model()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    reference.compile(optimizer, tiny.loss())
    batches = iter(data.repeat())
    for rate, loss in zip(found.learning_rates, found.losses[0], strict=True):
        optimizer.learning_rate = rate
        reference.reset_metrics()
        expected = reference.train_on_batch(*next(batches))
        np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_a_linear_scale_has_even_steps():
    found = find(compiled(), scale="linear")
    np.testing.assert_allclose(np.diff(found.learning_rates, n=2), 0, atol=1e-9)


def test_sweeps_differ_by_their_order_and_a_seed_repeats_them():
    first, again, other = (find(compiled(), seed=seed) for seed in (0, 0, 5))
    np.testing.assert_array_equal(first.losses, again.losses)
    assert (first.losses[0] != first.losses[1]).any()
    assert (first.losses != other.losses).any()


def test_after_a_divergence_there_is_nan():
    found = find(compiled(), low=1e-2, high=1e6)
    assert np.isnan(found.losses[:, -1]).all()
    assert np.isfinite(found.losses[:, 0]).all()
    assert found.suggestion < 10


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_range_moves_to_where_the_loss_rises(factor):
    """Inputs a million times larger or smaller move the best rate of SGD by a trillion."""
    x, y = quadratic_data()
    net = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1, use_bias=False)])
    net.compile(keras.optimizers.SGD(0.1), "mse")
    net.set_weights([np.zeros((4, 1))])
    found = find(net, (x * np.sqrt(factor), y), sweeps=1, steps=26, batch_size=256)
    stable = 2 / np.linalg.eigvalsh(2 * x.T @ x / len(x)).max() / factor
    assert stable / 30 < found.suggestion < stable


def test_it_says_when_it_cannot_tell():
    x, y = tiny.data()
    net = tiny.dense_model()
    net.compile("sgd", tiny.loss())
    found = find(net, (np.zeros_like(x), np.arange(len(y)) % tiny.CLASSES), sweeps=3, steps=30)
    assert "check the data" in found.warning
    assert found.warning in str(found)
    assert found.learning_rates[-1] == pytest.approx(10)  # and not from where nobody looks


# -- what it leaves as it was ----------------------------------------------------------------------


RARE = ("RMSprop", "AdamW", "Adadelta", "Adagrad", "Adamax", "Nadam", "Ftrl", "Lion", "Lamb")
OPTIMIZERS = [
    keras.optimizers.SGD,
    keras.optimizers.Adam,
    keras.optimizers.Adafactor,
    keras.optimizers.Muon,
    tfr.AdamW,
    tfr.Adam,
    tfr.SGD,
    *[pytest.param(getattr(keras.optimizers, name), marks=pytest.mark.slow) for name in RARE],
]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: one.__module__[:5] + one.__name__)
def test_every_optimizer_is_swept_and_left_alone(optimizer):
    net = compiled(optimizer(learning_rate=1e-3))
    x, y = tiny.data()
    net.fit(x, y, verbose=0)
    weights, moments = tiny.weights(net), [np.array(v) for v in net.optimizer.variables]
    own = net.optimizer
    found = find(net, sweeps=1)
    assert np.isfinite(found.losses[0, :5]).all()
    assert len(set(found.losses[0, np.isfinite(found.losses[0])])) > 3
    assert net.optimizer is own
    for before, after in zip(weights, tiny.weights(net), strict=True):
        np.testing.assert_array_equal(before, after)
    for before, after in zip(moments, own.variables, strict=True):
        np.testing.assert_array_equal(before, np.array(after))


CASES = {
    "float16": {"step__precision": "float16"},
    "micro-batches": {"step__micro_batch": 8},
    "parts": {"step__gradient_accumulation_steps": 4},
    "sgd": {"optimizer__name": "sgd"},
    "swa": {"ema": None, "swa": {"start": "50%"}},
    "no clip": {"step__global_clipnorm": None},
}


@pytest.mark.parametrize("case", CASES)
def test_every_recipe_is_swept_and_nothing_stays(case):
    made = []

    def make():
        made.append(tiny.model())
        made.append(tiny.weights(made[0]))
        return made[0]

    found = find(make, recipe=recipe(**CASES[case]))
    assert np.isfinite(found.losses[:, :5]).all()
    net, before = made
    for old, new in zip(before, tiny.weights(net), strict=True):
        np.testing.assert_array_equal(old, new)
    assert "optimizer" not in net.__dict__


def test_training_after_it_is_training_without_it(tmp_path):
    results = []
    for sweeps in (0, 2):
        net = tiny.model()
        if sweeps:
            find(net, recipe=recipe(), sweeps=sweeps)
        recipe(train__epochs=2, step__jit=False, resume__every=None).fit(
            net, tiny.data(), directory=tmp_path / str(sweeps), verbose=0
        )
        results.append(tiny.weights(net))
    for a, b in zip(*results, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("how", ["raises", "is interrupted"])
def test_a_sweep_that_breaks_off_leaves_nothing(monkeypatch, how):
    net = compiled()
    net.fit(*tiny.data(), verbose=0)
    before, optimizer = tiny.weights(net), [np.array(v) for v in net.optimizer.variables]
    note = SweepCallback._note

    def broken(self, loss):
        if len(self.losses) == 12 and how == "raises":
            raise RuntimeError("the disk is full")
        if len(self.losses) == 12:
            os.kill(os.getpid(), signal.SIGINT)
        note(self, loss)

    monkeypatch.setattr(SweepCallback, "_note", broken)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises((RuntimeError, KeyboardInterrupt)):
            find(net)
    finally:
        signal.signal(signal.SIGINT, handler)
    for old, new in zip(before, tiny.weights(net), strict=True):
        np.testing.assert_array_equal(old, new)
    for old, new in zip(optimizer, net.optimizer.variables, strict=True):
        np.testing.assert_array_equal(old, np.array(new))
    assert net.stop_training is False
    net.fit(*tiny.data(), verbose=0)


def test_two_replicas_sweep_as_one_does():
    losses = []
    for strategy in (None, mirrored()):
        if strategy is None:
            net = tiny.dense_model()
        else:
            with strategy.scope():
                net = tiny.dense_model()
        before = tiny.weights(net)
        found = find(net, recipe=recipe(), low=1e-3, high=1.0)
        for old, new in zip(before, tiny.weights(net), strict=True):
            np.testing.assert_array_equal(old, new)
        losses.append(found.losses)
    np.testing.assert_allclose(*losses, rtol=1e-4)


# -- what it is given ------------------------------------------------------------------------------


class Pairs(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        x, y = tiny.data()
        return x[index * 32 :][:32], y[index * 32 :][:32]


def test_streams_are_read_and_their_order_stays():
    x, y = tiny.data()
    orders = []
    for sweeps in (0, 2):
        data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(96, seed=3).batch(32)
        if sweeps:
            find(compiled(), data, sweeps=sweeps)
        orders.append([labels.tolist() for _ in range(2) for _, labels in data.as_numpy_iterator()])
    assert orders[0] == orders[1]


def test_a_pydataset_is_swept():
    assert np.isfinite(find(compiled(), Pairs()).losses[:, :5]).all()


class OwnStep(keras.Model):
    """A model with a train_step of its own, as a VAE of the guides has one."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.dense = keras.layers.Dense(tiny.CLASSES)
        self.tracker = keras.metrics.Mean(name="loss")

    def call(self, x):
        return self.dense(x)

    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = tiny.loss()(y, self(x, training=True))
        self.optimizer.apply_gradients(
            zip(
                tape.gradient(loss, self.trainable_variables), self.trainable_variables, strict=True
            )
        )
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def test_a_model_with_its_own_train_step_is_swept():
    net = OwnStep()
    net.compile(keras.optimizers.SGD(0.1))
    found = find(net, low=1e-3, high=1e5)
    assert np.isfinite(found.losses[:, :5]).all()
    assert found.losses[0, 5] < found.losses[0, 0] + 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scale": "cubic"}, "`scale` must be 'log' or 'linear'"),
        ({"steps": 5}, "`steps` must be a whole number >= 20"),
        ({"sweeps": 0}, "`sweeps` must be a whole number >= 1"),
        ({"low": -1.0}, "`low` must be a finite rate > 0"),
        ({"low": 1.0, "high": 0.1}, "`low` must be below `high`"),
        ({"data": (batch for batch in [1])}, "a generator"),
    ],
)
def test_bad_input_gets_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        find(compiled(), **arguments)
    assert "Received: " in str(error.value)


def test_a_picture_names_every_rule():
    found = find(compiled(), sweeps=2)
    figure = found.plot()
    said = {text.get_text() for text in figure.axes[0].texts}
    assert said >= set(found.rules)
    with pytest.raises(ValueError, match="plot_sweep"):
        plot_sweep(found.learning_rates, found.losses[:, :3], 1.0, (0.5, 2.0))
