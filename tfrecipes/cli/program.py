"""What every verb shares: the program, its exit codes, and how the words become a recipe."""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from tfrecipes import __version__
from tfrecipes.runs.atomic import RunWriteError

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
        except RunWriteError as error:
            code = self._refuse(error, _sentence(error), code=1)
        except _BAD_INPUT_ERRORS as error:
            code = self._refuse(error, _sentence(error))
        if code == _INTERRUPTED:
            typer.echo("Interrupted.", err=True)
            code = 1
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def _refuse(self, error: Exception, sentence: str, code: int = BAD_INPUT) -> int:
        if self.debug:
            traceback.print_exception(error)
        else:
            typer.echo(sentence, err=True)
        return code


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


def resolve(
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
def quiet_import() -> Iterator[None]:
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
    if isinstance(error, RunWriteError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    return str(error) or type(error).__name__
