"""`find_batch_size` as a whole: most tries by a stand-in, a few by real children."""

import contextlib
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from typer.testing import CliRunner

import tfrecipes as tfr
from tests import tiny
from tests.tuning import batch_targets
from tfrecipes import cli
from tfrecipes.assemble import batch_noise, fitting_batch
from tfrecipes.tuning import batch_children, batch_device, batch_folder, batch_limits
from tfrecipes.tuning.batch_children import TrialError
from tfrecipes.tuning.batch_limits import bytes_of
from tfrecipes.tuning.batch_result import BatchSize
from tfrecipes.tuning.batch_search import Tried

GB = 10**9
RECIPE = tfr.Recipe.load("default").replace(**{"train.batch_size": 16, "train.epochs": 4})


@pytest.fixture
def children(monkeypatch):
    """What each child would be given, and a limit of samples instead of one of bytes."""

    class Children:
        def __init__(self):
            self.most = 100
            self.given = []
            self.sizes = []

    seen = Children()

    def attempt(work, folder, size, *, limit, seconds, environment, tick):
        seen.sizes.append(size)
        seen.given.append(batch_folder.read(folder))
        seen.folder = folder
        tick(GB)
        fits = size <= seen.most
        return Tried(size, fits, GB + size * 10**6, 7.0, "" if fits else "stopped at 2 GB")

    monkeypatch.setattr(batch_children, "attempt", attempt)
    return seen


def find(model, data, recipe=RECIPE, memory="2GB", verbose=0, **more):
    return tfr.find_batch_size(model, data, recipe, memory=memory, verbose=verbose, **more)


# -- what is found ---------------------------------------------------------------------------------


