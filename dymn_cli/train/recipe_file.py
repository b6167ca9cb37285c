"""Recipes as TOML files, and the settings of a recipe: declared once, checked, read, written, changed.

A recipe is a frozen dataclass whose fields are declared with `setting` and whose `__post_init__` calls
`check`. Its TOML has the same keys; a dataclass in it is a table, a tuple of dataclasses an array of tables.
`dump` writes every setting, so what is read back is equal.
"""

from __future__ import annotations

import dataclasses
import json
import math
import operator
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from dymn_cli.errors import InputError, UsageError
from dymn_cli.small_files import read_small_text
from dymn_cli.values import nearest, require_choice, require_number, require_whole

__all__ = ["change", "check", "dump", "parse", "parse_assignment", "read", "setting"]

R = TypeVar("R")
Limit = tuple[str, Callable[[Any, Any], bool], float]


def setting(
    text: str,
    default: Any = dataclasses.MISSING,
    *,
    least: float | None = None,
    most: float | None = None,
    above: float | None = None,
    below: float | None = None,
) -> Any:
    """Declare a field of a recipe.

    Args:
        text: what it is; `dump` writes it as a comment.
        default: its value where a file leaves it out; without one, a file must have it.
        least: the smallest value, of each number in a list.
        most: the largest value.
        above: what the value must be larger than.
        below: what it must be smaller than.
    """
    limits = (
        ("at least", operator.ge, least),
        ("at most", operator.le, most),
        ("more than", operator.gt, above),
        ("less than", operator.lt, below),
    )
    given = [limit for limit in limits if limit[2] is not None]
    return dataclasses.field(default=default, metadata={"text": text, "limits": given})


def check(recipe: Any) -> None:
    """Check type and range of every setting of a recipe.

    Raises:
        UsageError: one is wrong; the message begins with its name.
    """
    hints = get_type_hints(type(recipe))
    for field in dataclasses.fields(recipe):
        if not _tables_in(hints[field.name]):
            _check(field.name, getattr(recipe, field.name), hints[field.name], field.metadata["limits"])


def _check(name: str, value: Any, hint: Any, limits: Sequence[Limit]) -> None:
    kind = get_origin(hint) or hint
    if kind is Literal:
        require_choice(name, value, hint)
    elif kind is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{name} {value!r:.60} is neither true nor false")
    elif kind is tuple:
        item, *others = get_args(hint)
        of_any_length = others == [...]
        if not isinstance(value, tuple) or not (of_any_length or len(value) == 1 + len(others)):
            raise UsageError(f"{name} {value!r:.60} is not a list of {'' if of_any_length else '2 '}numbers")
        for one in value:
            _check(name, one, item, limits)
    else:
        (require_whole if kind is int else require_number)(name, value)
        wrong = [f"{words} {limit:g}" for words, holds, limit in limits if not holds(value, limit)]
        if wrong or not math.isfinite(value):
            raise UsageError(f"{name} {value:g} is not {wrong[0] if wrong else 'a finite number'}")


def _tables_in(hint: Any) -> Any:
    """The dataclass that a setting is a table of, or an array of tables; None where it is a plain value."""
    return next((kind for kind in (hint, *get_args(hint)) if dataclasses.is_dataclass(kind)), None)


# ---------------------------------------------------------------------- reading


def read(kind: type[R], path: str) -> R:
    """Read a recipe from a file.

    Raises:
        InputError: the file cannot be read.
        UsageError: as for `parse`.
    """
    return parse(kind, read_small_text(path, InputError), path)


def parse(kind: type[R], text: str, where: str) -> R:
    """Read a recipe from TOML.

    Args:
        kind: of the recipe.
        text: the TOML.
        where: what errors call it.

    Raises:
        UsageError: no TOML, an unknown or missing key, or a value of a wrong type or out of range.
    """
    try:
        return _build(kind, tomllib.loads(text), where)  # type: ignore[no-any-return]
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise UsageError(f"{where}: not TOML: {exc}") from exc


