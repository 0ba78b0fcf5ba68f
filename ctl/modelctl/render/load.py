"""Text of `load`, `unload` and `can-load`."""

from __future__ import annotations

from shlex import join
from typing import TYPE_CHECKING

from modelctl.render.answer import need_text, rank
from modelctl.render.screen import (
    Cell,
    Column,
    Row,
    Screen,
    Style,
    clean,
    mark,
    paint,
    spell,
    table,
)
from modeld.units import format_bytes, format_duration

if TYPE_CHECKING:
    from modeld.wire.load import Candidate, Loaded, Planned, Unloaded, Verdict, Warmed

_ACTIONS: dict[str, Style] = {
    "name": "info",
    "stop": "warning",
    "start": "success",
    "nothing": "dim",
}


def loaded_text(reply: Loaded, screen: Screen) -> str:
    """Return what a load has done: the sentence, then the facts, then what else has changed."""
    facts = [
        f"{format_bytes(reply.memory_bytes)} of memory" if reply.memory_bytes else "",
        f"context {reply.context_tokens}" if reply.context_tokens else "",
        f"from {reply.tier}" if reply.tier else "",
        # The usual sentence names the address already.
        f"http://{reply.address}" if reply.address and reply.address not in reply.message else "",
    ]
    lines = [
        f"{mark('●', 'success', screen)}{clean(reply.message)}",
        paint(clean("  " + ", ".join(fact for fact in facts if fact)), "dim", screen),
        *(f"  unloaded {clean(model)}" for model in reply.unloaded),
        *(f"  {clean(change)}" for change in reply.names),
    ]
    return "".join(f"{line}\n" for line in lines if line.strip())


def candidates_text(candidates: tuple[Candidate, ...], screen: Screen) -> str:
    """Return the models that fitted, best first, the one that was taken marked."""
    lines = [f"{len(candidates)} models fit; the highest rank is taken:\n"]
    for position, candidate in enumerate(candidates):
        arrow = spell("→" if position == 0 else " ", screen)
        line = f"  {arrow} {rank(candidate.rank):>8}  {clean(candidate.model)}"
        lines.append(paint(line, "bold" if position == 0 else "plain", screen) + "\n")
    return "".join(lines)


def planned_text(reply: Planned, screen: Screen, *, verbose: bool) -> str:
    """Return what a load would do, in order, and the inequality that decided."""
    columns = (Column("STEP"), Column("MODEL", flexible=True), Column("WHY", flexible=True))
    rows: list[Row] = [
        [Cell(step.action, _ACTIONS.get(step.action, "plain")), step.model, step.reason]
        for step in reply.steps
    ]
    text = table(columns, rows, screen, header=verbose or screen.terminal)
    if screen.terminal:
        text += "\n" * bool(rows) + paint(clean(reply.reason), "info", screen) + "\n"
    if verbose and reply.argv:
        text += f"{join(reply.argv)}\n"
    return text


def unloaded_text(reply: Unloaded, screen: Screen, *, idle: bool = False) -> str:
    """Return which models are gone, and which stayed."""
    dot = mark("○", "success", screen)
    freed = f", {format_bytes(reply.freed_bytes)} freed" if reply.freed_bytes else ""
    lines = [f"{dot}unloaded {clean(model)}" for model in reply.models]
    if not reply.models:
        lines = ["nothing was unloaded" if reply.kept else "nothing was loaded"]
        if idle:
            lines = ["nothing has been idle for longer than its time"]
    lines[-1] += freed
    lines += [f"  kept {clean(model)}, which is pinned" for model in reply.kept]
    return "".join(f"{line}\n" for line in lines)


def warmed_text(warmed: Warmed, screen: Screen) -> str:
    """Return how long a model took to be ready, and for its first word."""
    dot = mark("●", "success", screen)
    ready = "ready already" if warmed.already else f"ready in {format_duration(warmed.seconds)}"
    word = "generates nothing"
    if warmed.word_seconds is not None:
        word = f"one token in {warmed.word_seconds * 1000:.0f} ms"
    return f"{dot}{clean(warmed.model)} is {ready}, {word}\n"


def verdict_text(reply: Verdict, screen: Screen) -> str:
    """Return whether the model could be loaded, and why."""
    symbol = "●" if reply.can_load else "✖"
    style: Style = "success" if reply.can_load else "error"
    text = f"{mark(symbol, style, screen)}{clean(reply.reason)}\n"
    if screen.terminal and reply.need_source:
        need = need_text(reply.need_bytes, reply.need_source, reply.need_parts)
        text += paint(f"  needs {clean(need)}", "dim", screen) + "\n"
    return text