def test_both_are_found_and_said_with_what_to_do(children, tmp_path):
    children.most = 10
    found = find(tiny.model, tiny.data(400))
    assert found.micro_batch == 10
    assert max(children.sizes) >= 11
    assert [t["size"] for t in found.tries] == children.sizes
    assert set(found.tries[0]) == {"size", "fits", "peak", "seconds", "why"}
    first, last = found.points
    assert (first["step"], last["step"]) == (0, 10)  # a tenth of 4 epochs of 25 steps
    assert found.critical_batch == last["critical_batch"]
    assert found.interval == (last["low"], last["high"])
    assert first["low"] < first["critical_batch"] < first["high"]
    words = str(found)
    assert "10 is the largest that fits into 2 GB: 1.01 GB at its peak; 11 does not" in words
    assert f"train.batch_size = {found.batch_size}" in words
    assert f"step.gradient_accumulation_steps = {found.gradient_accumulation_steps}" in words
    changed = RECIPE.replace(**found.changes)
    assert changed.train.batch_size == found.batch_size
    assert -(-found.batch_size // changed.step.gradient_accumulation_steps) <= 10
    json.dumps(found.as_dict())
    found.plot(tmp_path / "batch.png")
    assert (tmp_path / "batch.png").stat().st_size > 5000
    assert not children.folder.exists()


def test_the_whole_data_are_the_bound(children):
    children.most = 10**6
    found = find(tiny.model, tiny.data(96), steps=0)
    assert found.micro_batch == 96
    assert "no larger one was to be tried" in str(found)
    assert len(found.points) == 1
    assert find(tiny.model, tiny.data(96), steps=0, largest=20).micro_batch == 20


def test_a_child_is_given_rows_the_recipe_and_how_to_make_the_model(children):
    x, y = tiny.data(400)
    weight = np.linspace(0, 1, 400).astype("float32")
    find(batch_targets.net, (x, y, weight), steps=0, start=4)
    given = children.given[0]
    assert given["model"] == {
        "kind": "function",
        "module": "tests.tuning.batch_targets",
        "name": "net",
    }
    np.testing.assert_array_equal(given["rows"][0], x[: len(given["rows"][0])])
    assert (given["samples"], given["held"], given["batch_size"]) == (400, "arrays", 16)
    assert tfr.Recipe.from_dict(given["recipe"]) == RECIPE
    assert children.sizes[0] == 4


def test_a_stream_is_read_and_not_moved_on(children):
    data = tf.data.Dataset.from_tensor_slices(tiny.data(96)).shuffle(96, seed=3).batch(12)
    plain = tf.data.Dataset.from_tensor_slices(tiny.data(96)).shuffle(96, seed=3).batch(12)
    found = find(tiny.model, data, steps=3)
    assert children.given[0]["held"] == "stream"
    assert children.given[0]["samples"] is None
    assert found.given_batch == 12
    assert "the data's batches of" in str(found) or "Batch the data by" in str(found)
    for one, other in zip(data, plain, strict=True):
        np.testing.assert_array_equal(one[0], other[0])


def test_a_compiled_model_keeps_its_own_optimizer_and_loss(children):
    model = tiny.dense_model()
    model.compile(keras.optimizers.Adam(1e-2), tiny.loss())
    found = find(model, tiny.data(256), recipe=None, steps=5)
    assert children.given[0]["recipe"] is None
    assert found.given_batch == 32
    assert len(found.points) == 2


def test_a_rate_that_is_to_be_found_is_no_hindrance(children):
    recipe = RECIPE.replace(**{"schedule.peak_learning_rate": "find"})
    found = find(tiny.model, tiny.data(200), recipe)
    assert len(found.points) == 1
    assert "the rate is to be found first" in str(found)


def test_what_cannot_be_measured_is_said_and_the_rest_stands(children):
    class OwnStep(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = keras.layers.Dense(3)

        def call(self, x):
            return self.dense(x)

        def train_step(self, data):
            return super().train_step(data)

    found = find(batch_targets.net, tiny.data(15), steps=0)
    assert math.isnan(found.critical_batch)
    assert "15 samples are too few" in str(found)
    assert found.micro_batch == 15
    noise = batch_noise.measure(
        OwnStep(), None, None, micro_batch=4, steps=1, seed=0, tick=lambda *_: None
    )
    assert "has its own `train_step`" in noise.notes[0]


def test_a_training_that_diverges_leaves_the_first_measurement(children):
    x, y = tiny.data(200)
    x[150:] = np.nan  # in the part that is trained on, or measured
    found = find(tiny.dense_model, (x, y), steps=4)
    assert any("must be finite" in note for note in found.notes)


def test_noise_alone_is_said_to_have_no_upper_end(children):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((600, 8)).astype("float32")
    y = rng.integers(0, 3, 600).astype("int32")
    model = tiny.dense_model()
    # At the best constant answer the true gradient is 0, and a sample's is not.
    model.get_layer("logits").kernel.assign(tf.zeros((16, 3)))
    found = find(model, (x, y), steps=0, recipe=RECIPE.replace(**{"loss.label_smoothing": 0.0}))
    assert found.interval[1] == math.inf
    assert found.batch_size == 16
    assert "no upper end" in str(found)
    assert found.as_dict()["interval"][1] is None


# -- nothing is changed ----------------------------------------------------------------------------


def state(net):
    optimizer = getattr(net, "optimizer", None)
    variables = [*net.variables, *net.metrics_variables]
    variables += [] if optimizer is None else optimizer.variables
    return [np.array(v.numpy()).tobytes() for v in variables], id(optimizer), sorted(vars(net))


def trained():
    net = tiny.model()
    net.compile(keras.optimizers.Adam(1e-2), tiny.loss(), metrics=["accuracy"])
    net.fit(*tiny.data(), batch_size=32, verbose=0)
    return net


@pytest.mark.parametrize("recipe", [RECIPE, None], ids=["recipe", "own"])
def test_the_model_and_the_seeds_are_bitwise_as_before(children, recipe):
    net = trained()
    before = state(net)
    np.random.seed(3)
    coming = np.random.get_state()[1].copy()
    find(net, tiny.data(200), recipe, steps=6)
    assert state(net) == before
    np.testing.assert_array_equal(np.random.get_state()[1], coming)


@pytest.mark.parametrize("error", [RuntimeError("stop"), KeyboardInterrupt()])
@pytest.mark.parametrize("place", ["try", "train", "measure"])
def test_after_an_exception_too_and_no_folder_stays(children, monkeypatch, error, place):
    def stop(*args, **kwargs):
        raise error

    net = trained()
    before = state(net)
    if place == "try":
        monkeypatch.setattr(batch_children, "attempt", stop)
    elif place == "train":
        real = batch_noise._train

        def train_and_stop(*args):
            real(*args)
            stop()

        monkeypatch.setattr(batch_noise, "_train", train_and_stop)
    else:
        monkeypatch.setattr(batch_noise, "products", stop)
    made = []
    real_folder = batch_folder.temporary_folder

    @contextlib.contextmanager
    def folder():
        with real_folder() as path:
            made.append(path)
            yield path

    monkeypatch.setattr(batch_folder, "temporary_folder", folder)
    with pytest.raises(type(error)):
        find(net, tiny.data(200), steps=3)
    assert state(net) == before
    assert made
    assert not made[0].exists()


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"memory": None}, "on a CPU `memory` must say what the whole process may take"),
        ({"memory": "much"}, "`memory` must be bytes, or words such as"),
        ({"memory": 0}, "`memory` must be bytes, or words such as"),
        ({"memory": True}, "`memory` must be bytes, or words such as"),
        ({"memory": "900TB"}, "must be what this machine has at most"),
        ({"largest": 0}, "`largest` must be a whole number >= 1. Received: largest=0"),
        ({"start": 1.5}, "`start` must be a whole number >= 1"),
        ({"steps": -1}, "`steps` must be a whole number >= 0"),
        ({"try_seconds": 0}, "`try_seconds` must be a number > 0"),
        ({"recipe": "nowhere"}, "nowhere"),
    ],
)
def test_arguments_out_of_range_are_one_sentence(children, arguments, words):
    with pytest.raises(ValueError, match=words) as caught:
        find(tiny.dense_model, tiny.data(64), **arguments)
    assert len(str(caught.value).splitlines()) == 1
    assert children.sizes == []


