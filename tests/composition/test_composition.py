"""The law of composition: every subset of features gives the weights of the plain reference.

CI walks a seeded sample of cells that has every pair of values of two features; `--all` walks the
whole matrix and writes docs/composition.md.
"""

from functools import cache

import numpy as np
import pytest

from tests.composition import matrix, run_cell
from tests.composition.table import TOLERANCE, distance

ROW_COLUMNS = (
    "step",
    "learning_rate",
    "loss",
    "grad_norm",
    "param_norm",
    "update_norm",
    "clipped",
    "overflow",
    "samples",
)


def pytest_generate_tests(metafunc):
    if "cell" in metafunc.fixturenames:
        cells = matrix.whole() if metafunc.config.getoption("--all") else matrix.sample()
        metafunc.parametrize("cell", cells, ids=str)


@cache
def training(cell):
    return run_cell.trained(cell)


def test_a_cell_gives_the_weights_of_the_reference(cell, record_property):
    start, have = training(cell)
    want = run_cell.computed(cell, start)
    far = max(
        distance(have.raw, want.raw),
        distance(have.weights, run_cell.held(cell, want)),
    )
    record_property("composition", [cell.kind, far])
    assert far < TOLERANCE
    assert have.updates == want.updates
    np.testing.assert_allclose(have.losses, want.losses, rtol=TOLERANCE)
    if have.rows is not None:
        same_rows(have.rows, want.rows)
    if cell.observing:
        _, without = training(cell.with_defaults(cell.observing))
        assert all(np.array_equal(a, b) for a, b in zip(have.raw, without.raw, strict=True))
        assert have.losses == without.losses


def same_rows(have, want):
    """Telemetry is the reference's, step by step."""
    for column in ROW_COLUMNS:
        expected = np.array([row[column] for row in want])
        # A small update is the difference of large weights: one rounding of those.
        slack = 1e-7 * want[0]["param_norm"] if column == "update_norm" else 0.0
        np.testing.assert_allclose(
            have[column], expected, rtol=TOLERANCE, atol=slack, err_msg=column
        )


# ------------------------------------------------------------------- the matrix is what it says


def test_every_field_of_the_plan_has_cells():
    assert not matrix.fields_without_cells()


def test_the_matrix_has_at_least_400_cells_and_its_sample_every_pair():
    assert len(matrix.whole()) >= 400
    covered = set().union(*(cell.pairs for cell in matrix.sample()))
    assert matrix.possible_pairs() <= covered
    assert set(matrix.sample()) <= set(matrix.whole())


MOVING = ("optimizer", "clip", "decay", "l2", "sample_weight", "class_weight", "label_smoothing")
MOVING = (*MOVING, "batches", "nonfinite")


@pytest.mark.parametrize("name", MOVING)
def test_a_feature_that_should_move_the_weights_does(name):
    # Far beyond every tolerance, or the cell proves nothing.
    start = training(matrix.Cell.of())[0]
    plain = run_cell.computed(matrix.Cell.of(), start).raw
    for value in matrix.FEATURES[name][1:]:
        other = run_cell.computed(matrix.Cell.of(**{name: value}), start).raw
        assert distance(other, plain) > 1e-4


def test_a_step_is_cut_once():
    cell = matrix.Cell.of(micro_batch=5, accumulate=2)
    assert not cell.is_valid
    with pytest.raises(ValueError, match="cut into micro-batches once"):
        run_cell.trained(cell)
