"""
From argv to a command and its options.

Three steps: find the command among the words, build the parser of that one command with argparse,
and hand out the words that are left as positional arguments, wherever they stood.  Building only
one parser keeps start-up cheap; handing out positionals here lets options stand between them,
which argparse can't do for optional ones.  Reads no environment and prints nothing.
"""

from argparse import ArgumentParser, ArgumentTypeError, HelpFormatter, Namespace
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, NoReturn

from modelctl.table import BY_NAME, COMMANDS, FAMILIES, GLOBAL_OPTIONS, Argument, Command, Option
from modeld.errors import Usage
from modeld.units import parse_bytes, parse_duration, parse_keep_alive

_BAD_NAME = "'{}' can't be a name: letters, digits and . _ + - after a letter or digit"

MAX_TIMEOUT_S = 100 * 86400
MAX_SIZE_BYTES = 1 << 60


class Parsed(NamedTuple):
    """What was asked for."""

    command: Command
    options: Namespace
    """Every option and argument of the command, and the global ones."""


class _Parser(ArgumentParser):
    """An argparse parser that raises instead of printing and leaving."""

    def error(self, message: str) -> NoReturn:
        raise Usage(message.removeprefix("argument "), hint=f"modelctl help {self.prog}".rstrip())


def parse(argv: Sequence[str]) -> Parsed:
    """
    Return the command and the options that `argv` asks for.

    Help and version win over everything else on the line, as people expect of them.

    Raises:
        Usage: It makes no sense.
    """
    words, rest = _split(argv)
    path, words = _take_command(words)
    if any(word in {"-h", "--help"} for word in words):
        return _help_about(path, words)
    if "--version" in words:
        return Parsed(BY_NAME["version"], _switched("version", words))
    if not path:
        if words or rest:
            raise Usage("no command is named", hint="modelctl help")
        return _help_about([], [])
    name = " ".join(path)
    if name in FAMILIES and name not in BY_NAME:
        members = [one.name.split()[1] for one in COMMANDS if one.name.startswith(f"{name} ")]
        raise Usage(f"{name} needs one of: {', '.join(members)}", hint=f"modelctl help {name}")
    command = BY_NAME[name]
    options = _parse_options(command, words, rest)
    _check_conflicts(command, options)
    return Parsed(command, options)


def peek(argv: Sequence[str], flag: str) -> str:
    """Return the value of a global option, or a switch's own flag, even if `parse` fails."""
    words = _split(argv)[0]
    takes_value = any(flag in option.flags and option.value for option in GLOBAL_OPTIONS)
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word == flag:
            return following if takes_value else flag
        if takes_value and word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return ""


def attribute(option: Option) -> str:
    """Return the name under which the value of an option is read."""
    return option.key or max(option.flags, key=len).lstrip("-").replace("-", "_")


def closest(word: str, words: Sequence[str]) -> str:
    """Return ` (did you mean 'X'?)` with the likeliest of `words`, or nothing."""
    from difflib import get_close_matches

    found = get_close_matches(word, words, n=1, cutoff=0.7)
    return f" (did you mean '{found[0]}'?)" if found else ""


def _split(argv: Sequence[str]) -> tuple[list[str], list[str] | None]:
    """Return what is before the first `--`, and what is after it, None without one."""
    words = list(argv)
    if "--" not in words:
        return words, None
    at = words.index("--")
    return words[:at], words[at + 1 :]


def _take_command(words: list[str]) -> tuple[list[str], list[str]]:
    """Return the one or two words of the command, and the line without them."""
    with_value = {flag for option in GLOBAL_OPTIONS if option.value for flag in option.flags}
    path: list[str] = []
    others: list[str] = []
    position = 0
    while position < len(words):
        word = words[position]
        if word.startswith("-") and word != "-":
            others += words[position : position + 1 + (word in with_value)]
            position += 1 + (word in with_value)
            continue
        path.append(word)
        position += 1
        if not (path[0] in FAMILIES and len(path) == 1):
            break
    others += words[position:]
    if path:
        _check_known(path)
    return path, others


