"""
Every command of modelctl, as literal data: the one source of its options, help and manual.

`parse` builds the parser of the one command that was asked for, `help` prints these words, and
the manual page is tested against them.  Nothing is imported or computed that could cost start-up
time, however many commands there come to be.  One module a heading of the help.
"""

from modelctl.table import configuration, daemon, disks, everyday, names, routing
from modelctl.table.kit import (
    CHOOSE,
    GLOBAL_OPTIONS,
    MODEL,
    MODELS,
    SELECT,
    Argument,
    Command,
    Option,
)

__all__ = [
    "BY_NAME",
    "CHOOSE",
    "COMMANDS",
    "FAMILIES",
    "GLOBAL_OPTIONS",
    "MODEL",
    "MODELS",
    "SELECT",
    "Argument",
    "Command",
    "Option",
]

COMMANDS: tuple[Command, ...] = (
    *everyday.COMMANDS,
    *routing.COMMANDS,
    *names.COMMANDS,
    *disks.COMMANDS,
    *configuration.COMMANDS,
    *daemon.COMMANDS,
)

FAMILIES: dict[str, str] = {
    "nick": "nicknames: any number a model, each of one model",
    "slot": "slots: roles that one model at a time holds",
    "config": "the settings: what holds, where each is set, and how to change them",
    "cache": "what lies on the SSD, what is copied there, and why",
}
"""First words of two-word commands."""

BY_NAME: dict[str, Command] = {
    name: command for command in COMMANDS for name in (command.name, *command.aliases)
}
