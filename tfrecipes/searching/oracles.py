"""Keras Tuner's oracles, with files that a kill cannot break, and two quasi-random ones of ours."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from tfrecipes.runs.atomic import write_atomically
from tfrecipes.searching import points
from tfrecipes.searching.deciding import Contest
from tfrecipes.searching.files import Record, SearchFolder

if TYPE_CHECKING:
    from keras_tuner import Oracle
else:
    # A mixin: Keras Tuner is imported when a search begins, and the class is made then.
    Oracle = object

Method = Literal["sobol", "halton", "random", "bayesian", "hyperband"]
METHODS: tuple[Method, ...] = get_args(Method)

# So many trials that end in the same error say that no trial will end in anything else.
ALIKE = 3
# An objective's value of a training that has none: the worst there is.
WORST = {"min": math.inf, "max": -math.inf}


class Agenda:
    """What is still to be trained once the oracle has handed out its trials.

    Args:
        folder: The search's.
        direction: "min" or "max".
        finalists: How many of the best trials are trained anew.
        repeats: Fresh seeds at most; 0 = none.
    """

    def __init__(self, folder: SearchFolder, direction: str, finalists: int, repeats: int) -> None:
        self.folder = folder
        self.direction = direction
        self._finalists = finalists
        self._repeats = repeats

    def contest(self) -> Contest:
        """The best few trials against the starting recipe."""
        sign = 1 if self.direction == "min" else -1
        scored = [r for r in self.folder.trials() if r.score is not None]
        best = sorted(scored, key=lambda r: sign * float(r.score or 0))[: self._finalists]
        return Contest(self.direction, tuple(r.name for r in best), self._repeats if best else 0)

    def wanted(self) -> list[str]:
        """Names of the repeats that are to be trained now."""
        return [f"{name}-{n}" for name, n in self.contest().wanted(self.folder.repeats())]

    def hopeless(self) -> Record | None:
        """The first trial, if the first three all ended in its error.

        What is not finite is a result of the fields, and no error of the input.
        """
        first = self.folder.trials()[:ALIKE]
        if len(first) < ALIKE or not first[0].kind or first[0].kind == "Killed":
            return None
        return first[0] if len({(r.kind, r.error) for r in first}) == 1 else None


class KeptOracle(Oracle):
    """What every oracle of a search does besides its method.

    Its files are written whole, a trial that was interrupted is trained again, and after its trials
    it hands out the repeats that the agenda wants. Those never enter the method's own memory.
    """

    agenda: Agenda

    def create_trial(self, tuner_id: str) -> Any:
        """A trial, then a repeat; a process that asks again is in the training that it was in."""
        running = self.ongoing_trials.get(tuner_id)
        if running is not None:
            _forget_metrics(running)
            return running
        if self.agenda.hopeless() is not None:
            return self._word("STOPPED", tuner_id)
        trial = super().create_trial(tuner_id)
        if trial.status != "STOPPED":
            return trial
        busy = {one.trial_id for one in self.ongoing_trials.values()}
        if any("-" not in name for name in busy):
            return self._word("IDLE", tuner_id)
        wanted = self.agenda.wanted()
        free = [name for name in wanted if name not in busy]
        if not free:
            return self._word("IDLE" if wanted else "STOPPED", tuner_id)
        repeat = self._word("RUNNING", tuner_id, free[0])
        self._repeats_running()[free[0]] = repeat
        self.ongoing_trials[tuner_id] = repeat
        return repeat

    def _word(self, status: str, tuner_id: str, name: str | None = None) -> Any:
        """A trial that only says something."""
        from keras_tuner.engine.trial import Trial

        (self.tuner_ids.discard if status == "STOPPED" else self.tuner_ids.add)(tuner_id)
        hyperparameters = self.hyperparameters.copy()
        for one in hyperparameters.space:
            if hyperparameters.is_active(one):
                hyperparameters.values[one.name] = one.default
        return Trial(hyperparameters=hyperparameters, trial_id=name, status=status)

    def _repeats_running(self) -> dict[str, Any]:
        return self.__dict__.setdefault("_repeats", {})

    def get_trial(self, trial_id: str) -> Any:
        """A trial or a repeat."""
        return self._repeats_running().get(trial_id) or super().get_trial(trial_id)

    def update_trial(self, trial_id: str, metrics: Any, step: int = 0) -> Any:
        """Takes a trial's metrics; a repeat's are in its record."""
        if trial_id in self._repeats_running():
            return self._repeats_running()[trial_id]
        return super().update_trial(trial_id, metrics, step=step)

    def end_trial(self, trial: Any) -> None:
        """Ends a trial or a repeat."""
        if trial.trial_id not in self._repeats_running():
            super().end_trial(trial)
            return
        del self._repeats_running()[trial.trial_id]
        for tuner_id, one in list(self.ongoing_trials.items()):
            if one.trial_id == trial.trial_id:
                del self.ongoing_trials[tuner_id]

    def score_trial(self, trial: Any) -> None:
        """As Keras Tuner does; a training without a score counts as the worst.

        Hyperband sorts it last. A Gaussian process cannot learn from infinity, so that it is given
        the worst value that was seen. The other methods learn nothing: there it is a failed one.
        """
        super().score_trial(trial)
        if math.isfinite(trial.score):
            return
        rest = [t.score for t in self.trials.values() if t.status == "COMPLETED" and t is not trial]
        seen = [score for score in rest if score is not None and math.isfinite(score)]
        if type(self).__name__ == "BayesianSearch" and seen:
            trial.score = (max if self.objective.direction == "min" else min)(seen)
        elif type(self).__name__ != "HyperbandSearch":
            trial.score = math.nan  # Keras Tuner's word for a trial that failed

    # -- files -----------------------------------------------------------------------------------

    def get_state(self) -> dict[str, Any]:
        """Keras Tuner's state; a repeat that runs is no part of it."""
        repeats = self._repeats_running()
        kept, self.ongoing_trials = (
            self.ongoing_trials,
            {
                tuner: trial
                for tuner, trial in self.ongoing_trials.items()
                if trial.trial_id not in repeats
            },
        )
        try:
            return super().get_state()
        finally:
            self.ongoing_trials = kept

    def save(self) -> None:
        """Writes `oracle.json`, whole or not at all."""
        write_atomically(self._get_oracle_fname(), json.dumps(self.get_state()), sync=False)

    def _save_trial(self, trial: Any) -> None:
        path = Path(self._get_trial_dir(trial.trial_id)) / "trial.json"
        write_atomically(path, json.dumps(trial.get_state()), sync=False)

    def reload(self) -> None:
        """Reads the files, without trials that were begun in the moment of a kill."""
        oracle = Path(self._get_oracle_fname())
        known = json.loads(oracle.read_text(encoding="utf-8"))["start_order"]
        for folder in oracle.parent.glob("trial_*"):
            if folder.name.removeprefix("trial_") not in known:
                shutil.rmtree(folder)
        super().reload()
        for name in self._retry_queue:
            _forget_metrics(self.trials[name])


