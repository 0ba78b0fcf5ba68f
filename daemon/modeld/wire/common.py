"""
Words that several command groups use: how a model is meant, and how names are spelt.

Patterns keep what people type inside what state files, logs and shells can carry unharmed.
"""

from typing import Annotated

from msgspec import Meta, Struct

Word = Annotated[str, Meta(max_length=512, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
"""What somebody typed: no control characters, no end."""
Name = Annotated[str, Meta(max_length=128, pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9._+-]*)?\Z")]
"""A slot; empty for none."""
Nickname = Annotated[
    str,
    Meta(
        max_length=128,
        pattern=r"^(?:[A-Za-z0-9][A-Za-z0-9._+-]*(?::[A-Za-z0-9][A-Za-z0-9._+-]*)?)?\Z",
    ),
]
"""A nickname, with a tag as Ollama's programs write it or without; empty for none."""
Argument = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00]*\Z")]


class Selector(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Which model: exactly one of the first three."""

    pattern: Word = ""
    nickname: Word = ""
    slot: Word = ""
    best: bool = False
    """`--rank1`."""
    only: bool = False
    """`--no-multi-match`."""
    exact: bool = False
    """A program asks: whole names only, and only one model may have it."""


class Names(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Changes of names: all are made, or none."""

    set_nickname: Nickname = ""
    add_nicknames: tuple[Nickname, ...] = ()
    delete_nicknames: tuple[Nickname, ...] = ()
    set_slot: Name = ""
    clear_slot: Name = ""
    move: bool = False
