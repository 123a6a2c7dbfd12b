"""Verbs that train, or look before training: they import TensorFlow, inside."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from tfrecipes.cli.program import Debug, Overrides, app, quiet_import, resolve

Target = Annotated[
    str | None,
    typer.Argument(
        help="package.module:function or path/file.py:function, which returns a model, "
        "(model, data) or (model, data, validation_data). Left out: the built-in demo.",
    ),
]
RecipeName = Annotated[str, typer.Option("--recipe", help="A saved recipe's name, or a path.")]
Data = Annotated[
    Path | None,
    typer.Option("--data", help="An .npz file: x_train, y_train and, if there, x_val, y_val."),
]
Devices = Annotated[
    str | None,
    typer.Option("--devices", help="Instead of train.devices: auto, cpu, a number, names."),
]
Seed = Annotated[int | None, typer.Option("--seed", help="Instead of train.seed.")]


class ResumeMode(StrEnum):
    """What to do with a run that stands in the folder."""

    auto = "auto"
    never = "never"
    must = "must"


@app.command()
def train(
    target: Target = None,
    recipe: RecipeName = "default",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Instead of train.epochs.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Instead of train.batch_size.")
    ] = None,
    overrides: Overrides = None,
    data: Data = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder; left out, a fresh one in runs/.")
    ] = None,
    seed: Seed = None,
    resume: Annotated[
        ResumeMode,
        typer.Option(
            "--resume",
            help="A run in the folder: continue it (auto), refuse it (never), require it (must).",
        ),
    ] = ResumeMode.auto,
    devices: Devices = None,
    verbose: Annotated[
        bool | None,
        typer.Option(
            "--verbose/--quiet", help="Progress or none; left out, what suits the terminal."
        ),
    ] = None,
    debug: Debug = False,
) -> None:
    """Train a model, or the built-in demo, by a recipe.

    Without a target the demo trains on real data.

    Exit codes: 0 finished, 2 bad input, 4 stopped because training was not finite, 75 stopped by
    a signal and resumable, 1 anything else.
    """
    resolved = resolve(
        recipe,
        overrides,
        {
            "--epochs": ("train.epochs", epochs),
            "--batch-size": ("train.batch_size", batch_size),
            **seed_and_devices(seed, devices),
        },
    )
    with quiet_import():
        from tfrecipes import assemble
    raise SystemExit(
        assemble.train(
            resolved,
            target=target,
            data=data,
            out=out,
            resume=resume.value,
            verbose="auto" if verbose is None else int(verbose),
        )
    )


@app.command()
def check(
    target: Target = None,
    recipe: RecipeName = "default",
    overrides: Overrides = None,
    data: Data = None,
    seed: Seed = None,
    devices: Devices = None,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON list of findings.")] = False,
    debug: Debug = False,
) -> None:
    """Look at data and model before training, and say what is wrong with them.

    Nothing is trained and no file is written. Without a target the demo is looked at.

    Exit codes: 0 no error was found, 1 a finding is an error, 2 bad input.
    """
    resolved = resolve(recipe, overrides, seed_and_devices(seed, devices))
    with quiet_import():
        from tfrecipes import assemble
    raise SystemExit(assemble.run_check(resolved, target=target, data=data, as_json=as_json))


def seed_and_devices(seed: int | None, devices: str | None) -> dict[str, tuple[str, Any]]:
    chosen = int(devices) if devices and devices.isdecimal() else devices
    return {"--seed": ("train.seed", seed), "--devices": ("train.devices", chosen)}
