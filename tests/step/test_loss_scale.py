"""float16 with `tfr.LossScaleOptimizer`: alone in `apply`, and under the train step."""

import math
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import tfrecipes as tfr
from tests import tiny
from tfrecipes.arithmetic.loss_scale import CEILING, FLOOR
from tfrecipes.step.installed import step_of

INF = np.float32(np.inf)
WRAPPERS = {"ours": tfr.LossScaleOptimizer, "keras": keras.optimizers.LossScaleOptimizer}


def plain(values=(1.0, 2.0, 3.0, 4.0)):
    return keras.Variable(list(values))


def scale_of(optimizer):
    return float(optimizer.dynamic_scale)


def half_model(seed=0):
    """The tiny net in float16 with float32 logits."""
    keras.config.set_dtype_policy("mixed_float16")
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((tiny.FEATURES,))
    x = keras.layers.Dense(16, activation="tanh", name="hidden")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    outputs = keras.layers.Dense(tiny.CLASSES, dtype="float32", name="logits")(x)
    return keras.Model(inputs, outputs)


def fitted(optimizer, callbacks=(), net=None, jit=False, **changes):
    net = net or half_model()
    x, y = changes.pop("data", None) or tiny.data()
    net.compile(optimizer, tiny.loss(), jit_compile=jit)
    arguments = {"batch_size": 32, "epochs": 2, "shuffle": False, "verbose": 0} | changes
    history = net.fit(x, y, callbacks=[tfr.TrainStep(), *callbacks], **arguments)
    return net, history.history


# --------------------------------------------------------------------------- apply, without a step


def test_a_finite_step_divides_by_the_scale_and_an_infinite_one_changes_nothing():
    w = plain()
    optimizer = tfr.LossScaleOptimizer(keras.optimizers.SGD(0.5), initial_scale=1024.0)
    optimizer.build([w])
    optimizer.apply([tf.constant([1.0, 6.0, 7.0, 2.0]) * 1024.0])
    assert w.numpy().tolist() == [0.5, -1.0, -0.5, 3.0]
    for bad in (INF, -INF, np.float32(np.nan)):
        optimizer.apply([tf.constant([1.0, bad, 0.0, 0.0])], [w])
    assert w.numpy().tolist() == [0.5, -1.0, -0.5, 3.0]
    assert int(optimizer.iterations) == 1
    assert scale_of(optimizer) == 128.0
    assert int(optimizer.overflow_count) == 3
    assert float(optimizer.scale_loss(1.0)) == 128.0


def test_the_clip_sees_unscaled_gradients():
    w = plain([0.0, 0.0])
    inner = tfr.SGD(1.0, momentum=0.0, global_clipnorm=0.5)
    tfr.LossScaleOptimizer(inner, initial_scale=1024.0).apply(
        [tf.constant([3.0, 4.0]) * 1024.0], [w]
    )
    np.testing.assert_allclose(w.numpy(), [-0.3, -0.4], rtol=1e-6)
    below = plain([0.0, 0.0])
    inner = tfr.SGD(1.0, momentum=0.0, global_clipnorm=50.0)
    tfr.LossScaleOptimizer(inner, initial_scale=1024.0).apply(
        [tf.constant([3.0, 4.0]) * 1024.0], [below]
    )
    assert below.numpy().tolist() == [-3.0, -4.0]


@pytest.mark.parametrize("jit", [False, True])
def test_floor_and_ceiling_are_reached_and_held(jit):
    w = plain()
    optimizer = tfr.LossScaleOptimizer(
        tfr.SGD(0.0, momentum=0.0), initial_scale=2.0**15, dynamic_growth_steps=1
    )
    optimizer.build([w])

    @tf.function(jit_compile=jit)
    def apply(g):
        optimizer.apply([g], [w])

    down, up = [], []
    for _ in range(200):
        apply(tf.fill((4,), INF))
        down.append(scale_of(optimizer))
    assert down[14] == FLOOR
    assert set(down[14:]) == {FLOOR}
    assert int(optimizer.overflow_count) == 200
    for _ in range(40):
        apply(tf.ones(4))
        up.append(scale_of(optimizer))
    assert up[23] == CEILING
    assert set(up[23:]) == {CEILING}
    apply(tf.ones(4))
    assert np.isfinite(w.numpy()).all()