def test_a_generator_and_a_call_inside_a_try_are_refused(children, monkeypatch):
    with pytest.raises(ValueError, match="Received: a generator"):
        find(tiny.dense_model, (b for b in [tiny.data(8)]))
    monkeypatch.setenv(batch_folder.TRYING, "1")
    with pytest.raises(ValueError, match='if __name__ == "__main__":'):
        find(tiny.dense_model, tiny.data(64))


def test_nothing_fits_is_a_sentence(children):
    children.most = 0
    with pytest.raises(ValueError, match="not even a micro-batch of 1 fits into 2 GB"):
        find(tiny.dense_model, tiny.data(64))


def test_classes_that_no_other_process_can_import_are_refused(children):
    class Mine(keras.layers.Layer):
        def call(self, x):
            return x

    net = keras.Sequential([keras.Input((8,)), Mine(), keras.layers.Dense(3)])
    with pytest.raises(ValueError, match=r"Mine, which no other process can import. Pass a func"):
        find(net, tiny.data(64))
    found = batch_folder.source_of_function(lambda: net)
    assert found is None, "a lambda is saved, and not imported"


def test_a_class_that_is_not_registered_loads_where_it_can_be_imported(tmp_path):
    net = keras.Sequential([keras.Input((8,)), batch_targets.Doubled(), keras.layers.Dense(3)])
    source = batch_folder.source_of_model(net, tmp_path)
    assert source["classes"] == [("tests.tuning.batch_targets", "Doubled")]
    loaded = batch_folder.model_from(source, tmp_path, compiled=False)
    assert type(loaded.layers[0]) is batch_targets.Doubled


def test_a_loss_of_the_main_script_is_refused():
    def mine(y, y_pred):
        return y_pred

    for loss in (mine, lambda y, p: p):
        with pytest.raises(ValueError, match="`loss` must be importable by another process"):
            batch_folder.packed_loss(loss)
    assert batch_folder.packed_loss(keras.losses.Huber(0.3))


def test_words_for_memory():
    assert bytes_of("2GB") == bytes_of("2 gb") == bytes_of("2g") == 2 * GB
    assert bytes_of("1.5GiB") == 1.5 * 2**30
    assert bytes_of("512MiB") == 2**29
    assert bytes_of("123") == bytes_of("123B") == 123


# -- a GPU that is only played ---------------------------------------------------------------------


def test_on_a_gpu_the_device_is_the_limit_and_nobody_watches_the_host(children, monkeypatch):
    monkeypatch.setattr(fitting_batch, "accelerators", lambda: ["an H100"])
    monkeypatch.setattr(batch_device, "device_memory", lambda: (78 * GB, 80 * GB))
    watched = []
    real = batch_children.attempt

    def attempt(*args, limit, **kwargs):
        watched.append(limit)
        return real(*args, limit=limit, **kwargs)

    monkeypatch.setattr(batch_children, "attempt", attempt)
    found = find(tiny.dense_model, tiny.data(300), memory=None, steps=0)
    assert found.micro_batch == 100
    assert set(watched) == {None}
    assert children.given[0]["on_gpu"]
    assert children.given[0]["device_limit"] is None
    assert "fits into the GPU" in str(found)
    find(tiny.dense_model, tiny.data(300), memory="10GB", steps=0)
    assert children.given[-1]["device_limit"] == 10 * GB


def test_a_gpu_that_is_taken_is_refused(monkeypatch):
    monkeypatch.setattr(batch_device, "device_memory", lambda: (3 * GB, 80 * GB))
    with pytest.raises(ValueError, match=r"3 GB of 80 GB free.*set_memory_growth"):
        batch_limits.limit_of(None, on_gpu=True)
    assert batch_limits.limit_of("2GB", on_gpu=True) == 2 * GB


# -- words -----------------------------------------------------------------------------------------


def result(batch_size, given, critical, low, high, micro=100, stream=False):
    point = {"step": 9, "critical_batch": critical, "low": low, "high": high, "samples": 99}
    point |= {"trace": 1.0, "squared_norm": 1.0}
    return BatchSize(
        micro_batch=micro,
        critical_batch=critical,
        interval=(low, high),
        batch_size=batch_size,
        points=[point],
        tries=[{"size": micro, "fits": True, "peak": GB, "seconds": 1.0, "why": ""}],
        memory=2 * GB,
        given_batch=given,
        is_stream=stream,
    )


