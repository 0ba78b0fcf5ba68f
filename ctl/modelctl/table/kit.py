"""
What a command is made of: its options, its arguments, and the ones that many commands share.

Literal data and the shapes to hold it; imports nothing that could cost start-up time.
"""

from typing import NamedTuple


class Option(NamedTuple):
    """One option, with or without a value."""

    flags: tuple[str, ...]
    help: str
    value: str = ""
    """What its value is called; empty for a switch."""
    key: str = ""
    """The attribute it is read into; empty for its first flag's name."""
    kind: str = "word"
    """How it is read: `word`, `name`, `slot`, `count`, `port`, `size`, `seconds` or `stay`."""
    choices: tuple[str, ...] = ()
    repeated: bool = False
    """Whether it may come several times and all values count."""
    default: str = ""
    """What holds without it, for the help; empty where that goes without saying."""


class Argument(NamedTuple):
    """One positional argument."""

    name: str
    help: str
    times: str = "1"
    """`1`, `?` for none or one, `*` for any, `+` for at least one."""
    kind: str = "word"
    """As in `Option`."""


class Command(NamedTuple):
    """One command; a name of two words belongs to a group, as `nick set`."""

    name: str
    group: str
    """The heading it stands under in the help."""
    help: str
    run: str
    """Module below `modelctl.commands`, and function."""
    about: str = ""
    """What else is worth knowing, in a few sentences."""
    aliases: tuple[str, ...] = ()
    arguments: tuple[Argument, ...] = ()
    options: tuple[Option, ...] = ()
    examples: tuple[tuple[str, str], ...] = ()
    """What to type, and what it does."""
    conflicts: tuple[tuple[str, str], ...] = ()
    """Flags that contradict each other."""
    timeout_s: float = 30
    """How long it waits for an answer unless told otherwise; 0 for as long as it takes."""
    rest: str = ""
    """What follows `--`, where that has a meaning of its own."""


GLOBAL_OPTIONS: tuple[Option, ...] = (
    Option(("--json",), "print one JSON object, or one a line where there is a stream"),
    Option(("-q", "--quiet"), "print names only, and no talk"),
    Option(("-v", "--verbose"), "print more: further columns, headers in a pipe"),
    Option(
        ("--color",),
        "when to use colours",
        "WHEN",
        choices=("auto", "always", "never"),
        default="auto",
    ),
    Option(("--timeout",), "how long to wait for an answer, as in 90 or 5m", "SEC", kind="seconds"),
    Option(("--socket",), "where modeld listens", "PATH", default="the usual place"),
    Option(("-h", "--help"), "explain the command, and do nothing"),
    Option(("--version",), "print the version of modelctl, and do nothing"),
)

MODEL = Argument("MODEL", "a slot, a nickname, a name, a part of one, or a glob", "?")
MODELS = Argument("MODEL", "slots, nicknames, names, parts of one, or globs", "*")
SELECT: tuple[Option, ...] = (
    Option(("-m", "--model"), "the model, as MODEL", "MODEL", key="model"),
    Option(("-n",), "the model that has exactly this nickname", "NICK", key="nick"),
    Option(("-n1",), "the holder of this slot (one word: -n1)", "SLOT", key="slot"),
)
CHOOSE: tuple[Option, ...] = (
    Option(("--rank1",), "where several fit, take the highest rank without a word"),
    Option(("--no-multi-match",), "where several fit, do nothing and fail"),
)
NO_RELOAD = Option(("--no-reload",), "write it, and leave the daemon as it is")