@pytest.mark.xfail(strict=True, reason="KERAS_FACTS 3: Keras's scale reaches 0, then NaN weights")
def test_keras_holds_a_floor():
    w = plain()
    optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.0))
    optimizer.build([w])
    apply = tf.function(lambda g: optimizer.apply([g], [w]))
    for _ in range(170):
        apply(tf.fill((4,), INF))
    apply(tf.zeros(4))
    assert scale_of(optimizer) >= FLOOR
    assert np.isfinite(w.numpy()).all()


def test_the_scale_doubles_after_so_many_good_steps_and_a_bad_one_counts_anew():
    w = plain()
    optimizer = tfr.LossScaleOptimizer(
        tfr.SGD(0.0, momentum=0.0), initial_scale=2.0, dynamic_growth_steps=2
    )
    seen = []
    for ok in (1, 1, 1, 0, 1, 0, 1, 1, 1, 1):
        optimizer.apply([tf.ones(4) if ok else tf.fill((4,), INF)], [w])
        seen.append(scale_of(optimizer))
    assert seen == [2, 4, 4, 2, 2, 1, 1, 2, 2, 4]


def test_the_inner_optimizers_own_scale_does_not_interfere():
    w = plain()
    inner = keras.optimizers.SGD(0.5, loss_scale_factor=100)
    optimizer = tfr.LossScaleOptimizer(inner)
    optimizer.apply([tf.constant([1.0, 6.0, 7.0, 2.0]) * optimizer.initial_scale], [w])
    assert w.numpy().tolist() == [0.5, -1.0, -0.5, 3.0]


def test_weights_without_a_gradient_are_left_alone():
    a, b = plain(), plain()
    optimizer = tfr.LossScaleOptimizer(keras.optimizers.SGD(1.0), initial_scale=2.0)
    optimizer.apply([tf.fill((4,), 2.0), None], [a, b])
    assert a.numpy().tolist() == [0, 1, 2, 3]
    assert b.numpy().tolist() == [1, 2, 3, 4]


def test_its_config_is_kerass_and_goes_round():
    optimizer = tfr.LossScaleOptimizer(
        tfr.AdamW(0.5, global_clipnorm=1.0),
        initial_scale=3.0,
        dynamic_growth_steps=2,
        name="half",
    )
    config = optimizer.get_config()
    assert set(config) == {"name", "inner_optimizer", "initial_scale", "dynamic_growth_steps"}
    again = tfr.LossScaleOptimizer.from_config(dict(config))  # Keras's takes from what it reads
    assert again.get_config() == config
    assert type(again.inner_optimizer) is tfr.AdamW
    assert (again.name, again.initial_scale, again.dynamic_growth_steps) == ("half", 3.0, 2)
    revived = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(optimizer))
    assert type(revived) is tfr.LossScaleOptimizer


def test_it_reads_the_config_of_kerass():
    config = keras.optimizers.LossScaleOptimizer(keras.optimizers.SGD(0.5)).get_config()
    assert tfr.LossScaleOptimizer.from_config(config).initial_scale == 2.0**15


def test_its_own_variables_are_each_saved_once():
    w = plain()
    optimizer = tfr.LossScaleOptimizer(tfr.SGD(0.1, momentum=0.0))
    optimizer.build([w])
    paths = [v.path for v in optimizer.variables]
    assert len(paths) == len(set(paths))
    names = {path.split("/")[-1] for path in paths}
    assert {"dynamic_scale", "step_counter", "overflow_count"} <= names


def test_the_rate_is_the_inner_optimizers():
    optimizer = tfr.LossScaleOptimizer(tfr.AdamW(0.5))
    optimizer.learning_rate = 0.25
    assert float(optimizer.inner_optimizer.learning_rate) == 0.25
    assert float(optimizer.learning_rate) == 0.25


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"initial_scale": 0.5}, r"in \[1, 2\*\*24\]"),
        ({"initial_scale": 2.0**25}, r"in \[1, 2\*\*24\]"),
        ({"initial_scale": math.nan}, r"in \[1, 2\*\*24\]"),
        ({"initial_scale": "auto"}, r"in \[1, 2\*\*24\]"),
        ({"initial_scale": True}, r"in \[1, 2\*\*24\]"),
        ({"dynamic_growth_steps": 0}, "an integer >= 1"),
        ({"dynamic_growth_steps": 2.5}, "an integer >= 1"),
        ({"dynamic_growth_steps": True}, "an integer >= 1"),
        ({"dynamic": False}, "loss_scale_factor"),
        ({"foo": 1}, "foo"),
        ({"global_clipnorm": 1.0}, "on the `inner_optimizer`"),
        ({"use_ema": True}, "on the `inner_optimizer`"),
    ],
)
def test_a_bad_argument_gets_one_sentence(arguments, words):
    with pytest.raises(ValueError, match=words):
        tfr.LossScaleOptimizer(tfr.AdamW(), **arguments)


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_wrapping_twice_is_refused(wrapper):
    with pytest.raises(ValueError, match="already scales"):
        tfr.LossScaleOptimizer(wrapper(tfr.AdamW()))


