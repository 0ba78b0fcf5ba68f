"""
One key, as somebody types its name and a value for it.

A name is refused as what was asked for, a value as a configuration that is invalid.  Whether the
value goes with all others is not asked here: whoever wants it has the whole checked.
"""

import re
from typing import Any, cast

import msgspec

from modeld.config.fields import is_list, is_open, kind_of, table_of
from modeld.config.layers import Gathering, dotted, path_of, unknown, value_of
from modeld.config.lines import Path
from modeld.config.schema import Config, Parameters
from modeld.errors import ConfigInvalid, Usage

_NUMBERED = re.compile(r"([\w.]+)\[(\d{1,6})\](?:\.(\w+))?")
GIVEN = "the value"


def find(key: str) -> Path:
    """
    Return the parts of the name of a key or of a table: `routing.rules[1].model`.

    Raises:
        Usage: There is none of that name.
    """
    numbered = _NUMBERED.fullmatch(key)
    path: Path = path_of(numbered[1] if numbered else key)
    if numbered:
        path = (*path, int(numbered[2]), *filter(None, [numbered[3]]))
    if not path:
        raise Usage(f"'{key}' is no key", hint="such as gateway.listen, or a part in quotes")
    for end in range(1, len(path) + 1):
        if kind_of(path[:end]) is None:
            table = table_of(kind_of(path[: end - 1])) if end > 1 else Config
            if table is None:
                raise Usage(
                    f"unknown key '{dotted(path)}': '{dotted(path[: end - 1])}' is no table"
                )
            known = [info.name for info in msgspec.structs.fields(table)]
            raise Usage(unknown(path[:end], known), hint="modelctl config show")
    return path


def converted(path: Path, word: str) -> object:
    """
    Return what a word means for a key: `false`, `7`, `a, b`, or TOML.

    Raises:
        Usage: The key is that of a table whose keys are to be set one by one.
        ConfigInvalid: The word is nothing that the key may hold.
    """
    kind = kind_of(path)
    table = table_of(kind)
    keys = [key for key in path if isinstance(key, str)]
    if len(keys) < len(path):
        raise Usage(
            f"'{dotted(path)}' is one of a list of tables, which is set as a whole",
            hint="modelctl config edit",
        )
    is_whole = table is None or is_list(kind) or issubclass(table, Parameters)
    if not is_whole or (is_open(kind) and table is not None):
        raise Usage(
            f"'{dotted(path)}' is a table: set one of its keys", hint="modelctl help config set"
        )
    quoted = value_of(word) if word.lstrip()[:1] in {'"', "'"} else None
    found = Gathering()
    found.add_word(keys, quoted if isinstance(quoted, str) else word, GIVEN)
    if found.problems:
        raise ConfigInvalid("\n".join(found.problems), hint="see modeld.toml(5)")
    value: object = found.values
    for key in keys:
        value = cast("dict[str, Any]", value)[key]
    return value