def _check_known(path: list[str]) -> None:
    name = " ".join(path)
    if name in BY_NAME or name in FAMILIES:
        return
    if len(path) == 1:
        firsts = sorted({known.split()[0] for known in BY_NAME})
        raise Usage(f"no command '{name}'{closest(name, firsts)}", hint="modelctl help")
    family = path[0]
    seconds = [known.split()[1] for known in BY_NAME if known.startswith(f"{family} ")]
    raise Usage(f"no command '{name}'{closest(path[1], seconds)}", hint=f"modelctl help {family}")


def _help_about(path: list[str], words: list[str]) -> Parsed:
    """Return `help` about the command; about nothing at all for an empty line."""
    options = _switched("help", words)
    options.topic = None if not path and not words else tuple(one for one in path if one != "help")
    return Parsed(BY_NAME["help"], options)


def _switched(name: str, words: list[str]) -> Namespace:
    """Return the options of a command with the global ones set, and all else left alone."""
    values = _defaults(BY_NAME[name])
    for option in GLOBAL_OPTIONS:
        found = next((found for flag in option.flags if (found := peek(words, flag))), "")
        if found and option.kind == "word":
            values[attribute(option)] = found if option.value else True
    return Namespace(**values)


def _defaults(command: Command) -> dict[str, object]:
    return {attribute(option): _empty(option) for option in (*GLOBAL_OPTIONS, *command.options)}


def _empty(option: Option) -> object:
    """Return the value of an option that was not given."""
    if not option.value:
        return False
    if option.repeated:
        return ()
    return None if option.kind in {"count", "port", "size", "seconds", "stay"} else ""


def _parse_options(command: Command, words: list[str], rest: list[str] | None) -> Namespace:
    options = (*GLOBAL_OPTIONS, *command.options)
    _check_glued(command, words)
    parser = _Parser(
        prog=command.name,
        add_help=False,
        allow_abbrev=False,
        usage="",
        # With a width of its own it does not import shutil to ask for the terminal's.
        formatter_class=partial(HelpFormatter, width=80),
    )
    for option in options:
        _add(parser, option)
    namespace, left = parser.parse_known_args(words)
    for word in left:
        if word.startswith("-") and word != "-":
            raise _unknown_option(word, command)
    if rest is not None and not command.rest:
        left += rest
    values = _hand_out(command, left)
    if command.rest:
        values["rest"] = None if rest is None else tuple(rest)
    for option in options:
        given = getattr(namespace, attribute(option))
        if given is None:
            values[attribute(option)] = _empty(option)
        elif option.repeated:
            values[attribute(option)] = tuple(given)
    for name, value in values.items():
        setattr(namespace, name, value)
    return namespace


def _add(parser: ArgumentParser, option: Option) -> None:
    name = attribute(option)
    if not option.value:
        parser.add_argument(*option.flags, dest=name, action="store_true")
        return
    parser.add_argument(
        *option.flags,
        dest=name,
        metavar=option.value,
        action="append" if option.repeated else "store",
        choices=option.choices or None,
        type=READERS[option.kind],
    )


def _check_glued(command: Command, words: list[str]) -> None:
    """
    Refuse `-n1tool`, which argparse would take for the nickname `1tool`.

    Raises:
        Usage: An option with one dash and several letters is glued to its value.
    """
    long_with_one_dash = [
        flag
        for option in command.options
        for flag in option.flags
        if len(flag) > 2 and not flag.startswith("--")
    ]
    for flag in long_with_one_dash:
        for word in words:
            if word.startswith(flag) and word != flag and not word.startswith(f"{flag}="):
                value = word.removeprefix(flag)
                raise Usage(
                    f"{word} is not clear", hint=f"write {flag} {value}, or {flag[:2]} {word[2:]}"
                )


