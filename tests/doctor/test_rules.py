import numpy as np
import pytest

from tfrecipes.doctor import rules
from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, Finding
from tfrecipes.runs.folder import Run

HEALTHY = 2.3 * np.exp(-np.arange(400) / 120) + 0.2


def steps(loss: np.ndarray = HEALTHY, **columns: object) -> dict[str, np.ndarray]:
    """Telemetry of a healthy run with that loss, and other columns where they are given."""
    count = len(loss)
    noise = 1 + 0.1 * np.random.default_rng(1).standard_normal(count)
    table = {
        "step": np.arange(count, dtype=float),
        "learning_rate": np.full(count, 1e-3),
        "loss": loss * noise,
        "grad_norm": np.abs(noise),
        "update_ratio": np.full(count, 1e-3),
        "clipped": np.zeros(count),
        "overflow": np.zeros(count),
        "loss_scale": np.ones(count),
    }
    return table | {name: np.broadcast_to(np.float64(v), count) for name, v in columns.items()}


def found(**tables: dict[str, object]) -> dict[str, Finding]:
    run = Run(
        **{name: {k: np.asarray(v, float) for k, v in t.items()} for name, t in tables.items()}
    )
    return {finding.rule: finding for finding in diagnose(run)}


class TestHealthyRunsAreLeftAlone:
    @pytest.mark.parametrize("count", [0, 1, 2, 5, 20, 99, 100, 400])
    def test_a_short_or_long_falling_loss(self, count: int) -> None:
        assert found(steps=steps(HEALTHY[:count])) == {}

    @pytest.mark.parametrize("epochs", [0, 1, 2, 3, 4, 10])
    def test_a_history_that_falls_and_flattens(self, epochs: int) -> None:
        loss = [2.3, 1.2, 0.8, 0.6, 0.52, 0.5, 0.498, 0.497, 0.497, 0.4969][:epochs]
        assert found(epochs={"loss": loss, "val_loss": [v + 0.05 for v in loss]}) == {}

    def test_large_gradients_at_the_start_are_clipped(self) -> None:
        clipped = np.arange(400) < 190
        assert found(steps=steps(clipped=clipped)) == {}

    def test_the_loss_scale_seeks_its_height_at_the_start(self) -> None:
        overflow = (np.arange(400) < 6) | (np.arange(400) % 100 == 99)
        grad_norm = np.where(overflow, np.inf, 1.0)
        assert found(steps=steps(loss_scale=2**15, overflow=overflow, grad_norm=grad_norm)) == {}

    def test_a_trained_model_that_is_trained_on(self) -> None:
        accuracy = [0.97, 0.97, 0.971, 0.97, 0.972]
        assert (
            found(steps=steps(np.full(400, 0.1)), epochs={"loss": [0.1] * 5, "accuracy": accuracy})
            == {}
        )

    def test_one_bad_evaluation_is_no_gap(self) -> None:
        loss = np.linspace(2, 1, 10)
        validation = [2, 1.5, 1.2, 1.1, 1.0, 1.0, 1.01, 1.02, 1.02, 3.0]
        assert found(epochs={"loss": loss, "val_loss": validation}) == {}

    def test_validation_every_other_epoch_is_not_taken_for_nan(self) -> None:
        loss = [2.3, 1.2, 0.8, 0.6, 0.55, 0.55]
        validation = [np.nan, 1.3, np.nan, 0.7, np.nan, 0.7]
        assert found(epochs={"loss": loss, "val_loss": validation}) == {}

    def test_a_loss_that_falls_slowly(self) -> None:
        assert found(epochs={"loss": [3.0, 2.99, 2.985, 2.97, 2.965, 2.96]}) == {}

    def test_a_loss_below_zero_that_falls(self) -> None:
        assert found(steps=steps(HEALTHY - 3)) == {}

    @pytest.mark.parametrize("seed", range(20))
    def test_noise_between_batches(self, seed: int) -> None:
        noise = np.random.default_rng(seed).standard_normal(120) * 0.5
        assert found(steps=steps(2.5 * np.exp(-np.arange(120) / 100) + 0.3 + noise)) == {}


