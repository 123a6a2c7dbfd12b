"""Several runs on one page: aligned, coloured by their places, escaped."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.views.runs import full_run
from tests.views.test_report import HOSTILE, Page
from tfrecipes.runs.folder import Run, RunFolder
from tfrecipes.views.canvas import LIGHT
from tfrecipes.views.compare import (
    MOST_RUNS,
    Comparison,
    _labels,
    _results,
    compare_runs,
    comparison_html,
    comparison_text,
)
from tfrecipes.views.curves import curves_of
from tfrecipes.views.overlay import (
    COLOURS,
    Member,
    colour_of,
    overlays_of,
    plot_overlay,
    shape_of,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    made = []
    for i, name in enumerate(("a", "b")):
        run = full_run(steps=400, epochs=4, layers=2, seed=i)
        path = root / name / "default-1"
        with RunFolder.open(path) as folder:
            folder.write_recipe(f'name = "default"\n[optimizer]\nweight_decay = 0.0{i}\n')
            folder.write_facts(run.facts | {"batch_size": 128 * (i + 1)})
            folder.write_environment(devices=[f"GPU:{i}"])
            for kind in ("steps", "system"):
                with getattr(folder, f"open_{kind}")() as file:
                    table = getattr(run, kind)
                    file.append(list(table), np.stack(list(table.values()), axis=1))
            for epoch in range(4):
                folder.append_epoch({k: float(v[epoch]) + 0.1 * i for k, v in run.epochs.items()})
            folder.write_state("finished", epochs=4, exit_code=0)
        made.append(path)
    return made


def test_results_and_what_differs_are_tables(folders):
    compared = compare_runs(folders)
    text = comparison_text(compared)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert compared.labels == ("a/default-1", "b/default-1")
    assert lines[0] == "b/default-1 has the best val_accuracy: 0.92 in epoch 4."
    assert "optimizer.weight_decay 0 0.01" in lines
    assert "batch_size 128 256" in lines
    assert "devices GPU:0 GPU:1" in lines
    assert not [line for line in lines if "started_at" in line or "schedule.points" in line]
    assert any(line.startswith("samples / s, median 2,5") for line in lines)


def test_the_page_has_every_panel_and_every_table(folders):
    text = comparison_html(compare_runs(folders))
    page = Page(text)
    figures = [attrs["id"] for tag, attrs in page.tags if tag == "figure"]
    assert figures == [f"plot-{k}" for k in ("loss", "metric-1", "rate", "norm", "ratio", "speed")]
    assert [tag for tag, _ in page.tags].count("table") == 4
    assert page.text.index("has the best val_accuracy") < page.text.index("Curves")
    assert "default-src 'none'" in text
    assert len(text) < 2_000_000


def test_colours_go_by_place_and_are_the_same_everywhere(folders):
    assert [colour_of(i) for i in (0, 1, 8)] == [COLOURS[0], COLOURS[1], COLOURS[0]]
    text = comparison_html(compare_runs([*folders, folders[0]]))
    for colour in COLOURS[:3]:
        name = next(name for name, value in LIGHT.items() if value == colour)
        swatch = f'class="swatch" style="background: var({name}, {colour})"'
        assert text.count(swatch) == 1 + 4 + 6  # the list, the tables, the panels' legends


def test_as_many_runs_as_are_allowed_can_be_told_apart():
    looks = [(colour_of(i), shape_of(i)) for i in range(MOST_RUNS)]
    assert len(set(looks)) == MOST_RUNS
    assert {shape for _, shape in looks[:8]} == {""}
    runs = [full_run(steps=200, epochs=4, layers=1, seed=i) for i in range(10)]
    text = comparison_html(compared(*runs))
    assert text.count('class="swatch square"') == 2 * text.count("<figure") + 2
    assert ".swatch.square" in text


def test_a_marker_stands_at_few_places_of_a_long_line():
    curves = curves_of(full_run(steps=3000, epochs=60))
    members = [Member("a", curves, COLOURS[0]), Member("b", curves, COLOURS[0], "square")]
    for overlay in overlays_of(members):
        marked = [
            line
            for line in plot_overlay(members, overlay).axes[0].lines
            if line.get_marker() == "s"
        ]
        assert marked, overlay.key
        for line in marked:
            places = np.arange(len(line.get_xdata()))[:: line.get_markevery() or 1]
            assert 4 <= len(places) <= 31, overlay.key


def test_a_run_without_rows_of_steps_has_no_number_of_them():
    sections = _results(("a", "b"), (full_run(steps=100), Run(epochs={"loss": np.ones(3)})))[0]
    assert dict(sections.rows)["steps"] == ["100", "-"]


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (["/r/a", "/r/b"], ("a", "b")),
        (["/r/x/a", "/r/y/a"], ("x/a", "y/a")),
        (["/r/a", "/r/a"], ("a (1)", "a (2)")),
    ],
)
def test_a_run_is_called_by_as_much_of_its_path_as_tells_it_apart(paths, labels):
    assert _labels(paths) == labels


def compared(*runs):
    labels = tuple(f"run {i}" for i in range(len(runs)))
    return Comparison(labels, tuple(runs), "", ())


def test_where_one_run_has_epochs_alone_all_are_drawn_over_epochs():
    first, second = full_run(), Run(epochs={"loss": np.ones(3), "val_loss": np.ones(3)})
    text = comparison_html(compared(first, second))
    assert ">epoch</text>" in text
    assert ">step [optimizer updates]</text>" not in text


def test_runs_of_one_step_of_nan_and_of_nothing_are_compared():
    steps = {"step": np.array([0.0]), "loss": np.array([1.0]), "grad_norm": np.array([np.nan])}
    nan = {"loss": np.full(3, np.nan)}
    for other in (Run(), Run(steps=steps), Run(epochs=nan), Run(steps=nan)):
        Page(comparison_html(compared(other, other)))
        Page(comparison_html(compared(full_run(), other)))


def test_a_spike_stays_visible_under_the_course():
    run = full_run(steps=30_000, epochs=3)

    member = Member("a", curves_of(run), COLOURS[0])
    (norm,) = [overlay for overlay in overlays_of([member]) if overlay.key == "norm"]
    faint, course = plot_overlay([member], norm).axes[0].lines
    assert np.nanmax(faint.get_ydata()) == 40.0
    assert len(course.get_xdata()) == 150


def test_text_of_the_runs_is_escaped(tmp_path: Path):
    paths = []
    for name in ("a", "b"):
        path = tmp_path / f"{name}{HOSTILE.replace('/', '')}"
        with RunFolder.open(path) as run:
            run.write_recipe(
                f"name = '''{HOSTILE}'''\n'{name}{HOSTILE}' = '''{HOSTILE}'''\n".replace(
                    "alert('x')", "alert"
                )
            )
            run.write_environment(devices=[HOSTILE + name], **{HOSTILE: HOSTILE + name})
            run.append_epoch({HOSTILE: 1.0, "loss": 1.0})
            run.write_findings([dict.fromkeys(("rule", "severity", "evidence"), HOSTILE)])
            run.write_state("stopped", epochs=1, reason=HOSTILE)
        paths.append(path)
    page = Page(comparison_html(compare_runs(paths)))
    assert "script" not in {tag for tag, _ in page.tags}
    assert page.text.count("<script>") >= 8


def test_control_characters_reach_no_terminal():
    run = replace(full_run(), recipe={"a": "\x1b[31mred"})
    other = replace(full_run(), recipe={"a": "b"})
    text = comparison_text(
        Comparison(("x\x1b", "y"), (run, other), "", compare_sections(run, other))
    )
    assert "\x1b" not in text


def test_what_is_unknown_in_one_run_and_missing_in_another_does_not_differ():
    first, second = full_run(), full_run()
    del first.facts["first_bad"], first.facts["micro_batch"]
    second.facts["first_bad"] = second.facts["micro_batch"] = None
    (section,) = compare_sections(
        replace(first, recipe=first.facts), replace(second, recipe=second.facts)
    )
    assert section.rows == []
    assert section.sentence == "Recipe: nothing differs."


def compare_sections(*runs):
    from tfrecipes.views.compare import _differences

    return (_differences("Recipe", runs, lambda run: run.recipe or {}),)
