"""
What all answers share: the JSON envelope, errors, and the words for states, ages and ranks.

JSON carries raw numbers (bytes, seconds, RFC 3339) and never a colour; humane units are for text.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelctl.render.screen import Cell, Screen, Style, clean, paint, spell
from modeld.errors import Numbers, exit_status
from modeld.units import format_bytes, format_duration

if TYPE_CHECKING:
    from msgspec import Struct

VERSION = 1
"""Of every JSON shape; it grows only when a key changes its meaning or goes."""
HOT_DAYS = 7.0
_EMBEDDED = "/modeld/embedded.py"

# Symbol, word and colour of each state of a server.
_STATES: dict[str, tuple[str, str, Style]] = {
    "starting": ("◐", "starting", "warning"),
    "loading": ("◐", "loading", "warning"),
    "ready": ("●", "ready", "success"),
    "draining": ("◐", "draining", "warning"),
    "stopping": ("◐", "stopping", "warning"),
    "killing": ("◐", "killing", "warning"),
    "unreapable": ("✖", "unreapable", "error"),
    "failed": ("✖", "failed", "error"),
    "gone": ("○", "gone", "dim"),
}


def body(reply: Struct) -> dict[str, object]:
    """Return the fields of a reply, without the word that names its type on the wire."""
    from msgspec import to_builtins

    fields: dict[str, object] = to_builtins(reply)
    fields.pop("type", None)
    return fields


def encode(fields: Mapping[str, object], *, ok: bool = True, indent: bool = False) -> str:
    """Return one answer as JSON, on one line unless `indent`."""
    from msgspec import json

    text = json.encode({"v": VERSION, "ok": ok, **fields})
    return (json.format(text, indent=2) if indent else text).decode()


def encode_item(kind: str, fields: Mapping[str, object]) -> str:
    """Return one item of a stream as one line of JSON."""
    from msgspec import json

    return json.encode({"v": VERSION, "type": kind, **fields}).decode()


def failure_fields(code: str, message: str, hint: str, numbers: Numbers) -> dict[str, object]:
    """Return an error as it stands in JSON."""
    error = {**numbers, "code": code, "exit": exit_status(code), "message": message, "hint": hint}
    return {"error": error}


def failure_text(message: str, hint: str, screen: Screen) -> str:
    """Return an error, and the way out of it, for people."""
    text = labelled("error", "error", message, screen)
    return text + (labelled("hint", "info", hint, screen) if hint else "")


def labelled(label: str, style: Style, text: str, screen: Screen) -> str:
    """Return `label: text`, further lines of the text below its first."""
    cleaned = spell(clean(text, keep="\n"), screen)
    indent = "\n" + " " * (len(label) + 2)
    return f"{paint(f'{label}:', style, screen)} {cleaned.replace(chr(10), indent)}\n"


def engine_text(command: str) -> str:
    """Return which llama-server is used; the embedded one by its name, not by Python's."""
    return "the embedded one" if command.endswith(_EMBEDDED) else command


def state_cell(state: str, *, fraction: float = 0.0, pinned: bool = False) -> Cell:
    """Return a server's state as symbol, word and colour."""
    symbol, word, style = _STATES.get(state, ("○", state, "plain"))
    if state == "loading" and fraction > 0:
        word = f"loading {percent(fraction)}"
    return Cell(f"{word}, pinned" if pinned else word, style, symbol, state)


def percent(fraction: float) -> str:
    """Return `fraction` in whole percent; 100 only when it is all there."""
    return f"{min(int(fraction * 100), 99 if fraction < 1 else 100)} %"


def seconds_since(moment: str, now: float) -> float | None:
    """Return the age in seconds of an RFC 3339 `moment`, None where it says nothing."""
    if not moment:
        return None
    from datetime import datetime

    try:
        return max(0.0, now - datetime.fromisoformat(moment).timestamp())
    except ValueError:
        return None


def ago(moment: str, now: float) -> str:
    """Return how long ago an RFC 3339 `moment` was, in one unit: `4m ago`, `never`."""
    seconds = seconds_since(moment, now)
    if seconds is None:
        return "never"
    if seconds < 60:
        return f"{int(seconds)} s ago"
    return f"{format_duration(seconds).split()[0]} ago"


def names(nicknames: tuple[str, ...], slots: tuple[str, ...]) -> str:
    """Return all names people gave a model; `@` marks a slot."""
    return ",".join((*(f"@{slot}" for slot in slots), *nicknames))


def rank(value: float) -> str:
    """Return a rank with one decimal."""
    return f"{value:.1f}"


def parameters(count: int) -> str:
    """Return a number of parameters with three figures: `7.24B`, `70.6B`, `225K`."""
    if not count:
        return ""
    value, unit = next(
        (count / size, unit)
        for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "K"), (1, ""))
        # From 10 million on in billions, as model names do: 0.27B.
        if count >= size * (0.01 if unit == "B" else 1)
    )
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}{unit}"


def need_text(need_bytes: int, source: str, parts: dict[str, int]) -> str:
    """Return what a server needs of the machine's memory, where that is from, and what for."""
    if not source:
        return ""
    made_of = ", ".join(f"{name} {format_bytes(size)}" for name, size in parts.items())
    return f"{format_bytes(need_bytes)} ({source}{': ' if made_of else ''}{made_of})"
