import json
import math

import pytest

from tests.searching import fakes
from tfrecipes.searching import points
from tfrecipes.searching.oracles import METHODS
from tfrecipes.searching.result import rows


def table(search):
    return rows(search.folder.trials(), search.space)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_hands_out_its_trials_and_then_the_repeats(method, tmp_path):
    done = fakes.search(tmp_path, method, trials=7)
    assert [row["trial"] for row in table(done)] == list(range(7))
    contest = done.agenda.contest()
    assert len(contest.finalists) == 2
    assert len(done.folder.repeats()) == 9
    best = min(table(done), key=lambda row: row["score"])
    assert contest.winner(done.folder.repeats()) == str(best["trial"])
    assert done.trainer.trained[:7] == [str(n) for n in range(7)]


@pytest.mark.parametrize("method", ["sobol", "halton"])
def test_trial_i_of_a_quasi_random_search_is_point_i(method, tmp_path):
    done = fakes.search(tmp_path, method, trials=3, seed=5, repeats=0)
    for row in table(done):
        rate, decay = points.point(method, 6, row["trial"], 2)
        assert math.isclose(row[fakes.RATE], 1e-4 * 1e4**rate, rel_tol=1e-4)
        assert math.isclose(row["optimizer.weight_decay"], 0.2 * decay, rel_tol=1e-4)


def test_another_seed_is_another_search_and_seed_0_is_one(tmp_path):
    tables = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        (tmp_path / name).mkdir()
        tables.append(
            table(fakes.search(tmp_path / name, "random", trials=3, seed=seed, repeats=0))
        )
    assert tables[0] == tables[1] != tables[2]


def test_the_objective_may_rise(tmp_path):
    done = fakes.search(
        tmp_path, "random", lambda f, seed: -fakes.valley(f, seed), direction="max", trials=6
    )
    best = max(table(done), key=lambda row: row["score"])
    assert done.agenda.contest().finalists[0] == str(best["trial"])


def crashing(fields, seed):
    if fields[fakes.RATE] > 0.03:
        raise ArithmeticError(f"overflow at {fields[fakes.RATE]}")
    return fakes.valley(fields, seed)


@pytest.mark.parametrize("method", METHODS)
def test_crashed_trials_are_explained_and_the_search_goes_on(method, tmp_path):
    trials = 7 if method == "bayesian" else 14  # each of its proposals takes a second or two
    done = fakes.search(tmp_path, method, crashing, trials=trials)
    crashed = [row for row in table(done) if row["score"] is None]
    assert 0 < len(crashed) < trials
    for row in crashed:
        assert row["error"] == f"overflow at {row[fakes.RATE]}"
    assert all(row["error"] == "" for row in table(done) if row["score"] is not None)
    assert not {str(row["trial"]) for row in crashed} & set(done.agenda.contest().finalists)


@pytest.mark.slow
def test_bayesian_search_learns_from_crashes_and_does_better_than_random(tmp_path):
    done = fakes.search(tmp_path, "bayesian", crashing, trials=16, repeats=0)
    late = [row for row in table(done) if row["trial"] >= 8]
    assert sum(row["score"] is None for row in late) <= 3
    assert min(row["score"] for row in late if row["score"] is not None) < 1.02


def test_hyperband_trains_short_first_and_the_best_of_them_longer(tmp_path):
    done = fakes.search(tmp_path, "hyperband", trials=13, repeats=0, epochs=9)
    assert done.trainer.epochs[:9] == [1] * 9
    assert done.trainer.epochs[9:] == [3, 3, 3, 9]


def test_three_first_trials_with_one_error_end_the_search(tmp_path):
    def broken(fields, seed):
        raise ArithmeticError("no such layer")

    done = fakes.search(tmp_path, "sobol", broken)
    assert done.trainer.trained == ["0", "1", "2"]
    assert done.agenda.hopeless().error == "no such layer"


def test_three_first_trials_with_different_errors_do_not(tmp_path):
    def broken(fields, seed):
        raise ArithmeticError(f"no rate like {fields[fakes.RATE]}")

    done = fakes.search(tmp_path, "sobol", broken)
    assert len(done.trainer.trained) == 8
    assert done.agenda.hopeless() is None
    assert done.agenda.contest().finalists == ()


def test_a_search_that_is_over_trains_nothing_when_it_is_started_again(tmp_path):
    first = fakes.search(tmp_path)
    again = fakes.search(tmp_path)
    assert again.trainer.trained == []
    assert table(again) == table(first)


@pytest.mark.parametrize("method", ["sobol", "random", "bayesian", "hyperband"])
def test_a_kill_at_any_write_leaves_a_search_that_comes_to_the_same(method, tmp_path, monkeypatch):
    whole = tmp_path / "whole"
    whole.mkdir()
    arguments = {"method": method, "trials": 4, "finalists": 1, "repeats": 2}
    expected = fakes.search(whole, **arguments)
    # Not every moment for every method: each is met by one or another.
    for number in range(METHODS.index(method), 200, 5):
        place = tmp_path / str(number)
        place.mkdir()
        with fakes.killed_at_write(monkeypatch, number):
            try:
                fakes.search(place, **arguments)
            except fakes.Killed:
                pass
            else:
                assert number > 40
                break
        resumed = fakes.search(place, **arguments)
        assert table(resumed) == table(expected), number
        assert resumed.folder.repeats() == expected.folder.repeats(), number


def test_the_files_are_keras_tuner_s_own(tmp_path):
    done = fakes.search(tmp_path, "random", trials=3)
    folder = tmp_path / "keras_tuner"
    state = json.loads((folder / "oracle.json").read_text())
    assert state["end_order"] == ["0", "1", "2"]
    trial = json.loads((folder / "trial_0" / "trial.json").read_text())
    assert trial["status"] == "COMPLETED"
    assert math.isclose(trial["score"], table(done)[0]["score"])


def test_two_workers_get_two_trainings_and_one_that_asks_again_its_own(tmp_path):
    done = fakes.search(tmp_path, trials=2, repeats=0)
    oracle = done.oracle
    oracle.max_trials = 4
    with fakes.quiet():
        first, second = oracle.create_trial("worker0"), oracle.create_trial("worker1")
        assert (first.trial_id, second.trial_id) == ("2", "3")
        assert oracle.create_trial("worker0") is first
        # Nothing is left, but the others' results decide what comes next.
        assert oracle.create_trial("worker2").status == "IDLE"
