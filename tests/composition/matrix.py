"""The features, the cells made from them, and the sample that covers every pair of values."""

import itertools
import random
from dataclasses import dataclass, fields
from functools import cache

from tfrecipes.step.plan import StepPlan

# How many replicas cells are made for.
REPLICAS = (1, 2)

AVERAGES = ("off", "ema", "ema_flat", "swa", "swa_rate", "swa_cycle")
OPTIMIZERS = ("tfr_adamw", "tfr_sgd", "keras_adamw", "keras_sgd")

# Every field of StepPlan, with what cells try of it; a new field has to join. Default first.
PLAN = {
    "micro_batch": (None, 5),
    "micro_batches": (1, 3),
    "accumulate": (1, 2),
    "average": AVERAGES,
    "columns": ("off", "all"),
    "layers": (None, 2),
    "on_nonfinite": ("skip", "stop"),
    "max_bad_steps": (25, 2),
    "label_smoothing": (0.0, 0.1),
}
BESIDE_THE_PLAN = {
    "optimizer": OPTIMIZERS,
    "clip": ("off", "on"),
    "decay": ("excluded", "all", "off"),
    "l2": ("off", "on"),
    "loss_scale": ("off", "tfr", "keras"),
    "sample_weight": ("off", "on"),
    "class_weight": ("off", "on"),
    "labels": ("integer", "one_hot"),
    "batches": ("even", "ragged_last", "ragged_first"),
    "nonfinite": ("none", "one", "two_in_a_row"),
    "steps_per_execution": (1, 2),
    "jit": (False, True),
    "callbacks": ("listed", "reversed"),
    "replicas": REPLICAS,
}
FEATURES = {**PLAN, **BESIDE_THE_PLAN}
CUTS = ("micro_batch", "micro_batches", "accumulate")
SEED = 2026
# Cells of many features at once, beside the sample's, in the whole matrix.
MANY = 80


def fields_without_cells():
    """Names of StepPlan's fields that the table above lacks, or has too much, or has one value of."""
    names = {f.name for f in fields(StepPlan)}
    return (names ^ set(PLAN)) | {name for name, values in PLAN.items() if len(values) < 2}


@dataclass(frozen=True)
class Cell:
    """One value of every feature, in FEATURES' order."""

    values: tuple

    @classmethod
    def of(cls, **changes):
        unknown = set(changes) - set(FEATURES)
        if unknown:
            raise ValueError(f"Cell: no such features: {sorted(unknown)}")
        return cls(tuple(changes.get(name, values[0]) for name, values in FEATURES.items()))

    def __getattr__(self, name):
        if name not in FEATURES:
            raise AttributeError(name)
        return self.values[list(FEATURES).index(name)]

    def with_defaults(self, names):
        kept = dict(zip(FEATURES, self.values, strict=True))
        return Cell.of(**{name: value for name, value in kept.items() if name not in names})

    @property
    def is_valid(self):
        """A step is cut once, and on a CPU XLA has one device; everything else goes together."""
        cuts = sum(getattr(self, cut) != FEATURES[cut][0] for cut in CUTS)
        return cuts <= 1 and not (self.jit and self.replicas > 1)

    @property
    def pairs(self):
        """Every pair of (feature, value) in this cell."""
        return set(itertools.combinations(zip(FEATURES, self.values, strict=True), 2))

    def __str__(self):
        """What is not at its default."""
        words = [
            f"{name}:{value}"
            for (name, values), value in zip(FEATURES.items(), self.values, strict=True)
            if value != values[0]
        ]
        return ",".join(words) or "default"

    @property
    def observing(self):
        """Features that this cell has on and that may not change one bit of the training.

        A loss scale is a power of two, which scales float32 exactly. XLA fuses a step with what
        else is in it, so that there another column or loop rounds otherwise. TensorFlow's graph
        optimizer adds a penalty's gradient at another place where the loop over micro-batches
        stands in a loop over steps; with it off, that pair is bitwise too.
        """
        if self.jit:
            return set()
        found = {
            name
            for name in ("columns", "layers", "steps_per_execution", "callbacks")
            if getattr(self, name) != FEATURES[name][0]
        }
        if self.l2 == "on" and any(getattr(self, cut) != FEATURES[cut][0] for cut in CUTS):
            found.discard("steps_per_execution")
        if self.average in ("ema", "ema_flat", "swa"):
            found.add("average")  # of the raw weights
        scale_decides_the_stop = self.on_nonfinite == "stop" and self.nonfinite != "none"
        if self.loss_scale != "off" and not scale_decides_the_stop:
            found.add("loss_scale")
        return found

    @property
    def kind(self):
        """The class whose tolerance holds for this cell."""
        bits = "bitwise" if self.observing else "rounding"
        return "XLA" if self.jit else bits


def singles_and_pairs(rng):
    """The default, each value alone, and each pair of features, with values drawn."""
    yield Cell.of()
    for name, values in FEATURES.items():
        yield from (Cell.of(**{name: value}) for value in values[1:])
    for a, b in itertools.combinations(FEATURES, 2):
        yield Cell.of(**{name: rng.choice(FEATURES[name][1:]) for name in (a, b)})


def all_together():
    """Everything on at once: for every optimizer, average and cut."""
    most = {name: values[-1] for name, values in FEATURES.items()}
    most |= {"on_nonfinite": "skip", "max_bad_steps": 25, "decay": "excluded", "jit": False}
    for optimizer, average, cut in itertools.product(OPTIMIZERS, AVERAGES[1:], CUTS):
        off = {name: FEATURES[name][0] for name in CUTS if name != cut}
        yield Cell.of(**most | off | {"optimizer": optimizer, "average": average})


def random_cell(rng, fixed):
    """A cell with `fixed` values and random others; XLA, which costs seconds, in one of twenty."""
    while True:
        drawn = {name: rng.choice(values) for name, values in FEATURES.items()}
        drawn |= {"jit": rng.random() < 0.05, **fixed}
        cut = rng.choice([name for name in CUTS if name in fixed] or CUTS)
        drawn |= {name: FEATURES[name][0] for name in CUTS if name not in (*fixed, cut)}
        cell = Cell.of(**drawn)
        if cell.is_valid:
            return cell


def possible_pairs():
    """Every pair of values of two features that some valid cell has."""
    found = set()
    for a, b in itertools.combinations(FEATURES, 2):
        for p, q in itertools.product(FEATURES[a], FEATURES[b]):
            if Cell.of(**{a: p, b: q}).is_valid:
                found.add(((a, p), (b, q)))
    return found


@cache
def sample():
    """Cells of many features each, drawn by SEED, that have every possible pair of values."""
    rng, left, cells = random.Random(SEED), possible_pairs(), []
    while left:
        (pair,) = rng.sample(sorted(left, key=repr), 1)
        drawn = [random_cell(rng, dict(pair)) for _ in range(40)]
        best = max(drawn, key=lambda cell: len(cell.pairs & left))
        left -= best.pairs
        cells.append(best)
    return tuple(cells)


@cache
def whole():
    """All cells: the sample, alone, in pairs, all together, and many at random."""
    rng = random.Random(SEED + 1)
    cells = [
        *sample(),
        *singles_and_pairs(rng),
        *all_together(),
        *(random_cell(rng, {}) for _ in range(MANY)),
    ]
    return tuple(dict.fromkeys(cell for cell in cells if cell.is_valid))
