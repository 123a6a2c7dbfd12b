"""Changes to a recipe by dotted keys: `replace(...)` in Python, `--set` on the command line."""

import tomllib
from collections.abc import Mapping
from typing import Any

from tfrecipes.recipe.errors import RecipeError, shown
from tfrecipes.recipe.schema import DEFAULT_MEMBER, FAMILIES, OPTIONAL_TABLES, TABLES, Table
from tfrecipes.recipe.validation import canonical, model_of, rule_of


def parse_override(text: str) -> tuple[str, Any]:
    """Reads one `table.key=value`, as `--set` takes it.

    The value is read as TOML where it is TOML (`3e-3`, `true`, `"a b"`, `["30ep", "60ep"]`), a
    list of bare words too (`[30ep, 60ep]`), and as a text else (`5%`, `warmup_linear`). `off` is
    None: it removes a table, or turns a key off.

    Args:
        text: The text after `--set`.

    Returns:
        The dotted key and the value.

    Raises:
        RecipeError: If there is no `=`, or nothing on one side of it.

    Example:
        >>> parse_override("schedule.warmup=5%")
        ('schedule.warmup', '5%')
        >>> parse_override("ema=off")
        ('ema', None)
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    if not equals or not key or not value:
        raise RecipeError("--set", [f"must be `table.key=value`. Received: {shown(text)}."])
    return key, None if value == "off" else _value(value)


def apply(document: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a recipe's document with changes made; whether it is valid is for `build` to say.

    Args:
        document: As `Recipe.as_dict` gives it.
        changes: As `Recipe.replace` takes them.
    """
    changed = {k: dict(v) if isinstance(v, Mapping) else v for k, v in document.items()}
    # Tables first, then names, then keys: the order in which changes are given does not matter.
    for key in sorted(changes, key=lambda key: ("." in key, not key.endswith(".name"))):
        table, dot, field = key.partition(".")
        if not dot:
            _put_table(changed, table, changes[key])
        else:
            values = changed.setdefault(table, {})
            if isinstance(values, dict):
                changed[table] = _with_key(table, values, field, changes[key])
    return changed


def _value(text: str) -> Any:
    """A TOML value, a list of values, or the text itself."""
    try:
        parsed = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # TOMLDecodeError is a ValueError
        parsed = {}
    found = parsed.get("value")
    # One key alone: a line break in the text must not write a second one. A bare `#` is no comment.
    quoted = isinstance(found, str | list | dict)
    if len(parsed) == 1 and (quoted or (isinstance(found, int | float) and "#" not in text)):
        return found
    if text.startswith("[") and text.endswith("]") and "[" not in text[1:]:
        return [_value(part.strip()) for part in text[1:-1].split(",") if part.strip()]
    return text


def _put_table(document: dict[str, Any], table: str, value: object) -> None:
    """Replaces a table; None takes it out where a recipe can be without it."""
    if isinstance(value, Mapping):
        document[table] = dict(value)
    elif value is not None or table not in (*OPTIONAL_TABLES, "step", "loss", "resume"):
        document[table] = value
    elif table == "resume":
        # Without the table a run is resumable all the same, so off has to be said.
        document[table] = {"every": "off"}
    else:
        document.pop(table, None)


def _with_key(table: str, values: dict[str, Any], field: str, value: object) -> dict[str, Any]:
    """A table's keys with one changed, or taken out where its default is the same as off."""
    if table not in TABLES:
        return {**values, field: value}
    member = values.get("name", DEFAULT_MEMBER.get(table))
    if field == "name" and table in FAMILIES:
        return _with_member(table, values, member, value)
    model = model_of(table, member)
    if model is None:
        return {**values, field: value}
    key = canonical(model, field)
    known = model.model_fields.get(key)
    kept = {k: v for k, v in values.items() if canonical(model, k) != key}
    if value is None and known is not None:
        if known.default in (None, False, 0):
            return kept
        if _takes_false(model, key):
            value = False
    return {**kept, field: value}


def _takes_false(model: type[Table], key: str) -> bool:
    rule = rule_of(model, key)
    try:
        return rule is not None and rule.check(False) is False
    except ValueError:
        return False


def _with_member(
    table: str, values: dict[str, Any], old_name: object, new_name: object
) -> dict[str, Any]:
    """Another schedule or optimizer: keys that mean the same in it stay, the rest goes."""
    old, new = model_of(table, old_name), model_of(table, new_name)
    if old is None or new is None:
        return {**values, "name": new_name}
    kept = {}
    for spelling, value in values.items():
        key = canonical(old, spelling)
        before, after = rule_of(old, key), rule_of(new, key)
        if before is not None and after is not None and before.kind == after.kind:
            kept[key] = value
    return {"name": new_name, **kept}
