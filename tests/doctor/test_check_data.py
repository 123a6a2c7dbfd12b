"""What `check` says of data alone: each fault, and the healthy neighbour of which it is silent."""

import numpy as np
import pytest
import tensorflow as tf

from tfrecipes.demo import digits
from tfrecipes.doctor import data_checks, label_checks
from tfrecipes.doctor.repeats import repeats, shared
from tfrecipes.doctor.sampled import sampled
from tfrecipes.doctor.telling import pairs, telling
from tfrecipes.doctor.told import not_told, told_but

RNG = np.random.default_rng(0)
TABLE = RNG.normal(size=(400, 6)).astype("float32")
GREY = RNG.integers(0, 256, (40, 8, 8, 1)).astype("uint8")
MAP = np.random.default_rng(5).normal(size=(6, 3))
CLASSES = (TABLE @ MAP).argmax(1)
SPARSE = "sparse_categorical_crossentropy"


def changed(array, index, value):
    array = array.copy()
    array[index] = value
    return array


def scaled(column, factor):
    array = TABLE.copy()
    array[:, column] *= factor
    return array


def of(y, loss=SPARSE, shape=(None, 3)):
    (output,) = label_checks.outputs(y, shape, loss)
    return output


# -- values and ranges ---------------------------------------------------------------------------


def test_values_that_are_not_finite_are_counted_and_placed():
    x = changed(changed(TABLE, (7, 2), np.nan), (9, 2), -np.inf)
    found = data_checks.not_finite(sampled((x, CLASSES)), "data")
    assert found.severity == "error"
    assert "x has 1 NaN and 1 infinite values in 2 of 400 rows" in found.evidence
    assert "all of them in feature 2" in found.evidence
    assert "x[7, 2]" in found.evidence
    assert data_checks.not_finite(sampled((TABLE, CLASSES)), "data") is None


def test_labels_and_dict_inputs_are_looked_at_too():
    y = changed(CLASSES.astype("float32"), 3, np.inf)
    found = data_checks.not_finite(sampled(({"a": TABLE, "b": TABLE}, y)), "data")
    assert "y has 0 NaN and 1 infinite values" in found.evidence
    x = {"a": TABLE, "b": changed(TABLE, (1, 1), np.nan)}
    assert "x['b'][1, 1]" in data_checks.not_finite(sampled((x, y)), "data").evidence


FAR = {
    "grey levels": (GREY, "goes from 0 to 255"),
    "grey levels as floats": (GREY.astype("float32"), "goes from 0 to 255"),
    "one huge feature": (scaled(3, 1000), "feature 3"),
    "decades apart": (scaled(2, 1e-5), "decades"),
    "off centre": (TABLE + 2000, "6 of 6 features"),
    "divided twice": (GREY / 255.0 / 255.0, "divided by 255 twice?"),
    "long sequences": (TABLE.reshape(20, 20, 6) * 100, "of 6 features"),
}
NEAR = {
    "standardised": TABLE,
    "zero to one": GREY / 255.0,
    "minus one to one": GREY / 127.5 - 1,
    "digits of 0 to 16": GREY // 16,
    "one hot": np.eye(40, dtype="float32")[RNG.integers(0, 40, 300)],
    "a rare flag": np.c_[TABLE, (np.arange(400) == 7).astype("float32")],
    "heavy tails": RNG.standard_t(3, (400, 6)).astype("float32"),
    "all zero": np.zeros((40, 3), "float32"),
}


@pytest.mark.parametrize("name", FAR)
def test_a_range_far_from_one_is_said_with_its_numbers(name):
    array, words = FAR[name]
    assert words in data_checks.range_of(array)[0]


@pytest.mark.parametrize("name", NEAR)
def test_a_range_that_nets_are_made_for_is_fine(name):
    assert data_checks.range_of(NEAR[name]) is None