class QuasiRandom(Oracle):
    """Trial i is the i-th point of a scrambled Sobol' or Halton sequence."""

    sequence: points.Sequence

    def populate_space(self, trial_id: str) -> dict[str, Any]:
        """The values of a trial, a function of the seed and its number alone."""
        space = self.hyperparameters.space
        hyperparameters = type(self.hyperparameters)()
        place = points.point(self.sequence, self.seed, int(trial_id), max(1, len(space)))
        for one, share in zip(space, place, strict=False):
            hyperparameters.merge([one])
            if hyperparameters.is_active(one):
                hyperparameters.values[one.name] = one.prob_to_value(float(share))
        return {"status": "RUNNING", "values": hyperparameters.values}


def make_oracle(
    method: Method,
    objective: str,
    direction: str,
    trials: int,
    seed: int,
    hyperparameters: Any,
    agenda: Agenda,
    epochs: int,
) -> Any:
    """The oracle of a search.

    Args:
        method: "sobol", "halton", "random", "bayesian" or "hyperband".
        objective: What is searched by.
        direction: "min" or "max".
        trials: How many.
        seed: Of the points.
        hyperparameters: Keras Tuner's, with every dimension.
        agenda: What follows the trials.
        epochs: What "hyperband" trains its best for.
    """
    import keras_tuner

    class SobolSearch(KeptOracle, QuasiRandom, keras_tuner.Oracle):
        sequence = "sobol"

    class HaltonSearch(KeptOracle, QuasiRandom, keras_tuner.Oracle):
        sequence = "halton"

    class RandomSearch(KeptOracle, keras_tuner.oracles.RandomSearchOracle):
        pass

    class BayesianSearch(KeptOracle, keras_tuner.oracles.BayesianOptimizationOracle):
        pass

    class HyperbandSearch(KeptOracle, keras_tuner.oracles.HyperbandOracle):
        pass

    made: dict[str, Callable[..., Any]] = {
        "sobol": SobolSearch,
        "halton": HaltonSearch,
        "random": RandomSearch,
        "bayesian": BayesianSearch,
        "hyperband": HyperbandSearch,
    }
    length = {"max_trials": trials}
    if method == "hyperband":
        length = {"max_epochs": epochs, "hyperband_iterations": None}
    oracle = made[method](
        objective=keras_tuner.Objective(objective, direction),
        hyperparameters=hyperparameters,
        seed=seed + 1,  # Keras Tuner takes 0 for no seed
        # Which errors end a search is for the agenda to say.
        max_consecutive_failed_trials=2**31,
        **length,
    )
    oracle.max_trials = trials
    oracle.agenda = agenda
    return oracle


def _forget_metrics(trial: Any) -> None:
    """A trial that is trained again reports anew."""
    trial.metrics = type(trial.metrics)()