@pytest.mark.parametrize(
    ("found", "advice"),
    [
        (result(384, 64, 412.0, 300.0, 600.0), "Set train.batch_size = 384: 64 is below"),
        (result(384, 4096, 412.0, 300.0, 600.0), "Set train.batch_size = 384: 4096 is above"),
        (result(400, 400, 412.0, 300.0, 600.0), "Keep train.batch_size = 400: it is about"),
        (result(64, 64, math.inf, 90.0, math.inf), "Keep train.batch_size = 64: so many samples"),
        (result(384, 64, 412.0, 300.0, 600.0, stream=True), "Batch the data by 384: 64 is below"),
        (result(96, 64, 100.0, 90.0, 110.0), "a step needs no micro-batches. Find the learning"),
        (
            result(384, 64, 412.0, 300.0, 600.0),
            "gradient_accumulation_steps = 4 (micro-batches of 96)",
        ),
    ],
)
def test_the_advice(found, advice):
    assert advice in str(found)


@pytest.mark.parametrize(
    ("given", "low", "high", "wanted"),
    [(64, 300, 600, 384), (400, 300, 600, 400), (4096, 300, 600, 384), (64, 300, math.inf, 64)],
)
def test_which_batch_to_take(given, low, high, wanted):
    noise = batch_noise.Noise([{"critical_batch": 412.0, "low": low, "high": high}], [])
    assert batch_noise.batch_to_take(noise, given, 10_000) == wanted
    assert batch_noise.batch_to_take(noise, given, 100) <= max(given, 100)


# -- the command line ------------------------------------------------------------------------------


def run(*arguments):
    return CliRunner().invoke(cli.app, ["find-batch", *map(str, arguments)])


def test_the_demo_by_the_command_line(children, tmp_path, monkeypatch):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    ran = run("--recipe", "tiny", "--memory", "2GB", "--steps", 0, "--plot", tmp_path / "b.png")
    assert ran.exit_code == 0, ran.output
    assert ran.stdout.startswith("Micro-batch     100 is the largest that fits into 2 GB")
    assert "micro-batch 104  does not fit: stopped at 2 GB" in ran.stderr
    assert (tmp_path / "b.png").is_file()
    assert children.given[0]["model"]["module"] == "tfrecipes.demo.digits"
    ran = run("--memory", "2GB", "--steps", 0, "--largest", 8, "--json", "--seed", 3)
    assert json.loads(ran.stdout)["micro_batch"] == 8
    assert ran.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "find_batch_size: on a CPU `memory` must say"),
        (["--memory", "lots"], "find_batch_size: `memory` must be bytes"),
        (["--memory", "2GB", "--largest", "0"], "find_batch_size: `largest` must be"),
        (["nowhere.py:f", "--memory", "2GB"], "target nowhere.py:f"),
        (["--set", "ema", "--memory", "2GB"], "--set: must be `table.key=value`"),
    ],
)
def test_bad_input_is_one_sentence_and_2(children, monkeypatch, arguments, words):
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    ran = run(*arguments)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr.startswith(words)
    assert len(ran.stderr.splitlines()) == 1


def test_a_try_that_fails_is_one_sentence_and_1(monkeypatch):
    def attempt(*args, **kwargs):
        raise TrialError("find_batch_size: the try of a micro-batch of 3 failed. Received: x.")

    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setattr(batch_children, "attempt", attempt)
    ran = run("--memory", "2GB")
    assert ran.exit_code == 1
    assert ran.stderr == "find_batch_size: the try of a micro-batch of 3 failed. Received: x.\n"
    assert isinstance(run("--memory", "2GB", "--debug").exception, TrialError)


# -- real children ---------------------------------------------------------------------------------


def test_a_real_child_trains_and_says_its_peak(capfd):
    net = trained()
    before = state(net)
    found = find(net, tiny.data(96), memory="6GB", largest=24, start=24, steps=2, verbose="auto")
    (tried,) = found.tries
    assert (found.micro_batch, tried["fits"]) == (24, True)
    # Python and TensorFlow alone take half a GB.
    assert 0.3 * GB < tried["peak"] < 6 * GB
    assert state(net) == before
    assert "micro-batch 24  fits" in capfd.readouterr().out


def test_a_real_child_that_fails_is_an_error_with_its_own_words():
    with pytest.raises(
        TrialError, match=r"micro-batch of 16 failed.*KeyError: 'no weights to load'"
    ):
        find(batch_targets.fails_in_a_child, tiny.data(96), memory="6GB")