def test_the_advice_for_one_huge_feature_names_it():
    assert data_checks.range_of(scaled(3, 1000))[1].startswith("x[:, 3] = (x[:, 3] - ")


# -- features and samples ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("x", "severity", "words"),
    [
        (changed(TABLE, (slice(None), 3), 1.5), "warning", "feature 3 is 1.5"),
        (np.c_[TABLE, TABLE[:, 2]], "warning", "feature 6 is feature 2"),
        (np.zeros((40, 8, 8, 1), "float32"), "error", "the same in all 40 samples"),
        (np.zeros((40, 3), "float32"), "error", "the same in all 40 samples"),
        (np.c_[np.zeros((40, 60)), RNG.normal(size=(40, 10))], "info", "60 of 70 features"),
    ],
)
def test_constant_and_equal_features(x, severity, words):
    found = data_checks.constant_features(sampled((x,)), "data")
    assert found.severity == severity
    assert words in found.evidence


def test_features_that_vary_and_flags_that_agree_are_no_finding():
    assert data_checks.constant_features(sampled((TABLE,)), "data") is None
    flags = np.c_[TABLE, TABLE[:, :1] > 0, TABLE[:, :1] > 0]
    assert data_checks.constant_features(sampled((flags,)), "data") is None


def test_copies_are_counted_with_those_that_contradict():
    x = np.concatenate([TABLE, TABLE[:100]])
    y = np.concatenate([CLASSES, (CLASSES[:100] + (np.arange(100) < 30)) % 3])
    found = data_checks.repeated_samples(sampled((x, y)), "data")
    assert found.severity == "warning"
    assert "100 of 500 samples (20.0%)" in found.evidence
    assert "30 of them with another label" in found.evidence
    assert "row 400, which is row 0" in found.evidence


def test_few_copies_and_those_of_few_values_are_only_worth_knowing():
    x = np.concatenate([TABLE, TABLE[:4]])
    assert data_checks.repeated_samples(sampled((x,)), "data").severity == "info"
    flags = RNG.integers(0, 2, (2000, 8)).astype("float32")
    found = data_checks.repeated_samples(sampled((flags,)), "data")
    assert found.severity == "info"
    assert "by themselves" in found.cause
    assert data_checks.repeated_samples(sampled((TABLE,)), "data") is None


def test_copies_are_found_in_wide_rows_that_differ_in_one_place():
    wide = np.tile(RNG.normal(size=(1, 3000)), (50, 1)).astype("float32")
    wide[np.arange(50), np.arange(50) * 40] += 1.0
    assert repeats({"x": wide}).repeated == 0
    assert repeats({"x": np.concatenate([wide, wide[:5]])}).repeated == 5


@pytest.mark.parametrize("change", [0.0, 1e-6, np.float64(0)])
def test_validation_rows_that_were_trained_on_are_found_nearly_exact(change):
    held = np.concatenate([TABLE[:30] + change, RNG.normal(size=(70, 6))])
    found = data_checks.shared_samples(sampled((TABLE,)), sampled((held,), "validation_data"))
    assert found.severity == "warning"
    assert "30 of 100 samples (30.0%)" in found.evidence
    assert "row 0, which is training row 0" in found.evidence


def test_validation_that_is_training_is_an_error_and_another_draw_is_none():
    assert data_checks.shared_samples(sampled((TABLE,)), sampled((TABLE,))).severity == "error"
    other = RNG.normal(size=(100, 6)).astype("float32")
    assert data_checks.shared_samples(sampled((TABLE,)), sampled((other,))) is None
    assert shared({"x": TABLE}, {"x": TABLE[:, :3]}) is None


