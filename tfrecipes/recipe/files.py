"""Recipe files: found by name or path, read with care, written whole or not at all."""

import os
import re
import secrets
import stat
import tomllib
from pathlib import Path
from typing import Any

from tfrecipes.recipe.errors import RecipeError, RecipeNotFoundError, did_you_mean, shown

MOST_BYTES = 1_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")
_PLACE = re.compile(r" \(at (line [0-9]+, column [0-9]+|end of document)\)$")

# O_NONBLOCK: opening a pipe that nobody writes to would wait for ever.
_READ = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


def saved_recipes() -> Path:
    """The folder of the shipped recipes: inside an installed package, or at a checkout's root."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "saved_recipes"
    return inside if inside.is_dir() else package.parent / "saved_recipes"


def saved_names() -> list[str]:
    """The names of the shipped recipes, in order of the alphabet."""
    return sorted(path.stem for path in saved_recipes().glob("*.toml"))


def find(name_or_path: str | os.PathLike[str]) -> Path:
    """The file of a shipped recipe's name, or of a path.

    A bare word is a name first; anything with a separator or a `.toml` is a path.

    Raises:
        RecipeNotFoundError: If there is neither, with the nearest name.
        RecipeError: If it is no text.
    """
    if not isinstance(name_or_path, str | os.PathLike) or not os.fspath(name_or_path):
        raise RecipeError("recipe", [f"must be a name or a path. Received: {shown(name_or_path)}."])
    text = os.fspath(name_or_path)
    if not isinstance(text, str):
        raise RecipeError("recipe", [f"must be a name or a path. Received: {shown(text)}."])
    names = saved_names()
    if isinstance(name_or_path, str) and _NAME.fullmatch(text) and text in names:
        return saved_recipes() / f"{text}.toml"
    path = Path(text)
    try:
        if os.path.lexists(path):
            return path
    except ValueError:  # a NUL in it
        raise RecipeError("recipe", [f"is no path. Received: {shown(text)}."]) from None
    if _NAME.fullmatch(text):
        known = ", ".join(names)
        sentence = f"no such recipe or file.{did_you_mean(text, names)} Saved recipes: {known}."
    else:
        stem = path.stem if path.stem in names else None
        sentence = "no such file." + (f" Did you mean the saved recipe `{stem}`?" if stem else "")
    raise RecipeNotFoundError(text, [sentence])


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a recipe file.

    Raises:
        RecipeError: If it is no regular file, above 1 MB, unreadable, or not UTF-8.
    """
    where = os.fspath(path)
    try:
        descriptor = os.open(path, _READ)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        kind = RecipeNotFoundError if isinstance(error, FileNotFoundError) else RecipeError
        raise kind(str(where), [f"cannot be read ({reason})."]) from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise RecipeError(str(where), ["is not a regular file. A recipe is one TOML file."])
    with os.fdopen(descriptor, "rb") as file:
        try:
            raw = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise RecipeError(str(where), [f"cannot be read ({error.strerror})."]) from None
    if len(raw) > MOST_BYTES:
        raise RecipeError(str(where), ["is larger than 1 MB. A recipe is a short TOML file."])
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise RecipeError(
            str(where), [f"line {line}: is not UTF-8 text. A recipe is a TOML file."]
        ) from None


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """A TOML document.

    Raises:
        RecipeError: If it is none, with the line. A key or table that stands twice is an error.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        place = _PLACE.search(message)
        reason = _PLACE.sub("", message)
        if reason.startswith(("Cannot overwrite", "Cannot declare", "Duplicate inline")):
            reason = f"a key or table stands twice ({reason})"
        at = f"{place[1]}: " if place else ""
        raise RecipeError(where, [f"{at}is not valid TOML: {reason}."]) from None
    except RecursionError:
        raise RecipeError(where, ["is nested too deeply for a recipe."]) from None
    except ValueError as error:  # an integer of more than 4300 digits; a date that is none
        raise RecipeError(where, [f"holds a value that cannot be read ({error})."]) from None


def write_whole(path: str | os.PathLike[str], text: str) -> Path:
    """Puts a text at a path at once: a reader or a kill never meets half a file.

    Raises:
        OSError: If the system refuses; what stood there is kept.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path
