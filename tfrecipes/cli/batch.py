"""The verb that finds the batch: it imports TensorFlow, inside."""

import json
from pathlib import Path
from typing import Annotated

import typer

from tfrecipes.cli.program import Debug, Overrides, app, quiet_import, resolve
from tfrecipes.cli.training import Data, Devices, RecipeName, Seed, Target, seed_and_devices


@app.command("find-batch")
def find_batch(
    context: typer.Context,
    target: Target = None,
    recipe: RecipeName = "default",
    memory: Annotated[
        str | None,
        typer.Option(
            "--memory",
            help="What the process may take at its peak, such as 2GB. Required on a CPU; on a GPU "
            "what TensorFlow may take of it, all if left out.",
        ),
    ] = None,
    overrides: Overrides = None,
    data: Data = None,
    start: Annotated[
        int | None, typer.Option("--start", help="The first micro-batch to try.")
    ] = None,
    largest: Annotated[
        int | None, typer.Option("--largest", help="No larger micro-batch is tried.")
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option("--steps", help="Steps of training before the gradients' noise is measured."),
    ] = None,
    try_seconds: Annotated[
        float | None, typer.Option("--try-seconds", help="After which a try counts as hung.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Where to write a picture, such as batch.png.")
    ] = None,
    seed: Seed = None,
    devices: Devices = None,
    as_json: Annotated[bool, typer.Option("--json", help="All numbers as JSON.")] = False,
    debug: Debug = False,
) -> None:
    """Find the largest micro-batch that fits, and how many samples a step can use.

    Each size is tried in a process of its own. Nothing is kept of the training that this takes.

    Exit codes: 0 found, 2 bad input, 1 a try failed for another reason than memory, or anything
    else.
    """
    resolved = resolve(recipe, overrides, seed_and_devices(seed, devices))
    with quiet_import():
        from tfrecipes import assemble
    from tfrecipes.tuning.batch_children import TrialError

    wanted = {
        "memory": memory,
        "start": start,
        "largest": largest,
        "steps": steps,
        "try_seconds": try_seconds,
    }
    try:
        found = assemble.find_batch_for_target(
            resolved,
            target=target,
            data=data,
            verbose=0 if as_json else "auto",
            **{name: value for name, value in wanted.items() if value is not None},
        )
    except TrialError as error:
        if getattr(context.find_root().command, "debug", False):
            raise
        typer.echo(error, err=True)
        raise typer.Exit(1) from error
    typer.echo(json.dumps(found.as_dict(), indent=2) if as_json else found)
    if plot is not None:
        found.plot(plot)
        typer.echo(f"Picture         {plot}", err=as_json)
