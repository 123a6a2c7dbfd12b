"""The verb that searches: it imports TensorFlow, inside."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tfrecipes.cli.program import Debug, Overrides, app, quiet_import, resolve
from tfrecipes.cli.training import Data, Devices, RecipeName, Target


class SearchMethod(StrEnum):
    """How the next trial is chosen."""

    sobol = "sobol"
    halton = "halton"
    random = "random"
    bayesian = "bayesian"
    hyperband = "hyperband"


class Direction(StrEnum):
    """Where the objective is to go."""

    min = "min"
    max = "max"


@app.command()
def search(
    target: Target = None,
    recipe: RecipeName = "default",
    trials: Annotated[int, typer.Option("--trials", help="How many.")] = 20,
    method: Annotated[
        SearchMethod, typer.Option("--method", help="How the next trial is chosen.")
    ] = SearchMethod.sobol,
    dimension: Annotated[
        list[str] | None,
        typer.Option(
            "--dimension",
            metavar="FIELD=LOW:HIGH[:log|linear|int]",
            help="A field to search, or FIELD=a,b,c; may be given again. Left out: the rate inside "
            "the finder's interval, weight decay, warmup, label smoothing.",
        ),
    ] = None,
    objective: Annotated[
        str, typer.Option("--objective", help="What is searched by: a key of History.")
    ] = "val_loss",
    direction: Annotated[
        Direction | None,
        typer.Option("--direction", help="Left out: told from the objective's name."),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Instead of train.epochs.")] = None,
    overrides: Overrides = None,
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The search's folder; left out, a fresh one in runs/."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", help="Processes that train at once on this machine.")
    ] = 1,
    repeats: Annotated[
        int,
        typer.Option(
            "--repeats", help="Fresh seeds at most for the best few and the start; 0=none."
        ),
    ] = 4,
    finalists: Annotated[
        int, typer.Option("--finalists", help="How many of the best trials get them.")
    ] = 3,
    seed: Annotated[
        int, typer.Option("--seed", help="Of the points; --set train.seed=N is the trainings'.")
    ] = 0,
    devices: Devices = None,
    verbose: Annotated[
        bool, typer.Option("--verbose/--quiet", help="A line a training, or nothing.")
    ] = True,
    debug: Debug = False,
) -> None:
    """Search fields of a recipe, and say by how much the best beats the start.

    Given the same folder again, a search that was stopped goes on. Without a target the demo is
    searched. The target may take Keras Tuner's `hp` and ask for dimensions of the model.

    Exit codes: 0 finished, 2 bad input, 75 stopped by a signal and resumable, 1 anything else.
    """
    chosen = int(devices) if devices and devices.isdecimal() else devices
    resolved = resolve(
        recipe,
        overrides,
        {"--epochs": ("train.epochs", epochs), "--devices": ("train.devices", chosen)},
    )
    with quiet_import():
        from tfrecipes.searching.command import run_search
    raise SystemExit(
        run_search(
            resolved,
            target=target,
            data=data,
            dimensions=dimension,
            trials=trials,
            directory=out,
            objective=objective,
            direction=None if direction is None else direction.value,
            method=method.value,
            seed=seed,
            repeats=repeats,
            finalists=finalists,
            workers=workers,
            verbose="auto" if verbose else 0,
        )
    )
