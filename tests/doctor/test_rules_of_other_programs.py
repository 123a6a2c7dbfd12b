"""What programs from elsewhere taught the rules: healthy ones that were accused, faults named wrongly."""

import numpy as np
import pytest

from tests.doctor.made import GUESS, STEPS, falling, inputs, noise, run
from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules.divergence import learning_rate_too_high, oscillating
from tfrecipes.doctor.rules.validation import validation_gap, validation_leak

PIXELS = inputs(min=0.0, max=255.0, mean=78.0, std=96.0)
GREY = {"kind": "real", "classes": None, "counts": None, "min": 0.0, "max": 1.0, "mean": 0.3}


def above_info(made):
    return [finding.rule for finding in diagnose(made) if finding.severity != "info"]


def named(made):
    return {finding.rule: finding for finding in diagnose(made)}


class TestHealthy:
    def test_pixels_that_the_model_divides_by_itself(self):
        made = run(facts=PIXELS)
        assert above_info(made) == []
        assert named(made)["inputs_not_normalised"].severity == "info"

    def test_but_not_pixels_that_reach_the_first_weights(self):
        loss = falling(0.4) * noise(0.05)
        loss[:3] = 50.0
        assert above_info(run(loss, facts=PIXELS))[0] == "inputs_not_normalised"

    @pytest.mark.parametrize(
        ("loss", "width", "mean"),
        [("BinaryCrossentropy", 64, 0.3), ("CategoricalCrossentropy", 4, 0.25)],
    )
    def test_grey_levels_and_soft_labels_under_a_cross_entropy(self, loss, width, mean):
        facts = {"loss.name": loss, "width": width, "data.labels": GREY | {"mean": mean}}
        made = run(facts=facts | {"last_activation": "linear", "classes": width})
        assert "wrong_loss" not in named(made)

    @pytest.mark.parametrize("wrong", [{"max": 3.0}, {"min": -1.0}, {"mean": 0.4}])
    def test_but_not_any_real_numbers(self, wrong):
        labels = GREY | {"mean": 0.25} | wrong
        facts = {"loss.name": "CategoricalCrossentropy", "width": 4, "data.labels": labels}
        assert named(run(facts=facts))["wrong_loss"].severity == "error"

    @pytest.mark.parametrize(("accuracy", "severity"), [(0.99, "info"), (0.955, "warning")])
    def test_a_rare_class_that_is_learnt(self, accuracy, severity):
        rare = {"kind": "binary", "classes": 2, "counts": [3040, 160], "sorted": False}
        learnt = {"accuracy": np.full(8, 0.995), "val_accuracy": np.full(8, accuracy)}
        made = run(0.05 * noise(0.1), facts={"data.labels": rare}, epochs=learnt, val=[0.06] * 8)
        assert named(made)["class_collapse"].severity == severity

    @pytest.mark.parametrize(
        "more", [{"loss.outputs": 2}, {"weighted": True}, {"penalty": 5.0}], ids=str
    )
    def test_an_objective_that_is_more_than_one_loss_has_no_log_k(self, more):
        made = run(5 + falling(0.4) * noise(0.05), val=np.full(8, 5.5), facts=more)
        assert above_info(made) == []
        assert "initial_loss" in named(run(5 + falling(0.4) * noise(0.05), val=np.full(8, 5.5)))

    def test_a_model_that_stands_at_guessing_for_a_while_and_is_still_trained(self):
        still = np.full(STEPS, GUESS) * noise(0.01)
        going = run(still, val=np.full(8, GUESS), state={"status": "running"})
        rules = [finding.rule for finding in diagnose(going)]
        assert "labels_unrelated" not in rules
        assert "predicting_prior" not in rules

    @pytest.mark.parametrize("seed", [3, 16, 37])
    def test_noise_at_the_floor_that_lasts_for_a_few_steps_is_no_oscillation(self, seed):
        fresh, slow = np.random.default_rng(seed).standard_normal(240), np.zeros(240)
        for i in range(1, 240):
            slow[i] = 0.5 * slow[i - 1] + fresh[i]
        made = run(1.12 + 0.01 * slow + 0.1 * np.exp(-np.arange(240) / 3))
        assert oscillating(made) is None

    def test_weights_that_grow_while_the_loss_has_hardly_begun_to_fall(self):
        grows = {"param_norm": np.linspace(1, 4, STEPS), "state": {"status": "running"}}
        begun = {"total_steps": 5 * STEPS, "schedule": None}
        loss = falling(1.6, 200) * noise(0.02)
        assert learning_rate_too_high(run(loss, facts=begun, **grows)) is None
        assert learning_rate_too_high(run(loss, facts={"schedule": None}, **grows)) is not None

    def test_a_new_head_over_frozen_features_that_is_still_trained(self):
        facts = {"frozen_weights": 6, "trainable_weights": 2}
        loss = falling(1.2, 100) * noise(0.02)
        going = named(run(loss, facts=facts, state={"status": "running"}))
        assert going["frozen_layers"].severity == "info"
        assert named(run(loss, facts=facts))["frozen_layers"].severity == "warning"

    def test_a_validation_loss_beside_a_weighted_one(self):
        loss = falling(0.5) * noise(0.05)
        lower = {"loss.name": "MeanAbsoluteError", "dropout": 0}
        apart = {"val": np.full(8, 0.3), "epochs": {"accuracy": [], "val_accuracy": []}}
        assert validation_leak(run(loss, facts=lower, **apart)) is not None
        assert validation_leak(run(loss, facts=lower | {"weighted": True}, **apart)) is None

    def test_equal_rows_of_a_table_of_few_values(self):
        table = inputs(shape=[4]) | {"data.repeated": 400, "validation.shared": 150}
        assert "validation_leak" not in above_info(run(facts=table))
        split = inputs(shape=[4]) | {"validation.shared": 150}
        assert "validation_leak" in above_info(run(facts=split))

    def test_one_sample_that_is_in_both(self):
        facts = {"validation.samples": 40, "validation.looked_at": 40, "validation.shared": 1}
        assert "validation_leak" not in above_info(run(facts=facts))

    def test_batch_norm_on_its_way_is_no_overfitting(self):
        lags = np.linspace(2.2, 1.5, 8)
        low = falling(0.1, 20) * noise(0.03)
        assert validation_gap(run(low, val=lags)) is None
        assert validation_gap(run(low, val=lags, facts={"layers": {"Dense": 3}})) is not None

    @pytest.mark.parametrize(("samples", "severity"), [(40, "info"), (12, "warning")])
    def test_a_small_table_whose_validation_is_calm(self, samples, severity):
        made = run(facts={"validation.samples": samples})
        assert named(made)["noisy_validation"].severity == severity

    def test_smoothing_that_leaves_little_below_guessing(self):
        made = run(
            2.278 + 0.03 * np.exp(-np.arange(STEPS) / 60) * noise(0.1),
            val=np.full(8, 2.29),
            facts={"loss.label_smoothing": 0.9},
            epochs={"val_accuracy": np.full(8, 0.88), "accuracy": np.full(8, 0.9)},
        )
        assert "predicting_prior" not in named(made)

    def test_means_that_a_few_samples_make_are_no_leak(self):
        loss = falling(0.2) * noise(0.05)
        loss[::25] += 200
        facts = {"loss.name": "MeanAbsoluteError", "data.labels": GREY | {"max": 1e4}}
        made = run(
            loss, val=np.full(8, 0.2), facts=facts, epochs={"accuracy": [], "val_accuracy": []}
        )
        assert "validation_leak" not in named(made)


