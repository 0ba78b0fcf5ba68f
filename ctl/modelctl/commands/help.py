"""`help`: what the command table says, as people read it."""

from collections.abc import Mapping
from types import MappingProxyType

from modelctl.parse import attribute, closest, synopsis
from modelctl.render.screen import Screen, paint
from modelctl.session import Session
from modelctl.table import BY_NAME, COMMANDS, FAMILIES, GLOBAL_OPTIONS, Command, Option
from modeld.errors import STATUSES, Usage
from modeld.units import format_duration

MAX_COLUMNS = 100
"""Longer lines are tiring to read, however wide the terminal is."""
_PURPOSE = "modelctl: local language models, loaded, named and looked after by modeld"
_USAGE = "modelctl COMMAND [OPTIONS]"
_BEGIN = (
    ("modelctl load qwen3", "make a model ready"),
    ("modelctl ps", "see what is loaded"),
)
_OTHER_STATUSES = {0: "done, or so already", 130: "Ctrl-C", 141: "the reader of a pipe has gone"}


def help_about(session: Session) -> int:
    """Explain a command, the exit codes, or modelctl itself."""
    screen = session.screen
    topic = " ".join(session.options.topic or ())
    if topic == "exit-codes":
        if session.json:
            codes = [{"exit": status, "meaning": meaning} for status, meaning in exit_codes()]
            session.print_json({"exit_codes": codes})
        else:
            rows = [(f"{status:>3}", meaning) for status, meaning in exit_codes()]
            # in a pipe each is one line, however long
            lines = "".join(f"  {status}  {meaning}\n" for status, meaning in rows)
            session.print(_two_columns(rows, screen) if screen.terminal else lines)
    elif not topic:
        session.print(_overview(screen, brief=session.options.topic is None))
    elif topic in FAMILIES:
        members = [one for one in COMMANDS if one.name.startswith(f"{topic} ")]
        session.print(_family(topic, members, screen))
    elif topic in BY_NAME:
        session.print(_command(BY_NAME[topic], screen))
    else:
        topics = [*BY_NAME, *FAMILIES, "exit-codes"]
        raise Usage(f"no help about '{topic}'{closest(topic, topics)}", hint="modelctl help")
    return 0


def exit_codes() -> list[tuple[int, str]]:
    """Return every exit status with what it means, in the order of the numbers."""
    meanings: dict[int, list[str]] = {status: [text] for status, text in _OTHER_STATUSES.items()}
    for status in STATUSES.values():
        meanings.setdefault(status.exit_status, []).append(status.meaning)
    return [(status, "; ".join(dict.fromkeys(meanings[status]))) for status in sorted(meanings)]


def _overview(screen: Screen, *, brief: bool) -> str:
    parts = [f"{_PURPOSE}\n\n", _heading("Usage", screen), f"  {_USAGE}\n"]
    parts += ["\n", _heading("Begin with", screen), _two_columns(_BEGIN, screen)]
    for group in dict.fromkeys(command.group for command in COMMANDS):
        rows = [(one.name, one.help) for one in COMMANDS if one.group == group]
        parts += ["\n", _heading(group, screen), _two_columns(rows, screen, width=10)]
    if not brief:
        parts += ["\n", _heading("Options of every command", screen)]
        parts.append(_two_columns([_described(one) for one in GLOBAL_OPTIONS], screen))
    more = (("modelctl help COMMAND", "options and examples"), ("man modelctl", "all of it"))
    return "".join((*parts, "\n", _heading("More", screen), _two_columns(more, screen)))


def _family(name: str, members: list[Command], screen: Screen) -> str:
    rows = [(synopsis(one), one.help) for one in members]
    return f"modelctl {name}: {FAMILIES[name]}\n\n{_heading('Usage', screen)}" + _two_columns(
        rows, screen
    )


def _command(command: Command, screen: Screen) -> str:
    parts = [f"modelctl {command.name}: {command.help}\n\n", _heading("Usage", screen)]
    parts.append(f"  {synopsis(command)}\n")
    if command.aliases:
        parts.append(f"  also: {', '.join(f'modelctl {alias}' for alias in command.aliases)}\n")
    if command.about:
        parts += ["\n", _wrapped(command.about, min(screen.width, MAX_COLUMNS))]
    parts += ["\n", _heading("Examples", screen), _two_columns(command.examples, screen)]
    if command.arguments:
        rows = [(one.name, one.help) for one in command.arguments]
        parts += ["\n", _heading("Arguments", screen), _two_columns(rows, screen)]
    if command.options:
        parts += ["\n", _heading("Options", screen)]
        parts.append(_two_columns([_described(one) for one in command.options], screen))
    parts += ["\n", _heading("Options of every command", screen)]
    own = command.timeout_s
    limits = {"timeout": format_duration(own) if own else "as long as it takes"}
    parts.append(_two_columns([_described(one, limits) for one in GLOBAL_OPTIONS], screen))
    return "".join(parts)


def _described(
    option: Option, defaults: Mapping[str, str] = MappingProxyType({})
) -> tuple[str, str]:
    text, default = option.help, defaults.get(attribute(option), option.default)
    if default:
        text += f", by default {default}"
    if option.choices:
        text += f": {', '.join(option.choices)}"
    if option.repeated:
        text += " (may be repeated)"
    return f"{', '.join(option.flags)} {option.value}".rstrip(), text


def _heading(text: str, screen: Screen) -> str:
    return paint(f"{text}:", "bold", screen) + "\n"


def _two_columns(
    rows: "list[tuple[str, str]] | tuple[tuple[str, str], ...]", screen: Screen, width: int = 0
) -> str:
    """Return words and what they mean; the meaning below where it has no place beside."""
    from textwrap import wrap

    left = max(width, *(len(one) for one, _ in rows))
    room = min(screen.width, MAX_COLUMNS) - left - 4
    lines: list[str] = []
    for word, meaning in rows:
        if room < 24:
            lines += [f"  {word}", *(f"      {one}" for one in wrap(meaning, max(24, left)))]
            continue
        first, *others = wrap(meaning, room) or [""]
        lines.append(f"  {word:<{left}}  {first}")
        lines += [f"{' ' * (left + 4)}{one}" for one in others]
    return "".join(f"{line}\n" for line in lines)


def _wrapped(text: str, width: int) -> str:
    from textwrap import fill

    return fill(text, width - 2, initial_indent="  ", subsequent_indent="  ") + "\n"
