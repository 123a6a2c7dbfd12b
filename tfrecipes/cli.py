"""The command line: one verb a capability, with the names of the Python API.

TensorFlow is imported by verbs that train, inside them, and by nothing else here.
"""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tfrecipes import __version__

if TYPE_CHECKING:
    from tfrecipes.recipe.recipe import Recipe

BAD_INPUT = 2

# Typer's code for Ctrl-C. A run that can be resumed ends with a code of its own, so this is
# "anything else".
_INTERRUPTED = 130

# What a user's input can be wrong in. Whatever else is raised is a fault, shown with its traceback.
_BAD_INPUT_ERRORS: tuple[type[Exception], ...] = (
    # Of all unknown options, missing values and the like; typer exports only the most special.
    typer.BadParameter.__mro__[2],
    ValueError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    IsADirectoryError,
    NotADirectoryError,
)


class _Verbs(TyperGroup):
    """The verbs, with the exit codes of this project: bad input is one sentence and 2."""

    debug = False

    def main(self, *args: Any, standalone_mode: bool = True, **extra: Any) -> Any:
        self.debug = False
        try:
            code = super().main(*args, standalone_mode=False, **extra)
        except typer.Abort:
            code = 1
        except BrokenPipeError:
            # The reader of a pipe went away; what is left in the buffer has nowhere to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except _BAD_INPUT_ERRORS as error:
            code = self._refuse(error, _sentence(error))
        if code == _INTERRUPTED:
            typer.echo("Interrupted.", err=True)
            code = 1
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def _refuse(self, error: Exception, sentence: str) -> int:
        if self.debug:
            traceback.print_exception(error)
        else:
            typer.echo(sentence, err=True)
        return BAD_INPUT


