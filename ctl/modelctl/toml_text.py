"""
Changes to the text of a TOML file that leave every comment, blank line and order as they are.

Text in, text out: no file is touched.  What comes out is parsed again and compared, so that a
change which would do anything but what was asked for is refused instead.  Imported only by the
commands that write, since tomlkit takes its time.
"""

from __future__ import annotations

import copy
import re
import tomllib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import tomlkit
from tomlkit.exceptions import TOMLKitError
from tomlkit.items import AoT, InlineTable, Table

from modeld.errors import ConfigInvalid, Refused

if TYPE_CHECKING:
    from tomlkit import TOMLDocument

Tree = dict[str, Any]


def with_value(text: str, path: Sequence[str], value: str) -> str:
    """
    Return a text in which a key has a value.

    Where the key stands already, its comment stays; where its default stands as a comment, as in
    the file that modeld comes with, it goes below that.

    Args:
        text: TOML.
        path: The parts of the key.
        value: As TOML.

    Raises:
        ConfigInvalid: The text is no TOML.
        Refused: It is written in a way that can't be changed like this.
    """
    wanted = _loaded(text)
    _table(wanted, path[:-1])[path[-1]] = tomllib.loads(f"value = {value}")["value"]
    shown = _below_its_default(text, path, f"{tomlkit.key(path[-1]).as_string()} = {value}")
    if shown and _loaded_or_none(shown) == wanted:
        return shown
    return _changed(text, wanted, lambda document: _set(document, path, value))


def without_value(text: str, path: Sequence[str]) -> str:
    """
    Return a text in which a key does not stand; the same one where it did not.

    Raises:
        ConfigInvalid: The text is no TOML.
        Refused: It is written in a way that can't be changed like this.
    """
    wanted = _loaded(text)
    table: Any = wanted
    for key in path[:-1]:
        table = table.get(key) if isinstance(table, dict) else None
    if not isinstance(table, dict) or path[-1] not in table:
        return text
    del table[path[-1]]
    return _changed(text, wanted, lambda document: _remove(document, path))


def _changed(text: str, wanted: Tree, change: Callable[[TOMLDocument], None]) -> str:
    """Return a text after a change, which must have made of it what is wanted."""
    try:
        document = tomlkit.parse(text)
        change(document)
        made = tomlkit.dumps(document)
    except (TOMLKitError, TypeError, ValueError, KeyError, AttributeError) as error:
        raise _too_intricate() from error
    found = _loaded_or_none(made)
    # `a.b = 1` takes its table with it
    if found is None or _without_empty(found) != _without_empty(wanted):
        raise _too_intricate()
    return made if text.endswith("\n\n") else made.rstrip("\n") + "\n"


def _without_empty(tree: Tree) -> Tree:
    """Return a tree without the tables that say nothing."""
    kept = {
        key: _without_empty(value) if isinstance(value, dict) else value
        for key, value in tree.items()
    }
    return {key: value for key, value in kept.items() if value != {}}


def _too_intricate() -> Refused:
    return Refused(
        "the file is written in a way that can't be changed by program",
        hint="modelctl config edit",
    )


def _set(document: TOMLDocument, path: Sequence[str], value: str) -> None:
    table: Any = document
    is_new = False
    for depth, key in enumerate(path[:-1], 1):
        is_new = key not in table
        if is_new and isinstance(table, InlineTable):
            table[key] = tomlkit.inline_table()
        elif is_new:
            # one that only holds others needs no header
            table[key] = tomlkit.table(is_super_table=depth < len(path) - 1)
        table = table[key]
    if isinstance(table.get(path[-1]), AoT):
        del table[path[-1]]  # which can't become a value where it stands
    table[path[-1]] = tomlkit.value(value)
    if is_new and isinstance(table, Table):
        table.add(tomlkit.nl())


def _remove(document: TOMLDocument, path: Sequence[str]) -> None:
    table: Any = document
    for key in path[:-1]:
        table = table[key]
    del table[path[-1]]


def _below_its_default(text: str, path: Sequence[str], statement: str) -> str:
    """Return the text with a statement below the comment that shows its default, or nothing."""
    shown = re.compile(rf"#\s?{re.escape(path[-1])}\s*=")
    lines = text.splitlines(keepends=True)
    is_inside = False
    for number, line in enumerate(lines):
        if line.startswith("["):
            header = _loaded_or_none(line)
            is_inside = header is not None and header == _nested(path[:-1])
        elif is_inside and shown.match(line):
            ending = "" if line.endswith("\n") else "\n"
            return "".join([*lines[: number + 1], ending, statement, "\n", *lines[number + 1 :]])
    return ""


def _nested(path: Sequence[str]) -> Tree:
    tree: Tree = {}
    for key in reversed(path):
        tree = {key: tree}
    return tree


def _table(tree: Tree, path: Sequence[str]) -> Tree:
    """Return the table at a path, made where it is missing."""
    for key in path:
        inner = tree.setdefault(key, {})
        if not isinstance(inner, dict):
            raise Refused(
                f"'{key}' is no table in the file", hint="modelctl config check says more"
            )
        tree = inner
    return tree


def _loaded(text: str) -> Tree:
    try:
        return copy.deepcopy(tomllib.loads(text))
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"the file is no TOML: {error}", hint="modelctl config edit") from error


def _loaded_or_none(text: str) -> Tree | None:
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
