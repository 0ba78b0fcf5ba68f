"""The example file is the schema in words: every key, every default, nothing else."""

import re
import tomllib
from pathlib import Path as File

from modeld.config.fields import EACH, WILD, fields, is_open, kind_of, parameters
from modeld.config.lines import Path
from modeld.config.load import Source, load
from modeld.config.schema import Config, Parameters

FILE = File(__file__).parents[2] / "etc" / "modeld.toml"
TEXT = FILE.read_text("utf-8")
_DEFAULT = re.compile(r"^#(?=[a-z0-9_]+ = )", re.MULTILINE)
_EXAMPLE = re.compile(r"^# (?=[a-z0-9_]+ = |\[+[a-z_]+\.)", re.MULTILINE)


def _keys(value: object, path: Path = (), shown: tuple[str, ...] = ()) -> set[str]:
    """Return the keys of a file as the schema calls them; of parameters the table's name."""
    kind = kind_of(path)
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return _keys(value[0], (*path, 1), (*shown, EACH))
    if not isinstance(value, dict) or (isinstance(kind, type) and issubclass(kind, Parameters)):
        return {".".join(shown).replace(f".{EACH}", EACH)}
    found: set[str] = set()
    for key, one in value.items():
        found |= _keys(one, (*path, key), (*shown, WILD[shown[-1]] if is_open(kind) else key))
    return found


def test_file_as_it_is_changes_nothing() -> None:
    """It is installed as it is."""
    assert load([Source(str(FILE), TEXT)], {}, ()).config == Config()


def test_file_shows_every_default_that_there_is() -> None:
    """A default that is out of date is worse than none."""
    shown = load([Source(str(FILE), _DEFAULT.sub("", TEXT))], {}, ())

    assert shown.config == Config()
    assert set(shown.origins) == {
        field.key
        for field in fields()
        if field.default is not None and not {*field.path} & {*WILD.values()}
    }


def test_file_shows_every_key_that_there_is() -> None:
    """A key that is not in the file does not exist for its reader, one too many ends the daemon."""
    text = _EXAMPLE.sub("", _DEFAULT.sub("", TEXT))

    load([Source(str(FILE), text)], {}, ())
    assert _keys(tomllib.loads(text)) == {field.key for field in fields()}


def test_file_shows_every_parameter_that_there_is() -> None:
    """They are the same in every table of them, so one table shows them all."""
    values = tomllib.loads(_EXAMPLE.sub("", TEXT))
    (entry,) = values["models"]["entries"].values()

    assert list(entry["options"]) == [field.key for field in parameters()]


def test_every_key_is_explained() -> None:
    """The line above a key, or above its neighbours, is a sentence."""
    lines = TEXT.splitlines()
    for number, line in enumerate(lines):
        if _DEFAULT.match(line) or re.match(r"^# [a-z0-9_]+ = ", line):
            assert lines[number - 1].startswith("# "), f"line {number + 1}"
            assert not re.match(r"^# [a-z0-9_]+ = ", lines[number - 1]), f"line {number + 1}"