IDS = RNG.choice(50, (300, 20), p=np.arange(1, 51) / 1275)
ELSEWHERE = {
    "another scale": (TABLE, TABLE[:100] * 16),
    "moved": (TABLE, TABLE[:100] + 1),
    "turned over": (GREY / 255.0, np.tile(1 - GREY / 512.0, (3, 1, 1, 1))),
    "other letters": (IDS, 49 - IDS[:80]),
}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_validation_of_another_distribution_is_said(name):
    ours, theirs = ELSEWHERE[name]
    found = data_checks.validation_differs(sampled((ours,)), sampled((theirs,)))
    assert found.rule == "validation_not_representative"


@pytest.mark.parametrize("ours", [TABLE, GREY, IDS], ids=["table", "images", "ids"])
def test_validation_drawn_from_the_same_whole_is_fine(ours):
    cut = len(ours) * 3 // 4
    a, b = sampled((ours[:cut],)), sampled((ours[cut:],))
    assert data_checks.validation_differs(a, b) is None


# -- labels --------------------------------------------------------------------------------------


def test_labels_that_are_all_the_same():
    assert label_checks.one_class(of(CLASSES * 0 + 2), "data").severity == "error"
    assert label_checks.one_class(of(CLASSES), "data") is None


def test_a_rare_class_is_said_with_weights_for_it():
    y = (np.arange(400) < 12).astype("int32")
    found = label_checks.balance(of(y, "binary_crossentropy", (None, 1)), "data")
    assert "388 (97.0%) are of class 0 and 12 of class 1" in found.evidence
    assert "{0: 0.52, 1: 16.67}" in found.advice
    assert label_checks.balance(of(CLASSES), "data") is None


def test_positions_are_unbalanced_only_where_one_is_nearly_everything():
    padded = np.where(RNG.random((60, 20)) < 0.95, 0, RNG.integers(0, 3, (60, 20)))
    assert "positions" in label_checks.balance(of(padded, shape=(None, 20, 3)), "data").evidence
    assert label_checks.balance(of(IDS, shape=(None, 20, 50)), "data") is None


def test_sorted_labels_are_a_warning_in_a_stream_and_worth_knowing_in_arrays():
    order = np.argsort(CLASSES, kind="stable")
    arrays = sampled((TABLE[order], CLASSES[order]))
    assert label_checks.order(arrays, of(CLASSES[order]), "data").severity == "info"
    stream = tf.data.Dataset.from_tensor_slices((TABLE[order], CLASSES[order])).batch(32)
    looked = sampled(stream)
    found = label_checks.order(looked, of(looked.y), "data")
    assert found.severity == "warning"
    assert "the class changes 2 times" in found.evidence
    assert label_checks.order(sampled((TABLE, CLASSES)), of(CLASSES), "data") is None
    rising = of(np.sort(TABLE[:, 0]), "mse", (None, 1))
    assert "only ever rises" in label_checks.order(arrays, rising, "data").evidence


def test_outputs_that_no_label_needs():
    assert label_checks.too_wide(of(CLASSES, shape=(None, 30)), "data").severity == "warning"
    assert label_checks.too_wide(of(CLASSES, shape=(None, 4)), "data").severity == "info"
    assert (
        "numbered from 1" in label_checks.too_wide(of(CLASSES + 1, shape=(None, 4)), "data").cause
    )
    assert label_checks.too_wide(of(CLASSES), "data") is None


def test_targets_far_from_unit_scale():
    prices = TABLE[:, 0] * 5e4 + 2e5
    assert label_checks.scale(of(prices, "mse", (None, 1)), "data") is not None
    assert label_checks.scale(of(TABLE[:, 0] * 5 + 20, "mse", (None, 1)), "data") is None


REFUSED = [
    (CLASSES + 1, SPARSE, "label_range"),
    (CLASSES - 1, SPARSE, "label_range"),
    (CLASSES + 0.5, SPARSE, "label_range"),
    (CLASSES, "categorical_crossentropy", "label_shape"),
    (TABLE[:, 0], "mse", "label_shape"),
]


