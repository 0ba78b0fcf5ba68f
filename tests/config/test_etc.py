"""The example file is the schema in words: every key, every default, nothing else."""

import re
import tomllib
from pathlib import Path

from modeld.config.fields import WILD, fields
from modeld.config.load import Source, load
from modeld.config.schema import Config

FILE = Path(__file__).parents[2] / "etc" / "modeld.toml"
TEXT = FILE.read_text("utf-8")
_DEFAULT = re.compile(r"^#(?=[a-z0-9_]+ = )", re.MULTILINE)
_EXAMPLE = re.compile(r"^# (?=[a-z0-9_]+ = |\[models\.entries\.)", re.MULTILINE)


def _keys(table: dict[str, object], above: tuple[str, ...] = ()) -> set[str]:
    found: set[str] = set()
    for key, value in table.items():
        path = (*above, WILD if above == ("models", "entries") else key)
        found |= _keys(value, path) if isinstance(value, dict) else {".".join(path)}
    return found


def test_file_as_it_is_changes_nothing() -> None:
    """It is installed as it is."""
    assert load([Source(str(FILE), TEXT)], {}, ()).config == Config()


def test_file_shows_every_default_that_there_is() -> None:
    """A default that is out of date is worse than none."""
    shown = load([Source(str(FILE), _DEFAULT.sub("", TEXT))], {}, ())

    assert shown.config == Config()
    assert set(shown.origins) == {
        field.key for field in fields() if WILD not in field.path and field.default is not None
    }


def test_file_shows_every_key_that_there_is() -> None:
    """A key that is not in the file does not exist for its reader, one too many ends the daemon."""
    text = _EXAMPLE.sub("", _DEFAULT.sub("", TEXT))

    load([Source(str(FILE), text)], {}, ())
    assert _keys(tomllib.loads(text)) == {field.key for field in fields()}


def test_every_key_is_explained() -> None:
    """The line above a key, or above its neighbours, is a sentence."""
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if _DEFAULT.match(line) or re.match(r"^# [a-z0-9_]+ = ", line):
            assert lines[number - 1].startswith("# "), f"line {number + 1}"
            assert not re.match(r"^# [a-z0-9_]+ = ", lines[number - 1]), f"line {number + 1}"
