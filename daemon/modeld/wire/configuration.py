"""
Messages about the configuration: what is in force and why, and what another text would do.

modeld never writes a configuration file: they are the user's.  A client that changes one has the
new text checked here first, writes it, and has it read again with `modeld.wire.daemon.Reload`.
"""

from typing import Annotated

from msgspec import Meta, Struct

Key = Annotated[str, Meta(max_length=1024, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""A key with dots, as `gateway.listen`; a table, as `gateway`; or empty for everything."""
MAX_TEXT_LETTERS = 200_000
Text = Annotated[str, Meta(max_length=MAX_TEXT_LETTERS)]
Value = bool | int | float | str | tuple[str, ...] | None


class AskConfig(Struct, frozen=True, kw_only=True, tag="config", forbid_unknown_fields=True):
    """Ask what is in force.  Reply: `ConfigReport`; fails with usage where no key has the name."""

    key: Key = ""
    files_only: bool = False
    """Only which files there are, which is known whatever stands in them."""


class Setting(Struct, frozen=True, kw_only=True):
    """One key."""

    key: str
    value: Value
    """None for one that is unset."""
    text: str
    """The value as TOML; empty for one that is unset."""
    origin: str = ""
    """`FILE:LINE`, `$VARIABLE`, `--set`, or the key that set it; empty where it is built in."""


class ConfigFile(Struct, frozen=True, kw_only=True):
    """A file that is read, or would be."""

    path: str
    exists: bool


class ConfigReport(Struct, frozen=True, kw_only=True, tag="config-report"):
    """What is in force."""

    settings: tuple[Setting, ...]
    files: tuple[ConfigFile, ...]
    """The weakest first."""
    user_file: str
    """The one among them that is the user's to write."""
    notes: tuple[str, ...] = ()
    """Sentences on what was set and has no effect."""


class CheckConfig(
    Struct, frozen=True, kw_only=True, tag="check-config", forbid_unknown_fields=True
):
    """
    Ask what a file would do with another text.

    Reply: `ConfigChecked`; fails with config and every mistake.  A file that is none of modeld's
    is checked alone, as `modeld --config FILE` would be.  Nothing is changed.
    """

    path: Annotated[str, Meta(max_length=4096)] = ""
    """Absolute; empty for all files as they are on disk."""
    text: Text = ""
    key: Key = ""
    """What to report of the outcome; empty for nothing."""


class ConfigChecked(Struct, frozen=True, kw_only=True, tag="config-checked"):
    """The configuration would be valid."""

    changed: tuple[str, ...]
    """Against what is in force: `load.replace: true -> false`."""
    needs_restart: tuple[str, ...]
    """Keys of them that only a restart of modeld applies."""
    settings: tuple[Setting, ...] = ()
    notes: tuple[str, ...] = ()


class ConvertSetting(
    Struct, frozen=True, kw_only=True, tag="convert-setting", forbid_unknown_fields=True
):
    """
    Ask what a word means for a key.

    Reply: `Converted`; fails with usage for the key, and with config for the word.
    """

    key: Key
    word: Text | None = None
    """None asks for the parts of the key alone."""


class Converted(Struct, frozen=True, kw_only=True, tag="converted"):
    """A key and a value for it, to be written into a file."""

    path: tuple[str | int, ...]
    """The parts of the key; a number counts the tables of a list from 1."""
    text: str
    """The value as TOML."""


class AskConfigSchema(
    Struct, frozen=True, kw_only=True, tag="config-schema", forbid_unknown_fields=True
):
    """Ask for the JSON Schema of the file.  Reply: `ConfigSchema`."""


class ConfigSchema(Struct, frozen=True, kw_only=True, tag="config-schema-text"):
    """The JSON Schema of the file."""

    text: str