def _build(kind: Any, table: Mapping[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    fields = {field.name: field for field in dataclasses.fields(kind)}
    for key in table:
        if key not in fields:
            raise UsageError(f"{where}: there is no setting {key!r}", hint=nearest(key, fields))
    missing = [
        name for name, one in fields.items() if one.default is dataclasses.MISSING and name not in table
    ]
    if missing:
        raise UsageError(f"{where}: {missing[0]} is missing", hint=f"{fields[missing[0]].metadata['text']}")
    values = {key: _value(value, hints[key], f"{where}, {key}") for key, value in table.items()}
    try:
        return kind(**values)
    except UsageError as exc:
        raise UsageError(f"{where}: {exc.message}", hint=exc.hint) from exc


def _value(value: Any, hint: Any, where: str) -> Any:
    """What a dataclass takes for a value of TOML."""
    kind = _tables_in(hint)
    if kind is None:
        return tuple(value) if isinstance(value, list) else value
    if get_origin(hint) is not tuple:
        if not isinstance(value, Mapping):
            raise UsageError(f"{where}: not a table")
        return _build(kind, value, where)
    if not isinstance(value, list | tuple) or not all(isinstance(one, Mapping) for one in value):
        raise UsageError(f"{where}: not an array of tables")
    return tuple(_build(kind, one, f"{where}.{n}") for n, one in enumerate(value, 1))


# ---------------------------------------------------------------------- changing


def change(recipe: R, assignments: Sequence[tuple[str, Any]], where: str) -> R:
    """A recipe with other values.

    Args:
        recipe: the recipe.
        assignments: pairs of a key and a value. A key is that of a setting, `TABLE.KEY`, or `ARRAY.N.KEY`
            with N from 1. One that only the tables of an array have is set in all of them.
        where: what errors call the recipe.

    Raises:
        UsageError: an unknown key, or a value of a wrong type or out of range.
    """
    document = _document(recipe)
    for key, value in assignments:
        places = list(_places(document, key))
        if not places:
            raise UsageError(
                f"{where}: there is no setting {key!r}",
                hint=nearest(key, list(dict.fromkeys(_keys(document)))),
            )
        for table, name in places:
            table[name] = value
    return _build(type(recipe), document, where)  # type: ignore[no-any-return]


def parse_assignment(text: str) -> tuple[str, Any]:
    """Key and value of `KEY=VALUE`; the value is as TOML has it, or a bare word.

    Raises:
        UsageError: it has not that form.
    """
    key, equals, value = (part.strip() for part in text.partition("="))
    if not (key and equals and value):
        raise UsageError(f"--set {text!r} is not KEY=VALUE", hint="for example --set batch=8")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _document(recipe: Any) -> dict[str, Any]:
    """A recipe as tables; what is None is left out."""
    return {key: value for key, value in dataclasses.asdict(recipe).items() if value is not None}


def _places(document: dict[str, Any], key: str) -> Iterator[tuple[dict[str, Any], str]]:
    """The tables that have a key, and its name there."""
    *path, name = key.split(".")
    here: Any = document
    for part in path:
        if isinstance(here, tuple) and part.isdecimal() and 1 <= int(part) <= len(here):
            here = here[int(part) - 1]
        else:
            here = here.get(part) if isinstance(here, dict) else None
    arrays = [value for value in document.values() if isinstance(value, tuple)] if not path else []
    for table in (here, *(one for array in arrays for one in array)):
        if isinstance(table, dict) and name in table and not isinstance(table[name], dict):
            yield table, name


def _keys(document: Mapping[str, Any], before: str = "") -> Iterator[str]:
    for key, value in document.items():
        if isinstance(value, dict):
            yield from _keys(value, f"{before}{key}.")
        elif isinstance(value, tuple) and value and isinstance(value[0], dict):
            for one in value:
                yield from one
        else:
            yield before + key


# ---------------------------------------------------------------------- writing


def dump(recipe: Any, title: str = "") -> str:
    """A recipe as TOML with every setting, each explained by a comment."""
    return "\n".join([*([f"# {title}"] if title else []), *_lines(recipe, "")]) + "\n"


def _lines(table: Any, heading: str) -> Iterator[str]:
    hints = get_type_hints(type(table))
    plain, tables = [], []
    for field in dataclasses.fields(table):
        value = getattr(table, field.name)
        if _tables_in(hints[field.name]) is None:
            plain.append((f"{field.name} = {_toml(value, hints[field.name])}", field.metadata["text"]))
        elif value is not None:
            tables.append((field, value))
    if heading:
        yield from ("", heading)
    width = max((len(text) for text, _ in plain), default=0)
    yield from (f"{text:<{width}}  # {comment}" for text, comment in plain)
    for field, value in tables:
        if isinstance(value, tuple):
            for one in value:
                yield from _lines(one, f"[[{field.name}]]")
        else:
            yield from _lines(value, f"[{field.name}]")


def _toml(value: Any, hint: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(_toml(one, get_args(hint)[0]) for one in value)}]"
    if hint is float:
        return repr(float(value))
    return json.dumps(value)
