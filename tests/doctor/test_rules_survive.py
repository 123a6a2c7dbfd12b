"""No rule raises, whatever a run holds, and a long run costs what a short one does."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfrecipes.doctor.diagnosis import diagnose
from tfrecipes.doctor.rules import RULES, SEVERITIES, Finding
from tfrecipes.doctor.rules.look import Look
from tfrecipes.runs.folder import Run
from tfrecipes.runs.steps import TELEMETRY

COLUMNS = sorted(TELEMETRY)
HISTORY = ("loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", "update_ratio")
SYSTEM = ("step", "seconds", "samples_per_second", "data_wait", "reduce_share")
ODD = [math.nan, math.inf, -math.inf, 0.0, 1e300, -1e300, 1e-300, 1.0]

lengths = st.sampled_from([0, 1, 2, 3, 5, 8, 20, 60, 150])
numbers = st.one_of(
    st.sampled_from(ODD), st.floats(-10, 10), st.floats(allow_nan=True, allow_infinity=True)
)


@st.composite
def columns(draw: Any, names: tuple[str, ...] | list[str]) -> dict[str, np.ndarray]:
    """A table with some of the columns, of one length or of several, noise with holes."""
    length = draw(lengths)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    table = {}
    for name in draw(st.lists(st.sampled_from(list(names)), unique=True)):
        count = draw(lengths) if draw(st.booleans()) and draw(st.booleans()) else length
        values = draw(numbers) + rng.standard_normal(count) * draw(
            st.sampled_from([0, 1e-9, 1, 1e6])
        )
        if name == "step" and draw(st.booleans()):
            values = np.arange(count, dtype=float)
        holes = rng.random(count) < draw(st.sampled_from([0, 0.1, 1]))
        table[name] = np.where(holes, draw(st.sampled_from(ODD)), values)
    return table


words = st.sampled_from(
    [
        "AdamW",
        "SGD",
        "SWA",
        "softmax",
        "relu",
        "linear",
        "float16",
        "integer",
        "one-hot",
        "real",
        "x",
        "SparseCategoricalCrossentropy",
        "BinaryCrossentropy",
        "MeanSquaredError",
        "running",
        "",
    ]
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-3, 100_000), numbers, words)
KEYS = [
    "optimizer",
    "name",
    "weight_decay",
    "global_clipnorm",
    "schedule",
    "config",
    "points",
    "total_steps",
    "steps_per_epoch",
    "epochs",
    "batch_size",
    "micro_batch",
    "replicas",
    "precision",
    "loss",
    "from_logits",
    "label_smoothing",
    "last_activation",
    "classes",
    "layers",
    "dropout",
    "parameters",
    "trainable_weights",
    "frozen_weights",
    "groups",
    "average",
    "data",
    "validation",
    "samples",
    "inputs",
    "labels",
    "repeated",
    "shared",
    "kind",
    "counts",
    "sorted",
    "mean",
    "std",
    "min",
    "max",
    "shape",
    "constant_features",
    "first_bad",
    "weight",
]
facts = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(KEYS), inner, max_size=8)
    ),
    max_leaves=40,
)


def real_facts(draw: Any) -> dict[str, Any]:
    """Facts of the right shape, with one part replaced by anything."""
    told: dict[str, Any] = {
        "optimizer": {"name": "AdamW", "weight_decay": 0.05, "global_clipnorm": 1.0},
        "schedule": {
            "name": "WarmupCosine",
            "config": {"total_steps": 100},
            "points": [[0, 0], [9, 1]],
        },
        "total_steps": 150,
        "steps_per_epoch": draw(st.sampled_from([1, 10, 30])),
        "batch_size": 32,
        "loss": {"name": "SparseCategoricalCrossentropy", "from_logits": True},
        "last_activation": "linear",
        "classes": 10,
        "layers": {"BatchNormalization": 3},
        "dropout": 0.5,
        "trainable_weights": 12,
        "frozen_weights": 2,
        "groups": ["a", "b"],
        "data": {
            "samples": 100,
            "inputs": [{"name": "x", "shape": [8], "min": 0, "max": 1, "mean": 0.5, "std": 0.2}],
            "labels": {"kind": "integer", "classes": 10, "counts": [10] * 10, "sorted": False},
            "repeated": 3,
        },
        "validation": {"samples": 20, "shared": 1},
    }
    part = told
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(sorted(part)))
        if not isinstance(part[key], dict):
            break
        part = part[key]
    part[draw(st.sampled_from(sorted(part)))] = draw(facts)
    return told


@st.composite
def runs(draw: Any) -> Run:
    recipe = draw(
        st.one_of(
            st.none(),
            st.just(
                {"name": "mine", "schedule": {"peak_learning_rate": 1e-3}, "train": {"epochs": 3}}
            ),
            facts.filter(lambda value: isinstance(value, dict)),
        )
    )
    return Run(
        steps=draw(columns(COLUMNS)),
        epochs=draw(columns(HISTORY)),
        recipe=recipe,  # type: ignore[arg-type]
        facts=real_facts(draw) if draw(st.booleans()) else draw(facts),  # type: ignore[arg-type]
        system=draw(columns(SYSTEM)),
        layers=draw(
            columns(["step", "grad_norm/a", "grad_norm/b", "grad_norm/c", "update_ratio/a"])
        ),
        state={"status": draw(st.sampled_from(["running", "finished", "stopped", None]))},
    )


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
@given(runs())
def test_no_rule_raises_and_each_speaks_plainly(run: Run) -> None:
    look = Look.at(run)
    with np.errstate(all="ignore"):
        for rule in RULES:
            finding = rule(look)
            if finding is None:
                continue
            assert isinstance(finding, Finding)
            assert finding.rule == rule.__name__
            for text in (finding.evidence, finding.cause, finding.advice):
                assert text.isprintable()
                assert text.strip() == text
                assert text.endswith((".", ","))
                assert "  " not in text
    found = diagnose(run)
    ranks = [SEVERITIES.index(finding.severity) for finding in found]
    assert ranks == sorted(ranks)
    assert len({finding.rule for finding in found}) == len(found)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(numbers, max_size=30),
    st.lists(numbers, max_size=30),
    st.one_of(st.none(), st.lists(st.one_of(st.none(), words), max_size=5)),
)
def test_any_history_is_read(loss: list, validation: list, odd: object) -> None:
    assert isinstance(diagnose({"loss": loss, "val_loss": validation, "odd": odd}), list)
    assert isinstance(diagnose({"step": list(range(len(loss))), "loss": loss}), list)


@pytest.mark.parametrize("name", ["facts", "system", "layers", "state", "recipe", "epochs"])
@pytest.mark.parametrize(
    "value", [None, "text", 3, [1], {"loss": "text"}, {"loss": [None]}, {1: 2}]
)
def test_what_is_no_table_counts_as_absent(name: str, value: object) -> None:
    run = Run(steps={"loss": np.linspace(2, 0.5, 200)})
    object.__setattr__(run, name, value)
    for rule in RULES:
        rule(run)


def test_the_columns_of_a_million_steps_are_turned_into_numbers_once_or_twice(
    monkeypatch: Any,
) -> None:
    # No clock: what NumPy is asked to look at, counted.
    count = 1_000_000
    rng = np.random.default_rng(0)
    table = {
        name: np.abs(rng.standard_normal(count)) * 0.01 + 1 for name in COLUMNS if name != "step"
    }
    table["loss"] = 2 * np.exp(-np.arange(count) / 2e5) + 0.1 * rng.standard_normal(count) + 1
    table |= {"step": np.arange(count, dtype=float), "overflow": np.zeros(count)}
    seen = 0
    asarray = np.asarray

    def counted(values: Any, *rest: Any, **named: Any) -> Any:
        nonlocal seen
        array = asarray(values, *rest, **named)
        seen += array.size if array.size >= count else 0
        return array

    monkeypatch.setattr(np, "asarray", counted)
    diagnose(Run(steps=table))
    assert seen <= 2 * count * len(COLUMNS)  # each column is turned into numbers once or twice
