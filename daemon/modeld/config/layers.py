"""
The places that a configuration comes from, each as a layer of values with their origin.

A layer is taken apart key by key against the schema: what is valid goes on, and everything else
becomes a sentence with its place, what stands there and what was expected.  Nothing stops at the
first mistake, and nothing is raised.
"""

import math
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, get_args

import msgspec
from msgspec import Struct

from modeld.config.aliases import aliases
from modeld.config.fields import (
    as_key,
    as_toml,
    describe,
    is_list,
    is_open,
    kind_of,
    refusal,
    shortened,
    table_of,
)
from modeld.config.lines import Path, lines_of
from modeld.config.schema import Config, Parameters

PREFIX = "MODELD_"
MAX_TEXT_LETTERS = 1 << 20
CASED = ("entries", "variants")
"""Tables whose keys are names of models, and keep their letters in a variable."""
_PLACE = re.compile(r"^(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)


class Source(Struct, frozen=True):
    """One file that was read."""

    path: str
    text: str


class Layer(Struct, frozen=True):
    """The values of one place."""

    values: dict[str, Any]
    name: str
    lines: dict[Path, int]
    """Of a file; empty where the name says it all."""
    typed: bool = True
    """Whether values have types, as in TOML, or are words from outside."""

    def where(self, path: Path) -> str:
        """Return where a key stands: its own line, or that of the next table above."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return f"{self.name}:{self.lines[path[:end]]}"
        return self.name


class Spoiled(Struct, frozen=True):
    """
    A list of tables that does not count since something in it is wrong.

    What is left of it is kept, so that what else is wrong there can be told in the same breath.
    """

    path: Path
    tables: list[dict[str, Any]]
    origins: dict[str, str]


class Gathering:
    """Layers laid over each other: the values that hold, where each is from, and what is wrong."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[str] = []
        self.spoiled: list[Spoiled] = []

    def add(self, layer: Layer) -> None:
        """Lay a layer over those before it."""
        valid = self._section(layer, Config, layer.values, ())
        self._merge(layer, self.values, valid, ())

    def add_files(self, sources: Sequence[Source]) -> None:
        """Lay files over each other, the weakest first."""
        for source in sources:
            if len(source.text) > MAX_TEXT_LETTERS:
                self.problems.append(f"{source.path}: more than {MAX_TEXT_LETTERS} letters")
                continue
            try:
                values = tomllib.loads(source.text)
            except tomllib.TOMLDecodeError as error:
                self.problems.append(_syntax(source, str(error)))
            except RecursionError:
                self.problems.append(f"{source.path}: lists inside lists inside lists")
            else:
                self.add(Layer(values, source.path, lines_of(source.text)))

    def add_aliases(self, environment: Mapping[str, str]) -> None:
        """Lay over what variables of other programs set; a mistake in one is told once."""
        for name, keys in aliases(environment):
            before = len(self.problems)
            for path in keys:
                if len(self.problems) == before:
                    self.add_word(path, environment[name], f"${name}")

    def add_variables(self, environment: Mapping[str, str]) -> None:
        """Lay every `MODELD_SECTION__KEY` over; other variables of ours have no `__`."""
        for name in sorted(environment):
            words = name.removeprefix(PREFIX)
            if words == name or "__" not in words:
                continue
            path: list[str] = []
            for word in words.split("__"):
                path.append(word if path and path[-1] in CASED else word.lower())
            self.add_word(path, environment[name], f"${name}")

    def add_overrides(self, overrides: Sequence[str]) -> None:
        """Lay every `section.key=value` of the command line over."""
        for override in overrides:
            key, equals, value = override.partition("=")
            path = path_of(key) if equals else ()
            if path:
                self.add_word(path, value, "--set")
            else:
                self.problems.append(f"--set {shortened(override)}: expected SECTION.KEY=VALUE")

    def add_word(self, path: Sequence[str], text: str, name: str) -> None:
        """Lay one word over; a list is TOML or parted by commas, a table is TOML."""
        kind = kind_of(path)
        is_table = table_of(kind) is not None or is_open(kind)
        value: Any = None
        if is_table or (is_list(kind) and text.lstrip().startswith("[")):
            value = value_of(text)
        elif is_list(kind):
            value = [word.strip() for word in text.split(",") if word.strip()]
        nested: Any = text if value is None else value
        for key in reversed(path):
            nested = {key: nested}
        self.add(Layer(nested, name, {}, typed=is_table))

    def _section(
        self, layer: Layer, section: type[Struct], values: object, above: Path
    ) -> dict[str, Any]:
        """Return the values of a table that are valid, and tell of the others."""
        if not isinstance(values, dict):
            self._tell(layer, above, values, "a table")
            return {}
        infos = {info.name: info for info in msgspec.structs.fields(section)}
        valid: dict[str, Any] = {}
        for key, value in values.items():
            path = (*above, key)
            if key not in infos:
                self._tell_unknown(layer, path, list(infos))
                continue
            kind = infos[key].type
            if table_of(kind) is None and not is_open(kind):
                is_parameter = issubclass(section, Parameters)
                found = self._leaf(layer, path, kind, value, is_parameter=is_parameter)
            else:
                found = self._table(layer, path, kind, value)
            valid.update((key, one) for one in found)
        for key, info in infos.items():
            if info.required and key not in values:
                expected = describe(msgspec.inspect.type_info(info.type))
                path = (*above, key)
                self.problems.append(
                    f"{layer.where(path)}: {dotted(path)} is missing: expected {expected}"
                )
        return valid

    def _table(self, layer: Layer, path: Path, kind: object, value: object) -> list[Any]:
        """Return the valid part of a table, of one with the user's keys, or of a list of them."""
        table = table_of(kind)
        if is_open(kind):
            return [self._open(layer, path, kind, value)]
        assert table is not None
        if not is_list(kind):
            return [self._section(layer, table, value, path)]
        if not isinstance(value, list):
            self._tell(layer, path, value, "a list of tables")
            return []
        before = len(self.problems)
        tables = [
            self._section(layer, table, one, (*path, number)) for number, one in enumerate(value, 1)
        ]
        if len(self.problems) == before:
            return [tables]
        origins = {dotted(one): layer.where(one) for one in _places(tables, path)}
        self.spoiled.append(Spoiled(path, tables, origins))
        return []

    def _open(self, layer: Layer, path: Path, kind: object, values: object) -> dict[str, Any]:
        """Return the valid part of a table whose keys are the user's."""
        if not isinstance(values, dict):
            self._tell(layer, path, values, "a table")
            return {}
        name_kind, inner = get_args(kind)
        take = self._leaf if table_of(inner) is None else self._table
        return {
            name: one
            for name, value in values.items()
            if self._leaf(layer, (*path, name), name_kind, name)
            for one in take(layer, (*path, name), inner, value)
        }

    def _leaf(
        self, layer: Layer, path: Path, kind: object, value: object, *, is_parameter: bool = False
    ) -> list[Any]:
        """Return the value as its type, or nothing, and tell of it."""
        try:
            converted = msgspec.convert(value, kind, strict=layer.typed)
        except (msgspec.ValidationError, OverflowError):
            converted = math.nan
        if isinstance(converted, float) and not math.isfinite(converted):
            if is_parameter:
                shown = value if layer.typed else _number_of(value)
                what = refusal(str(path[-1]), kind, shown)
                self.problems.append(f"{layer.where(path)}: {dotted(path)}: {what}")
            else:
                self._tell(layer, path, value, describe(msgspec.inspect.type_info(kind)))
            return []
        return [converted]

    def _merge(
        self, layer: Layer, into: dict[str, Any], values: dict[str, Any], above: Path
    ) -> None:
        """Lay valid values over those before; a list of tables takes the place of the other."""
        for key, value in values.items():
            path = (*above, key)
            if isinstance(value, dict):
                self._merge(layer, into.setdefault(key, {}), value, path)
                continue
            into[key] = value
            for old in [one for one in self.origins if one.startswith(f"{dotted(path)}[")]:
                del self.origins[old]
            self.origins.update((dotted(one), layer.where(one)) for one in _places(value, path))

    def _tell(self, layer: Layer, path: Path, value: object, expected: str) -> None:
        shown = shortened(as_toml(value if layer.typed else _number_of(value)))
        self.problems.append(f"{layer.where(path)}: {dotted(path)} = {shown}: expected {expected}")

    def _tell_unknown(self, layer: Layer, path: Path, known: list[str]) -> None:
        self.problems.append(f"{layer.where(path)}: {unknown(path, known)}")


def unknown(path: Path, known: Sequence[str]) -> str:
    """Return that there is no such key, and which there is."""
    close = get_close_matches(str(path[-1]), known, n=1)
    advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
    return f"unknown key '{shortened(dotted(path))}' ({advice})"


def dotted(path: Path) -> str:
    """Return a key as it is written: `models.entries."a b".memory_gb`, `routing.rules[1].model`."""
    parts = (f"[{one}]" if isinstance(one, int) else f".{as_key(one)}" for one in path)
    return "".join(parts).removeprefix(".")


def _places(value: object, path: Path) -> Iterator[Path]:
    """Yield the key of a value, or those of each table where it is a list of them."""
    tables = value if isinstance(value, list) else []
    yield from ((*path, number, key) for number, one in enumerate(tables, 1) for key in one)
    if not tables:
        yield path


def _syntax(source: Source, message: str) -> str:
    """Return a TOML syntax error with its place and its line."""
    match = _PLACE.match(message)
    if match is None:
        return f"{source.path}: {message}"
    lines = source.text.splitlines() or [""]
    line = int(match[2]) if match[2] else len(lines)
    column = int(match[3]) if match[3] else len(lines[-1]) + 1
    text = lines[line - 1].strip() if line <= len(lines) else ""
    return f"{source.path}:{line}:{column}: {match[1]}: {shortened(text)}"


def path_of(key: str) -> tuple[str, ...]:
    """Return the parts of a dotted key, quoted or not; nothing where it is none."""
    try:
        parsed: object = tomllib.loads(f"{key} = 0") if "\n" not in key else {}
    except (tomllib.TOMLDecodeError, RecursionError):
        return ()
    return tuple(_only_keys(parsed))


def _only_keys(value: object) -> Iterator[str]:
    while isinstance(value, dict) and value:
        key, value = next(iter(value.items()))
        yield key


def _number_of(value: object) -> object:
    """Return the number that a word is, or the word."""
    found = value_of(value) if isinstance(value, str) else None
    return found if isinstance(found, int | float) and not isinstance(found, bool) else value


def value_of(text: str) -> object:
    """Return the value that a text is in TOML, or None."""
    try:
        return tomllib.loads(f"value = {text.strip()}")["value"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return None
