"""Pictures are whole, headless, leave nothing behind, and lose no spike."""

import re
import sys
import warnings
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tests.arithmetic.schedule_cases import CASES
from tests.views.runs import full_run
from tfrecipes.arithmetic.schedules import StepDecay, WarmupCosine
from tfrecipes.runs.folder import RunFolder
from tfrecipes.views.canvas import DARK, LIGHT, figure_svg
from tfrecipes.views.heat import MOST_ROWS
from tfrecipes.views.plots import MOST_POINTS, plot_run, plot_schedule
from tfrecipes.views.thinning import thinned

PNG, PDF = b"\x89PNG\r\n\x1a\n", b"%PDF"


def steps_of(rows, **changes):
    t = np.arange(rows)
    table = {
        "step": t,
        "learning_rate": np.linspace(1e-3, 0, rows),
        "loss": 2.0 / (1 + t / 100),
        "grad_norm": 1.0 + 0.5 * np.sin(t),
        "update_ratio": np.full(rows, 1e-3),
        "clipped": (t % 4 == 0).astype(float),
        "overflow": np.zeros(rows),
    }
    return table | changes


EPOCHS = {
    "loss": np.array([2.0, 1.5, 1.2]),
    "val_loss": np.array([2.1, 1.7, 1.5]),
    "accuracy": np.array([0.3, 0.5, 0.6]),
    "val_accuracy": np.array([0.2, 0.4, 0.5]),
}


def run_of(steps=None, epochs=None, **more):
    return SimpleNamespace(steps=steps or {}, epochs=epochs or {}, **more)


def panels(figure):
    return {axes.get_ylabel().split("\n")[0]: axes for axes in figure.axes}


def lines(axes):
    return {line.get_label(): line for line in axes.lines}


def drawn(figure):
    """Draws it all: much of matplotlib goes wrong only then."""
    figure.canvas.draw()
    return figure


def test_a_schedule_is_drawn_with_its_name_arguments_and_units():
    figure = drawn(plot_schedule(WarmupCosine(1e-3, 1000, warmup_steps=50), 1000))
    (axes,) = figure.axes
    words = " ".join(text.get_text() for text in axes.texts)
    assert axes.get_title(loc="left") == "WarmupCosine"
    assert "peak learning rate 0.001   total steps 1,000   warmup steps 50" in words
    assert "peak 0.001 at step 50, the warmup's end" in words
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("step [optimizer updates]", "learning rate")
    np.testing.assert_array_equal(axes.lines[0].get_xdata(), np.arange(1001))


def test_every_schedule_can_be_drawn():
    for case in CASES:
        last = int(case.steps[-1])
        (axes,) = plot_schedule(case.make(), last).figure.axes
        x, y = axes.lines[0].get_data()
        assert len(x) <= MOST_POINTS
        assert (x[0], x[-1]) == (0, last)
        np.testing.assert_allclose(y.max(), case.make()(x).numpy().max(), err_msg=case.name)


def test_a_long_schedule_keeps_its_corners_between_the_points():
    schedule = StepDecay(0.1, [3_333_333, 6_666_667], warmup_steps=77_777)
    (axes,) = plot_schedule(schedule, 10_000_000).axes
    x = axes.lines[0].get_xdata()
    assert len(x) <= MOST_POINTS
    assert set(x) >= {77_776, 77_777, 3_333_332, 3_333_333, 6_666_666, 6_666_667}


def test_keras_schedules_and_plain_functions_can_be_drawn():
    keras_schedule = keras.optimizers.schedules.PiecewiseConstantDecay([5], [0.1, 0.01])
    (axes,) = plot_schedule(keras_schedule, 10).axes
    np.testing.assert_allclose(axes.lines[0].get_ydata()[[0, 5, 6]], [0.1, 0.1, 0.01])
    figure = drawn(plot_schedule(lambda step: 0.0, 10))
    assert figure.axes[0].get_ylim() == (0.0, 1.0)


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_the_suffix_decides_the_format(suffix, tmp_path):
    path = tmp_path / f"picture.{suffix}"
    plot_schedule(WarmupCosine(1e-3, 100), 100, path=path)
    start = path.read_bytes()[:400]
    assert {"png": PNG, "pdf": PDF, "svg": b"<?xml"}[suffix] in start[:8]


