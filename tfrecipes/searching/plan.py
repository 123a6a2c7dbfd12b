"""A search as its folder states it: what every process of it is made from."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tfrecipes.recipe.recipe import Recipe
from tfrecipes.searching.building import Source
from tfrecipes.searching.dimensions import Dimension
from tfrecipes.searching.files import SearchFolder
from tfrecipes.searching.oracles import Agenda, make_oracle
from tfrecipes.searching.space import Space
from tfrecipes.searching.trials import Trainer
from tfrecipes.searching.tuner import Told, make_tuner


@dataclass(frozen=True)
class Plan:
    """What `search.json` says, as objects.

    Args:
        asked: What must be the same when the search goes on.
        space: Dimensions and the starting recipe, a found rate in it.
        hyperparameters: Keras Tuner's configuration of every dimension.
        arguments: More arguments of `fit`.
        folder: The search's.
    """

    asked: Mapping[str, Any]
    space: Space
    hyperparameters: Mapping[str, Any]
    arguments: Mapping[str, Any]
    folder: SearchFolder

    @classmethod
    def read(cls, folder: SearchFolder, arguments: Mapping[str, Any] | None = None) -> "Plan":
        """From the folder's file.

        Args:
            folder: The search's.
            arguments: More arguments of `fit`, where this process was given them; None = those
                that the file holds.
        """
        written = folder.settings() or {}
        start = Recipe.from_dict(written["start"], where="search", name=written["start"]["name"])
        dimensions = tuple(Dimension.from_json(one) for one in written["dimensions"])
        kept = written["arguments"] if arguments is None else arguments
        return cls(
            written["asked"], Space(dimensions, start), written["hyperparameters"], kept, folder
        )

    @property
    def agenda(self) -> Agenda:
        """What follows the trials."""
        asked = self.asked
        return Agenda(self.folder, asked["direction"], asked["finalists"], asked["repeats"])

    def tuner(self, source: Source, told: Told) -> Any:
        """Keras Tuner's tuner for this search, with its oracle, reloaded from the folder."""
        import keras_tuner

        asked = self.asked
        oracle = make_oracle(
            asked["method"],
            asked["objective"],
            asked["direction"],
            asked["trials"],
            asked["seed"],
            # A copy: Keras Tuner changes what it reads.
            keras_tuner.HyperParameters.from_config(copy.deepcopy(dict(self.hyperparameters))),
            self.agenda,
            self.space.start.train.epochs,
        )
        trainer = Trainer(
            self.space, source, self.folder, asked["objective"], asked["direction"], self.arguments
        )
        return make_tuner(oracle, trainer, self.folder, told)


def hyperparameters_of(space: Space) -> Any:
    """Our dimensions as Keras Tuner's."""
    import keras_tuner

    hp = keras_tuner.HyperParameters()
    for one in space.dimensions:
        if one.kind == "choice":
            hp.Choice(one.field, list(one.labels))
        elif one.kind == "int":
            hp.Int(one.field, int(one.low), int(one.high), step=one.step)
        else:
            hp.Float(one.field, one.low, one.high, sampling=one.kind)
    return hp