@pytest.mark.parametrize("inner", ["adam", None, 0.1])
def test_what_is_no_optimizer_is_refused(inner):
    with pytest.raises(ValueError, match="`inner_optimizer` must be a Keras optimizer"):
        tfr.LossScaleOptimizer(inner)


def test_apply_before_build_needs_the_weights():
    with pytest.raises(ValueError, match="needs the variables"):
        tfr.LossScaleOptimizer(tfr.AdamW()).apply([tf.ones(4)])


# -------------------------------------------------------------------------------- under the step


@pytest.mark.parametrize("jit", [False, True])
def test_kerass_wrapper_under_our_step_is_ours(jit):
    runs = []
    for wrapper in WRAPPERS.values():
        # 2**24 times a loss of 1 overflows float16 in the backward pass: skips come first.
        optimizer = wrapper(
            tfr.AdamW(1e-2, global_clipnorm=1.0), initial_scale=2.0**24, dynamic_growth_steps=2
        )
        net, history = fitted(optimizer, [tfr.Monitor()], jit=jit, epochs=6)
        assert int(step_of(net).state.overflows) > 0
        runs.append(
            [*history.values(), scale_of(optimizer), int(optimizer.iterations), *net.get_weights()]
        )
    for ours, kerass in zip(*runs, strict=True):
        np.testing.assert_array_equal(ours, kerass)


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_a_run_of_bad_steps_ends_at_the_floor_and_not_in_nan(wrapper, capsys):
    x, y = tiny.data()
    optimizer = wrapper(tfr.AdamW(1e-2), initial_scale=4.0)
    net = half_model()
    before = tiny.weights(net)
    net.compile(optimizer, tiny.loss())
    net.fit(
        x * np.inf, y, batch_size=2, epochs=9, verbose=0, callbacks=[tfr.TrainStep("stop")]
    )  # "stop": not while the scale still falls
    assert scale_of(optimizer) == FLOOR
    assert int(step_of(net).state.attempts) == 3  # at 4, at 2 and at 1
    assert "Loss scale 1" in capsys.readouterr().out
    assert all(np.array_equal(p, q) for p, q in zip(before, tiny.weights(net), strict=True))


@tf.custom_gradient
def _gradient_times(x, factor):
    return tf.identity(x), lambda g: (g * tf.cast(factor, g.dtype), None)


class Overflows(keras.layers.Layer):
    """Its gradient is infinite where a sample of the batch is marked: feature 0 above 100."""

    def call(self, x):
        marked = tf.reduce_any(x[:, 0] > 100)
        return _gradient_times(x, tf.where(marked, INF, 1.0))


def marked_model(policy="mixed_float16"):
    keras.config.set_dtype_policy(policy)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((tiny.FEATURES,))
    x = keras.layers.Dense(4, name="first")(inputs[:, 1:])
    marker = Overflows(dtype="float32")(keras.layers.Concatenate(dtype="float32")([inputs, x]))
    outputs = keras.layers.Dense(tiny.CLASSES, dtype="float32")(marker[:, 1:] / 100)
    return keras.Model(inputs, outputs)


def marked_data(bad, batches=6, size=16):
    x, y = tiny.data(batches * size)
    x[:, 0] = 0
    for batch in bad:
        x[batch * size + 3, 0] = 1000.0
    return x, y


