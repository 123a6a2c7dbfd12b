"""A target of the command line: the function of the user that gives the model and the data."""

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import keras


class TargetError(ValueError):
    """A target that cannot be imported or called, or gives something else; one sentence."""


class Target(NamedTuple):
    """What a target gave.

    Args:
        model: A Keras model.
        data: What `fit` takes, or None.
        validation_data: The same, or None.
    """

    model: keras.Model
    data: Any
    validation_data: Any


def load_target(target: str) -> Callable[[], Any]:
    """Import the function that `package.module:function` or `path/file.py:function` names.

    The current folder is importable, and so is a file's own folder for what it imports while it is
    being loaded. A file's module is named after its whole path, so that it shadows no other module.

    Args:
        target: The words of the command line.

    Returns:
        The function.

    Raises:
        TargetError: If there is no such module, file or function, or importing it fails.
    """
    place, colon, name = target.rpartition(":")
    if not colon or not place or not name.isidentifier():
        raise TargetError(
            f"target: must be package.module:function or path/file.py:function. Received: "
            f"{target!r}. Name the function after a colon."
        )
    is_file = place.endswith(".py") or "/" in place or "\\" in place
    module = _from_file(place, target) if is_file else _from_module(place, target)
    found = getattr(module, name, None)
    if found is None:
        there = [
            key
            for key, value in vars(module).items()
            if inspect.isfunction(value) and value.__module__ == module.__name__
        ]
        raise TargetError(
            f"target {target}: {place} must have a function {name}. Received: "
            f"{', '.join(there[:8]) or 'no functions'}. Name one of its functions."
        )
    if not callable(found) or isinstance(found, keras.Model):
        raise TargetError(
            f"target {target}: {name} must be a function. Received: a {type(found).__name__}. "
            "Write a function that returns it."
        )
    return found


def call_target(function: Callable[[], Any], target: str | None = None) -> Target:
    """Call a target's function and sort out what it gives.

    Args:
        function: As `load_target` gave it; called without arguments.
        target: Its words, for errors.

    Returns:
        The model, the data and the validation data, None where they were not given.

    Raises:
        TargetError: If it needs arguments, raises, or returns anything but a model, (model, data)
            or (model, data, validation_data).
    """
    where = f"target {target or getattr(function, '__name__', type(function).__name__)}"
    needed = [
        name
        for name, parameter in _parameters(function).items()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if needed:
        raise TargetError(
            f"{where}: is called without arguments. Received: a function that needs "
            f"{', '.join(needed)}. Give them default values."
        )
    try:
        given = function()
    except Exception as error:
        raise TargetError(f"{where}: raised {_words(error)}") from error
    parts = given if isinstance(given, tuple) else (given,)
    if not 1 <= len(parts) <= 3 or not isinstance(parts[0], keras.Model):
        kinds = [type(part).__name__ for part in parts]
        shown = kinds[0] if not isinstance(given, tuple) else f"({', '.join(kinds)})"
        raise TargetError(
            f"{where}: must return a Keras model, (model, data) or (model, data, validation_data). "
            f"Received: {shown}. Put the model first."
        )
    return Target(*(*parts, None, None)[:3])


def _from_module(name: str, target: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path and "" not in sys.path:
        sys.path.insert(0, folder)
    # A folder that was just written to is not in the finders' memory.
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            raise TargetError(
                f"target {target}: there is no module {error.name}. Looked in {folder} and in what "
                "is installed. For a file write path/file.py:function."
            ) from None
        raise TargetError(f"target {target}: importing {name} raised {_words(error)}") from error
    except Exception as error:
        raise TargetError(f"target {target}: importing {name} raised {_words(error)}") from error


def _from_file(place: str, target: str) -> ModuleType:
    path = Path(place).expanduser()
    if not path.is_file():
        raise TargetError(f"target {target}: there is no file {place}. Check the path.")
    path = path.resolve()
    # pickle and Keras look classes up by their module's name, so it must be in sys.modules, but
    # under a name that no import statement can mean.
    name = f"<target {path}>"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise TargetError(f"target {target}: must be a Python file. Received: {place}.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    folders = [str(path.parent), str(Path.cwd())]
    added = [folder for folder in folders if folder not in sys.path]
    # Stays for the function's own imports, which run when it is called.
    sys.path[:0] = added
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        for folder in added:
            sys.path.remove(folder)
        raise TargetError(f"target {target}: importing {place} raised {_words(error)}") from error
    return module


def _parameters(function: Callable) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function).parameters)
    except (TypeError, ValueError):  # some built-in callables have none to show
        return {}


def _words(error: Exception) -> str:
    """Return the exception's own words on one line, its type before them."""
    words = " ".join(str(error).split())
    return f"{type(error).__name__}: {words}" if words else type(error).__name__
