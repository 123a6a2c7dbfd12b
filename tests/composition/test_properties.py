"""Laws that hold for any small model, any split of a batch, any mask, any weights, any bad steps."""

import keras
import numpy as np
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import tfrecipes as tfr
from tests.composition.table import distance

# Each example traces two models, a second or more: few of them, and no shrinking.
FEW = settings(
    max_examples=6,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


@st.composite
def problems(draw):
    """A model and what it is trained on, as plain numbers."""
    return {
        "tokens": draw(st.integers(2, 6)),
        "width": draw(st.integers(1, 7)),
        "activation": draw(st.sampled_from(["tanh", "gelu", "sigmoid"])),
        "masked": draw(st.booleans()),
        "weighted": draw(st.sampled_from(["no", "samples", "tokens"])),
        "reduction": draw(st.sampled_from(["sum_over_batch_size", "mean_with_sample_weight"])),
        "l2": draw(st.booleans()),
        "samples": draw(st.integers(3, 25)),
        "seed": draw(st.integers(0, 99)),
    }


def model_and_data(problem):
    """A tagger of tokens, where token 0 is masked, and one batch for it."""
    keras.utils.set_random_seed(problem["seed"])
    rng = np.random.default_rng(problem["seed"])
    shape = (problem["samples"], problem["tokens"])
    inputs = keras.Input((problem["tokens"],), dtype="int32")
    penalty = keras.regularizers.L2(0.01) if problem["l2"] else None
    x = keras.layers.Embedding(9, problem["width"], mask_zero=problem["masked"])(inputs)
    x = keras.layers.Dense(problem["width"] + 1, problem["activation"], kernel_regularizer=penalty)(
        x
    )
    net = keras.Model(inputs, keras.layers.Dense(3)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, reduction=problem["reduction"]
    )
    net.compile(keras.optimizers.SGD(0.5, global_clipnorm=0.2), loss)
    tokens, labels = rng.integers(0, 9, shape), rng.integers(0, 3, shape)
    tokens[0, 0] = 1  # somewhere there is one to learn from
    weights = {
        "no": None,
        "samples": rng.uniform(0.1, 3, (shape[0], 1)).astype("float32"),
        "tokens": rng.uniform(0.1, 3, shape).astype("float32"),
    }[problem["weighted"]]
    return net, (tokens, labels, weights)


def fitted(problem, callbacks, batch_size, epochs=2):
    net, (x, y, weights) = model_and_data(problem)
    net.fit(
        x,
        y,
        sample_weight=weights,
        batch_size=batch_size,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    )
    return net.get_weights()


@given(problems(), st.data())
@FEW
def test_any_cut_of_a_batch_gives_the_whole_batch(problem, data):
    size = data.draw(st.integers(1, problem["samples"]), label="size")
    joined = data.draw(st.booleans(), label="joined")
    if joined:
        group = -(-problem["samples"] // size)
        parts = fitted(problem, [tfr.GradientAccumulation(group)], size)
    else:
        parts = fitted(problem, [tfr.MicroBatch(size)], problem["samples"])
    # Not stock Keras, whose clip counts an embedding's repeated rows one by one.
    whole = fitted(problem, [tfr.TrainStep()], problem["samples"])
    # Two clipped steps in float32, sums in another order; a bias may be small beside its gradient.
    assert distance(parts, whole) < 3e-6


@given(st.lists(st.booleans(), min_size=2, max_size=9), st.integers(0, 99))
@FEW
def test_any_pattern_of_bad_steps_gives_the_run_without_them(bad, seed):
    problem = {
        "tokens": 3,
        "width": 4,
        "activation": "tanh",
        "masked": False,
        "weighted": "samples",
        "reduction": "sum_over_batch_size",
        "l2": True,
        "samples": 4 * len(bad),
        "seed": seed,
    }
    good = np.repeat(~np.array(bad), 4)
    seen = []
    for rows in (slice(None), good):
        net, (x, y, weights) = model_and_data(problem)
        weights[~good] = np.nan
        net.compile(tfr.AdamW(1e-2, weight_decay=0.1, global_clipnorm=0.1), net.loss)
        if len(x[rows]):
            arguments = {"batch_size": 4, "shuffle": False, "verbose": 0}
            callbacks = [tfr.EMA(0.9), tfr.TrainStep()]
            net.fit(x[rows], y[rows], sample_weight=weights[rows], callbacks=callbacks, **arguments)
        seen.append(net.get_weights())
    assert all(np.array_equal(a, b) for a, b in zip(*seen, strict=True))
