"""A recipe's document, a dict of tables, made into validated tables; all its errors at once."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from tfrecipes.recipe.conflicts import conflicts
from tfrecipes.recipe.errors import RecipeError, did_you_mean, shown
from tfrecipes.recipe.rules import Rule, text
from tfrecipes.recipe.schema import (
    DEFAULT_MEMBER,
    FAMILIES,
    OPTIONAL_TABLES,
    TABLES,
    VERSION,
    Table,
)

NAME = text(
    "a name of letters, digits, `.`, `_` and `-`, at most 64", r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
)

# What people write from habit, where the nearest spelling would be another key.
_HABITS = {
    "learning_rate": "schedule.peak_learning_rate",
    "lr": "schedule.peak_learning_rate",
    "wd": "optimizer.weight_decay",
    "clipnorm": "step.global_clipnorm",
    "patience": "train.early_stopping",
}


def model_of(table: str, member: object) -> type[Table] | None:
    """The model of a table; for `[optimizer]` and `[schedule]`, of the member by that name."""
    if table in FAMILIES:
        return FAMILIES[table].get(member) if isinstance(member, str) else None
    return TABLES[table]


def canonical(model: type[Table], key: str) -> str:
    """The key that a spelling stands for: `warmup_steps` is `warmup`."""
    spellings = {argument: key for key, argument in model.arguments_in_steps.items()}
    return spellings.get(key, key)


def keys_of(model: type[Table]) -> list[str]:
    """Every spelling that a table reads."""
    return [*model.model_fields, *model.arguments_in_steps.values()]


def rule_of(model: type[Table], key: str) -> Rule | None:
    """The rule of a key; None for a key that has none (`name`) or that is not there."""
    field = model.model_fields.get(key)
    rules = [m for m in field.metadata if isinstance(m, Rule)] if field else []
    return rules[0] if rules else None


def home_of(key: str) -> str | None:
    """The `table.key` that a bare or misplaced key most likely means, if any."""
    if key in _HABITS:
        return _HABITS[key]
    for table, model in TABLES.items():
        for member in [*FAMILIES.get(table, {}).values(), model]:
            if key in keys_of(member) and key != "name":
                return f"{table}.{key}"
    return None


def build(document: Mapping[str, Any], where: str, name: str) -> dict[str, Any]:
    """Validates a whole document.

    Args:
        document: As read from TOML: `version`, `name` and tables.
        where: What errors name first.
        name: The recipe's name where the document has none.

    Returns:
        `version`, `name` and every table by its name; `ema`, `swa` and `resume` are None when off.

    Raises:
        RecipeError: With every error found.
    """
    _check_version(document, where)
    errors: list[str] = []
    tables: dict[str, Any] = {}
    for key in document:
        if key not in TABLES and key not in ("version", "name"):
            errors.append(_unknown_top(key))
    try:
        given_name = NAME.check(document.get("name", name))
    except ValueError:
        given_name = name
        errors.append(f"name: must be {NAME.says}. Received: {shown(document['name'])}.")
    for table in TABLES:
        if table not in document and table in OPTIONAL_TABLES:
            tables[table] = None
        else:
            tables[table], found = _build_table(table, document.get(table, {}))
            errors += found
    if not errors:
        errors = conflicts(tables)
    if errors:
        raise RecipeError(where, errors)
    if tables["resume"].every is None:
        tables["resume"] = None
    return {"version": VERSION, "name": given_name, **tables}


def _check_version(document: Mapping[str, Any], where: str) -> None:
    """Refuses another version by itself: its other keys may well be right there."""
    version = document.get("version")
    if type(version) is int and version == VERSION:
        return
    if version is None:
        raise RecipeError(where, [f"version: is missing. Write `version = {VERSION}`."])
    raise RecipeError(
        where,
        [
            f"version: must be {VERSION}, the only one that this tfrecipes reads. "
            f"Received: {shown(version)}."
        ],
    )


def _build_table(table: str, given: object) -> tuple[Table | None, list[str]]:
    """One table and its errors; None where it has errors."""
    if not isinstance(given, Mapping):
        advice = f" Leave [{table}] out to turn it off." if table in OPTIONAL_TABLES else ""
        return None, [f"{table}: must be a table, `[{table}]`. Received: {shown(given)}.{advice}"]
    member = given.get("name", DEFAULT_MEMBER.get(table))
    model = model_of(table, member)
    if model is None:
        near = did_you_mean(member, FAMILIES[table]) if isinstance(member, str) else ""
        names = ", ".join(FAMILIES[table])
        return None, [f"{table}.name: must be one of {names}. Received: {shown(member)}.{near}"]
    values: dict[Any, Any] = {}
    errors: list[str] = []
    for key, value in given.items():
        if not isinstance(key, str) or key not in keys_of(model):
            errors.append(f"{table}.{key}: {_unknown_key(table, model, key)}")
        elif canonical(model, key) in values:
            errors.append(f"{table}.{key}: is `{canonical(model, key)}` again. Keep one of them.")
        else:
            values[canonical(model, key)] = value
    try:
        built = model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        return None, errors + [_sentence(table, model, one) for one in found]
    return (None if errors else built), errors


def _sentence(table: str, model: type[Table], error: Any) -> str:
    """One of pydantic's errors in our words."""
    where = ".".join([table, *map(str, error["loc"])])
    if error["type"] == "rule":
        return f"{where}: {error['ctx']['sentence']}"
    if error["type"] == "missing":
        rule = rule_of(model, str(error["loc"][0]))
        return f"{where}: is missing." + (f" It must be {rule.says}." if rule else "")
    return f"{where}: {error['msg']}. Received: {shown(error['input'])}."


def _unknown_key(table: str, model: type[Table], key: object) -> str:
    """Why a table has no such key, and what to write."""
    if not isinstance(key, str):
        return f"unknown field. Received: {shown(key)}."
    takers = [name for name, other in FAMILIES.get(table, {}).items() if key in keys_of(other)]
    if takers:
        own = model.model_fields["name"].default
        takes = "takes" if len(takers) == 1 else "take"
        return f"`{own}` has no such field; {', '.join(takers)} {takes} it."
    home = home_of(key)
    if home is not None:
        return f"unknown field. Did you mean `{home}`?"
    return "unknown field." + did_you_mean(key, keys_of(model))


def _unknown_top(key: object) -> str:
    """Why a document has no such table or key."""
    if not isinstance(key, str):
        return f"{shown(key)}: unknown table."
    home = home_of(key)
    near = did_you_mean(key, [*TABLES, "version", "name"])
    if home is not None and not near:
        near = f" Did you mean `{home}`?"
    return f"{key}: unknown table or field.{near}"
