"""
In which line of a TOML text each key stands, so that a mistake can be pointed at.

A statement is found by feeding lines to the TOML parser until it takes them, hence no grammar is
repeated here.  The text must be valid as a whole; what its values mean is not looked at.
"""

import tomllib
from collections.abc import Iterator

Path = tuple[str, ...]


def lines_of(text: str) -> dict[Path, int]:
    """
    Return the line, from 1, of each table and each key.

    Args:
        text: Valid TOML; otherwise some keys will be missing.
    """
    found: dict[Path, int] = {}
    header, pending, start = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        pending += f"{line}\n"
        statement = pending if pending.lstrip().startswith("[") else header + pending
        try:
            parsed = tomllib.loads(statement)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
        if statement is pending:
            header = pending
        for path in _paths(parsed):
            found.setdefault(path, start)
        pending = ""
    return found


def _paths(value: object, above: Path = ()) -> Iterator[Path]:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        value = value[0]
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        path = (*above, key)
        yield path
        yield from _paths(inner, path)
