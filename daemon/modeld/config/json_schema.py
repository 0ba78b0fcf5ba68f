"""
The schema of the configuration for editors: JSON Schema, draft 2020-12.

Made of the Structs, so it can't be out of date; the sentences are those of their docstrings, which
Python does not keep, hence the source comes as an argument.  It holds a file to what the loader
holds it to key by key; what is wrong between keys only the loader can tell.  Kept within what
TOML editors know: no null, since TOML has none, and no pattern that only Python reads.
"""

import ast
from collections.abc import Mapping
from typing import TypeAlias, cast, get_args

import msgspec

from modeld.config.schema import Config, Profile

DIALECT = "https://json-schema.org/draft/2020-12/schema"
ID = "https://modeld.invalid/modeld.schema.json"
Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"


def json_schema(source: str) -> dict[str, Json]:
    """
    Return the schema.

    Args:
        source: The text of `modeld/config/schema.py`.
    """
    made = msgspec.json.decode(msgspec.json.encode(msgspec.json.schema(Config)), type=dict)
    sections = cast("dict[str, dict[str, Json]]", made["$defs"])
    told = _sentences(source)
    for name, section in sections.items():
        for key, about in _table(section["properties"]).items():
            sentence = told.get((name, key)) or told.get(("Parameters", key), "")
            if sentence:
                _table(about)["description"] = sentence
    for key in ("overrides", "options"):
        by_profile = _table(_table(sections["Routing"]["properties"])[key])
        by_profile["propertyNames"] = {"enum": list(get_args(Profile))}
    head: dict[str, Json] = {"$schema": DIALECT, "$id": ID, "title": "modeld.toml"}
    return {**head, **_table(_plain(made))}


def _table(value: Json) -> dict[str, Json]:
    assert isinstance(value, dict)
    return value


def _plain(value: Json) -> Json:
    """Return a part of the schema in the words that TOML and its editors know."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if not isinstance(value, dict):
        return value
    value = dict(value)
    choices = value.pop("anyOf", None)
    if isinstance(choices, list):  # one that may be unset
        value.update(_table(next(one for one in choices if one != {"type": "null"})))
    if value.get("default", "") is None or "$ref" in value:
        value.pop("default", None)
    pattern = value.get("pattern")
    if isinstance(pattern, str):
        value["pattern"] = pattern.replace(r"\Z", "$")
    return {key: _plain(one) for key, one in value.items()}


def _sentences(source: str) -> Mapping[tuple[str, str], str]:
    """Return the docstring below each key, by section and key."""
    found = {}
    for section in ast.parse(source).body:
        if not isinstance(section, ast.ClassDef):
            continue
        for statement, below in zip(section.body, section.body[1:], strict=False):
            match statement, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=key)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[section.name, key] = " ".join(text.split())
    return found
