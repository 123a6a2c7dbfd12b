"""One table of schedules drives their tests: a new schedule is a row here.

A row's reference is the formula in the class's own docstring, read and evaluated in float64, so a
docstring that says something else than the code fails.  Its twins in other libraries are made by
functions that are handed the library, as this table must import none.
"""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np

from tfrecipes.arithmetic import schedules
from tfrecipes.arithmetic.schedule_base import Schedule

# Of the peak: float32 rounds at 6e-8, and a rate passes through a handful of operations.
TOLERANCE = 1e-6

SYMBOLS = {
    "peak": "peak_learning_rate",
    "end": "end_learning_rate",
    "T": "total_steps",
    "W": "warmup_steps",
    "D": "decay_steps",
    "C": "first_cycle_steps",
    "m": "cycle_factor",
}


@dataclass(frozen=True)
class Case:
    name: str
    cls: type[Schedule]
    arguments: dict[str, Any]
    ends_at: int | None = None  # step from which the rate stays as it is
    steps: np.ndarray = field(default_factory=lambda: np.arange(160))
    optax: Callable | None = None  # (optax) -> schedule
    torch: Callable | None = None  # (torch.optim.lr_scheduler, optimizer) -> scheduler
    timm: Callable | None = None  # (timm.scheduler, optimizer) -> scheduler

    def make(self) -> Schedule:
        return self.cls(**self.arguments)

    @property
    def peak(self) -> float:
        return self.arguments["peak_learning_rate"]


def docstring_rates(schedule: Schedule, steps: Any) -> np.ndarray:
    """The formula of the class's docstring at each step, in float64."""
    lines = [line.strip() for line in type(schedule).__doc__.splitlines()]
    branches = [m.groups() for m in map(re.compile(r"lr\(t\) = (.+?)\s{2,}(.+)").match, lines) if m]
    meanings = dict(m.groups() for m in map(re.compile(r"with (\w+) = (.+)").match, lines) if m)
    assert len(branches) >= 2, f"no formula found in {type(schedule).__name__}'s docstring"
    return np.array([_rate(schedule, branches, meanings, int(t)) for t in steps])


def _rate(schedule, branches, meanings, t):
    config = schedule.get_config()
    names = {symbol: config[name] for symbol, name in SYMBOLS.items() if name in config}
    names |= {"t": t, "pi": math.pi, "cos": math.cos, "sqrt": math.sqrt, **config}
    if isinstance(schedule, schedules.CosineRestarts) and t >= config["warmup_steps"]:
        names["S"], names["i"] = _start_of_cycle(config, t)

    class Meanings(dict):
        def __missing__(self, name):  # only where used: p divides by a span that may be 0
            if name not in meanings:
                raise KeyError(name)
            return eval(meanings[name], names, self)

    for rate, condition in branches:
        if eval(condition, names, Meanings()):
            return eval(rate, names, Meanings())
    raise AssertionError(f"the docstring of {type(schedule).__name__} says nothing of t = {t}")


def _start_of_cycle(config, t):
    start, length, cycle = config["warmup_steps"], config["first_cycle_steps"], 0
    if config["cycle_factor"] == 1:
        cycle = (t - start) // length
        return start + cycle * length, cycle
    start, length, factor = map(Fraction, (start, length, str(config["cycle_factor"])))
    while start + length <= t:
        start, length, cycle = start + length, length * factor, cycle + 1
    return float(start), cycle


def _long(*edges: int) -> np.ndarray:
    near = [np.arange(edge - 3, edge + 4) for edge in edges]
    far = np.linspace(0, max(edges) * 1.1, 301, dtype=np.int64)
    steps = np.unique(np.concatenate([far, *near]))
    return steps[steps >= 0]


def _torch_warmup(s, optimizer, warmup_steps, after):
    # LinearLR cannot start at 0.
    rise = s.LinearLR(optimizer, start_factor=1e-9, total_iters=warmup_steps)
    return s.SequentialLR(optimizer, [rise, after], milestones=[warmup_steps])


M = 1_000_000
P = "peak_learning_rate"