@pytest.mark.parametrize("wrapper", WRAPPERS.values(), ids=WRAPPERS)
def test_a_skipped_step_advances_neither_iterations_nor_schedule_nor_average(wrapper):
    bad, size = (0, 2, 3), 16
    x, y = marked_data(bad)
    good = np.concatenate([np.arange(b * size, (b + 1) * size) for b in range(6) if b not in bad])
    runs = []
    for data in ((x, y), (x[good], y[good])):
        # A power of two and no growth: the scale itself changes no bit.
        optimizer = wrapper(
            tfr.AdamW(tfr.WarmupCosine(0.1, 3, warmup_steps=1), global_clipnorm=0.01),
            initial_scale=64.0,
        )
        net, _ = fitted(
            optimizer,
            [tfr.EMA(0.5), tfr.Monitor()],
            net=marked_model(),
            data=data,
            batch_size=size,
            epochs=1,
        )
        runs.append((net, optimizer, step_of(net)))
    (with_bad, optimizer, step), (without, _, other) = runs
    assert int(optimizer.iterations) == 3
    assert scale_of(optimizer) == 64.0 / 2 ** len(bad)
    assert int(step.state.overflows) == len(bad)
    assert int(step.state.averaged) == 3
    for p, q in zip(with_bad.get_weights(), without.get_weights(), strict=True):
        assert np.array_equal(p, q)
    have = (*step.state.averages, *optimizer.inner_optimizer.variables)
    want = (*other.state.averages, *runs[1][1].inner_optimizer.variables)
    for p, q in zip(have, want, strict=True):
        assert np.array_equal(p.numpy(), q.numpy())