def _unknown_option(word: str, command: Command) -> Usage:
    flag = word.partition("=")[0]
    known = [one for option in (*GLOBAL_OPTIONS, *command.options) for one in option.flags]
    guess = closest(flag, [one for one in known if one.startswith("--")])
    hint = f"modelctl help {command.name}"
    if command.rest:
        hint = f"arguments for llama-server go after --:  modelctl {command.name} MODEL -- {word}"
    elif word.removeprefix("-").replace(".", "").isdigit():
        hint = f"a value that begins with - goes after --:  modelctl {command.name} ... -- {word}"
    return Usage(f"{command.name} has no option '{flag}'{guess}", hint=hint)


def _hand_out(command: Command, words: list[str]) -> dict[str, object]:
    """Return the positional arguments by name, in lower case."""
    values: dict[str, object] = {}
    for argument in command.arguments:
        many = argument.times in {"*", "+"}
        if argument.times in {"1", "+"} and not words:
            raise Usage(f"{argument.name} is missing", hint=synopsis(command))
        taken = [_read(argument, word) for word in (words if many else words[:1])]
        words = [] if many else words[1:]
        values[argument.name.lower()] = tuple(taken) if many else (taken or [""])[0]
    if words:
        raise Usage(f"unexpected: {' '.join(words)}", hint=synopsis(command))
    if "model" in values and any(option.key == "model" for option in command.options):
        values["positional"] = values.pop("model")
    return values


def _read(argument: Argument, word: str) -> int | float | str:
    try:
        return READERS[argument.kind](word)
    except ArgumentTypeError as error:
        raise Usage(f"{argument.name}: {error}") from error


def _check_conflicts(command: Command, options: Namespace) -> None:
    by_flag = {flag: option for option in command.options for flag in option.flags}
    for one, other in command.conflicts:
        if all(getattr(options, attribute(by_flag[flag])) for flag in (one, other)):
            raise Usage(f"{one} and {other} contradict each other", hint="give one of them")


def synopsis(command: Command) -> str:
    """Return the line that shows how a command is typed."""
    brackets = {"1": "{}", "?": "[{}]", "*": "[{}...]", "+": "{}..."}
    words = ["modelctl", command.name]
    if command.options:
        words.append("[OPTIONS]")
    words += [brackets[one.times].format(one.name) for one in command.arguments]
    if command.rest:
        words.append(f"[-- {command.rest}...]")
    return " ".join(words)


def _port(text: str) -> int:
    if not _is_whole(text) or not 1 <= int(text) <= 65535:
        raise ArgumentTypeError(f"not a port: '{text}' (1 to 65535)")
    return int(text)


def _count(text: str) -> int:
    if not _is_whole(text):
        raise ArgumentTypeError(f"not a number: '{text}'")
    return int(text)


def _size(text: str) -> int:
    try:
        count = parse_bytes(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    except OverflowError:
        count = MAX_SIZE_BYTES + 1
    if count > MAX_SIZE_BYTES:
        raise ArgumentTypeError(f"'{text}' is more than any disk has")
    return count


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9


def seconds(text: str) -> float:
    """Return the seconds that `text` names, more than none."""
    try:
        value = parse_duration(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
    if not 0 < value <= MAX_TIMEOUT_S:
        raise ArgumentTypeError(f"'{text}' is out of range (1ms to 100d)")
    return value


def _stay(text: str) -> float:
    try:
        return parse_keep_alive(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{error}; 0 for not at all, -1 for ever") from error


def _nickname(text: str) -> str:
    from modeld.wire.common import Nickname

    return _as_name(text, Nickname)


def _slot(text: str) -> str:
    from modeld.wire.common import Name

    # Tables print slots with the @ that also tells them from nicknames in requests.
    return _as_name(text.removeprefix("@"), Name)


def _as_name(text: str, kind: object) -> str:
    from msgspec import ValidationError, convert

    try:
        word: str = convert(text, kind)
    except ValidationError as error:
        raise ArgumentTypeError(_BAD_NAME.format(text)) from error
    if not word:
        raise ArgumentTypeError(_BAD_NAME.format(text))
    return word


READERS: dict[str, Callable[[str], int | float | str]] = {
    "word": str,
    "count": _count,
    "name": _nickname,
    "slot": _slot,
    "port": _port,
    "seconds": seconds,
    "size": _size,
    "stay": _stay,
}
