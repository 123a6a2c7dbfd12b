"""`tfr.search`: trials by Keras Tuner, each a training by a recipe; the best few again; a verdict."""

import contextlib
import os
import tomllib
from collections.abc import Mapping
from typing import Any

from tfrecipes.recipe import gallery
from tfrecipes.recipe.errors import did_you_mean
from tfrecipes.recipe.recipe import Recipe
from tfrecipes.searching.building import Source, builder, dimensions_of, from_target
from tfrecipes.searching.defaults import PEAK, default_space, found_rate
from tfrecipes.searching.files import SearchFolder, differences
from tfrecipes.searching.fingerprint import fingerprint
from tfrecipes.searching.oracles import METHODS
from tfrecipes.searching.plan import Plan, hyperparameters_of
from tfrecipes.searching.result import SearchResult, conclude, read_result
from tfrecipes.searching.space import Space
from tfrecipes.searching.telling import Teller
from tfrecipes.searching.tuner import quiet
from tfrecipes.searching.workers import train_by_workers

# Tables of a recipe that say how a run is carried out.
_HOW = ("resume", "name", "version")


def search(
    build_model: Any,
    data: Any = None,
    recipe: Recipe | str | os.PathLike[str] = "default",
    trials: int = 20,
    directory: str | os.PathLike[str] | None = None,
    validation_data: Any = None,
    epochs: int | None = None,
    objective: str = "val_loss",
    loss: Any = None,
    seed: int = 0,
    *,
    space: Mapping[str, Any] | None = None,
    method: str = "sobol",
    direction: str | None = None,
    repeats: int = 4,
    finalists: int = 3,
    workers: int = 1,
    metrics: Any = None,
    class_weight: Mapping[int, float] | None = None,
    sample_weight: Any = None,
    steps_per_epoch: int | None = None,
    verbose: Any = "auto",
) -> SearchResult:
    """Search fields of a recipe, and say by how much the best is better than the start.

    Each trial is `recipe.replace(...).fit(...)` of a new model, chosen by Keras Tuner. All have the
    recipe's seed, so that they differ in what is searched alone. Then the best few and the starting
    recipe are trained again with fresh seeds, at least three each and more as long as they cannot
    be told apart; the winner is chosen by those means, and its improvement over the start is their
    mean difference, paired by seed, with Student's t:

        gain = mean(d) -+ t(n - 1) s(d) / sqrt(n),   d the difference of a seed

    A trial that crashes or is not finite counts as the worst, and its `error` says why; if the
    first three end in one and the same error, the search ends with it.

    A search that was interrupted goes on when it is started again with its `directory`: a trial in
    the middle from its last checkpoint. One that is over says so and gives the same result.

    Args:
        build_model: A function that makes the model, of nothing or of Keras Tuner's `hp`, whose own
            dimensions join the search; or the words of a target, `package.module:function`.
        data: What `fit` takes, but no generator. None with a target that brings its data.
        recipe: Where the search starts: a recipe, its name or path.
        trials: How many.
        directory: The search's folder; None makes a fresh `runs/search-<n>`.
        validation_data: As in `fit`.
        epochs: Instead of `train.epochs`.
        objective: A key of History. The score is its value in the epoch that `train.best` keeps, or
            in the last one where the recipe keeps none.
        loss: As in `recipe.fit`.
        seed: Of the points; the seed of the trainings is the recipe's.
        space: Fields to `("log", low, high)`, `("linear", low, high)`, `("int", low, high[, step])`
            or a list of values; durations may be ends ("0%", "20%"). None = the peak learning rate
            inside the finder's interval, weight decay, warmup, and label smoothing where the loss
            is a cross-entropy.
        method: "sobol", "halton", "random", "bayesian" or "hyperband".
        direction: "min" or "max"; None = as Keras Tuner tells it from the objective's name.
        repeats: Fresh seeds at most; 0 measures no improvement.
        finalists: How many of the best trials get them.
        workers: Processes that train at once; more than one needs a target.
        metrics: As in `recipe.fit`.
        class_weight: As in `recipe.fit`.
        sample_weight: As in `recipe.fit`.
        steps_per_epoch: As in `recipe.fit`.
        verbose: 0 prints nothing.

    Returns:
        `.table .best .best_path .improvement .plot(path)`; see `SearchResult`. It prints as a table.

    Raises:
        ValueError: If an argument cannot be used, all errors of `space` at once; if the folder is
            another search's; if no trial has a score, or the first three end in one error.

    References:
        Bergstra & Bengio, Random search for hyper-parameter optimization, 2012. Unlike there the
        points are scrambled Sobol' points, which lie more evenly; and unlike in Keras Tuner the
        best is no single run's.
    """
    words = build_model if isinstance(build_model, str) else None
    if isinstance(recipe, (str, os.PathLike)):
        recipe = Recipe.load(recipe)
    arguments = {
        "loss": loss,
        "metrics": metrics,
        "class_weight": class_weight,
        "sample_weight": sample_weight,
        "steps_per_epoch": steps_per_epoch,
    }
    arguments = {key: value for key, value in arguments.items() if value is not None}
    if words is None:
        if workers != 1:
            raise ValueError(
                "search: several workers are processes of their own, which cannot be handed a "
                f"function. Received: workers={workers!r}, and a {type(build_model).__name__}. "
                'Name it: build_model="path/file.py:function", which returns (model, data).'
            )
        build, takes_hp = builder(build_model)
        given = lambda recipe: Source(build, takes_hp, data, validation_data)  # noqa: E731
    else:
        if data is not None or validation_data is not None:
            raise ValueError(
                "search: a target brings its own data. Received: data beside "
                f"build_model={build_model!r}. Return (model, data, validation_data) from it."
            )
        given = lambda recipe: from_target(words, None, recipe)  # noqa: E731
    return searched(
        given,
        recipe if epochs is None else recipe.replace(**{"train.epochs": epochs}),
        arguments,
        {"target": words, "data": None} if words is not None else None,
        trials=trials,
        directory=directory,
        objective=objective,
        seed=seed,
        space=space,
        method=method,
        direction=direction,
        repeats=repeats,
        finalists=finalists,
        workers=workers,
        verbose=verbose,
    )


