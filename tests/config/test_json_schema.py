"""The schema for editors says what the loader does, key by key."""

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from modeld.config import schema
from modeld.config.fields import EACH, WILD, Field, fields, parameters
from modeld.config.json_schema import json_schema
from modeld.config.load import Source, load
from modeld.errors import ConfigInvalid

SCHEMA: dict[str, Any] = json_schema(Path(schema.__file__).read_text("utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
EXAMPLE = (Path(__file__).parents[2] / "etc" / "modeld.toml").read_text("utf-8")
PAGE = (Path(__file__).parents[2] / "man" / "modeld.toml.5").read_text("utf-8")


def _about(field: Field) -> dict[str, Any]:
    """Return what the schema says of a key."""
    about = SCHEMA
    for part in field.path:
        while "$ref" in about:
            about = SCHEMA["$defs"][about["$ref"].rpartition("/")[2]]
        if part == EACH:
            about = about["items"]
        elif part in WILD.values():
            about = about["additionalProperties"]
        else:
            about = about["properties"][part]
    return about


def _keys(about: dict[str, Any], above: str = "") -> set[str]:
    """Return every key of the schema as the documents call them."""
    name = about.get("$ref", "").rpartition("/")[2]
    if name in {"Parameters", "Options"}:
        return {above}
    about = SCHEMA["$defs"][name] if name else about
    if about.get("type") == "array" and "$ref" in about["items"]:
        return _keys(about["items"], f"{above}{EACH}")
    if isinstance(about.get("additionalProperties"), dict):
        return _keys(about["additionalProperties"], f"{above}.{WILD[above.rpartition('.')[2]]}")
    if "properties" not in about:
        return {above}
    inside = about["properties"].items()
    return {one for key, value in inside for one in _keys(value, f"{above}.{key}".lstrip("."))}


def test_schema_is_one() -> None:
    """An editor refuses a broken one without a word."""
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert json.loads(json.dumps(SCHEMA)) == SCHEMA


def test_schema_has_the_keys_of_the_manual() -> None:
    """What it did not know an editor would underline."""
    documented = set(re.findall(r"^\.It Ic ([\w.\[\]]+\.[\w.\[\]]+)", PAGE, re.MULTILINE))

    assert _keys(SCHEMA) == {field.key for field in fields()} == documented


@pytest.mark.parametrize("field", list(fields()), ids=lambda field: field.key)
def test_key_has_its_default_and_a_sentence(field: Field) -> None:
    """What an editor shows when the mouse is over a key."""
    about = _about(field)
    default = list(field.default) if isinstance(field.default, tuple) else field.default

    assert about.get("default") == default
    assert about.get("description") or field.path[-1] in WILD.values()


@pytest.mark.parametrize("field", list(parameters()), ids=lambda field: field.key)
def test_parameter_has_a_sentence(field: Field) -> None:
    """The same wherever the table stands."""
    for name in ("Options", "Parameters"):
        about = SCHEMA["$defs"][name]["properties"]
        assert field.key == "num_ctx" or about[field.key]["description"]


def test_example_file_with_every_key_is_valid() -> None:
    """Whoever takes the # away gets no red line."""
    text = re.sub(r"^# ?(?=[a-z0-9_]+ = |\[+[a-z_]+\.)", "", EXAMPLE, flags=re.MULTILINE)

    VALIDATOR.validate(tomllib.loads(text))
    VALIDATOR.validate(tomllib.loads(EXAMPLE))


@pytest.mark.parametrize(
    "text",
    [
        "gateway.listn = []",
        "gateway.max_body_mb = 0",
        "gateway.max_body_mb = '1'",
        "gateway.compat = ['x']",
        "load.replace = 1",
        "memory.limit_gb = 0",
        "models.preset = 'x'",
        "models.default = 'a\\u0007b'".replace("'", '"'),
        "models.entries.a.options.temperature = 2.5",
        "models.entries.a.request.set.num_ctx = 1",
        "routing.rules = [{ pattern = 'x' }]",
        "routing.overrides.fsat = 'x'",
        "routing.options.fsat = {}",
    ],
)
def test_what_the_loader_refuses_the_schema_refuses(text: str) -> None:
    """A file without red lines is a file that is taken, key by key."""
    assert not VALIDATOR.is_valid(tomllib.loads(text))
    with pytest.raises(ConfigInvalid):
        load([Source("x", text)], {}, ())


def test_schema_has_no_null_and_no_pattern_of_python() -> None:
    """TOML has no null, and editors read patterns as JavaScript does."""
    text = json.dumps(SCHEMA)

    assert "null" not in text.replace("null, ", "")
    assert "\\\\Z" not in text