class TestNotFinite:
    def test_the_first_step_and_the_longest_run_are_named(self) -> None:
        loss = HEALTHY.copy()
        loss[[37, 100, 101, 102]] = np.nan
        finding = found(steps=steps(loss))["not_finite"]
        assert finding.severity == "warning"
        assert "in 4 of 400 steps, first at step 37; 3 in a row at most." in finding.evidence

    def test_a_run_that_ends_so_is_an_error(self) -> None:
        loss = HEALTHY.copy()
        loss[375:] = np.inf
        finding = found(steps=steps(loss))["not_finite"]
        assert finding.severity == "error"
        assert "25 in a row at most, and the run ended so." in finding.evidence

    def test_the_step_is_the_one_of_the_column_and_not_of_the_row(self) -> None:
        table = {"step": [500, 501, 502], "loss": [1.0, np.nan, 1.0]}
        assert "first at step 501" in found(steps=table)["not_finite"].evidence

    def test_an_overflow_without_loss_scaling_is_one(self) -> None:
        assert "not_finite" in found(steps=steps(overflow=np.arange(400) == 7))

    def test_a_nan_loss_under_loss_scaling_is_one(self) -> None:
        loss = HEALTHY.copy()
        loss[50] = np.nan
        assert "not_finite" in found(steps=steps(loss, loss_scale=2**10))

    def test_a_run_of_one_bad_step_is_an_error(self) -> None:
        assert found(steps={"step": [0], "loss": [np.nan]})["not_finite"].severity == "error"

    def test_a_history_names_the_epoch(self) -> None:
        finding = found(epochs={"loss": [2.0, 1.0, np.nan]})["not_finite"]
        assert finding.severity == "error"
        assert "`loss` was not finite in 1 of 3 epochs, first in epoch 3." in finding.evidence

    def test_a_validation_loss_that_is_never_finite_is_one(self) -> None:
        finding = found(epochs={"loss": [2.0, 1.0], "val_loss": [np.nan, np.nan]})["not_finite"]
        assert "`val_loss`" in finding.evidence


class TestDiverged:
    @pytest.mark.parametrize("shift", [0, -5])
    def test_an_end_far_above_the_start_is_an_error(self, shift: float) -> None:
        loss = np.concatenate([HEALTHY[:200], np.linspace(1, 30, 200)]) + shift
        finding = found(steps=steps(loss))["diverged"]
        assert finding.severity == "error"
        assert "medians of tenths" in finding.evidence

    def test_a_diverged_loss_is_not_also_called_one_that_does_not_fall(self) -> None:
        assert set(found(steps=steps(np.linspace(2, 40, 400)))) == {"diverged"}

    def test_a_history_is_enough(self) -> None:
        assert set(found(epochs={"loss": [2.3, 2.0, 4.0, 9.0, 30.0]})) == {"diverged"}


class TestLossNotFalling:
    def test_a_flat_loss_is_a_warning(self) -> None:
        finding = found(steps=steps(np.full(400, 2.303)))["loss_not_falling"]
        assert finding.severity == "warning"
        assert "one batch" in finding.advice

    def test_a_rate_of_nothing_is_named(self) -> None:
        finding = found(steps=steps(np.full(400, 2.3), learning_rate=1e-9))["loss_not_falling"]
        assert "never above 1e-09" in finding.cause

    def test_tiny_updates_are_named(self) -> None:
        finding = found(steps=steps(np.full(400, 2.3), update_ratio=1e-8))["loss_not_falling"]
        assert "Updates are tiny" in finding.cause

    def test_chance_accuracy_does_not_excuse_it(self) -> None:
        epochs = {"loss": [2.3] * 6, "accuracy": [0.1, 0.11, 0.1, 0.1, 0.11, 0.1]}
        assert "loss_not_falling" in found(epochs=epochs)


