"""`recipe.compile` and `recipe.callbacks`: the same run, by hand."""

import keras
import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny
from tfrecipes.runs.folder import read_run

RECIPE = tfr.Recipe.load("tiny").replace(
    **{"train.epochs": 2, "train.batch_size": 32, "step.jit": False}
)
STEPS = 6


def by_hand(model, recipe=RECIPE, data=None, directory=None, loss=None, **compiled):
    recipe.compile(model, total_steps=STEPS, loss=loss, **compiled)
    x, y = tiny.data() if data is None else data
    return model.fit(
        x,
        y,
        epochs=2,
        batch_size=32,
        shuffle=False,
        verbose=0,
        callbacks=recipe.callbacks(directory),
    )


def in_order(x, y, size=32):
    """A stream in the order of the arrays, which `recipe.fit` leaves as it is."""

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return -(-len(x) // size)

        def __getitem__(self, index):
            return x[size * index : size * index + size], y[size * index : size * index + size]

    return Batches()


def test_it_trains_the_same_weights_as_recipe_fit(tmp_path):
    model = tiny.model()
    history = by_hand(model, directory=tmp_path / "hand", loss=tiny.loss())
    whole = RECIPE.fit(
        tiny.model(),
        in_order(*tiny.data()),
        directory=tmp_path / "fit",
        loss=tiny.loss(),
        verbose=0,
    )
    for a, b in zip(tiny.weights(model)[:8], tiny.weights(whole.model)[:8], strict=True):
        assert np.array_equal(a, b)
    assert history.history["loss"] == whole.history["loss"]
    hand, fit = read_run(tmp_path / "hand"), read_run(tmp_path / "fit")
    assert all(np.array_equal(hand.steps[name], fit.steps[name]) for name in fit.steps)


def test_a_loss_that_was_left_open_is_told_from_the_first_batch(capsys):
    given, inferred = tiny.dense_model(), tiny.dense_model()
    by_hand(given, loss=tiny.loss(), metrics=["accuracy"])
    history = by_hand(inferred)
    assert "Loss: sparse categorical cross-entropy from logits" in capsys.readouterr().out
    assert "accuracy" in history.history
    for a, b in zip(tiny.weights(given)[:4], tiny.weights(inferred)[:4], strict=True):
        assert np.array_equal(a, b)
    # And it stays: evaluation and a further fit have it too.
    x, y = tiny.data()
    assert set(inferred.evaluate(x, y, verbose=0, return_dict=True)) == {"loss", "accuracy"}


def test_metrics_that_were_given_are_kept_beside_an_open_loss():
    history = by_hand(
        tiny.dense_model(), metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top2")]
    )
    assert "top2" in history.history
    assert "accuracy" not in history.history


def test_a_generator_needs_its_loss_given():
    model = tiny.dense_model()
    RECIPE.compile(model, total_steps=STEPS)
    x, y = tiny.data()
    stream = ((x[:32], y[:32]) for _ in range(9))
    with pytest.raises(ValueError, match=r"Pass `loss` to recipe\.compile"):
        model.fit(stream, steps_per_epoch=3, shuffle=False, verbose=0, callbacks=RECIPE.callbacks())


def test_losses_that_the_model_adds_itself_stay_alone_without_labels():
    class Penalty(keras.layers.Layer):
        def call(self, x):
            self.add_loss(keras.ops.mean(keras.ops.square(x)))
            return x

    inputs = keras.Input((8,))
    model = keras.Model(inputs, Penalty()(keras.layers.Dense(2)(inputs)))
    RECIPE.compile(model, total_steps=STEPS)
    before = np.array(model.weights[0])
    model.fit(tiny.data()[0], epochs=1, verbose=0, callbacks=RECIPE.callbacks())
    assert model.loss is None
    assert not np.array_equal(before, np.array(model.weights[0]))


def test_a_schedule_of_the_users_own_is_used():
    model = tiny.dense_model()
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
    history = by_hand(model, schedule=schedule, loss=tiny.loss())
    assert history.history["learning_rate"][-1] == pytest.approx(0.01 * 0.5**5, rel=1e-6)


@pytest.mark.parametrize("steps", [0, -1, 2.5, True, None])
def test_the_total_must_be_a_number_of_steps(steps):
    with pytest.raises(ValueError, match=r"^recipe\.compile: `total_steps` must be"):
        RECIPE.compile(tiny.dense_model(), total_steps=steps)


def test_what_is_no_model_is_one_sentence():
    with pytest.raises(ValueError, match="must be a Keras model"):
        RECIPE.compile(lambda: tiny.dense_model(), total_steps=3)


def test_a_sixteen_bit_recipe_refuses_a_float32_model():
    with pytest.raises(ValueError, match=r"tfr\.set_precision\('float16'\)"):
        RECIPE.replace(**{"step.precision": "float16"}).compile(tiny.dense_model(), total_steps=3)


def test_callbacks_write_nothing_without_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    by_hand(tiny.dense_model(), loss=tiny.loss())
    assert list(tmp_path.iterdir()) == []
