"""What is taken, as the text of a TOML file that a person can read and go on editing."""

import json
import re
from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def dumps(config: Mapping[str, object], above: tuple[str, ...] = ()) -> str:
    """Return tables and values as TOML; values before the tables below them."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in config.items():
        path = (*above, key)
        if isinstance(value, dict):
            tables.append(dumps(value, path))
        elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
            tables += [f"\n[[{_dotted(path)}]]\n{_values(one)}" for one in value]
        else:
            lines.append(f"{_key(key)} = {_value(value)}\n")
    head = f"\n[{_dotted(above)}]\n" if above and lines else ""
    return head + "".join(lines) + "".join(tables)


def _values(table: Mapping[str, object]) -> str:
    return "".join(f"{_key(key)} = {_value(value)}\n" for key, value in table.items())


def _dotted(path: tuple[str, ...]) -> str:
    return ".".join(map(_key, path))


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _text(key)


def _value(value: object) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


def _text(text: str) -> str:
    # JSON's escapes are TOML's, but for the one letter that JSON lets through.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
