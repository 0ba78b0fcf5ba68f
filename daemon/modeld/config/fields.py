"""
The schema as a flat list of keys: what each is called, what it may hold, what it is by default.

Whatever speaks of keys asks here: the loader for "expected what", and the tests that hold
`etc/modeld.toml` and modeld.toml(5) to the schema.  Nothing is read and nothing is checked.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct, inspect, json

from modeld.config.schema import Config, Options, Parameters

WILD = {"entries": "NAME", "variants": "VARIANT", "overrides": "PROFILE", "options": "PROFILE"}
"""What stands for any key of a table whose keys are the user's, by the name of that table."""
EACH = "[]"
"""Stands for any table of a list of tables."""
MAX_SHOWN_LETTERS = 60
_PLAIN = re.compile(r"[A-Za-z0-9_-]+")


class Field(Struct, frozen=True):
    """One key."""

    path: tuple[str, ...]
    kind: Any
    """Its annotation in the schema."""
    default: Any
    """None where it is unset, or must be given."""

    @property
    def key(self) -> str:
        """The key with dots: `gateway.listen`, `routing.rules[].model`."""
        return ".".join(self.path).replace(f".{EACH}", EACH)

    @property
    def expected(self) -> str:
        """What it may hold, in words."""
        return describe(inspect.type_info(self.kind))


def fields(section: type[Struct] = Config, above: tuple[str, ...] = ()) -> Iterator[Field]:
    """Yield every key of a section, in its order; of a table of parameters only its name."""
    for info in msgspec.structs.fields(section):
        default = info.default
        if default is msgspec.NODEFAULT:
            factory = info.default_factory
            default = None if factory is msgspec.NODEFAULT else factory()
        yield from _below(info.type, (*above, info.name), default)


def parameters() -> Iterator[Field]:
    """Yield every key of a table of parameters, which is the same wherever it stands."""
    return fields(Options)


def _below(kind: object, path: tuple[str, ...], default: object) -> Iterator[Field]:
    table = table_of(kind)
    if is_open(kind):
        yield from _below(get_args(kind)[1], (*path, WILD[path[-1]]), None)
    elif table is None:
        yield Field(path, kind, default)
    elif issubclass(table, Parameters):
        yield Field(path, kind, None)
    else:
        yield from fields(table, (*path, EACH) if is_list(kind) else path)


def kind_of(path: Sequence[str | int]) -> object | None:
    """Return the annotation of a key or of a table; None where the schema has no such key."""
    kind: object = Config
    for key in path:
        table = table_of(kind)
        if is_open(kind):
            kind = get_args(kind)[1]
        elif table is not None and is_list(kind):
            kind = table
        elif table is not None:
            kind = {info.name: info.type for info in msgspec.structs.fields(table)}.get(str(key))
        else:
            return None
    return kind


def is_open(kind: object) -> bool:
    """Whether an annotation is a table whose keys are the user's."""
    return get_origin(kind) is dict


def is_list(kind: object) -> bool:
    """Whether an annotation is a list, of words or of tables, that may be unset."""
    return any(get_origin(one) is tuple for one in (kind, *get_args(kind)))


def table_of(kind: object) -> type[Struct] | None:
    """Return the section that an annotation stands for, of itself or of all that is in it."""
    if is_open(kind):
        kind = get_args(kind)[1]
    elif get_origin(kind) is tuple:
        kind = get_args(kind)[0]
    return kind if isinstance(kind, type) and issubclass(kind, Struct) else None


def describe(kind: inspect.Type) -> str:
    """Return in words what a key of this type may hold."""
    match kind:
        case inspect.BoolType():
            return "true or false"
        case inspect.IntType():
            return "a whole number" + _bounds(kind)
        case inspect.FloatType():
            return "a number" + _bounds(kind)
        case inspect.StrType():
            longest = f", at most {kind.max_length} letters" if kind.max_length else ""
            return f"a string without control characters{longest}" if kind.pattern else "a string"
        case inspect.LiteralType():
            return " or ".join(f'"{value}"' for value in kind.values)
        case inspect.VarTupleType():
            return _describe_list(kind.item_type)
        case inspect.StructType():
            return "a table of options" if kind.cls is Options else "a table of parameters"
        case inspect.UnionType():
            return describe(
                next(one for one in kind.types if not isinstance(one, inspect.NoneType))
            )
    raise AssertionError(f"the schema has no {kind}")


def _describe_list(item: inspect.Type) -> str:
    if isinstance(item, inspect.StructType):
        return "a list of tables"
    return (
        f"a list of {describe(item)}"
        if isinstance(item, inspect.LiteralType)
        else "a list of strings"
    )


def refusal(name: str, kind: object, value: object) -> str:
    """Return what is wrong with a parameter: the value, and what it must be."""
    about = inspect.type_info(kind)
    if isinstance(about, inspect.UnionType):
        about = next(one for one in about.types if not isinstance(one, inspect.NoneType))
    must = describe(about)
    if isinstance(about, inspect.IntType | inspect.FloatType):
        whole = isinstance(about, inspect.IntType)
        is_one = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        noun = "" if is_one else "a whole number " if whole else "a number "
        low, high = (about.ge, about.le) if whole else (float(about.ge or 0), float(about.le or 0))
        must = f"{noun}between {low} and {high}"
    subject = name if "_" in name else name.capitalize()
    return f"Invalid {name} value: {shortened(as_toml(value))}. {subject} must be {must}."


def as_toml(value: object) -> str:
    """Return a value as it is written in the file; empty for one that is unset."""
    if value is None:
        return ""
    if isinstance(value, Struct):
        value = {key: one for key, one in msgspec.structs.asdict(value).items() if one is not None}
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{as_key(str(key))} = {as_toml(one)}" for key, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    if isinstance(value, str | bool):
        return json.encode(value).decode().replace("\x7f", "\\u007f")
    return str(value)


def as_key(text: str) -> str:
    """Return one part of a key as it is written in the file: quoted where it must be."""
    return text if _PLAIN.fullmatch(text) else as_toml(text)


def shortened(text: str) -> str:
    """Return a text as a message can show it: printable, and not long."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= MAX_SHOWN_LETTERS else f"{text[:MAX_SHOWN_LETTERS]}..."


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = "" if kind.ge is None else f"{kind.ge:g}"
    if low and kind.le is not None:
        high = kind.le if isinstance(kind.le, int) else f"{kind.le:g}"
        return f" from {low} to {high}"
    if low:
        return f", at least {low}"
    return "" if kind.gt is None else f" above {kind.gt:g}"