def searched(
    given: Any,
    recipe: Recipe,
    arguments: Mapping[str, Any],
    words: Mapping[str, Any] | None,
    *,
    trials: int,
    directory: str | os.PathLike[str] | None,
    objective: str,
    seed: int,
    space: Mapping[str, Any] | None,
    method: str,
    direction: str | None,
    repeats: int,
    finalists: int,
    workers: int,
    verbose: Any,
) -> SearchResult:
    """A search of what `given(recipe)` gives, a `Source`; `words` say it to other processes."""
    _refuse_out_of_range(trials, seed, method, repeats, finalists, workers)
    parsed = None if space is None else Space.parse(space, recipe)
    if method == "hyperband" and "train.epochs" in (space or {}):
        raise ValueError(
            "space: train.epochs: is what hyperband chooses itself. Received: method='hyperband'. "
            "Leave it out."
        )
    if workers > 1:
        _refuse_what_no_process_can_have(arguments)
    source = given(recipe)
    asked = {
        "method": method,
        "objective": objective,
        "direction": _direction(objective, direction),
        "trials": trials,
        "seed": seed,
        "repeats": repeats,
        "finalists": finalists,
        "recipe": {k: v for k, v in tomllib.loads(gallery.show(recipe)).items() if k not in _HOW},
        "space": "default" if parsed is None else {d.field: str(d) for d in parsed.dimensions},
        "data": fingerprint(source.data, arguments.get("sample_weight")),
    }
    if source.validation_data is not None:
        asked["validation_data"] = fingerprint(source.validation_data)
    elif objective.startswith("val_"):
        raise ValueError(
            f"search: `objective` needs validation data. Received: objective={objective!r}, "
            "validation_data=None. Give them, or search by objective='loss'."
        )
    folder = SearchFolder.hold(directory)
    try:
        there = folder.settings()
        if there is not None and (differing := differences(there["asked"], asked)):
            raise ValueError(
                f"{folder.path}: holds another search: {'; '.join(differing)}. Set it back to go "
                "on, or name another folder."
            )
        if there is None:
            folder.begin(_begun(source, recipe, parsed, asked, arguments, words))
        plan = Plan.read(folder, arguments)
        if folder.result() is not None:
            if verbose != 0:
                print(f"{folder.path}: this search is finished; nothing was changed.")
            return read_result(folder, plan.space, plan.asked)
        return _carried_out(plan, source, workers, verbose)
    finally:
        folder.release()


