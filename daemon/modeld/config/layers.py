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
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct

from modeld.config.fields import as_toml, describe, is_open, table_of
from modeld.config.lines import Path, lines_of
from modeld.config.schema import Config

PREFIX = "MODELD_"
MAX_TEXT_LETTERS = 1 << 20
MAX_SHOWN_LETTERS = 60
_PLACE = re.compile(r"^(.*?) \(at (?:line (\d+), column (\d+)|end of document)\)$", re.DOTALL)
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


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


class Gathering:
    """Layers laid over each other: the values that hold, where each is from, and what is wrong."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.problems: list[str] = []

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

    def add_variables(self, environment: Mapping[str, str]) -> None:
        """Lay every `MODELD_SECTION__KEY` over; other variables of ours have no `__`."""
        for name in sorted(environment):
            words = name.removeprefix(PREFIX)
            if words == name or "__" not in words:
                continue
            path = words.lower().split("__")
            if path[:2] == ["models", "entries"]:  # a model's name keeps its letters
                path[2:3] = words.split("__")[2:3]
            self._add_word(tuple(path), environment[name], f"${name}")

    def add_overrides(self, overrides: Sequence[str]) -> None:
        """Lay every `section.key=value` of the command line over."""
        for override in overrides:
            key, equals, value = override.partition("=")
            path = _path_of(key) if equals else ()
            if path:
                self._add_word(path, value, "--set")
            else:
                self.problems.append(f"--set {_short(override)}: expected SECTION.KEY=VALUE")

    def _add_word(self, path: Path, text: str, name: str) -> None:
        """Lay one word over; where a list is wanted, it is TOML, or parted by commas."""
        value: Any = text
        if get_origin(_kind_of(path)) is tuple:
            value = [word.strip() for word in text.split(",") if word.strip()]
            if text.lstrip().startswith("["):
                value = _list_of(text)
        nested: Any = text if value is None else value
        for key in reversed(path):
            nested = {key: nested}
        self.add(Layer(nested, name, {}, typed=False))

    def _section(
        self, layer: Layer, section: type[Struct], values: object, above: Path
    ) -> dict[str, Any]:
        """Return the values of a table that are valid, and tell of the others."""
        if not isinstance(values, dict):
            self._tell(layer, above, values, "a table")
            return {}
        kinds = {info.name: info.type for info in msgspec.structs.fields(section)}
        valid: dict[str, Any] = {}
        for key, value in values.items():
            path = (*above, key)
            kind = kinds.get(key)
            if kind is None:
                self._tell_unknown(layer, path, list(kinds))
            elif (table := table_of(kind)) is None:
                for one in self._leaf(layer, path, kind, value):
                    valid[key] = one
            elif is_open(kind):
                valid[key] = self._open(layer, kind, value, path)
            else:
                valid[key] = self._section(layer, table, value, path)
        return valid

    def _open(self, layer: Layer, kind: object, values: object, path: Path) -> dict[str, Any]:
        """Return the valid part of a table whose keys are the user's."""
        if not isinstance(values, dict):
            self._tell(layer, path, values, "a table")
            return {}
        name_kind, table = get_args(kind)
        return {
            name: self._section(layer, table, value, (*path, name))
            for name, value in values.items()
            if self._leaf(layer, (*path, name), name_kind, name)
        }

    def _leaf(self, layer: Layer, path: Path, kind: object, value: object) -> list[Any]:
        """Return the value as its type, or nothing, and tell of it."""
        try:
            converted = msgspec.convert(value, kind, strict=layer.typed)
        except (msgspec.ValidationError, OverflowError):
            converted = math.nan
        if isinstance(converted, float) and not math.isfinite(converted):
            self._tell(layer, path, value, describe(msgspec.inspect.type_info(kind)))
            return []
        return [converted]

    def _merge(
        self, layer: Layer, into: dict[str, Any], values: dict[str, Any], above: Path
    ) -> None:
        for key, value in values.items():
            path = (*above, key)
            if isinstance(value, dict):
                self._merge(layer, into.setdefault(key, {}), value, path)
            else:
                into[key] = value
                self.origins[dotted(path)] = layer.where(path)

    def _tell(self, layer: Layer, path: Path, value: object, expected: str) -> None:
        shown = _short(as_toml(value))
        self.problems.append(f"{layer.where(path)}: {dotted(path)} = {shown}: expected {expected}")

    def _tell_unknown(self, layer: Layer, path: Path, known: list[str]) -> None:
        close = get_close_matches(path[-1], known, n=1)
        advice = f"did you mean '{close[0]}'?" if close else f"there are {', '.join(known)}"
        key = _short(dotted(path))
        self.problems.append(f"{layer.where(path)}: unknown key '{key}' ({advice})")


def dotted(path: Path) -> str:
    """Return a key as TOML writes it: `models.entries."a b".memory_gb`."""
    return ".".join(one if _PLAIN.fullmatch(one) else as_toml(one) for one in path)


def _syntax(source: Source, message: str) -> str:
    """Return a TOML syntax error with its place and its line."""
    match = _PLACE.match(message)
    if match is None:
        return f"{source.path}: {message}"
    lines = source.text.splitlines() or [""]
    line = int(match[2]) if match[2] else len(lines)
    column = int(match[3]) if match[3] else len(lines[-1]) + 1
    text = lines[line - 1].strip() if line <= len(lines) else ""
    return f"{source.path}:{line}:{column}: {match[1]}: {_short(text)}"


def _path_of(key: str) -> Path:
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


def _list_of(text: str) -> object:
    """Return the list that a text is in TOML, or None."""
    try:
        return tomllib.loads(f"list = {text.strip()}")["list"]
    except (tomllib.TOMLDecodeError, RecursionError):
        return None


def _kind_of(path: Path) -> object:
    """Return the annotation of a key, or None where there is no such key."""
    section: type[Struct] | None = Config
    kind: object = None
    keys = iter(path)
    for key in keys:
        if section is None:
            return None
        kind = {info.name: info.type for info in msgspec.structs.fields(section)}.get(key)
        section = table_of(kind)
        if section is not None and is_open(kind):
            next(keys, None)
    return kind


def _short(text: str) -> str:
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MAX_SHOWN_LETTERS else f"{text[:MAX_SHOWN_LETTERS]}..."
