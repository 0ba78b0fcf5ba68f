"""
The schema as a flat list of keys: what each is called, what it may hold, what it is by default.

Whatever speaks of keys asks here: the loader for "expected what", and the tests that hold
`etc/modeld.toml` and modeld.toml(5) to the schema.  Nothing is read and nothing is checked.
"""

from collections.abc import Iterator
from typing import Any, get_args, get_origin

import msgspec
from msgspec import Struct, inspect, json

from modeld.config.schema import Config

WILD = "NAME"
"""Stands for any key of a table whose keys are the user's, such as a model's name."""


class Field(Struct, frozen=True):
    """One key."""

    path: tuple[str, ...]
    kind: Any
    """Its annotation in the schema."""
    default: Any

    @property
    def key(self) -> str:
        """The key with dots: `gateway.listen`."""
        return ".".join(self.path)

    @property
    def expected(self) -> str:
        """What it may hold, in words."""
        return describe(inspect.type_info(self.kind))


def fields(section: type[Struct] = Config, above: tuple[str, ...] = ()) -> Iterator[Field]:
    """Yield every key of the schema, in its order."""
    for info in msgspec.structs.fields(section):
        path = (*above, info.name)
        table = table_of(info.type)
        if table is None:
            default = info.default
            if default is msgspec.NODEFAULT and info.default_factory is not msgspec.NODEFAULT:
                default = info.default_factory()
            yield Field(path, info.type, default)
        elif is_open(info.type):
            yield from fields(table, (*path, WILD))
        else:
            yield from fields(table, path)


def is_open(kind: object) -> bool:
    """Whether an annotation is a table whose keys are the user's."""
    return get_origin(kind) is dict


def table_of(kind: object) -> type[Struct] | None:
    """Return the section that an annotation stands for, of itself or of each of its keys."""
    kind = get_args(kind)[1] if is_open(kind) else kind
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
            return "a list of strings"
        case inspect.UnionType():
            return describe(
                next(one for one in kind.types if not isinstance(one, inspect.NoneType))
            )
    raise AssertionError(f"the schema has no {kind}")


def as_toml(value: object) -> str:
    """Return a value as it is written in the file; empty for one that is unset."""
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer():
        return f"{value:.1f}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(as_toml, value))}]"
    if isinstance(value, dict):
        inside = ", ".join(f"{as_toml(str(key))} = {as_toml(one)}" for key, one in value.items())
        return f"{{ {inside} }}" if inside else "{}"
    return json.encode(value).decode() if isinstance(value, str | bool) else str(value)


def _bounds(kind: inspect.IntType | inspect.FloatType) -> str:
    low = "" if kind.ge is None else f"{kind.ge:g}"
    if low and kind.le is not None:
        high = kind.le if isinstance(kind.le, int) else f"{kind.le:g}"
        return f" from {low} to {high}"
    if low:
        return f", at least {low}"
    return "" if kind.gt is None else f" above {kind.gt:g}"
