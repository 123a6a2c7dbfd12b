"""The run in memory stays small, spikes are seen, and rules have a small share of the time."""

import numpy as np
import pytest

import tfrecipes as tfr
from tfrecipes.callbacks import watching
from tfrecipes.callbacks.watching import Thinned, Watch

COLUMNS = ("step", "loss", "grad_norm")


def rows(losses, norms=None, first=0):
    norms = np.ones(len(losses)) if norms is None else norms
    return np.column_stack([first + np.arange(len(losses)), losses, norms]).astype(float)


def test_a_long_table_is_thinned_evenly(monkeypatch):
    monkeypatch.setattr(watching, "MOST_ROWS", 100)
    table = Thinned()
    for first in range(0, 990, 33):
        table.add(COLUMNS, rows(np.ones(33), first=first))
    steps = table.table()["step"]
    assert 50 <= len(steps) <= 133
    assert set(np.diff(steps)) == {table.every}
    assert steps[0] == 0
    assert steps[-1] > 990 - 2 * table.every


def test_other_columns_begin_a_table_anew():
    table = Thinned()
    table.add(("a",), np.zeros((3, 1)))
    table.add(("b",), np.ones((2, 1)))
    assert {name: values.tolist() for name, values in table.table().items()} == {"b": [1.0, 1.0]}


@pytest.mark.parametrize(
    ("loss", "norm", "spike"),
    [(1.0, 1.0, False), (2.9, 9.0, False), (3.5, 1.0, True), (1.0, 11.0, True),
     (np.nan, 1.0, True), (1.0, np.inf, True)],
)  # fmt: skip
def test_what_counts_as_a_spike(loss, norm, spike):
    watch = Watch()
    assert not watch.add_steps(COLUMNS, rows(np.ones(100)))
    assert watch.add_steps(COLUMNS, rows([1.0, loss], [1.0, norm], first=100)) is spike


def test_a_start_is_no_spike():
    assert not Watch().add_steps(COLUMNS, rows([100.0, 10.0, 1.0]))


def test_rules_that_take_long_are_asked_less_often(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(watching.time, "monotonic", lambda: now[0])
    asked = []

    def slow(run):
        asked.append(now[0])
        now[0] += 5.0

    watch = Watch([slow])
    for _ in range(1000):  # 1000 epochs of a second each
        now[0] += 1.0
        watch.look()
    assert asked[0] == 1.0
    assert 2 <= len(asked) <= 4
    watch.look("finished")  # the end is always looked at
    assert asked[-1] == now[0] - 5.0


def test_a_finding_is_told_once_and_again_where_it_gets_worse():
    def finding(severity):
        return tfr.Finding("mine", severity, "Seen.", "Because.", "Do this.")

    watch = Watch()
    watch.findings = [finding("warning")]
    assert [one.severity for one in watch.unsaid()] == ["warning"]
    assert watch.unsaid() == []
    watch.findings = [finding("error")]
    assert [one.severity for one in watch.unsaid()] == ["error"]
    watch.findings = [finding("info")]
    assert watch.unsaid() == []


def test_a_fault_in_our_own_rules_ends_no_training(monkeypatch, capsys):
    def broken(run, rules):
        raise ZeroDivisionError("a fault")

    monkeypatch.setattr(watching, "diagnose", broken)
    Watch().look()
    assert "training goes on" in capsys.readouterr().out
