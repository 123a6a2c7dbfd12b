"""The recipe: a frozen, validated object that names everything and calls nothing."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w

from tfrecipes.recipe import files
from tfrecipes.recipe.overrides import apply
from tfrecipes.recipe.schema import (
    EMA,
    FAMILIES,
    OPTIONAL_TABLES,
    SWA,
    TABLES,
    Loss,
    Optimizer,
    Resume,
    Schedule,
    Step,
    Train,
)
from tfrecipes.recipe.validation import NAME, build


@dataclass(frozen=True, repr=False)
class Recipe:
    """How to train, as data: read from a TOML file, checked as a whole, never changed.

    Made by `load` or `from_dict`. Two recipes are equal if they say the same, whether a default
    is written out in one of them or not.

    Attributes:
        version: Of the file format: 1.
        name: The recipe's name; run folders are named after it.
        optimizer: `[optimizer]`.
        schedule: `[schedule]`; durations are kept as they were written, and
            `schedule.arguments(total_steps=..., steps_per_epoch=...)` turns them into steps.
        step: `[step]`.
        loss: `[loss]`.
        ema: `[ema]`, or None when off.
        swa: `[swa]`, or None when off.
        train: `[train]`.
        resume: `[resume]`, or None when off. Without the table it is on.

    Example:
        >>> recipe = Recipe.load("default").replace(**{"schedule.warmup": "10%", "ema": None})
        >>> recipe.schedule.warmup, recipe.ema
        ('10%', None)
    """

    version: int
    name: str
    optimizer: Optimizer
    schedule: Schedule
    step: Step
    loss: Loss
    ema: EMA | None
    swa: SWA | None
    train: Train
    resume: Resume | None
    where: str = field(default="recipe", compare=False)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> "Recipe":
        """Reads a saved recipe by its name, or any recipe file by its path.

        Args:
            name_or_path: A name in `saved_recipes/`, or the path of a TOML file of at most 1 MB.

        Raises:
            RecipeError: With every error in the file; a ValueError. `RecipeNotFoundError`, also a
                FileNotFoundError, if there is no such name and no such file.
        """
        path = files.find(name_or_path)
        where = os.fspath(name_or_path)
        return cls.from_toml(files.read_text(path), where=where, name=path.stem)

    @classmethod
    def from_toml(cls, text: str, where: str = "recipe", name: str = "recipe") -> "Recipe":
        """Reads a recipe from TOML text.

        Args:
            text: The document.
            where: What errors name first.
            name: The recipe's name where the text has none.

        Raises:
            RecipeError: With every error in it.
        """
        return cls.from_dict(files.parse_toml(text, where), where=where, name=name)

    @classmethod
    def from_dict(
        cls, document: Mapping[str, Any], where: str = "recipe", name: str = "recipe"
    ) -> "Recipe":
        """Makes a recipe from what `as_dict` gives, or any dict of tables.

        Raises:
            RecipeError: With every error in it.
        """
        try:
            NAME.check(name)
        except ValueError:
            name = "recipe"
        return cls(**build(document, where, name), where=where)

    def replace(self, **changes: Any) -> "Recipe":
        """A copy with changes; dotted keys go in as `**{"schedule.warmup": "5%"}`.

        A table's name with a dict replaces the table whole; with None it turns it off. A key with
        None is turned off where it can be. Another `schedule.name` or `optimizer.name` keeps the
        keys that mean the same in the new one and drops the others.

        Args:
            **changes: Keys to values. Their order does not matter: tables, then names, then keys.

        Raises:
            RecipeError: With everything that is wrong with the result.
        """
        return self.from_dict(apply(self.as_dict(), changes), where=self.where, name=self.name)

    def validate(self) -> "Recipe":
        """Checks the recipe again as a whole.

        Returns:
            The recipe itself.

        Raises:
            RecipeError: With every error.
        """
        self.from_dict(self.as_dict(), where=self.where, name=self.name)
        return self

    def as_dict(self) -> dict[str, Any]:
        """The document: what is set and no default, tables as dicts, in the order of a file."""
        document: dict[str, Any] = {"version": self.version, "name": self.name}
        for table in TABLES:
            model = getattr(self, table)
            if model is None:
                if table not in OPTIONAL_TABLES:
                    document[table] = {"every": "off"}
                continue
            written = {}
            for key in type(model).model_fields:
                value = getattr(model, key)
                is_set = key in model.model_fields_set or (key == "name" and table in FAMILIES)
                if is_set and value is not None:
                    written[key] = list(value) if isinstance(value, tuple) else value
            if written or table in OPTIONAL_TABLES:
                document[table] = dict(sorted(written.items(), key=lambda item: item[0] != "name"))
        return document

    def to_toml(self) -> str:
        """The document as TOML, which `from_toml` reads as an equal recipe."""
        return tomli_w.dumps(self.as_dict())

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the recipe at a path, whole or not at all.

        Returns:
            The path.

        Raises:
            OSError: If it cannot be written; what stood there is kept.
        """
        return files.write_whole(path, self.to_toml())

    def fit(
        self,
        model: Any,
        data: Any,
        validation_data: Any = None,
        epochs: int | None = None,
        loss: Any = None,
        metrics: Any = None,
        directory: str | os.PathLike[str] | None = None,
        callbacks: Sequence[Any] = (),
        class_weight: Mapping[int, float] | None = None,
        sample_weight: Any = None,
        steps_per_epoch: int | None = None,
        verbose: Any = "auto",
    ) -> Any:
        """Trains a model by this recipe. Arguments beat the recipe.

        Args:
            model: A Keras model, or a function that makes one.
            data: What `model.fit` takes.
            validation_data: The same, to validate with.
            epochs: Instead of `train.epochs`.
            loss: None infers it from the labels and the last activation.
            metrics: As in `model.compile`.
            directory: The run's folder; None makes a fresh `runs/<name>-<n>`.
            callbacks: More Keras callbacks.
            class_weight: As in `model.fit`.
            sample_weight: As in `model.fit`, for arrays.
            steps_per_epoch: As in `model.fit`; needed where the data do not tell their length.
            verbose: As in `model.fit`.

        Returns:
            Keras's History.
        """
        from tfrecipes import assemble

        return assemble.fit(
            self,
            model,
            data,
            validation_data=validation_data,
            epochs=epochs,
            loss=loss,
            metrics=metrics,
            directory=directory,
            callbacks=callbacks,
            class_weight=class_weight,
            sample_weight=sample_weight,
            steps_per_epoch=steps_per_epoch,
            verbose=verbose,
        )

    def compile(
        self,
        model: Any,
        total_steps: int,
        loss: Any = None,
        metrics: Any = None,
        schedule: Any = None,
    ) -> Any:
        """Compiles a model by this recipe, to be trained by `model.fit`.

        Args:
            model: A Keras model.
            total_steps: Optimizer steps of the whole run, >= 1.
            loss: None infers it when the data are seen.
            metrics: As in `model.compile`.
            schedule: A Keras schedule instead of `[schedule]`.
        """
        from tfrecipes import assemble

        return assemble.compile(
            self, model, total_steps, loss=loss, metrics=metrics, schedule=schedule
        )

    def callbacks(self, directory: str | os.PathLike[str] | None = None) -> Any:
        """The callbacks of this recipe, for `model.fit(..., callbacks=...)`.

        Args:
            directory: The run's folder; None writes nothing.
        """
        from tfrecipes import assemble

        return assemble.callbacks(self, directory=directory)

    def __repr__(self) -> str:
        return (
            f"<Recipe {self.name!r}: {self.optimizer.name}, {self.schedule.name}, "
            f"{self.train.epochs} epochs>"
        )