def test_any_pattern_of_bad_steps_is_as_if_they_had_not_been():
    size, batches = 8, 6
    # In float16 a smaller scale leaves fewer bits to gradients below 6e-5; in float32 none is lost.
    net = marked_model("float32")
    optimizer = tfr.LossScaleOptimizer(
        tfr.AdamW(tfr.WarmupCosine(0.1, 5, warmup_steps=1), global_clipnorm=0.05),
        initial_scale=2.0**10,
        dynamic_growth_steps=2,
    )
    net.compile(optimizer, tiny.loss())
    net.build((None, tiny.FEATURES))
    optimizer.build(net.trainable_variables)
    variables = [*net.variables, *optimizer.variables]
    start = [v.numpy() for v in variables]

    def run(data):
        for v, value in zip(variables, start, strict=True):
            v.assign(value)
        net.fit(*data, batch_size=size, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
        kept = (*net.variables, *optimizer.inner_optimizer.variables)
        return [v.numpy() for v in kept], scale_of(optimizer), int(optimizer.overflow_count)

    @settings(deadline=None, max_examples=15)
    @given(bad=st.sets(st.integers(0, batches - 1), max_size=batches - 1))
    def holds(bad):
        x, y = marked_data(bad, batches, size)
        ok = [b not in bad for b in range(batches)]
        after, scale, overflows = run((x, y))
        without, *_ = run((x[np.repeat(ok, size)], y[np.repeat(ok, size)]))
        for p, q in zip(after, without, strict=True):
            np.testing.assert_array_equal(p, q)
        want, good = 2.0**10, 0
        for good_step in ok:
            good = good + 1 if good_step else 0
            want = want / 2 if not good_step else want * 2 if good == 2 else want
            good %= 2
        assert (scale, overflows) == (want, len(bad))

    holds()


@pytest.mark.parametrize("cut", [tfr.MicroBatch(8), tfr.GradientAccumulation(2)])
def test_one_bad_micro_batch_skips_its_whole_step(cut):
    bad = (1, 4)  # of 6 batches of 16
    size = 32 if isinstance(cut, tfr.MicroBatch) else 16
    optimizer = tfr.LossScaleOptimizer(tfr.AdamW(1e-2), initial_scale=64.0)
    _, history = fitted(
        optimizer,
        [cut, tfr.Monitor()],
        net=marked_model(),
        data=marked_data(bad),
        batch_size=size,
        epochs=1,
    )
    assert int(optimizer.overflow_count) == 2  # steps 0 and 2
    assert int(optimizer.iterations) == 1
    assert history["loss_scale"] == [32.0]  # what the last step's loss was multiplied by
    assert scale_of(optimizer) == 16.0


@pytest.mark.parametrize("cut", [tfr.MicroBatch(10), tfr.GradientAccumulation(3)])
def test_micro_batches_in_float16_are_the_batch_to_float16(cut):
    nets = []
    for callbacks, size in (([], 48), ([cut], 48 if isinstance(cut, tfr.MicroBatch) else 16)):
        keras.config.set_dtype_policy("mixed_float16")
        keras.utils.set_random_seed(0)
        net = keras.Sequential(
            [
                keras.Input((tiny.FEATURES,)),
                keras.layers.Dense(16, activation="tanh"),
                keras.layers.Dense(tiny.CLASSES, dtype="float32"),
            ]
        )
        optimizer = tfr.LossScaleOptimizer(tfr.SGD(0.5), initial_scale=2.0**10)
        fitted(optimizer, callbacks, net=net, batch_size=size, epochs=4)
        assert int(optimizer.iterations) == 8
        nets.append(net)
    for p, q in zip(*(n.get_weights() for n in nets), strict=True):
        # Rounding of each part's float16 gradient, 2**-11, over 8 steps.
        assert np.linalg.norm(p - q) < 2e-3 * max(np.linalg.norm(q), 0.1)


def test_the_average_in_float16_is_float32_and_what_validation_saw():
    data = tiny.data(40, seed=1)
    optimizer = tfr.LossScaleOptimizer(tfr.AdamW(1e-2))
    net, history = fitted(optimizer, [tfr.EMA(0.9)], epochs=3, validation_data=data)
    assert {v.dtype for v in step_of(net).state.averages} == {tf.float32}
    score = net.evaluate(*data, verbose=0)
    assert score == pytest.approx(history["val_loss"][-1], rel=1e-5)


def test_monitor_shows_scale_and_overflows(tmp_path):
    optimizer = tfr.LossScaleOptimizer(
        tfr.AdamW(1e-2, global_clipnorm=1e-3), initial_scale=64.0, dynamic_growth_steps=2
    )
    fitted(
        optimizer,
        [tfr.Monitor(tmp_path)],
        net=marked_model(),
        data=marked_data((1, 5)),
        batch_size=16,
        epochs=1,
    )
    rows = np.genfromtxt(tmp_path / "steps.csv", delimiter=",", names=True)
    assert rows["loss_scale"].tolist() == [64, 64, 32, 32, 64, 64]
    assert rows["overflow"].tolist() == [0, 1, 0, 0, 0, 1]
    assert rows["clipped"].tolist() == [1, 0, 1, 1, 1, 0]
    assert rows["update_norm"][[1, 5]].tolist() == [0, 0]
    good = rows["overflow"] == 0
    assert (rows["grad_norm"][good] < 10).all()  # unscaled
    assert (rows["update_norm"][good] > 0).all()
    assert scale_of(optimizer) == 32.0


def test_steps_per_execution_and_xla_change_nothing_in_what_is_skipped():
    runs = []
    for jit, group in ((False, 1), (False, 3), (True, 3)):
        net = marked_model()
        optimizer = tfr.LossScaleOptimizer(
            tfr.AdamW(1e-2), initial_scale=64.0, dynamic_growth_steps=2
        )
        net.compile(optimizer, tiny.loss(), steps_per_execution=group, jit_compile=jit)
        x, y = marked_data((2, 3))
        net.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
        runs.append((scale_of(optimizer), int(optimizer.overflow_count), int(optimizer.iterations)))
    # 64, doubled after two, halved twice, doubled after two
    assert runs == [(64.0, 2, 4)] * 3


LOADS = """
    import sys, keras, numpy as np
    import tfrecipes as tfr
    net = keras.saving.load_model(sys.argv[1])
    o = net.optimizer
    assert type(o) is tfr.LossScaleOptimizer, type(o)
    assert type(o.inner_optimizer) is tfr.AdamW
    print(float(o.dynamic_scale), int(o.step_counter), int(o.overflow_count), int(o.iterations))
    x = np.load(sys.argv[2])
    net.fit(x["x"], x["y"], batch_size=16, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
    print(float(o.dynamic_scale), int(o.step_counter), int(o.overflow_count), int(o.iterations))
    np.savez(sys.argv[3], *net.get_weights())
"""


def test_scale_counter_and_overflows_go_on_in_a_new_process(tmp_path):
    def state(o):
        return [scale_of(o), int(o.step_counter), int(o.overflow_count), int(o.iterations)]

    # No layer of the test's own: the other process has tfrecipes alone.
    optimizer = tfr.LossScaleOptimizer(
        tfr.AdamW(1e-2), initial_scale=2.0**24, dynamic_growth_steps=100
    )
    net, _ = fitted(optimizer, epochs=4)
    before = state(optimizer)
    assert before[2] > 0
    net.save(tmp_path / "m.keras")
    x, y = tiny.data(48, seed=5)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(LOADS)]
        + [str(tmp_path / name) for name in ("m.keras", "data.npz", "after.npz")],
        capture_output=True,
        text=True,
        check=True,
    )
    net.fit(x, y, batch_size=16, shuffle=False, verbose=0, callbacks=[tfr.TrainStep()])
    said = [[float(v) for v in line.split()] for line in run.stdout.splitlines()]
    assert said == [before, state(optimizer)]
    with np.load(tmp_path / "after.npz") as after:
        for p, q in zip(net.get_weights(), after.values(), strict=True):
            assert np.array_equal(p, q)
