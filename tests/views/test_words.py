"""What is known of a run is said in words, and nothing else."""

import itertools

import pytest

from tests.views.runs import full_facts
from tfrecipes.views.words import facts_rows


def test_everything_that_is_known_is_said():
    assert facts_rows(full_facts()) == [
        ("Length", "1,000 steps, 10 epochs of 100 steps"),
        ("Batch", "128 samples a step, cut into micro-batches of 32, on 2 replicas"),
        ("Model", "123,456 parameters, 12 trainable weights, dropout 0.5"),
        ("Layers", "3 BatchNormalization, 4 Conv2D, 2 Dense"),
        (
            "Loss",
            "SparseCategoricalCrossentropy, from logits, label smoothing 0.1, "
            "last activation linear, classes: 10",
        ),
        ("Optimizer", "AdamW, weight decay 0.05, clipped at global norm 1"),
        ("Schedule", "WarmupCosine, peak learning rate 0.001, warmup steps 50"),
        ("Average", "EMA, decay 0.999"),
        ("Precision", "bfloat16"),
        (
            "Data",
            "60,000 samples, x 28 x 28 x 1 float32 from 0 to 1 with 17 constant features, 12 repeated",
        ),
        ("Labels", "integer, 10 classes, 5,000 to 6,000 of each"),
        (
            "Validation",
            "10,000 samples, x 28 x 28 x 1 float32 from 0 to 1 with 17 constant features, "
            "12 repeated, 3 of them in the training data",
        ),
        ("First bad step", "step 612, first in block3/conv2/kernel"),
    ]


def test_what_is_not_known_is_left_out():
    assert facts_rows({}) == []
    assert facts_rows({"batch_size": 1, "replicas": 1, "micro_batch": None}) == [
        ("Batch", "1 sample a step")
    ]
    assert facts_rows({"data": {"labels": {"kind": "real", "mean": 0.5, "std": 2.0}}}) == [
        ("Labels", "real, mean 0.5, standard deviation 2")
    ]


def leaves(value, path=()):
    yield path
    if isinstance(value, dict | list):
        inside = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in inside:
            yield from leaves(inner, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    inside = dict(value.items()) if isinstance(value, dict) else list(value)
    inside[path[0]] = changed(value[path[0]], path[1:], new)
    return inside


@pytest.mark.parametrize("new", [None, "x", 1, -1.5, True, [], [None], {}, float("nan")], ids=repr)
def test_a_file_that_somebody_edited_is_read_as_far_as_it_goes(new):
    facts = full_facts(20, 2)
    for path in itertools.islice(leaves(facts), 1, None):
        for label, text in facts_rows(changed(facts, path, new)):
            assert label
            assert text
