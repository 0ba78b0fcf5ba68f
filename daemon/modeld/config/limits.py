"""
The user's own table of what models can do, read from TOML: rows, or all of its mistakes at once.

    [[model]]
    pattern = "my-llama*"
    context_tokens = 32768
    tools = true

Pure, as the rest of the configuration: the text comes as an argument.  What a row means, and that
a model's own header comes before it, `modeld.core.limits` knows.
"""

import tomllib
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Struct

from modeld.config.fields import as_toml, describe, shortened
from modeld.config.lines import in_order, lines_of
from modeld.config.schema import Profile
from modeld.core.limits import UNKNOWN_CONTEXT_TOKENS, Row
from modeld.errors import ConfigInvalid

MAX_TEXT_LETTERS = 1 << 20
MAX_ROWS = 10_000
MAX_MISTAKES = 50
TABLE = "model"
Tokens = Annotated[int, Meta(ge=1, le=100_000_000)]
Word = Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]*\Z")]


class Written(Struct, frozen=True, kw_only=True):
    """One row as it is written; what is left out has the safe default."""

    pattern: Word
    """With `*` and `?`, over canonical names: `llama3.1:8b-instruct`."""
    family: Annotated[str, Meta(max_length=64, pattern=r"^[a-z0-9.-]*\Z")] = ""
    context_tokens: Tokens = UNKNOWN_CONTEXT_TOKENS
    max_output_tokens: Annotated[int, Meta(ge=0, le=100_000_000)] = 0
    tools: bool = False
    vision: bool = False
    streaming: bool = True
    reasoning: bool = False
    profiles: tuple[Profile | Literal["embed", "moderate"], ...] = ("general",)


_FIELDS = {info.name: info for info in msgspec.structs.fields(Written)}


def parse(path: str, text: str) -> tuple[Row, ...]:
    """
    Return the rows of a table.

    Args:
        path: Of the file, for messages.
        text: Its TOML.

    Raises:
        ConfigInvalid: It has mistakes; the message has all of them, one a line.
    """
    if len(text) > MAX_TEXT_LETTERS:
        raise ConfigInvalid(f"{path}: more than {MAX_TEXT_LETTERS} letters")
    try:
        values = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"{path}: {error}", hint="it is to be TOML") from error
    found = _Table(path, text, values)
    rows = tuple(found.rows())
    problems = in_order(found.problems)
    if len(rows) > MAX_ROWS:
        problems.append(f"{path}: more than {MAX_ROWS} rows")
    if problems:
        more = len(problems) - MAX_MISTAKES
        lines = problems[:MAX_MISTAKES] + ([f"and {more} more"] if more > 0 else [])
        raise ConfigInvalid(
            "\n".join(lines),
            hint="see models.limits_file in modeld.toml(5)",
            mistakes=len(problems),
        )
    return rows


class _Table:
    """Reads a table row by row, and goes on after a mistake."""

    def __init__(self, path: str, text: str, values: dict[str, object]) -> None:
        self.problems: list[str] = []
        self._path = path
        self._lines = lines_of(text)
        self._values = values

    def rows(self) -> Iterator[Row]:
        """Yield every row that is valid; tell of the others."""
        for key in self._values:
            if key != TABLE:
                self._tell((key,), f"unknown key '{shortened(key)}' (there is [[{TABLE}]])")
        tables = self._values.get(TABLE, [])
        if not isinstance(tables, list) or not all(isinstance(each, dict) for each in tables):
            self._tell((TABLE,), f"{TABLE}: expected tables, each under [[{TABLE}]]")
            return
        for number, table in enumerate(tables, 1):
            row = self._row(number, table)
            if row is not None:
                yield row

    def _row(self, number: int, table: dict[str, object]) -> Row | None:
        before = len(self.problems)
        given: dict[str, object] = {}
        for key, value in table.items():
            place = (TABLE, number, key)
            info = _FIELDS.get(key)
            if info is None:
                close = get_close_matches(key, _FIELDS, n=1)
                advice = (
                    f"did you mean '{close[0]}'?" if close else f"there are {', '.join(_FIELDS)}"
                )
                self._tell(place, f"unknown key '{shortened(key)}' ({advice})")
                continue
            try:
                given[key] = msgspec.convert(value, info.type)
            except msgspec.ValidationError:
                self._tell(place, f"{key} = {shortened(as_toml(value))}: expected {_expected(key)}")
        if "pattern" not in table:
            self._tell((TABLE, number), "pattern is missing: which models is this about?")
        if len(self.problems) > before:
            return None
        return msgspec.convert(msgspec.convert(given, Written), Row, from_attributes=True)

    def _tell(self, place: tuple[str | int, ...], what: str) -> None:
        ends = (place[:end] for end in range(len(place), 0, -1))
        line = next((self._lines[each] for each in ends if each in self._lines), 0)
        self.problems.append(f"{self._path}:{line}: {what}" if line else f"{self._path}: {what}")


def _expected(key: str) -> str:
    if key == "profiles":
        return "a list of fast, general, code, creative, embed or moderate"
    return describe(msgspec.inspect.type_info(_FIELDS[key].type))
