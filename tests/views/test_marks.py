"""A finding's place on a curve is the one that its evidence names."""

import re

import numpy as np
import pytest

from tests.views.runs import full_run
from tfrecipes.doctor.rules import RULES
from tfrecipes.runs.folder import Run
from tfrecipes.views.canvas import figure_svg
from tfrecipes.views.curves import curves_of
from tfrecipes.views.marks import PANELS, _apart, marks_of
from tfrecipes.views.panels import panels_of
from tfrecipes.views.plots import plot_panel

RUN = full_run()
CURVES = curves_of(RUN)
KEYS = [panel.key for panel in panels_of(CURVES)]


def place(evidence, rule="mine", curves=CURVES, keys=KEYS):
    finding = {"rule": rule, "severity": "info", "evidence": evidence}
    return marks_of(curves, keys, [finding]).get(1)


@pytest.mark.parametrize(
    ("evidence", "start", "end", "words"),
    [
        ("It began at step 612.", 612, 612, "step 612"),
        ("Of 1,000 steps 3, first at step 0; last at step 999", 0, 999, "steps 0 to 999"),
        ("From step 100 to 250 it rose.", 100, 250, "steps 100 to 250"),
        ("Between steps 100 and 250.", 100, 250, "steps 100 to 250"),
        ("In epoch 5 (0.61).", 499, 499, "epoch 5"),
        ("epochs 2-4 were worse", 199, 399, "epochs 2 to 4"),
        ("Best in epoch 3 of 10; the gap began in epoch 2.", 199, 299, "epochs 2 to 3"),
        ("In epoch 5, at step 17, and epoch 9", 17, 17, "step 17"),
        ("At step 5,000,000, which is not there", 0, 999, "the whole run"),
        ("In 61% of the steps; steps 90 % of the time", 0, 999, "the whole run"),
        ("Each step 0.25 s", 0, 999, "the whole run"),
        ("", 0, 999, "the whole run"),
    ],
)
def test_the_place_is_what_the_evidence_says(evidence, start, end, words):
    mark = place(evidence)
    assert (mark.start, mark.end, mark.words) == (start, end, words)
    assert mark.whole == (words == "the whole run")


def test_a_run_of_epochs_alone_has_its_places_in_epochs():
    run = Run(epochs={"loss": np.ones(9), "val_loss": np.ones(9)})
    mark = place("in epoch 4", curves=curves_of(run), keys=["loss"])
    assert (mark.start, mark.words) == (4, "epoch 4")
    mark = place("at step 400, in epoch 4", curves=curves_of(run), keys=["loss"])
    assert (mark.start, mark.words) == (4, "epoch 4")


def test_every_rule_has_its_panel():
    assert {rule.__name__ for rule in RULES} <= set(PANELS)
    possible = set(KEYS)
    assert all(set(keys) <= possible for keys in PANELS.values())


@pytest.mark.parametrize(
    ("rule", "evidence", "panel"),
    [
        ("not_finite", "", "norm"),
        ("loss_scale_overflows", "", "scale"),
        ("input_bound", "", "waits"),
        ("my_layers", "", "layers"),
        ("mine", "`grad_norm` rose", "norm"),
        ("mine", "`update_ratio` rose", "ratio"),
        ("mine", "it rose", "loss"),
    ],
)
def test_a_finding_stands_on_the_panel_that_its_rule_looks_at(rule, evidence, panel):
    assert place(evidence, rule).panel == panel


def test_where_the_panel_is_missing_another_is_taken_and_none_where_nothing_is_drawn():
    assert place("x", "input_bound", keys=["rate", "loss"]).panel == "loss"
    assert place("x", "input_bound", keys=["rate"]).panel == "rate"
    assert place("x", "input_bound", keys=[]) is None


def test_marks_are_drawn_with_an_anchor_and_a_link_and_leave_the_axes_alone():
    findings = [
        {"rule": "loss_spike", "severity": "error", "evidence": f"step {i}"} for i in (5, 5)
    ]
    findings += [{"rule": "loss_spike", "severity": "odd", "evidence": "epochs 2 to 4"}]
    findings += [{"rule": "plateau", "severity": "info", "evidence": ""}]
    marks = tuple(marks_of(CURVES, KEYS, findings).values())
    panel = panels_of(CURVES)[0]
    bare, marked = plot_panel(CURVES, panel), plot_panel(CURVES, panel, marks)
    assert marked.axes[0].get_xlim() == bare.axes[0].get_xlim()
    assert marked.axes[0].get_ylim() == bare.axes[0].get_ylim()
    svg = figure_svg(marked)
    assert re.findall(r'id="(finding-\d+)"', svg) == [f"finding-{i}" for i in (1, 2, 3, 4)]
    assert set(re.findall(r'href="#(finding-[^"]*)"', svg)) == {
        f"finding-{i}-text" for i in (1, 2, 3, 4)
    }


@pytest.mark.parametrize("wanted", [[0.5, 0.5, 0.5], [0, 0, 1, 1], [1, 1, 1], [0.2, 0.9], [], [3]])
def test_numbers_that_would_cover_each_other_stand_side_by_side(wanted):
    placed = _apart(np.array(wanted, float), 0.1)
    assert len(placed) == len(wanted)
    assert (np.diff(placed) >= 0.1 - 1e-12).all()
    assert ((placed >= 0) & (placed <= 1)).all()


def test_very_many_numbers_still_stand_inside():
    placed = _apart(np.full(50, 0.5), 0.1)
    assert (placed.min(), placed.max()) == (0, 1)
