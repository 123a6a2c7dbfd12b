"""The build function of a search, whatever it takes, and the dimensions that it asks for itself."""

import contextlib
import functools
import inspect
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import keras

from tfrecipes.assemble.beginning import surroundings
from tfrecipes.assemble.command import VALIDATION_SHARE, brought
from tfrecipes.demo import digits
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.training.archives import load_npz
from tfrecipes.training.labels import split
from tfrecipes.training.targets import TargetError, call_target, load_target

Build = Callable[[Any], keras.Model]


class Source(NamedTuple):
    """What is trained, again and again.

    Args:
        build: Makes a model from Keras Tuner's `HyperParameters`.
        takes_hp: Whether it may ask for dimensions of its own.
        data: What `fit` takes.
        validation_data: The same, or None.
    """

    build: Build
    takes_hp: bool
    data: Any
    validation_data: Any


def builder(build_model: Any) -> tuple[Build, bool]:
    """A build function of one argument, `hp`, and whether the user's own takes it.

    Args:
        build_model: A function of `hp` or of nothing, or a Keras Tuner HyperModel.

    Raises:
        ValueError: If it cannot be called so.
    """
    function: Any = getattr(build_model, "build", build_model)
    if isinstance(build_model, keras.Model) or not callable(function):
        raise ValueError(
            "search: `build_model` must be a function that makes the model, of `hp` or of nothing: "
            f"each trial trains a new one. Received: a {type(build_model).__name__}. "
            "Write def build_model(): return ..."
        )
    own: Any = function
    takes_hp = _takes_hp(own)
    return (own if takes_hp else (lambda hp: own())), takes_hp


def from_target(target: str | None, data: Path | None, recipe: Recipe) -> Source:
    """What the words of a command line mean.

    Args:
        target: `package.module:function` or `path/file.py:function`, of `hp` or of nothing; None =
            the demo.
        data: An .npz file, which beats the target's data.
        recipe: Under whose seed and policy it is called.

    Raises:
        ValueError: For what cannot be used, one sentence.
    """
    if target is None:
        with surroundings(recipe):
            _, given, validation = brought(recipe, None, data)
        return Source(lambda hp: digits.model(), False, given, validation)
    function: Any = load_target(target)
    takes_hp = _takes_hp(function)

    def called(hp: Any) -> Any:
        return call_target(functools.partial(function, hp) if takes_hp else function, target)

    import keras_tuner

    with surroundings(recipe):
        made = called(keras_tuner.HyperParameters())
        given, validation = made.data, made.validation_data
    if data is not None:
        archive = load_npz(data)
        given, validation = (archive.x, archive.y), archive.validation
        if validation is None:
            given, validation = split(*given, share=VALIDATION_SHARE, seed=recipe.train.seed)
    if given is None:
        raise TargetError(
            f"target {target}: returns a model without data. Received: no data. Return "
            "(model, data, validation_data), or name an .npz file with --data."
        )

    def build(hp: Any) -> keras.Model:
        try:
            return called(hp).model
        except TargetError as error:
            # In a trial it is the exception's own words that explain it.
            raise error.__cause__ or error from None

    return Source(build, takes_hp, given, validation)


def dimensions_of(build: Build, takes_hp: bool, recipe: Recipe, known: Any) -> Any:
    """Keras Tuner's `HyperParameters` of a search: ours and those that the build function asks for.

    Keras Tuner finds conditional ones by building the model as often as it takes. A build function
    that raises here is not the end: its trials will tell.

    Args:
        build: Of `hp`.
        takes_hp: Whether it has any.
        recipe: Under whose policy it is called.
        known: Ours.
    """
    import keras_tuner

    if not takes_hp:
        return known
    oracle = keras_tuner.oracles.RandomSearchOracle(seed=1, hyperparameters=known.copy())
    words = None
    with (
        tempfile.TemporaryDirectory() as place,
        surroundings(recipe),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        try:
            keras_tuner.Tuner(oracle, build, directory=place, project_name="look")
        except Exception as error:
            words = f"{type(error).__name__}: {error}"
    keras.utils.clear_session(free_memory=False)
    if words is not None:
        print(f"Search: the first look at build_model's own dimensions raised {words}")
        return known
    return oracle.get_space()


def _takes_hp(function: Any) -> bool:
    """Whether a function takes an argument that is not a keyword's alone."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):  # some built-in callables have none to show
        return False
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p for p in places if p.default is p.empty]
    if len(needed) > 1:
        raise ValueError(
            "search: `build_model` must take `hp` or nothing. Received: a function that needs "
            f"{', '.join(p.name for p in needed)}. Give the rest default values."
        )
    return bool(needed) or any(p.name == "hp" for p in places)
