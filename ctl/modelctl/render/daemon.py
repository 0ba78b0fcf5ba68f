"""Text of `events`, `logs`, `reload` and `version`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from modelctl.render.answer import engine_text
from modelctl.render.screen import Screen, Style, clean, mark, paint

if TYPE_CHECKING:
    from modeld.wire.daemon import Happened, Reloaded, VersionReport


EVENT_COLUMNS = 16


def event_text(event: Happened, screen: Screen, *, verbose: bool) -> str:
    """Return one event as a line: for people in local time, for a pipe tab-separated in UTC."""
    facts = [f"{key}={value}" for key, value in event.fields.items()] if verbose else []
    message = clean(" ".join((event.message, *facts)))
    missed = f"{event.missed} events were missed here\n" if event.missed else ""
    if not screen.terminal:
        return f"{event.at}\t{event.priority}\t{clean(event.event)}\t{message}\n"
    word = clean(event.event)
    name = paint(word, _style(event.priority), screen) + " " * (EVENT_COLUMNS - len(word))
    line = f"{paint(_local(event.at), 'dim', screen)}  {name}  {message}\n"
    return paint(missed.rstrip(), "warning", screen) + "\n" * bool(missed) + line


def _style(priority: int) -> Style:
    """Return the colour of a syslog priority: 3 is an error, 4 a warning, 5 a notice."""
    if priority <= 3:
        return "error"
    return "warning" if priority == 4 else "success" if priority == 5 else "info"


def _local(moment: str) -> str:
    try:
        return f"{datetime.fromisoformat(moment).astimezone():%b %d %H:%M:%S}"
    except ValueError:
        return moment


def log_text(lines: tuple[str, ...], screen: Screen) -> str:
    """Return log lines; on a terminal without anything that could drive it."""
    if screen.terminal:
        return "".join(f"{clean(line, keep=chr(9))}\n" for line in lines)
    return "".join(f"{line}\n" for line in lines)


def reloaded_text(reply: Reloaded, screen: Screen) -> str:
    """Return which settings are new."""
    if not reply.changed and not reply.needs_restart:
        return paint("nothing has changed\n", "dim", screen)
    dot = mark("●", "success", screen)
    lines = [f"{dot}{clean(change)}" for change in reply.changed]
    if reply.kept:
        goes = "goes on as it was" if len(reply.kept) == 1 else "go on as they were"
        lines.append(f"  {clean(', '.join(reply.kept))} {goes}")
    return "".join(f"{line}\n" for line in lines)


def version_text(own: str, protocol: int, reply: VersionReport | None, screen: Screen) -> str:
    """Return the versions of both sides, or that the other one is not there."""
    lines = [f"modelctl {own} (protocol {protocol})"]
    if reply is None:
        lines.append(paint("modeld is not running", "warning", screen))
    else:
        engine = f"{engine_text(reply.engine)} {reply.engine_version}".strip() or "not found"
        lines.append(
            f"modeld {clean(reply.version)} (protocol {reply.protocol}, Python {reply.python})"
        )
        lines.append(f"llama-server {clean(engine)}")
    return "".join(f"{line}\n" for line in lines)