def test_the_same_path_is_overwritten_and_a_string_will_do(tmp_path):
    path = tmp_path / "p.png"
    path.write_bytes(b"old")
    plot_run(run_of(epochs=EPOCHS), path=str(path))
    assert path.read_bytes()[:8] == PNG


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("absent/p.png", "the folder of `path` must exist"),
        ("p.xyz", "`path` must end in a format"),
        ("p", "End it in .png, .svg or .pdf."),
        ("taken.png", "`path` must be a file that can be written"),
    ],
)
def test_a_path_that_cannot_be_written_is_refused_in_a_sentence(name, words, tmp_path):
    (tmp_path / "taken.png").mkdir()
    with pytest.raises(ValueError, match=re.escape(words)) as caught:
        plot_schedule(WarmupCosine(1e-3, 100), 100, path=tmp_path / name)
    assert str(caught.value).startswith("plot_schedule: ")


@pytest.mark.parametrize("total_steps", [0, -1, 10.0, True, "10", None])
def test_a_total_that_is_none_is_refused(total_steps):
    with pytest.raises(ValueError, match=r"plot_schedule: `total_steps` must be an int >= 1\. Rec"):
        plot_schedule(WarmupCosine(1e-3, 100), total_steps)


def test_what_is_no_schedule_is_refused():
    with pytest.raises(ValueError, match=r"must be a learning-rate schedule\. Received: sch"):
        plot_schedule(1e-3, 100)


def test_a_run_has_a_panel_for_all_that_it_recorded():
    figure = drawn(plot_run(run_of(steps_of(300), EPOCHS, recipe={"name": "default"})))
    axes = panels(figure)
    assert list(axes) == ["loss", "accuracy", "learning rate", "gradient norm", "update ratio"]
    assert set(lines(axes["loss"])) == {"each step", "epoch mean", "validation"}
    assert "clipped, 25% of steps" in lines(axes["gradient norm"])
    assert figure.axes[-1].get_xlabel() == "step [optimizer updates]"
    assert figure.axes[0].get_title(loc="left") == "Recipe default"


def test_epochs_stand_at_their_last_steps():
    equal = panels(plot_run(run_of(steps_of(301), EPOCHS)))["loss"]
    np.testing.assert_array_equal(lines(equal)["validation"].get_xdata(), [100, 200, 300])
    known = EPOCHS | {"step": np.array([99, 150, 300])}
    axes = panels(plot_run(run_of(steps_of(301), known)))["loss"]
    np.testing.assert_array_equal(lines(axes)["validation"].get_xdata(), [99, 150, 300])


def test_only_epochs_or_only_steps_are_enough():
    figure = drawn(plot_run(run_of(epochs=EPOCHS | {"learning_rate": [0.1, 0.1, 0.01]})))
    assert list(panels(figure)) == ["loss", "accuracy", "learning rate"]
    assert figure.axes[-1].get_xlabel() == "epoch"
    figure = drawn(plot_run(run_of(steps_of(50))))
    assert list(panels(figure)) == ["loss", "learning rate", "gradient norm", "update ratio"]


def test_a_keras_history_can_be_drawn():
    history = keras.callbacks.History()
    history.history = {"loss": [2.0, 1.0], "val_loss": [2.0, 1.5]}
    assert list(panels(drawn(plot_run(history)))) == ["loss"]


def test_one_row_is_a_visible_point():
    for run in run_of(steps_of(1)), run_of(epochs={"loss": [1.0]}):
        (line,) = [line for line in drawn(plot_run(run)).axes[0].lines]
        assert line.get_marker() == "o"


def test_what_is_not_finite_is_a_gap_and_a_mark():
    norm = np.ones(100)
    norm[[7, 8]], norm[50] = np.nan, np.inf
    loss = np.where(np.arange(100) == 7, np.nan, 1.0)
    figure = drawn(plot_run(run_of(steps_of(100, grad_norm=norm, loss=loss))))
    axes = panels(figure)
    marks = lines(axes["gradient norm"])["not finite, 3 steps"]
    np.testing.assert_array_equal(marks.get_xdata(), [7, 8, 50])
    assert np.isnan(lines(axes["loss"])["each step"].get_ydata()).sum() == 1


def test_a_run_of_nothing_but_nan_says_that_there_is_nothing_to_draw():
    nothing = {"loss": np.full(5, np.nan)}
    for run in run_of(), run_of(steps=nothing), run_of(epochs=nothing):
        with pytest.raises(ValueError, match=r"plot_run: a run must have a row"):
            plot_run(run)
    with pytest.raises(ValueError, match=r"`run` must be a run folder, or have"):
        plot_run(3)


def test_a_million_steps_keep_their_spike_and_few_points():
    loss = np.ones(1_200_000)
    loss[654_321], loss[77_777] = 9.0, 0.25
    axes = panels(plot_run(run_of(steps_of(loss.size, loss=loss))))
    assert all(len(line.get_xdata()) <= 4000 for a in axes.values() for line in a.lines)
    x, y = lines(axes["loss"])["each step"].get_data()
    assert (x[y.argmax()], y.max()) == (654_321, 9.0)
    assert (x[y.argmin()], y.min()) == (77_777, 0.25)