@pytest.mark.parametrize(("y", "loss", "rule"), REFUSED)
def test_labels_that_do_not_fit_the_loss_are_an_error_with_what_to_do(y, loss, rule):
    (found,) = label_checks.refusals(sampled((TABLE, y)), (None, 6), (None, 3), loss, "data")
    assert (found.rule, found.severity) == (rule, "error")
    assert "Received: y" in found.evidence
    assert found.advice


def test_validation_has_classes_that_training_has_not():
    ours, theirs = [of(CLASSES % 2)], [of(CLASSES)]
    (found,) = label_checks.validation_labels(ours, theirs)
    assert found.severity == "warning"
    assert "(2)" in found.evidence
    assert not list(label_checks.validation_labels(theirs, ours))


# -- true labels against shuffled ones -----------------------------------------------------------


def told(x, y, loss=SPARSE, shape=(None, 3), held=None):
    output = of(y, loss, shape)
    other = None if held is None else pairs(sampled(held), of(held[1], loss, shape))
    return telling(sampled((x, y)), output, other), output


TEXT = np.random.default_rng(2).integers(0, 60, (1500, 12))
RINGS = RNG.normal(size=(900, 2))
TRUE = {
    "a table": (TABLE, CLASSES, SPARSE, (None, 3)),
    "a number": (TABLE, TABLE @ MAP[:, 0], "mse", (None, 1)),
    "rings, by neighbours": (RINGS, (np.hypot(*RINGS.T) > 1.2).astype(int), SPARSE, (None, 2)),
    "words": (TEXT, (TEXT < 4).any(1).astype("int32"), SPARSE, (None, 2)),
    "the next word": (TEXT, (TEXT * 7 + 3) % 60, SPARSE, (None, 12, 60)),
    "one hot": (TABLE, np.eye(3)[CLASSES], "categorical_crossentropy", (None, 3)),
}


@pytest.mark.parametrize("name", TRUE)
def test_true_labels_are_told_and_shuffled_ones_are_not(name):
    x, y, loss, shape = TRUE[name]
    assert told(x, y, loss, shape)[0].told
    rng = np.random.default_rng(1)
    mixed = (
        rng.permutation(y.reshape(-1)).reshape(y.shape) if "next" in name else rng.permutation(y)
    )
    result, output = told(x, mixed, loss, shape)
    assert result.told is False
    found = not_told(result, None, output)
    assert found.rule == "labels_unrelated"
    assert "would have been seen" in found.evidence


def test_too_few_samples_tell_nothing_and_that_is_said():
    assert "too few" in told(TABLE[:60], CLASSES[:60])[0].why
    few = np.random.default_rng(1).permutation(TEXT[:120, 0] > 30).astype("int32")
    assert "only scores above" in told(TEXT[:120], few, shape=(None, 2))[0].why


def test_random_labels_among_true_ones_are_estimated_and_a_hard_task_is_not_taken_for_them():
    x, y = digits.load()
    rng = np.random.default_rng(0)
    wrong = rng.random(len(y)) < 0.6
    noisy = np.where(wrong, rng.integers(0, 10, len(y)), y)
    result, output = told(x, noisy, shape=(None, 10))
    (found,) = told_but(result, output)
    assert 0.5 < result.noise < 0.8
    assert "drawn at random" in found.evidence
    blurred = x.reshape(len(x), -1) + rng.normal(0, 1.0, (len(x), 64))
    hard, output = told(blurred, y, shape=(None, 10))
    assert hard.told
    assert hard.true < 0.75
    assert not list(told_but(hard, output))


def test_validation_labels_that_mean_something_else_are_told():
    x, y = digits.load()
    same, output = told(x[:1400], y[:1400], shape=(None, 10), held=(x[1400:], y[1400:]))
    assert not list(told_but(same, output))
    moved = told(x[:1400], y[:1400], shape=(None, 10), held=(x[1400:], (y[1400:] + 1) % 10))
    (found,) = told_but(*moved)
    assert found.rule == "validation_not_representative"
