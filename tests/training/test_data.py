import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfrecipes.training.data import batches, count, order, understand


def take(data, steps):
    return list(data.dataset.take(steps).as_numpy_iterator())


@settings(max_examples=25, deadline=None)
@given(
    samples=st.integers(1, 40),
    batch_size=st.integers(1, 45),
    seed=st.integers(0, 2**63 - 1),
    start=st.integers(0, 30),
    shuffle=st.booleans(),
)
def test_the_dataset_is_a_pure_function_of_seed_epoch_and_step(
    samples, batch_size, seed, start, shuffle
):
    rows = np.arange(samples)
    data = batches(rows, batch_size=batch_size, seed=seed, shuffle=shuffle, start_step=start)
    steps = -(-samples // batch_size)
    assert (data.steps_per_epoch, data.samples) == (steps, samples)
    for step, (seen,) in enumerate(take(data, steps + 2), start=start):
        epoch, inside = divmod(step, steps)
        expected = order(seed, epoch, samples, shuffle)
        np.testing.assert_array_equal(
            seen, expected[inside * batch_size : (inside + 1) * batch_size]
        )


def test_every_sample_is_seen_exactly_once_an_epoch_and_the_last_batch_is_ragged():
    data = batches(np.arange(10), np.arange(10) * 2, batch_size=4, seed=3)
    for _ in range(2):
        epoch = take(data, 3)
        assert [len(x) for x, _ in epoch] == [4, 4, 2]
        np.testing.assert_array_equal(np.sort(np.concatenate([x for x, _ in epoch])), np.arange(10))
        assert all((y == 2 * x).all() for x, y in epoch)


def test_epochs_and_seeds_differ_for_as_long_as_anyone_trains():
    orders = {tuple(order(0, epoch, 50)) for epoch in range(600)}
    orders |= {tuple(order(seed, 0, 50)) for seed in range(1, 600)}
    assert len(orders) == 600 + 599


def test_positions_are_uniform_over_epochs():
    first = [order(11, epoch, 5)[0] for epoch in range(500)]
    counts = np.bincount(first, minlength=5)
    # chi-square with 4 degrees of freedom: 18.5 has probability 0.001, and the seed is fixed
    assert ((counts - 100) ** 2 / 100).sum() < 18.5


def test_two_iterators_of_one_dataset_agree():
    data = batches(np.arange(9), batch_size=2, seed=1)
    for a, b in zip(take(data, 12), take(data, 12), strict=True):
        np.testing.assert_array_equal(a[0], b[0])


@pytest.mark.parametrize(
    ("x", "y", "weight", "form"),
    [
        (np.zeros((6, 2)), None, None, 1),
        (np.zeros((6, 2), "float32"), np.zeros(6, "int64"), None, 2),
        (np.zeros((6, 2), "uint8"), np.zeros((6, 3)), np.ones(6), 3),
        ({"a": np.zeros((6, 1)), "b": tf.zeros((6, 2, 2))}, (np.zeros(6), np.zeros(6)), None, 2),
        ([np.zeros((6, 1)), np.zeros((6, 2))], [np.zeros(6)], [np.ones(6)], 3),
    ],
)
def test_elements_are_what_fit_expects(x, y, weight, form):
    data = batches(x, y, weight, batch_size=4, seed=0)
    spec = data.dataset.element_spec
    assert isinstance(spec, tuple)
    assert len(spec) == form
    flat = keras.tree.flatten(spec)
    given = [a for part in (x, y, weight) if part is not None for a in keras.tree.flatten(part)]
    assert [s.shape[1:].as_list() for s in flat] == [list(a.shape[1:]) for a in given]
    assert all(s.dtype != tf.float64 for s in flat)
    assert {s.dtype for s in flat if s.dtype.is_integer} <= {tf.int64, tf.uint8}


def test_ragged_inputs_and_strings_pass_through():
    ragged = tf.ragged.constant([[1], [2, 3], [4, 5, 6]])
    text = np.array(["a", "bb", "c"], object)
    ((r, t),) = [
        x for (x,) in batches((ragged, text), batch_size=3, seed=0, shuffle=False).dataset.take(1)
    ]
    assert r.to_list() == [[1], [2, 3], [4, 5, 6]]
    assert t.numpy().tolist() == [b"a", b"bb", b"c"]


def test_the_dataset_is_endless_deterministic_and_does_not_wait_for_the_autotuner():
    data = batches(np.zeros((10, 2), "float32"), batch_size=4, seed=0).dataset
    assert data.cardinality() == tf.data.INFINITE_CARDINALITY
    assert data.options().autotune.enabled is False
    assert data.options().deterministic is True


def test_fit_sees_whole_epochs_and_a_later_start_goes_on_where_it_would_have_been():
    class Order(keras.Model):
        def call(self, x):
            return tf.cast(x, "float32")

        def train_step(self, data):
            self.seen.assign(tf.concat([self.seen, data[0]], 0))
            return {"loss": tf.constant(0.0)}

    def run(start, epochs, steps):
        model = Order()
        model.seen = tf.Variable(np.zeros(0, "int64"), shape=(None,), trainable=False)
        model.compile()
        data = batches(np.arange(7), batch_size=3, seed=5, start_step=start)
        model.fit(data.dataset, epochs=epochs, steps_per_epoch=steps, shuffle=False, verbose=0)
        return model.seen.numpy()

    np.testing.assert_array_equal(
        run(0, 2, 3), np.concatenate([order(5, epoch, 7) for epoch in range(2)])
    )
    np.testing.assert_array_equal(
        run(4, 1, 5), np.concatenate([order(5, epoch, 7) for epoch in (1, 2)])[3:]
    )


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"x": np.zeros(3), "batch_size": 0}, "`batch_size` must be a whole number >= 1"),
        ({"x": np.zeros(3), "batch_size": True}, "`batch_size` must be a whole number >= 1"),
        ({"x": np.zeros(3), "batch_size": 2, "seed": -1}, "`seed` must be a whole number >= 0"),
        ({"x": np.zeros((0, 3)), "batch_size": 2}, "arrays with 0 rows"),
        ({"x": np.zeros(3), "y": np.zeros(2), "batch_size": 2}, "x has 3, y has 2"),
        ({"x": {"a": np.zeros(3), "b": 4.0}, "batch_size": 2}, r"x\['b'\] of type float"),
        ({"x": [[1, 2], [3, 4]], "batch_size": 2}, "Convert it with numpy.asarray"),
        ({"x": np.float32(1), "batch_size": 2}, "without a dimension"),
        ({"x": np.zeros(3), "sample_weight": np.ones(3), "batch_size": 2}, "belongs to labels"),
    ],
)
def test_bad_arrays_get_one_sentence(arguments, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        batches(**{"seed": 0, **arguments})
    assert "\n" not in str(caught.value)


def test_count_reads_every_array():
    assert count({"a": np.zeros((4, 2))}, [np.zeros(4), np.zeros(4)]) == 4


class Batches(keras.utils.PyDataset):
    def __len__(self):
        return 3

    def __getitem__(self, index):
        return np.zeros((2, 1)), np.zeros(2)


class Endless(Batches):
    @property
    def num_batches(self):
        return None


def loader(module, **methods):
    cls = type("DataLoader", (), {**methods, "__iter__": lambda self: iter(())})
    cls.__module__ = module
    return cls()


STREAMS = [
    (tf.data.Dataset.range(5).batch(2), "tf.data", 3, None, False),
    (tf.data.Dataset.range(5).batch(2).repeat(), "tf.data", None, None, True),
    (tf.data.Dataset.range(5).filter(lambda n: n > 2), "tf.data", None, None, False),
    (Batches(), "PyDataset", 3, None, False),
    (Endless(), "PyDataset", None, None, True),
    (
        loader("torch.utils.data.dataloader", __len__=lambda self: 4, dataset=range(9)),
        "DataLoader",
        4,
        9,
        False,
    ),
    (loader("torch.utils.data.dataloader", dataset=object()), "DataLoader", None, None, False),
    (loader("grain._src.python.data_loader"), "grain", None, None, False),
    ((row for row in ()), "generator", None, None, False),
]


@pytest.mark.parametrize(("data", "kind", "steps", "samples", "endless"), STREAMS)
def test_streams_are_recognised_and_keep_their_batches(data, kind, steps, samples, endless):
    seen = understand(data)
    assert (seen.kind, seen.steps, seen.samples, seen.endless) == (kind, steps, samples, endless)
    assert seen.x is data
    assert seen.y is None


def test_arrays_are_split_into_inputs_labels_and_weights():
    x, y, w = np.zeros((4, 2)), np.zeros(4), np.ones(4)
    assert understand(x).samples == 4
    assert understand((x,)).y is None
    assert understand((x, y)).y is y
    assert understand((x, y, w)).sample_weight is w
    assert understand((x, y), sample_weight=w).sample_weight is w
    several = understand([x, x])
    assert several.y is None
    assert len(several.x) == 2
    assert understand({"image": x}).samples == 4


@pytest.mark.parametrize(
    ("data", "weight", "sentence"),
    [
        (None, None, "there must be inputs"),
        ((), None, "a tuple of 0"),
        ((np.zeros(2),) * 4, None, "a tuple of 4. Put several inputs into a list"),
        ((np.zeros(2),) * 3, np.ones(2), "weights must come once"),
        ((tf.data.Dataset.range(2), np.zeros(2)), None, "holds the labels itself"),
        (tf.data.Dataset.range(2), np.ones(2), "`sample_weight` is for arrays"),
        ("train.npz", None, "Received: a str"),
        (lambda: None, None, "Received: a function"),
        (3, None, "x of type int"),
        (types.SimpleNamespace(), None, "x of type SimpleNamespace"),
    ],
)
def test_what_is_no_data_gets_one_sentence(data, weight, sentence):
    with pytest.raises(ValueError, match=sentence) as caught:
        understand(data, sample_weight=weight)
    assert "\n" not in str(caught.value)
