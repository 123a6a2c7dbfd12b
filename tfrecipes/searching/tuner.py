"""Keras Tuner's Tuner, where a trial is a training by a recipe."""

import contextlib
import io
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from tfrecipes.runs.atomic import write_atomically
from tfrecipes.searching.files import Record, SearchFolder
from tfrecipes.searching.oracles import WORST
from tfrecipes.searching.trials import Trainer

if TYPE_CHECKING:
    from keras_tuner import Tuner
else:
    Tuner = object  # a mixin, as in oracles.py

# Between two questions of a process that has nothing to train [s].
_WAIT = 0.2

Told = Callable[[Record], None]


class RecipeTuner(Tuner):
    """Trains each trial by `recipe.replace(...)`; the rest is Keras Tuner's.

    A trial that crashes is no exception here: it has a record that says why, and the worst score.
    """

    trainer: Trainer
    told: Told
    _asked = 0

    def run_trial(self, trial: Any, *unused: Any, **unused_too: Any) -> Any:
        """Trains a trial or a repeat; the objective's value goes to the oracle."""
        name, trainer = trial.trial_id, self.trainer
        if self._is_worker():
            trainer.folder.note_begun(self.tuner_id, name)
        try:
            if "-" in name:
                record = trainer.repeat(name, trial.hyperparameters)
            else:
                epochs = trial.hyperparameters.values.get("tuner/epochs")
                record = trainer.trial(name, trial.hyperparameters, epochs)
        except Exception as error:  # of the search itself: a crashed training has a record
            import keras_tuner

            raise keras_tuner.errors.FatalError(str(error)) from error
        if self._is_worker():
            trainer.folder.note_begun(self.tuner_id, None)
        self.told(record)
        score = WORST[trainer.direction] if record.score is None else record.score
        return {trainer.objective: score}

    def pre_create_trial(self) -> None:
        """Waits a moment where the last question had no training for an answer."""
        if self._asked:
            time.sleep(_WAIT)
        self._asked += 1

    def on_trial_begin(self, trial: Any) -> None:
        """As Keras Tuner does."""
        self._asked = 0
        super().on_trial_begin(trial)

    def on_search_begin(self) -> None:
        """Writes the tuner's file at once: without it Keras Tuner reloads nothing."""
        self.save()
        super().on_search_begin()

    def save(self) -> None:
        """Writes the oracle's file, then the tuner's, whole or not at all; a worker writes none."""
        if self._is_worker():
            return
        self.oracle.save()
        write_atomically(self._get_tuner_fname(), json.dumps(self.get_state()), sync=False)

    def _get_tuner_fname(self) -> str:
        # One name for one process and for many: what one began the other goes on with.
        return os.path.join(str(self.project_dir), "tuner.json")

    def _populate_initial_space(self) -> None:
        """Nothing: the oracle was made with every dimension."""


def make_tuner(oracle: Any, trainer: Trainer, folder: SearchFolder, told: Told) -> Any:
    """The tuner of a search, or of one process of it, reloaded from the folder.

    Args:
        oracle: As `make_oracle` gives it.
        trainer: What trains.
        folder: The search's.
        told: Called with each record.
    """
    import keras_tuner

    class SearchTuner(RecipeTuner, keras_tuner.Tuner):
        pass

    folder.tuner_path.mkdir(exist_ok=True)
    with quiet(), contextlib.redirect_stdout(io.StringIO()):
        tuner = SearchTuner(
            oracle,
            # Never called: a trial is trained by the trainer.
            trainer.source.build,
            directory=str(folder.path),
            project_name=folder.tuner_path.name,
        )
    tuner.trainer, tuner.told = trainer, told
    return tuner


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that Keras Tuner 1.4.8 draws from Python 3.10 on."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="currentThread", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message="getName", category=DeprecationWarning)
        yield
