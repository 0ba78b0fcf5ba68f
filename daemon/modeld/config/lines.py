"""
In which line of a TOML text each key stands, so that a mistake can be pointed at.

A statement is found by feeding lines to the TOML parser until it takes them, hence no grammar is
repeated here.  The text must be valid as a whole; what its values mean is not looked at.
"""

import re
import tomllib
from collections.abc import Iterable, Iterator

Path = tuple[str | int, ...]
"""The parts of a key; a number is the place of a table in a list of tables, from 1."""
ENDINGS = ("]", "}", '"', "'")
"""What the last line of a statement of several lines has somewhere."""
EFFORT = 10
"""How many times the whole text may be parsed, lest one that is made to be slow hold us up."""

_PLACE = re.compile(r"(/[^\n]*?):(\d+):")


def in_order(mistakes: Iterable[str]) -> list[str]:
    """Return mistakes as somebody mends them: file by file, and down each file."""
    files: dict[str, int] = {}

    def place(mistake: str) -> tuple[int, int]:
        found = _PLACE.match(mistake)
        name = found[1] if found else mistake.partition(":")[0]
        return files.setdefault(name, len(files)), int(found[2]) if found else 0

    return sorted(mistakes, key=place)


def lines_of(text: str) -> dict[Path, int]:
    """
    Return the line, from 1, of each table and each key.

    Args:
        text: Valid TOML; otherwise some keys will be missing, as they will where it takes too long.
    """
    effort = EFFORT * (len(text) + 1000)
    found: dict[Path, int] = {}
    counts: dict[Path, int] = {}
    header, pending, start = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if not pending:
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            start = number
        pending += f"{line}\n"
        if start != number and not any(mark in line for mark in ENDINGS):
            continue
        effort -= len(pending)
        if effort < 0:
            break
        statement = pending if pending.lstrip().startswith("[") else header + pending
        try:
            parsed = tomllib.loads(statement)
        except (tomllib.TOMLDecodeError, RecursionError):
            continue
        if statement is pending:
            header = pending
            if header.lstrip().startswith("[["):
                array = tuple(_deepest(parsed))
                counts[array] = counts.get(array, 0) + 1
        for path in _paths(parsed, counts):
            found.setdefault(path, start)
        pending = ""
    return found


def _paths(value: object, counts: dict[Path, int], above: Path = ()) -> Iterator[Path]:
    """Yield every key; a table of a list counts on from those whose headers came before."""
    if isinstance(value, list):
        tables = [one for one in value if isinstance(one, dict)]
        inside = [((*above, n), one) for n, one in enumerate(tables, counts.get(above, 1))]
    elif isinstance(value, dict):
        inside = [((*above, key), one) for key, one in value.items()]
    else:
        inside = []
    for path, inner in inside:
        yield path
        yield from _paths(inner, counts, path)


def _deepest(value: object) -> Iterator[str]:
    """Yield the parts of the only key of a header."""
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        yield key