class TestCauses:
    def test_inputs_divided_twice(self):
        made = run(facts=inputs(min=0.0, max=0.0039, mean=0.0012, std=0.0015))
        assert above_info(made) == ["inputs_not_normalised"]

    def test_classes_that_training_has_none_of(self):
        counts = [80] * 10
        made = run(facts={"data.labels.counts": [320] * 5 + [0] + [320] * 4})
        assert (
            "of classes that no training sample has (5)"
            in named(made)["validation_not_representative"].evidence
        )
        assert "validation_not_representative" not in named(
            run(facts={"validation.labels.counts": counts})
        )

    def test_a_momentum_that_makes_the_step_a_thousand_times_longer(self):
        blown = np.concatenate([[2.3], 3e4 * np.abs(noise(0.5, STEPS - 1))])
        sgd = {"optimizer": {"name": "SGD", "momentum": 0.999}}
        assert "Lower the momentum first" in named(run(blown, facts=sgd))["diverged"].advice

    @pytest.mark.parametrize(
        ("optimizer", "said"),
        [
            ({"name": "Adam", "epsilon": 1.0}, "epsilon of 1 "),
            ({"name": "SGD", "clipnorm": 1e-3}, "`clipnorm=0.001` cuts"),
            ({"name": "SGD", "clipvalue": 1e-5}, "`clipvalue=1e-05` cuts"),
            ({"name": "SGD"}, ""),
        ],
    )
    def test_what_keeps_the_steps_small(self, optimizer, said):
        slow = (2.31 - 0.0008 * np.arange(STEPS)) * noise(0.02)
        facts = {"optimizer": optimizer, "schedule": None}
        made = run(slow, facts=facts, update_ratio=2e-5, learning_rate=1e-3)
        cause = named(made)["falling_slowly"].cause
        assert said in cause
        assert cause.endswith("the run." if not said else ".")
        assert said or cause == "The learning rate is too low for the length of the run."

    def test_a_warmup_that_is_longer_than_the_run(self):
        config = {"total_steps": 200_000, "warmup_steps": 100_000}
        made = run(
            GUESS * noise(0.01),
            val=np.full(8, GUESS),
            facts={"schedule": {"name": "WarmupCosine", "config": config, "points": []}},
            learning_rate=1e-8 * np.arange(1, STEPS + 1),
            update_ratio=1e-7,
        )
        first = diagnose(made)[0]
        assert (first.rule, first.severity) == ("schedule_too_short", "warning")
        assert "warmup is 100,000 steps long, and the run 400" in first.evidence

    def test_a_callback_that_lowers_the_rate_too_early_is_no_schedule(self):
        rates = 1e-2 * 0.1 ** (np.arange(STEPS) // 50)
        made = run(
            1.8 * noise(0.02), val=np.full(8, 1.9), facts={"schedule": None}, learning_rate=rates
        )
        found = named(made)["schedule_too_short"]
        assert "A callback" in found.cause
        assert "total_steps" not in found.advice
