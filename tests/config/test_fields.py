"""What the schema says of itself is what the messages and the documents say of it."""

import ast
from pathlib import Path

import pytest

from modeld.config import schema
from modeld.config.fields import EACH, WILD, Field, as_toml, fields, kind_of, parameters
from modeld.config.schema import Parameters, Rule


def test_every_key_can_be_described() -> None:
    """A new kind of key needs words before anybody can mistype it."""
    assert all(field.expected for field in fields())


def test_every_key_is_a_path_without_repeats() -> None:
    """The loader finds keys by their path."""
    keys = [field.key for field in fields()]

    assert len(keys) == len(set(keys))
    assert "models.entries.NAME.memory_gb" in keys


def test_every_key_is_found_by_its_path() -> None:
    """`--set` and variables ask what a key may hold."""
    for field in [*fields(), *parameters()]:
        path = ("routing", "options", "fast") if len(field.path) == 1 else ()
        assert kind_of((*path, *field.path)) == field.kind, field.key
    assert kind_of(("gateway", "listn")) is None
    assert kind_of(("gateway", "listen", "x")) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (3.0, "3.0"),
        (0.5, "0.5"),
        (7, "7"),
        ('a "b"\n', '"a \\"b\\"\\n"'),
        (("a", "b"), '["a", "b"]'),
        ((), "[]"),
        ("\x7f", '"\\u007f"'),
        (None, ""),
        ({"a": 1, "a b": "x"}, '{ a = 1, "a b" = "x" }'),
        (Rule(pattern="^x", model="fast"), '{ pattern = "^x", model = "fast" }'),
        (Parameters(top_k=3), "{ top_k = 3 }"),
        ({}, "{}"),
    ],
)
def test_value_is_shown_as_it_is_written(value: object, text: str) -> None:
    """What is shown can be pasted into the file."""
    assert as_toml(value) == text


def _documented(keys: list[Field]) -> set[str]:
    """Return the keys whose field in schema.py has a sentence, or a name that needs none."""
    tree = ast.parse(Path(schema.__file__).read_text("utf-8"))
    return {
        statement.target.id
        for section in tree.body
        if isinstance(section, ast.ClassDef)
        for statement in section.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    } & {part for field in keys for part in field.path}


def test_fields_are_those_of_the_schema_file() -> None:
    """A section that is not reachable from `Config` would be a key that nobody can set."""
    keys = [*fields(), *parameters()]

    placeholders = {EACH, *WILD.values()}
    assert _documented(keys) == {part for field in keys for part in field.path} - placeholders
