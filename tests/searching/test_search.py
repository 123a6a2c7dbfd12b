"""Real searches of the tiny net: what a user calls, sees and gets."""

import gc
import json
import logging
import weakref

import keras
import numpy as np
import pytest

import tfrecipes as tfr
from tests import tiny

RATE = "schedule.peak_learning_rate"
RECIPE = tfr.Recipe.load("tiny").replace(**{"step.jit": False, "train.epochs": 1, "ema": None})
SPACE = {RATE: ("log", 1e-4, 1.0)}
DATA = {"validation_data": tiny.data(seed=1)}
MADE = []


def build(hp):
    """The tiny net in widths of 8 and 16; one of 24 does not exist."""
    assert sum(net() is not None for net in MADE) < 3, "models of earlier trials are still there"
    width = hp.Choice("width", [8, 16, 24])
    if width == 24:
        raise RuntimeError("24 does not fit")
    inputs = keras.Input((tiny.FEATURES,))
    x = keras.layers.Dense(width, activation="relu")(inputs)
    net = keras.Model(inputs, keras.layers.Dense(tiny.CLASSES)(x))
    MADE.append(weakref.ref(net))
    return net


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """A search of four trials with two repeats, and what it printed."""
    import contextlib
    import io

    said = io.StringIO()
    MADE.clear()
    with contextlib.redirect_stdout(said):
        result = tfr.search(
            build,
            tiny.data(),
            RECIPE,
            4,
            tmp_path_factory.mktemp("search"),
            space=SPACE,
            repeats=2,
            finalists=1,
            seed=3,
            **DATA,
        )
    return result, said.getvalue()


def test_the_table_has_a_row_a_trial_with_every_field(found):
    result, _ = found
    assert [row["trial"] for row in result.table] == [0, 1, 2, 3]
    for row in result.table:
        assert {"trial", RATE, "width", "score", "error", "finding", "seconds"} == set(row)
        assert 1e-4 <= row[RATE] <= 1.0
        assert (row["score"] is None) == (row["width"] == 24)
        assert row["error"] == ("24 does not fit" if row["width"] == 24 else "")
    assert any(row["error"] for row in result.table)


def test_the_best_recipe_is_a_file_that_says_where_it_comes_from(found):
    result, _ = found
    assert tfr.Recipe.load(result.best_path) == result.best
    row = result.table[result.best_trial]
    assert getattr(result.best.schedule, "peak_learning_rate") == row[RATE]  # noqa: B009
    assert result.best_hyperparameters == {"width": row["width"]}
    text = result.best_path.read_text()
    assert text.startswith(f"# Trial {result.best_trial}, of a search of 4 trials")
    assert f"# Model    width = {row['width']}" in text
    assert result.best.train.seed == RECIPE.train.seed


def test_the_improvement_is_of_fresh_seeds_and_not_of_the_trial(found):
    result, _ = found
    fresh = json.loads((result.directory / "repeats" / "start-1" / "record.json").read_text())
    assert fresh["fields"]["train.seed"] == RECIPE.train.seed + 1
    gain = result.improvement
    assert gain.n == result.start_score.n == result.best_score.n == 2
    assert gain.low <= gain.mean <= gain.high
    np.testing.assert_allclose(gain.mean, result.start_score.mean - result.best_score.mean)


def test_tensorflow_does_not_warn_of_a_function_that_each_training_traces_once():
    from tfrecipes.searching import trials

    heard = []
    handler = logging.Handler()
    handler.emit = lambda entry: heard.append(entry.getMessage())
    logger = logging.getLogger("tensorflow")
    logger.addHandler(handler)
    words = "6 out of the last 32 calls to f triggered tf.function retracing."
    try:
        with trials._each_traces_its_own():
            logger.error(words)
            logger.error("another")
        logger.error(words)
    finally:
        logger.removeHandler(handler)
    assert heard == ["another", words]


def test_it_prints_a_line_a_training_and_then_the_table(found):
    result, said = found
    lines = said.splitlines()
    assert lines[0].startswith("Search in ")
    assert sum(line.startswith("trial ") and " of 4 " in line for line in lines) == 4
    assert sum(line.startswith("fresh seed ") for line in lines) == 4
    assert any("no score: RuntimeError: 24 does not fit" in line for line in lines)
    assert " left" in said
    assert str(result) in said
    assert "paired, 2 fresh seeds" in str(result)
    # Keras Tuner's own words are not there.
    assert "Search: Running Trial" not in said
    assert "Reloading" not in said


def test_models_are_freed_and_only_the_best_trial_s_is_kept(found):
    result, _ = found
    gc.collect()
    assert not [net for net in MADE if net() is not None]
    kept = sorted(path.parent.name for path in result.directory.rglob("model.keras"))
    scored = [row for row in result.table if row["score"] is not None]
    assert kept == [str(min(scored, key=lambda row: row["score"])["trial"])]
    assert not list(result.directory.rglob("checkpoints"))


def test_it_is_drawn(found, tmp_path):
    result, _ = found
    figure = result.plot(tmp_path / "search.png")
    assert [axes.get_xlabel() for axes in figure.axes] == [RATE, "width"]
    for path in (tmp_path / "search.png", result.directory / "search.png"):
        assert path.read_bytes()[:4] == b"\x89PNG"
    table = (result.directory / "table.csv").read_text().splitlines()
    assert table[0] == f"trial,{RATE},width,score,error,finding,seconds"
    assert len(table) == 5


def again(found, **changes):
    arguments = {"recipe": RECIPE, "trials": 4, "data": tiny.data(), **DATA}
    arguments |= {"space": SPACE, "repeats": 2, "finalists": 1, "seed": 3, **changes}
    return tfr.search(build, directory=found[0].directory, **arguments)


