"""The benchmark of the learning-rate finder: the published rules and its arithmetic are right.

That it trains and scores, its quick run in test_benchmarks_run.py shows.
"""

import math
import sys

import numpy as np
import pytest

from tests.contracts.tree import ROOT

sys.path.insert(0, str(ROOT / "benchmarks"))  # as for a script that is run there

import lr_finder
from parts import rate_rules, workloads

RATES = np.geomspace(1e-7, 10, 100)
DECADES = np.log10(RATES)
# Flat to 1e-4, then down by one a decade to 1e-2, then up by two a decade.
FALL = 2 - np.clip(DECADES + 4, 0, 2) + 2 * np.maximum(DECADES + 2, 0)


def near(rate, expected, factor=1.2):
    return expected / factor < rate < expected * factor


def test_the_smoothed_loss_is_a_mean_of_98_percent_whose_start_is_corrected():
    smooth = rate_rules.smoothed(np.array([3.0, 1.0, 2.0]))
    weights = 0.02 * 0.98 ** np.array([2, 1, 0])
    assert smooth[0] == pytest.approx(3.0)
    assert smooth[2] == pytest.approx(weights @ [3.0, 1.0, 2.0] / weights.sum())


def test_a_sweep_ends_at_four_times_its_least_mean_and_before_what_is_not_finite():
    assert len(rate_rules.smoothed(np.array([1.0, 500.0, 1.0]))) == 2
    assert len(rate_rules.smoothed(np.array([1.0, 1.0, math.nan, 1.0]))) == 2


def test_minimum_is_a_tenth_of_the_lowest():
    assert near(rate_rules.minimum(RATES, FALL), 1e-3)


def test_steep_is_where_the_loss_falls_most_over_the_logarithm():
    losses = FALL - 0.5 * np.clip((DECADES + 3) * 5, 0, 1)
    assert near(rate_rules.steep(RATES, losses), 1e-3, 2)


def test_valley_is_half_way_down_the_longest_fall():
    # A third of the fall, and half a third.
    assert near(rate_rules.valley(RATES, FALL), 1e-3, 1.5)


def test_valley_counts_the_points_of_a_fall_with_others_between():
    losses = np.array([9, 5, 8, 5, 7, 5, 6, 5, 4, 9.0])  # 9 8 7 6 5 4
    assert rate_rules.valley(np.arange(1.0, 11), losses) == 9 - 6 + 2 + 1


def test_slide_stops_where_the_slopes_agree():
    # From 1e-4 to 1e-2 it falls by the same a step; both points lie there.
    found = rate_rules.slide(RATES, FALL + np.maximum(DECADES + 2, 0) ** 3)
    assert near(found, RATES[np.searchsorted(RATES, 1e-2) - 16], 1.5)
    assert rate_rules.slide(RATES[:15], FALL[:15]) is None
    flat = rate_rules.slide(RATES, np.ones(100))
    assert flat == pytest.approx(RATES[-16])


def test_lightning_is_the_steepest_step_of_either_scale():
    losses = np.ones(50)
    losses[30:] = 0
    assert rate_rules.lightning(np.linspace(0.1, 1, 50), losses) in np.linspace(0.1, 1, 50)[29:31]


def test_each_rule_leaves_out_its_ends():
    told = rate_rules.suggestions(RATES, np.arange(100.0, 0, -1))
    assert told["minimum"] == pytest.approx(RATES[94] / 10)
    assert RATES[10] <= told["lightning"] <= RATES[98]
    few = rate_rules.suggestions(RATES[:9], FALL[:9])
    assert few["slide"] is None
    assert few["lightning"] is None


def test_sweeps_are_told_together_by_their_median():
    sweeps = np.stack([FALL, FALL, np.full(100, np.nan)])
    alone = rate_rules.suggestions(RATES, FALL)
    assert rate_rules.together(RATES, sweeps) == pytest.approx(alone)


def test_between_the_points_of_the_grid_the_loss_is_linear_in_logarithms():
    rates, losses = np.array([1e-3, 1e-2, 1e-1]), np.array([4.0, 1.0, math.nan])
    assert rate_rules.loss_at(10**-2.5, rates, losses) == pytest.approx(2.0)
    assert rate_rules.loss_at(1e-2, rates, losses) == pytest.approx(1.0)
    assert rate_rules.loss_at(1e-9, rates, losses) == pytest.approx(4.0)
    assert math.isnan(rate_rules.loss_at(0.05, rates, losses))


def seed(ratio):
    one = {
        "ratio": ratio,
        "other_seeds": [{"ratio": 1.04}, {"ratio": None}],
        "same_sweeps": {},
        "plain_sweeps": {"slide": None},
    }
    return {"scales": {"log": one, "linear": one}}


def test_near_is_the_mean_over_seeds_and_no_answer_is_not_near():
    rows = [
        {"held_out": False, "seeds": [seed(1.02), seed(1.07)]},
        {"held_out": False, "seeds": [seed(1.06), seed(1.06)]},
        {"held_out": False, "seeds": [seed(1.0), seed(None)]},
        {"held_out": True, "seeds": [seed(0.99)]},
    ]
    told = lr_finder.totals(rows)
    assert told["figure"]["log"]["finder/finder"] == {"near": 1, "of": 3}
    assert told["held_out"]["log"]["finder/finder"] == {"near": 1, "of": 1}
    assert told["figure"]["log"]["plain_sweeps/slide"] == {"near": 0, "of": 3}
    assert told["figure"]["log"]["asked"] == {"near": 2 + 6, "of": 6 + 12}


def test_five_workloads_are_the_figure_and_five_or_more_are_held_out():
    assert len(workloads.FIGURE) == 5
    assert len(workloads.HELD_OUT) >= 5
    assert all(len(one.rates) == 9 for one in workloads.WORKLOADS.values())