def test_thinning_keeps_order_ends_gaps_and_short_series():
    x = np.arange(50_000)
    y = np.random.default_rng(0).normal(size=x.size)
    y[10_000:20_000] = np.nan
    thin_x, thin_y = thinned(x, y)
    assert len(thin_x) <= 2000
    assert (np.diff(thin_x) > 0).all()
    assert (thin_x[0], thin_x[-1]) == (0, 49_999)
    assert np.isnan(thin_y[(thin_x > 10_100) & (thin_x < 19_900)]).all()
    assert np.isnan(thin_y).sum() > 100
    np.testing.assert_array_equal(thinned(x[:100], y[:100])[1], y[:100])


def test_a_value_that_spans_much_has_a_logarithmic_axis():
    axes = panels(plot_run(run_of(steps_of(100, grad_norm=np.geomspace(1e-3, 10, 100)))))
    assert axes["gradient norm"].get_yscale() == "log"
    assert axes["loss"].get_yscale() == "linear"


def test_a_run_folder_is_read_from_its_path(tmp_path):
    with RunFolder.open(tmp_path / "digits-1") as folder:
        folder.append_epoch({"loss": 2.0, "val_loss": 2.5})
        folder.append_epoch({"loss": 1.0, "val_loss": 1.5})
    for path in tmp_path / "digits-1", str(tmp_path / "digits-1"):
        figure = drawn(plot_run(path))
        np.testing.assert_array_equal(lines(figure.axes[0])["epoch mean"].get_ydata(), [2.0, 1.0])
        assert figure.axes[0].get_title(loc="left") == "Run digits-1"


def test_inline_svg_is_one_element_with_ids_of_its_own():
    figures = [plot_run(run_of(steps_of(50), EPOCHS)), plot_schedule(WarmupCosine(0.1, 9), 9)]
    svgs = [figure_svg(figure) for figure in figures]
    ids = [set(re.findall(r'\bid="([^"]+)"', svg)) for svg in svgs]
    assert ids[0].isdisjoint(ids[1])
    for svg, known in zip(svgs, ids, strict=True):
        root = ET.fromstring(svg)
        assert root.tag.endswith("svg")
        assert svg.startswith("<svg ")
        assert svg.endswith("</svg>")
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= known
        for word in ("<?xml", "<!DOCTYPE", "<style", "<metadata", "<script", "@font-face", "data:"):
            assert word not in svg
        assert re.search(r">learning rate</text>", svg), "text is text"
        assert 'role="img" aria-label="plot_' in svg
    assert figure_svg(plot_run(run_of(steps_of(50), EPOCHS))) == svgs[0]


def test_a_hostile_run_name_is_escaped_in_the_svg():
    svg = figure_svg(plot_run(run_of(epochs=EPOCHS, path='runs/"><script>alert(1)</script>')))
    assert "<script" not in svg
    ET.fromstring(svg)


def test_a_dollar_in_a_name_is_no_mathematics():
    drawn(plot_run(run_of(epochs=EPOCHS, path="runs/a$b_{c$")))


def test_a_control_character_in_a_name_spoils_no_svg():
    ET.fromstring(figure_svg(plot_run(run_of(epochs=EPOCHS, path="runs/a\x07b\nc"))))


def test_pictures_need_no_pyplot_and_leave_matplotlib_as_it_was():
    import matplotlib

    had_pyplot = "matplotlib.pyplot" in sys.modules
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure_svg(plot_run(run_of(steps_of(50), EPOCHS)))
    assert dict(matplotlib.rcParams) == before
    if had_pyplot:
        assert sys.modules["matplotlib.pyplot"].get_fignums() == []
    else:
        assert "matplotlib.pyplot" not in sys.modules


def test_the_gap_to_validation_is_drawn_and_said():
    loss = panels(drawn(plot_run(run_of(epochs=EPOCHS))))["loss"]
    words = [text.get_text() for text in loss.get_legend().get_texts()]
    assert words == ["epoch mean", "validation", "gap, 0.3 at the end"]
    assert len(loss.collections) == 1


def test_the_clip_is_a_line_from_the_facts_or_the_recipe():
    for more in (
        {"recipe": {"step": {"global_clipnorm": 0.5}}},
        {"facts": {"optimizer": {"global_clipnorm": 0.5}}},
    ):
        axes = panels(plot_run(run_of(steps_of(50), **more)))["gradient norm"]
        assert set(lines(axes)["clipped above 0.5"].get_ydata()) == {0.5}
    axes = panels(plot_run(run_of(steps_of(50), recipe={"step": {"global_clipnorm": "off"}})))
    assert not [label for label in lines(axes["gradient norm"]) if "above" in label]