def test_a_finished_search_says_so_and_gives_the_same(found, capsys):
    before = sorted((p, p.stat().st_mtime_ns) for p in found[0].directory.rglob("*.json"))
    result = again(found)
    assert "this search is finished; nothing was changed" in capsys.readouterr().out
    assert str(result) == str(found[0])
    assert result.table == found[0].table
    assert before == sorted((p, p.stat().st_mtime_ns) for p in found[0].directory.rglob("*.json"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"space": {RATE: ("log", 1e-4, 0.5)}}, "space.schedule.peak_learning_rate is"),
        ({"trials": 5}, "trials is 4 there, 5 here"),
        ({"recipe": RECIPE.replace(**{"optimizer.weight_decay": 0.1})}, "recipe.optimizer.weight"),
        ({"data": tiny.data(seed=5)}, "data is"),
        ({"validation_data": tiny.data(seed=5)}, "validation_data is"),
        ({"seed": 4}, "seed is 3 there, 4 here"),
    ],
)
def test_another_search_s_folder_is_refused_with_the_difference(found, changes, words):
    with pytest.raises(ValueError, match="holds another search: ") as caught:
        again(found, **changes)
    assert words in str(caught.value)


def trained(*arguments):
    raise AssertionError("something was trained or built")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trials": 0}, "`trials` must be a whole number >= 1. Received: trials=0"),
        ({"repeats": 1}, "one fresh seed gives no interval"),
        ({"method": "sobl"}, "Did you mean `sobol`?"),
        ({"objective": "val_f1"}, "Say direction='min' or 'max'"),
        ({"direction": "up"}, "`direction` must be 'min' or 'max'"),
        ({"validation_data": None}, "`objective` needs validation data"),
        ({"space": {"optimizer.decay": ("log", 1, 2)}}, "optimizer.decay: unknown field"),
        ({"space": {}}, "there must be something to search"),
        ({"workers": 2}, "processes of their own"),
        ({"data": ((x, x) for x in [1])}, "Received: a generator"),
        ({"build_model": 3}, "Received: a int"),
        ({"build_model": lambda a, b: None}, "needs a, b"),
        ({"build_model": "target.py:f", "data": (1, 2)}, "a target brings its own data"),
        ({"method": "hyperband", "space": {"train.epochs": [1, 2]}}, "hyperband chooses itself"),
    ],
)
def test_what_cannot_be_searched_is_one_sentence_before_anything_trains(
    changes, words, tmp_path, monkeypatch
):
    from tfrecipes.searching import trials

    monkeypatch.setattr(trials, "run", trained)
    arguments = {"build_model": lambda: trained(), "data": tiny.data(), "recipe": RECIPE, **DATA}
    arguments |= {"space": SPACE, "directory": tmp_path / "search", **changes}
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        tfr.search(**arguments)
    assert words in str(caught.value)
    assert not (tmp_path / "search").exists()


def test_an_error_of_all_first_trials_ends_the_search_with_it(tmp_path):
    def broken():
        raise TypeError("Dense takes a whole number")

    with pytest.raises(ValueError, match="TypeError: Dense takes a whole number"):
        tfr.search(broken, tiny.data(), RECIPE, 9, tmp_path, space=SPACE, verbose=0, **DATA)
    assert len(list((tmp_path / "trials").iterdir())) == 3


def test_an_objective_that_no_training_logs_ends_it_after_one(tmp_path):
    with pytest.raises(ValueError, match=r"There are .*val_accuracy, val_loss"):
        tfr.search(
            tiny.dense_model,
            tiny.data(),
            RECIPE,
            directory=tmp_path,
            space=SPACE,
            objective="val_auc",
            verbose=0,
            **DATA,
        )
    assert len(list((tmp_path / "trials").iterdir())) == 1


def test_a_training_that_is_not_finite_says_so(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Overflow(keras.losses.Loss):
        def call(self, y_true, y_pred):
            return keras.ops.sum(y_pred, axis=-1) * float("nan")

    recipe = RECIPE.replace(**{"step.max_bad_steps": 2, "train.batch_size": 16})
    with pytest.raises(ValueError, match="no trial has a score"):
        tfr.search(
            tiny.dense_model,
            tiny.data(),
            recipe,
            1,
            tmp_path,
            loss=Overflow(),
            space=SPACE,
            verbose=0,
            **DATA,
        )
    record = json.loads((tmp_path / "trials" / "0" / "record.json").read_text())
    assert record["score"] is None
    assert "not finite" in record["error"] or "non-finite" in record["error"]
    assert "not_finite" in record["finding"]


def test_the_default_space_is_inside_the_finder_s_interval_and_found_once(tmp_path, monkeypatch):
    from tfrecipes.searching import search as module
    from tfrecipes.searching import trials

    class Ended(BaseException):
        pass

    def ended(*arguments, **more):
        raise Ended

    monkeypatch.setattr(trials, "run", ended)
    data = tiny.data(samples=512)
    arguments = {"trials": 2, "directory": tmp_path, "verbose": 0, **DATA}
    with pytest.raises(Ended):
        tfr.search(tiny.dense_model, data, RECIPE, **arguments)
    written = json.loads((tmp_path / "search.json").read_text())
    names = [one["field"] for one in written["dimensions"]]
    assert names == [
        RATE,
        "optimizer.weight_decay",
        "schedule.warmup",
        "loss.label_smoothing",
    ]
    rate = written["dimensions"][0]
    assert (rate["kind"], rate["low"]) == ("log", written["found"]["low"])
    assert rate["low"] < written["found"]["suggestion"] < rate["high"]
    monkeypatch.setattr(module, "found_rate", trained)
    with pytest.raises(Ended):
        tfr.search(tiny.dense_model, data, RECIPE, **arguments)
