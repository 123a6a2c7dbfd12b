"""The verb that finds the learning rate: it imports TensorFlow, inside."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tfrecipes.cli.program import Debug, Overrides, app, quiet_import, resolve
from tfrecipes.cli.training import Data, Devices, RecipeName, Seed, Target, seed_and_devices
from tfrecipes.views.canvas import refuse_path


class Scale(StrEnum):
    """How the rate rises from step to step."""

    log = "log"
    linear = "linear"


@app.command("find-lr")
def find_lr(
    target: Target = None,
    recipe: RecipeName = "default",
    overrides: Overrides = None,
    data: Data = None,
    scale: Annotated[Scale, typer.Option("--scale", help="How the rate rises.")] = Scale.log,
    sweeps: Annotated[int, typer.Option("--sweeps", help="How many sweeps.")] = 3,
    steps: Annotated[
        int | None, typer.Option("--steps", help="Rates of a sweep; left out, by the run's length.")
    ] = None,
    low: Annotated[float | None, typer.Option("--low", help="The lowest rate.")] = None,
    high: Annotated[float | None, typer.Option("--high", help="The highest rate.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Where to write a picture, such as rates.png.")
    ] = None,
    seed: Seed = None,
    devices: Devices = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Find the learning rate for a target, or the demo, by short sweeps.

    Prints the rate to take, the interval that will do, and where each rule points. Nothing is
    kept of the training that the sweeps do.

    Exit codes: 0 found, 2 bad input, 1 anything else.
    """
    if plot is not None:
        refuse_path("--plot", plot)
    resolved = resolve(recipe, overrides, seed_and_devices(seed, devices))
    with quiet_import():
        from tfrecipes import assemble
    found = assemble.find_for_target(
        resolved,
        target=target,
        data=data,
        scale=scale.value,
        sweeps=sweeps,
        steps=steps,
        low=low,
        high=high,
        verbose=0 if as_json else "auto",
    )
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found)
    if not as_json:
        typer.echo(f"Use it: --set schedule.peak_learning_rate={found.suggestion:.2g}")
    if plot is not None:
        found.plot(plot)
        typer.echo(f"Picture     {plot}", err=as_json)