CASES = [
    Case(
        "cosine",
        schedules.WarmupCosine,
        {P: 0.3, "total_steps": 100, "warmup_steps": 10, "end_learning_rate": 0.01},
        ends_at=100,
        optax=lambda o: o.warmup_cosine_decay_schedule(0.0, 0.3, 10, 100, 0.01),
        torch=lambda s, opt: _torch_warmup(s, opt, 10, s.CosineAnnealingLR(opt, 90, 0.01)),
        timm=lambda s, opt: s.CosineLRScheduler(
            opt, 90, 0.01, warmup_t=10, warmup_prefix=True, t_in_epochs=False
        ),
    ),
    Case(
        "cosine without warmup",
        schedules.WarmupCosine,
        {P: 1e-3, "total_steps": 100},
        ends_at=100,
        optax=lambda o: o.cosine_decay_schedule(1e-3, 100),
        torch=lambda s, opt: s.CosineAnnealingLR(opt, 100),
        timm=lambda s, opt: s.CosineLRScheduler(opt, 100, t_in_epochs=False),
    ),
    Case(
        "cosine of ten million steps",
        schedules.WarmupCosine,
        {P: 0.1, "total_steps": 10 * M, "warmup_steps": M + 1, "end_learning_rate": 1e-5},
        ends_at=10 * M,
        steps=_long(M + 1, 10 * M),
    ),
    Case(
        "linear",
        schedules.WarmupLinear,
        {P: 0.3, "total_steps": 100, "warmup_steps": 10, "end_learning_rate": 0.03},
        ends_at=100,
        optax=lambda o: o.join_schedules(
            [o.linear_schedule(0.0, 0.3, 10), o.linear_schedule(0.3, 0.03, 90)], [10]
        ),
        torch=lambda s, opt: _torch_warmup(
            s, opt, 10, s.LinearLR(opt, start_factor=1.0, end_factor=0.1, total_iters=90)
        ),
        timm=lambda s, opt: s.PolyLRScheduler(
            opt, 90, 1.0, 0.03, warmup_t=10, warmup_prefix=True, t_in_epochs=False
        ),
    ),
    Case(
        "linear past 2**24",
        schedules.WarmupLinear,
        {P: 0.1, "total_steps": 2**25 + 3, "warmup_steps": 2**24 + 1},
        ends_at=2**25 + 3,
        steps=_long(2**24 + 1, 2**25 + 3),
    ),
    Case(
        "polynomial",
        schedules.Polynomial,
        {
            P: 0.3,
            "total_steps": 100,
            "warmup_steps": 10,
            "end_learning_rate": 0.01,
            "power": 2.5,
        },
        ends_at=100,
        optax=lambda o: o.join_schedules(
            [o.linear_schedule(0.0, 0.3, 10), o.polynomial_schedule(0.3, 0.01, 2.5, 90)], [10]
        ),
        timm=lambda s, opt: s.PolyLRScheduler(
            opt, 90, 2.5, 0.01, warmup_t=10, warmup_prefix=True, t_in_epochs=False
        ),
    ),
    Case(
        "polynomial to zero",
        schedules.Polynomial,
        {P: 0.3, "total_steps": 100, "power": 0.5},
        ends_at=100,
        optax=lambda o: o.polynomial_schedule(0.3, 0.0, 0.5, 100),
        torch=lambda s, opt: s.PolynomialLR(opt, total_iters=100, power=0.5),
        timm=lambda s, opt: s.PolyLRScheduler(opt, 100, 0.5, 0.0, t_in_epochs=False),
    ),
    Case(
        "polynomial of a high power over ten million steps",
        schedules.Polynomial,
        {P: 0.1, "total_steps": 10 * M, "warmup_steps": 7, "power": 40.0},
        ends_at=10 * M,
        steps=_long(7, 10 * M),
    ),
    *(
        Case(
            f"stable, then {shape}",
            schedules.WarmupStableDecay,
            {
                P: 0.3,
                "total_steps": 100,
                "warmup_steps": 10,
                "decay_steps": 30,
                "end_learning_rate": 0.01,
                "shape": shape,
            },
            ends_at=100,
            optax=optax,
            timm=lambda s, opt, shape=shape: s.wsd_lr.WSDLRScheduler(
                opt, 90, 30, 0.01, decay_fn=shape, warmup_t=10, t_in_epochs=False
            ),
        )
        for shape, optax in {
            "1-sqrt": None,
            "linear": lambda o: o.join_schedules(
                [
                    o.linear_schedule(0.0, 0.3, 10),
                    o.constant_schedule(0.3),
                    o.linear_schedule(0.3, 0.01, 30),
                ],
                [10, 70],
            ),
            "cosine": lambda o: o.join_schedules(
                [
                    o.linear_schedule(0.0, 0.3, 10),
                    o.constant_schedule(0.3),
                    o.cosine_decay_schedule(0.3, 30, 0.01 / 0.3),
                ],
                [10, 70],
            ),
        }.items()
    ),
    Case(
        "stable, then a drop",
        schedules.WarmupStableDecay,
        {P: 0.3, "total_steps": 100, "decay_steps": 0, "end_learning_rate": 0.1},
        ends_at=100,
    ),
    Case(
        "stable with its own decay over ten million steps",
        schedules.WarmupStableDecay,
        {P: 0.1, "total_steps": 10 * M, "warmup_steps": 1000},
        ends_at=10 * M,
        steps=_long(1000, 9 * M, 10 * M),
    ),
    Case(
        "constant",
        schedules.WarmupConstant,
        {P: 0.3, "warmup_steps": 10},
        ends_at=10,
        optax=lambda o: o.warmup_constant_schedule(0.0, 0.3, 10),
        torch=lambda s, opt: _torch_warmup(s, opt, 10, s.ConstantLR(opt, factor=1.0)),
        timm=lambda s, opt: s.MultiStepLRScheduler(opt, [], warmup_t=10, t_in_epochs=False),
    ),
    Case(
        "constant without warmup",
        schedules.WarmupConstant,
        {P: 0.3},
        ends_at=0,
        optax=lambda o: o.constant_schedule(0.3),
    ),
    Case(
        "steps",
        schedules.StepDecay,
        {P: 0.3, "boundaries": [60, 90], "factor": 0.1, "warmup_steps": 10},
        ends_at=90,
        # join_schedules starts the second count at 0.
        optax=lambda o: o.join_schedules(
            [
                o.linear_schedule(0.0, 0.3, 10),
                o.piecewise_constant_schedule(0.3, {50: 0.1, 80: 0.1}),
            ],
            [10],
        ),
        # timm switches one step before its milestone, on purpose and said so in its source.
        timm=lambda s, opt: s.MultiStepLRScheduler(
            opt, [61, 91], 0.1, warmup_t=10, warmup_prefix=False, t_in_epochs=False
        ),
    ),
    Case(
        "steps without warmup",
        schedules.StepDecay,
        {P: 0.3, "boundaries": [30, 60, 90], "factor": 0.2},
        ends_at=90,
        optax=lambda o: o.piecewise_constant_schedule(0.3, {30: 0.2, 60: 0.2, 90: 0.2}),
        torch=lambda s, opt: s.MultiStepLR(opt, [30, 60, 90], 0.2),
        timm=lambda s, opt: s.MultiStepLRScheduler(opt, [31, 61, 91], 0.2, t_in_epochs=False),
    ),
    Case(
        "steps past 2**24",
        schedules.StepDecay,
        {P: 0.1, "boundaries": [2**24 + 1, 2**25 + 1]},
        ends_at=2**25 + 1,
        steps=_long(2**24 + 1, 2**25 + 1),
    ),
    Case(
        "one cycle",
        schedules.OneCycle,
        {P: 0.3, "total_steps": 100},
        ends_at=100,
        optax=lambda o: o.cosine_onecycle_schedule(100, 0.3),
        # torch counts both ends: its cycle of 101 steps rises to step 30 and ends at step 100.
        torch=lambda s, opt: s.OneCycleLR(
            opt, 0.3, total_steps=101, pct_start=31 / 101, cycle_momentum=False
        ),
    ),
    Case(
        "one cycle with factors",
        schedules.OneCycle,
        {
            P: 0.3,
            "total_steps": 97,
            "warmup_fraction": 0.29,
            "initial_factor": 10.0,
            "final_factor": 50.0,
        },
        ends_at=97,
        optax=lambda o: o.cosine_onecycle_schedule(97, 0.3, 0.29, 10.0, 50.0),
    ),
    Case(
        "one cycle that only falls",
        schedules.OneCycle,
        {P: 0.3, "total_steps": 100, "warmup_fraction": 0.0},
        ends_at=100,
        optax=lambda o: o.cosine_onecycle_schedule(100, 0.3, 0.0),
    ),
    Case(
        "one cycle of ten million steps",
        schedules.OneCycle,
        {P: 0.1, "total_steps": 10 * M},
        ends_at=10 * M,
        steps=_long(3 * M, 10 * M),
    ),
    Case(
        "inverse square root",
        schedules.InverseSqrt,
        {P: 0.3, "warmup_steps": 10},
        optax=lambda o: (
            lambda t: o.linear_schedule(0.0, 0.3, 10)(t) if t < 10 else 0.3 * (10 / t) ** 0.5
        ),
    ),
    Case(
        "inverse square root of ten million steps",
        schedules.InverseSqrt,
        {P: 0.1, "warmup_steps": 4000},
        steps=_long(4000, 10 * M),
    ),
    Case(
        "restarts",
        schedules.CosineRestarts,
        {
            P: 0.3,
            "first_cycle_steps": 20,
            "cycle_factor": 2.0,
            "decay": 0.5,
            "warmup_steps": 10,
            "end_learning_rate": 0.01,
        },
        optax=lambda o: o.join_schedules(
            [
                o.linear_schedule(0.0, 0.3, 10),
                *(
                    o.cosine_decay_schedule(0.3 * 0.5**i, 20 * 2**i, 0.01 / (0.3 * 0.5**i))
                    for i in range(4)
                ),
            ],
            [10, 30, 70, 150],
        ),
        timm=lambda s, opt: s.CosineLRScheduler(
            opt,
            20,
            0.01,
            cycle_mul=2.0,
            cycle_decay=0.5,
            cycle_limit=99,
            warmup_t=10,
            warmup_prefix=True,
            t_in_epochs=False,
        ),
    ),
    Case(
        "restarts of equal length",
        schedules.CosineRestarts,
        {P: 0.3, "first_cycle_steps": 20, "cycle_factor": 1.0, "end_learning_rate": 0.01},
        optax=lambda o: o.sgdr_schedule(
            [
                {
                    "init_value": 0.3,
                    "peak_value": 0.3,
                    "warmup_steps": 0,
                    "decay_steps": 20,
                    "end_value": 0.01,
                }
            ]
            * 8
        ),
        torch=lambda s, opt: s.CosineAnnealingWarmRestarts(opt, 20, 1, 0.01),
        timm=lambda s, opt: s.CosineLRScheduler(opt, 20, 0.01, cycle_limit=99, t_in_epochs=False),
    ),
    Case(
        "restarts that double",
        schedules.CosineRestarts,
        {P: 0.3, "first_cycle_steps": 20},
        torch=lambda s, opt: s.CosineAnnealingWarmRestarts(opt, 20, 2),
    ),
    Case(
        "restarts between whole steps",
        schedules.CosineRestarts,
        {P: 0.3, "first_cycle_steps": 5, "cycle_factor": 1.1, "decay": 0.9},
    ),
    Case(
        "restarts over ten million steps",
        schedules.CosineRestarts,
        {P: 0.1, "first_cycle_steps": 1000, "cycle_factor": 1.5, "warmup_steps": 100},
        steps=_long(100, 10 * M),
    ),
    Case(
        "ten thousand restarts that fade",
        schedules.CosineRestarts,
        {P: 0.1, "first_cycle_steps": 1000, "cycle_factor": 1.0, "decay": 0.999},
        steps=_long(5000, 1000 * 1000, 10 * M),
    ),
]
EVERY_CASE = {"argvalues": CASES, "ids": [case.name for case in CASES]}


def cases_with(library: str) -> dict[str, Any]:
    """Arguments of `pytest.mark.parametrize` for the rows that have a twin in `library`."""
    cases = [case for case in CASES if getattr(case, library)]
    return {"argvalues": cases, "ids": [case.name for case in cases]}
