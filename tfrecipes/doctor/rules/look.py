"""A run as the rules read it: what can be worked out of its tables and facts, once."""

import math
from functools import cached_property
from typing import Any

import numpy as np

from tfrecipes.doctor.rules import thresholds as at
from tfrecipes.doctor.rules.robust import (
    Trend,
    entropy,
    finite,
    highest,
    median,
    median_error,
    medians,
    parts,
    plural,
)
from tfrecipes.doctor.rules.tables import EMPTY, Array, Tables, mapping


class Look(Tables):
    """A run, looked at. Every rule begins with `Look.at(run)`."""

    @classmethod
    def at(cls, run: Any) -> "Look":
        """The look at a run: the same one, where it was looked at before."""
        return run if isinstance(run, cls) else cls(run)

    @cached_property
    def loss(self) -> Array:
        """Every step's loss that is finite."""
        return finite(self.column("steps", "loss"))

    @cached_property
    def trend(self) -> Trend | None:
        """The training loss over the run; None where there is too little of it."""
        loss = self.loss
        if loss.size >= at.ENOUGH_STEPS:
            cut = parts(loss, at.PARTS)
            return Trend(
                np.array([float(np.median(part)) for part in cut]),
                np.array([median_error(part) for part in cut]),
                f"{plural(loss.size, 'step')}, medians of tenths",
                float(np.median(loss[: at.FIRST_STEPS])),
                True,
            )
        loss = finite(self.epoch("loss"))
        if loss.size >= at.ENOUGH_EPOCHS:
            zeros = np.zeros(loss.size)
            return Trend(loss, zeros, plural(loss.size, "epoch"), float(loss[0]), False)
        return None

    @cached_property
    def early(self) -> bool:
        """Whether it runs and less than a quarter of its steps are done: a slow start is no fault."""
        total = self.fact_number("total_steps")
        rows = self.column("steps", "loss").size
        done = self.number(rows - 1) + 1 if rows else 0
        return self.running and (total is None or done < at.EARLY_RUN * total)

    @cached_property
    def every_step(self) -> bool:
        """Whether there is a row for each step; the rows of a long run that is watched are thinned."""
        steps = self.step("step")
        return not steps.size or bool(steps[-1] - steps[0] == steps.size - 1)

    @cached_property
    def steps_per_epoch(self) -> int | None:
        """Steps of an epoch, from the facts or from both tables; None where rows are thinned."""
        if not self.every_step:
            return None
        told = self.fact_number("steps_per_epoch")
        if told and told >= 1:
            return int(told)
        rows, epochs = self.column("steps", "loss").size, self.epoch("loss").size
        return rows // epochs if epochs and rows >= epochs else None

    @cached_property
    def rates(self) -> Array:
        """Learning rates, of steps where there are any, else of epochs."""
        rates = finite(self.step("learning_rate"))
        return rates if rates.size else finite(self.epoch("learning_rate"))

    @cached_property
    def peak_rate(self) -> float | None:
        """The highest learning rate; None where it is not known."""
        if self.rates.size and self.rates.max() > 0:
            return float(self.rates.max())
        for told in (
            self.setting("schedule", "peak_learning_rate"),
            self.fact("optimizer", "learning_rate"),
        ):
            if isinstance(told, int | float) and not isinstance(told, bool) and told > 0:
                return float(told)
        return None

    @cached_property
    def ratio(self) -> float | None:
        """|dw| / |w| at its height: the largest median of fiftieths of the run."""
        ratios = finite(self.step("update_ratio"))
        if self.began_at_zero:
            return median(ratios[ratios.size // 4 :])
        if ratios.size >= at.FEW_STEPS:
            return highest(medians(ratios, 50))
        ratios = finite(self.epoch("update_ratio"))
        return float(ratios.max()) if ratios.size >= 3 else None

    @cached_property
    def growth(self) -> float | None:
        """How many times the weights' norm grew, at its height."""
        norms = finite(self.step("param_norm"))
        if norms.size < at.FEW_STEPS or self.began_at_zero:
            return None
        return float(norms.max() / norms[0])

    @cached_property
    def began_at_zero(self) -> bool:
        """Whether the weights began so small that growth and ratios say nothing."""
        norms = finite(self.step("param_norm"))
        return bool(norms.size and norms[0] < at.BEGAN_SMALL * norms.max())

    @cached_property
    def sustained_ratio(self) -> float | None:
        """|dw| / |w|, its median while the rate is above half of its peak."""
        ratios, rates = self.step("update_ratio"), self.step("learning_rate")
        if ratios.size < at.ENOUGH_STEPS or ratios.size != rates.size or self.began_at_zero:
            return None
        high = ratios[rates >= 0.5 * highest(rates)] if np.isfinite(rates).any() else ratios
        value = median(high)
        return value if math.isfinite(value) else None

    @cached_property
    def loss_name(self) -> str:
        """The loss's name in small letters without underscores, empty where it is not known."""
        name = self.fact("loss", "name")
        return name.lower().replace("_", "") if isinstance(name, str) else ""

    @property
    def cross_entropy(self) -> bool:
        """Whether the loss is known to be one."""
        return "crossentropy" in self.loss_name

    @cached_property
    def smoothing(self) -> float:
        """Label smoothing."""
        told = self.fact_number("loss", "label_smoothing")
        told = told if told is not None else self.setting("loss", "label_smoothing")
        return float(told) if isinstance(told, int | float) else 0.0

    @cached_property
    def classes(self) -> int | None:
        """How many there are."""
        for path in (
            ("classes",),
            ("data", "labels", "classes"),
            ("validation", "labels", "classes"),
        ):
            told = self.fact_number(*path)
            if told and told >= 2:
                return int(told)
        return None

    def label(self, key: str) -> Any:
        """A fact of the labels, of validation's where the training data are a stream."""
        which = "data" if self.fact("data", "labels") else "validation"
        return self.fact(which, "labels", key)

    @property
    def tiny(self) -> bool:
        """Whether the model has fewer parameters than can tell so many classes apart."""
        parameters, classes = self.fact_number("parameters"), self.classes
        return bool(parameters and classes and parameters < at.PARAMETERS_A_CLASS * classes)

    @property
    def embeds(self) -> bool:
        """Whether a layer takes whole numbers for indices."""
        return any("Embedding" in str(name) for name in mapping(self.fact("layers")))

    @property
    def labels_a_sample(self) -> float | None:
        """How many labels were counted for each sample looked at: 1, or the places of a sequence."""
        which = "data" if self.fact("data", "labels") else "validation"
        looked = self.fact_number(which, "looked_at") or self.fact_number(which, "samples")
        counts = self.label("counts")
        try:
            return (
                float(sum(counts) / looked) if looked and isinstance(counts, list | tuple) else None
            )
        except TypeError:
            return None

    @cached_property
    def label_shares(self) -> Array:
        """Each class's share of the labels looked at; empty where they were not counted."""
        counts = self.label("counts")
        if not isinstance(counts, list | tuple) or len(counts) < 2:
            return EMPTY
        try:
            values = np.asarray(counts, np.float64)
        except (TypeError, ValueError):
            return EMPTY
        good = values.ndim == 1 and np.isfinite(values).all() and (values >= 0).all()
        return values / values.sum() if good and values.sum() > 0 else EMPTY

    @cached_property
    def guess(self) -> float | None:
        """The loss of who knows the labels' frequencies and nothing of the inputs.

        Their entropy, or log K where they were not counted, for a cross-entropy; the labels'
        variance for a squared error. None where the loss is another one, or not known, or where
        the objective is more than it: several outputs, weighted samples or classes, penalties.
        """
        if self.on_another_scale:
            return None
        if self.loss_name in ("meansquarederror", "mse"):
            deviation = self.label("std")
            real = self.label("kind") == "real" and isinstance(deviation, int | float)
            return float(deviation) ** 2 if real and deviation else None
        if not self.cross_entropy or "focal" in self.loss_name:
            return None
        shares = self.label_shares
        binary = "binary" in self.loss_name
        if binary and (self.classes or 2) > 2:
            return None  # a mean over outputs, each with its own frequency
        if shares.size:
            return entropy((1 - self.smoothing) * shares + self.smoothing / shares.size)
        classes = 2 if binary else self.classes
        return math.log(classes) if classes else None

    @cached_property
    def on_another_scale(self) -> bool:
        """Whether the objective is more, or other, than the mean of one loss over the samples."""
        several = (self.fact_number("loss", "outputs") or 1) > 1
        penalty = (self.fact_number("penalty") or 0.0) > at.PENALTY_FELT
        return several or penalty or self.fact("weighted") is True

    @cached_property
    def untrained(self) -> float | None:
        """The loss of who knows nothing at all: log K, or the labels' variance."""
        if not self.cross_entropy or self.guess is None:
            return self.guess
        classes = 2 if "binary" in self.loss_name else self.classes or self.label_shares.size
        return math.log(classes) if classes else self.guess

    @cached_property
    def accuracies(self) -> tuple[Array, Array]:
        """Training and validation accuracy over the epochs; empty where there is none."""
        names = [str(n) for n in self.epochs if "acc" in str(n) and not str(n).startswith("swa_")]
        own = next((n for n in names if not n.startswith("val_")), "")
        other = next((n for n in names if n.startswith("val_")), "")
        return self.epoch(own), self.epoch(other)

    @cached_property
    def beats_chance(self) -> bool:
        """Whether the best validation accuracy is above the largest class's share by 4 deviations."""
        accuracy, shares = finite(self.accuracies[1]), self.label_shares
        if not accuracy.size or not (shares.size or self.classes):
            return False
        chance = float(shares.max()) if shares.size else 1 / (self.classes or 1)
        samples = self.fact_number("validation", "samples") or at.VALIDATION_SAMPLES
        return float(accuracy.max()) > chance + 4 * math.sqrt(chance * (1 - chance) / samples)

    @cached_property
    def both_losses(self) -> tuple[Array, Array, Array]:
        """Epoch numbers from 1, training loss and validation loss, in the epochs that have both."""
        loss, validation = self.epoch("loss"), self.epoch("val_loss")
        if not loss.size or loss.size != validation.size:
            return EMPTY, EMPTY, EMPTY
        both = np.isfinite(loss) & np.isfinite(validation)
        return np.flatnonzero(both) + 1, loss[both], validation[both]

    @cached_property
    def first_epoch(self) -> float | None:
        """The training loss at the end of the first epoch, on samples that were never seen before.

        A tenth of the epoch's steps, 5 at least. So it is no training loss yet: what it is below
        guessing by, the model has learnt and not learnt by heart.
        """
        return self._end_of_epoch(1)

    @cached_property
    def second_epoch(self) -> float | None:
        """The training loss at the end of the second epoch, on samples seen once: hardly by heart."""
        return self._end_of_epoch(2)

    def _end_of_epoch(self, number: int) -> float | None:
        per, loss = self.steps_per_epoch, self.column("steps", "loss")
        if not per or loss.size < number * per:
            return None
        few = max(5, per // 10)
        return median(loss[number * per - few : number * per]) if per >= 2 * few else None

    def flat(self, share: float) -> bool:
        """Whether the loss fell by less than this share of guessing over the second half of the run."""
        trend, guess = self.trend, self.guess
        if trend is None or guess is None:
            return False
        return float(trend.points[trend.points.size // 2] - trend.end) < share * guess

    @cached_property
    def noisy_layers(self) -> tuple[str, ...]:
        """Layers that make training harder than evaluation: dropout, noise, augmentation."""
        names = mapping(self.fact("layers"))
        noisy = ("Dropout", "Random", "Gaussian", "StochasticDepth", "MixUp", "CutMix", "Masking")
        found = [str(n) for n in names if any(word in str(n) for word in noisy)]
        dropout = self.fact_number("dropout")
        return tuple(found or (["Dropout"] if dropout else []))

    @property
    def averaged(self) -> bool:
        """Whether validation sees averaged weights, or the model ends with them."""
        return bool(self.fact("average")) or any(
            mapping(self.recipe).get(k) for k in ("ema", "swa")
        )

    @cached_property
    def adaptive(self) -> bool:
        """Whether the optimizer divides by the gradient's own size, as Adam does."""
        name = self.fact("optimizer", "name") or self.setting("optimizer", "name") or ""
        words = (
            "adam",
            "rmsprop",
            "lion",
            "adagrad",
            "adadelta",
            "ftrl",
            "lamb",
            "muon",
            "adafactor",
        )
        return any(word in str(name).lower() for word in words)

    @cached_property
    def clip_limit(self) -> float | None:
        """The global clip's limit."""
        told = self.fact_number("optimizer", "global_clipnorm")
        told = told if told is not None else self.setting("step", "global_clipnorm")
        return float(told) if isinstance(told, int | float) and told > 0 else None