def _carried_out(plan: Plan, source: Source, workers: int, verbose: Any) -> SearchResult:
    folder, asked = plan.folder, plan.asked
    least = (asked["finalists"] + 1) * min(3, asked["repeats"])
    teller = Teller(
        folder, asked["direction"], asked["objective"], asked["trials"], least, workers, verbose
    )
    done = len(folder.trials())
    teller.say(
        f"Search in {folder.path}: {asked['trials']} trials by {asked['method']}"
        + (f", {done} of them done" if done else "")
        + (f", {workers} workers" if workers > 1 else "")
    )
    for one in plan.space.dimensions:
        teller.say(f"  {one.field} {one}")
    try:
        if workers > 1:
            train_by_workers(folder, workers, teller, teller.say)
        else:
            _train_here(plan, source, teller)
    except (KeyboardInterrupt, SystemExit):
        teller.say(f"Search: stopped. Start it again with the folder {folder.path} to go on.")
        raise
    agenda = plan.agenda
    if (error := agenda.hopeless()) is not None:
        raise ValueError(
            f"search: the first trials all ended in one error, so that no other would do better: "
            f"{error.kind}: {error.error}"
        )
    contest = agenda.contest()
    if not contest.finalists:
        first = folder.trials()[0]
        raise ValueError(
            f"search: no trial has a score; the first one: {first.error} The others are in "
            f"{folder.path / 'trials'}."
        )
    conclude(folder, contest, plan.space, asked)
    result = read_result(folder, plan.space, asked)
    result.plot(folder.path / "search.png")
    teller.say(str(result))
    return result


def _train_here(plan: Plan, source: Source, teller: Teller) -> None:
    """All trainings in this process."""
    import keras_tuner

    tuner = plan.tuner(source, teller)
    with quiet():
        try:
            tuner.search(verbose=0)
        except keras_tuner.errors.FatalError as error:
            raise (error.__cause__ or error) from None


def _begun(
    source: Source,
    recipe: Recipe,
    parsed: Space | None,
    asked: Mapping[str, Any],
    arguments: Mapping[str, Any],
    words: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """What a new search's file holds; what has to be found is found here, once."""
    import keras_tuner

    plain = keras_tuner.HyperParameters()
    own = dimensions_of(source.build, source.takes_hp, recipe, plain)
    rate: dict[str, float] = {}
    wants_rate = recipe.schedule.peak_learning_rate == "find"
    if parsed is None or wants_rate:
        rate = found_rate(source, recipe, own, arguments)
        if wants_rate:
            recipe = recipe.replace(**{PEAK: rate["suggestion"]})
    if parsed is None:
        parsed = Space.parse(default_space(source, recipe, own, arguments, rate), recipe)
    hyperparameters = hyperparameters_of(parsed)
    hyperparameters.merge(own.space)
    if not hyperparameters.space:
        raise ValueError(
            "search: there must be something to search. Received: space={}, and a build_model "
            "without dimensions of its own. Leave `space` out for the default one."
        )
    return {
        "version": 1,
        "asked": dict(asked),
        "start": recipe.as_dict(),
        "dimensions": [one.as_json() for one in parsed.dimensions],
        "hyperparameters": hyperparameters.get_config(),
        "found": rate,
        "source": words,
        "arguments": dict(arguments) if words is not None else None,
    }


def _direction(objective: str, direction: str | None) -> str:
    if direction in ("min", "max"):
        return direction
    if direction is not None:
        raise ValueError(
            f"search: `direction` must be 'min' or 'max'. Received: direction={direction!r}."
        )
    import keras_tuner

    with contextlib.suppress(ValueError):
        if isinstance(objective, str) and objective:
            oracle = keras_tuner.oracles.RandomSearchOracle(objective, seed=1)
            return oracle.objective.direction
    raise ValueError(
        "search: whether the objective is to fall or to rise cannot be told from its name. "
        f"Received: objective={objective!r}. Say direction='min' or 'max'."
    )


def _refuse_out_of_range(
    trials: Any, seed: Any, method: Any, repeats: Any, finalists: Any, workers: Any
) -> None:
    for name, value, least in (
        ("trials", trials, 1),
        ("seed", seed, 0),
        ("repeats", repeats, 0),
        ("finalists", finalists, 1),
        ("workers", workers, 1),
    ):
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or not least <= value < 2**31:
            raise ValueError(
                f"search: `{name}` must be a whole number >= {least}. Received: {name}={value!r}."
            )
    if repeats == 1:
        raise ValueError(
            "search: one fresh seed gives no interval. Received: repeats=1. Take 3, or 0 for none."
        )
    if method not in METHODS:
        near = did_you_mean(method, METHODS) if isinstance(method, str) else ""
        raise ValueError(
            f"search: `method` must be one of {', '.join(METHODS)}. Received: "
            f"method={method!r}.{near}"
        )


def _refuse_what_no_process_can_have(arguments: Mapping[str, Any]) -> None:
    for name, value in arguments.items():
        plain = isinstance(value, (str, int)) or (
            isinstance(value, list) and all(isinstance(one, str) for one in value)
        )
        if not plain:
            raise ValueError(
                f"search: several workers are processes of their own, which are told `{name}` by "
                f"name. Received: {name}={value!r}. Write its Keras name, or use one worker."
            )