class TestLossScale:
    def test_overflows_that_go_on_are_a_warning(self) -> None:
        overflow = np.arange(400) % 10 == 0
        finding = found(steps=steps(loss_scale=64, overflow=overflow))["loss_scale_overflows"]
        assert "10% of the steps" in finding.evidence

    def test_a_scale_on_its_floor_is_a_warning(self) -> None:
        scale = np.maximum(1.0, 2.0 ** (15 - np.arange(400) // 20))
        assert "its floor" in found(steps=steps(loss_scale=scale))["loss_scale_overflows"].evidence


class TestClipping:
    @pytest.mark.parametrize(("share", "severity"), [(0.6, "info"), (1.0, "warning")])
    def test_a_clip_that_acts_in_most_steps_is_named(self, share: float, severity: str) -> None:
        clipped = np.random.default_rng(0).random(400) < share
        facts = {"optimizer": {"name": "SGD", "global_clipnorm": 0.1}}
        finding = diagnose(Run(steps=steps(clipped=clipped), facts=facts))[0]
        assert finding.rule == "mostly_clipped"
        assert finding.severity == severity
        assert "median" in finding.evidence


class TestValidation:
    LOSS = np.linspace(2, 0.1, 12)
    WORSE = np.concatenate([np.linspace(2, 1, 6), np.linspace(1.1, 2, 6)])

    def test_a_growing_gap_is_a_warning(self) -> None:
        finding = found(epochs={"loss": self.LOSS, "val_loss": self.WORSE})["validation_gap"]
        assert finding.severity == "warning"
        assert "best in epoch 6 (1)" in finding.evidence

    def test_an_accuracy_that_holds_makes_it_worth_knowing(self) -> None:
        accuracy = np.linspace(0.3, 0.9, 12)
        finding = found(
            epochs={"loss": self.LOSS, "val_loss": self.WORSE, "val_accuracy": accuracy}
        )
        assert finding["validation_gap"].severity == "info"

    def test_a_training_loss_that_rises_too_is_another_fault(self) -> None:
        assert "validation_gap" not in found(epochs={"loss": self.WORSE, "val_loss": self.WORSE})


class TestStillImproving:
    def test_a_loss_that_falls_to_the_end_is_worth_knowing(self) -> None:
        finding = found(epochs={"loss": [5, 4, 3, 2.5, 2.0, 1.5]})["still_improving"]
        assert finding.severity == "info"

    def test_a_run_that_was_cut_short_is_not_told_to_go_on(self) -> None:
        run = Run(epochs={"loss": np.array([5, 4, 3, 2.5, 2, 1.5])}, state={"status": "preempted"})
        assert diagnose(run) == []


@pytest.mark.parametrize("rule", RULES)
class TestEveryRule:
    @pytest.mark.parametrize("count", [0, 1, 3, 150])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.0, 1e300])
    def test_survives_any_values(self, rule: rules.Rule, count: int, value: float) -> None:
        table = dict.fromkeys(steps(), np.full(count, value))
        for run in (Run(steps=table), Run(epochs=table | {"val_loss": table["loss"]})):
            with np.errstate(all="ignore"):
                assert rule(run) is None or isinstance(rule(run), Finding)

    def test_survives_each_missing_column(self, rule: rules.Rule) -> None:
        for name in steps():
            table = steps()
            del table[name]
            assert rule(Run(steps=table)) is None

    def test_survives_columns_of_unequal_length(self, rule: rules.Rule) -> None:
        for name in steps():
            table = steps() | {name: steps()[name][:150]}
            assert rule(Run(steps=table)) is None

    def test_bears_its_own_name(self, rule: rules.Rule) -> None:
        bad = steps(np.full(400, np.nan), overflow=1, clipped=1)
        finding = rule(Run(steps=bad))
        assert finding is None or finding.rule == rule.__name__


def test_a_finding_is_one_paragraph_and_a_dict() -> None:
    finding = Finding("mine", "warning", "Seen.", "Because.", "Do this.")
    assert str(finding) == "Warning (mine): Seen. Because. Do this."
    assert list(finding.as_dict()) == ["rule", "severity", "evidence", "cause", "advice"]


def test_an_unknown_severity_is_refused() -> None:
    with pytest.raises(ValueError, match="`severity` must be one of"):
        Finding("mine", "fatal", "", "", "")  # type: ignore[arg-type]