app = typer.Typer(
    cls=_Verbs,
    help="The deep-learning training recipe for Keras 3, made right, fast and visible.",
    no_args_is_help=True,
    add_completion=False,
    # Plain text: half the time of `--help` would go into importing rich.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Runs the command line; exits with 0, 2 for bad input, or the verb's own code."""
    app(prog_name="tfrecipes")


def _set_debug(context: typer.Context, value: bool) -> None:
    if value:
        context.find_root().command.debug = True  # type: ignore[attr-defined]


def _print_version(value: bool) -> None:
    if value:
        typer.echo(__version__)
        raise typer.Exit


Debug = Annotated[
    bool,
    typer.Option(
        "--debug",
        help="Show the traceback of an error in the input.",
        callback=_set_debug,
        is_eager=True,
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="TABLE.KEY=VALUE",
        help="Change one key; may be given again. `--set ema=off` removes a table.",
    ),
]


@app.callback()
def _root(
    debug: Debug = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """The deep-learning training recipe for Keras 3, made right, fast and visible."""


@app.command()
def recipes(debug: Debug = False) -> None:
    """List the saved recipes."""
    from tfrecipes.recipe import gallery

    cards = gallery.cards()
    width = max((len(card.name) for card in cards), default=0)
    for card in cards:
        typer.echo(f"{card.name:<{width}}  {card.summary}".rstrip())


@app.command()
def show(
    recipe: Annotated[str, typer.Argument(help="A saved recipe's name, or a path.")],
    overrides: Overrides = None,
    debug: Debug = False,
) -> None:
    """Print a recipe in full, with the reason of each choice.

    Every default is filled in, and each automatic choice says what it goes by.
    """
    from tfrecipes.recipe import gallery

    typer.echo(gallery.show(_resolve(recipe, overrides)), nl=False)


@app.command()
def copy(
    recipe: Annotated[str, typer.Argument(help="A saved recipe's name, or a path.")],
    path: Annotated[
        Path | None, typer.Argument(help="The new file, or its folder; RECIPE.toml if left out.")
    ] = None,
    debug: Debug = False,
) -> None:
    """Copy a recipe, comments and all, to a file to own and edit."""
    from tfrecipes.recipe import gallery

    typer.echo(gallery.copy(recipe, path))


@app.command()
def validate(
    files: Annotated[list[str], typer.Argument(help="Recipe files, or names.")],
    debug: Debug = False,
) -> None:
    """Check recipe files; every error of every file is printed."""
    from tfrecipes.recipe.errors import RecipeError
    from tfrecipes.recipe.recipe import Recipe

    failed = False
    for file in files:
        try:
            Recipe.load(file)
        except RecipeError as error:
            if debug:
                raise
            failed = True
            typer.echo(error, err=True)
        else:
            typer.echo(f"{file}: valid")
    if failed:
        raise typer.Exit(BAD_INPUT)


class ResumeMode(StrEnum):
    """What to do with a run that stands in the folder."""

    auto = "auto"
    never = "never"
    must = "must"


@app.command()
def train(
    target: Annotated[
        str | None,
        typer.Argument(
            help="package.module:function or path/file.py:function, which returns a model, "
            "(model, data) or (model, data, validation_data). Left out: the built-in demo.",
        ),
    ] = None,
    recipe: Annotated[
        str, typer.Option("--recipe", help="A saved recipe's name, or a path.")
    ] = "default",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Instead of train.epochs.")] = None,
    batch_size: Annotated[
        int | None, typer.Option("--batch-size", help="Instead of train.batch_size.")
    ] = None,
    overrides: Overrides = None,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="An .npz file: x_train, y_train and, if there, x_val, y_val."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The run's folder; left out, a fresh one in runs/.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Instead of train.seed.")] = None,
    resume: Annotated[
        ResumeMode,
        typer.Option(
            "--resume",
            help="A run in the folder: continue it (auto), refuse it (never), require it (must).",
        ),
    ] = ResumeMode.auto,
    devices: Annotated[
        str | None,
        typer.Option("--devices", help="Instead of train.devices: auto, cpu, a number, names."),
    ] = None,
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
    resolved = _resolve(
        recipe,
        overrides,
        {
            "--epochs": ("train.epochs", epochs),
            "--batch-size": ("train.batch_size", batch_size),
            "--seed": ("train.seed", seed),
            "--devices": (
                "train.devices",
                int(devices) if devices and devices.isdecimal() else devices,
            ),
        },
    )
    with _quiet_import():
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


def _resolve(
    recipe: str,
    overrides: list[str] | None,
    flags: dict[str, tuple[str, Any]] | None = None,
) -> "Recipe":
    """The recipe with what the command line changes in it.

    Raises:
        RecipeError: If it cannot be read, is wrong after the changes, or a key is set twice.
    """
    from tfrecipes.recipe.errors import RecipeError
    from tfrecipes.recipe.overrides import parse_override
    from tfrecipes.recipe.recipe import Recipe

    given = [(f"--set {key}", key, value) for key, value in map(parse_override, overrides or [])]
    given += [(f, key, v) for f, (key, v) in (flags or {}).items() if v is not None]
    changes: dict[str, Any] = {}
    for option, key, value in given:
        if key in changes:
            raise RecipeError(option, [f"{key} is set twice. Keep one of them."])
        changes[key] = value
    return Recipe.load(recipe).replace(**changes)


@contextmanager
def _quiet_import() -> Iterator[None]:
    """Keeps TensorFlow's start-up lines (oneDNN, CUDA not found) off the terminal.

    They are written by C++ to file descriptor 2 before any log level holds. If an import fails,
    they are shown after all. A level in the environment is the user's, and nothing is hidden.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        yield
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf

            # The drivers are looked for at the first question about devices, and complain then.
            tf.config.list_physical_devices()
            yield
        except Exception:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _sentence(error: BaseException) -> str:
    """An error in one sentence; the system's own errors as `path: reason`."""
    usage = getattr(error, "format_message", None)
    if usage is not None:
        return usage()
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error) or type(error).__name__