def test_everything_that_a_run_recorded_has_its_panel():
    figure = drawn(plot_run(full_run()))
    assert [axes.get_ylabel().replace("\n", " ") for axes in figure.axes] == [
        "loss",
        "accuracy",
        "learning rate",
        "gradient norm",
        "update ratio |Δw| / |w|",
        "update ratio by layer",
        "gradient norm by layer",
        "loss scale",
        "samples / s",
        "share [%]",
        "memory [GiB]",
        "largest gradient",
    ]
    rate = lines(panels(figure)["learning rate"])
    assert set(rate) == {"as planned", "as trained"}
    assert "waiting for data, 21 %" in lines(panels(figure)["share [%]"])
    assert "lost to waiting for data" in [
        c.get_label() for c in panels(figure)["samples / s"].collections
    ]


def test_legends_stand_above_their_panels_and_cover_no_curve():
    figure = drawn(plot_run(full_run()))
    for axes in figure.axes:
        legend = axes.get_legend()
        if legend is not None:
            assert legend.get_window_extent().y0 >= axes.get_window_extent().y1 - 1, (
                axes.get_ylabel()
            )


def test_hundreds_of_layers_share_bands_and_none_hides_a_bad_neighbour():
    n = np.arange(500)
    layers = {f"update_ratio/layer_{i}": np.full(500, 1e-3) for i in range(300)}
    layers["update_ratio/layer_123"] = np.where(n == 321, 1e-9, 1e-3)
    run = run_of(steps_of(500), layers={"step": n, **layers})
    axes = drawn(plot_run(run)).axes[-1]
    assert axes.get_ylabel() == "update ratio\nby layer"
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert len(labels) == MOST_ROWS
    assert labels[0] == "layer_0 +12"
    # Two colours: the usual, and the one bad value.
    assert len(axes.patches) == 2


def test_a_layer_without_values_and_a_single_row_are_drawn():
    layers = {
        "step": np.array([0.0]),
        "update_ratio/a": np.array([1e-3]),
        "update_ratio/b": np.array([np.nan]),
    }
    axes = drawn(plot_run(run_of(steps_of(3), layers=layers))).axes[-1]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["a"]


@pytest.mark.parametrize("value", [0.0, -1.0, 5e-324, 1.7e308, np.inf, np.nan])
def test_any_number_can_be_drawn(value):
    rows = 60
    names = ("loss", "grad_norm", "update_ratio", "learning_rate", "loss_scale")
    column = np.ones(rows)
    column[7] = value
    drawn(plot_run(run_of(steps_of(rows, **dict.fromkeys(names, column)))))
    full = dict.fromkeys(names, np.full(rows, value))
    drawn(plot_run(run_of(steps_of(rows, **full, own=column), epochs=EPOCHS)))
    epochs = {"loss": np.array([1.0, value, 2.0]), "val_loss": np.array([value, 1.0, value])}
    drawn(plot_run(run_of(epochs=epochs | {"accuracy": np.ones(3)})))


def test_facts_that_somebody_edited_spoil_no_picture():
    for points in (None, "x", [[1]], [[0, "a"]], [], [[0, np.nan]], {"a": 1}):
        facts = {"schedule": {"points": points}, "optimizer": "x", "steps_per_epoch": "y"}
        odd = {"facts": facts, "system": [], "layers": {"step": "x"}}
        assert "loss" in panels(plot_run(run_of(steps_of(20), EPOCHS, **odd)))


def test_metrics_other_than_accuracy_have_their_panels():
    epochs = {"loss": [1.0, 0.5], "mae": [3.0, 2.0], "val_mae": [4.0, 3.0], "auc": [0.5, 0.9]}
    assert list(panels(drawn(plot_run(run_of(epochs=epochs))))) == ["loss", "mae", "auc"]


def test_colours_in_a_page_are_its_variables_and_in_a_file_are_colours(tmp_path):
    svg = figure_svg(plot_run(run_of(steps_of(50), EPOCHS)))
    assert "var(--plot-blue, #0b62a4)" in svg
    assert "var(--plot-ink, #24292f)" in svg
    assert set(DARK) == set(LIGHT)
    left = set(re.findall(r"(?<!, )#[0-9a-f]{6}\b", re.sub(r">[^<]*<", "><", svg)))
    assert left == set()
    plot_run(run_of(epochs=EPOCHS), path=tmp_path / "p.svg")
    assert "var(" not in (tmp_path / "p.svg").read_text()
