"""Text of `route`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.screen import Cell, Column, Row, Screen, clean, mark, paint, pairs, table

if TYPE_CHECKING:
    from modeld.wire.routing import Routed, Suits

_STEPS = (Column("STEP"), Column("OUTCOME", flexible=True))
_CANDIDATES = (Column("SCORE", right=True), Column("MODEL", flexible=True), Column("LEFT OUT"))
_PROFILES = (Column("PROFILE"), Column("SCORE", right=True), Column("LACKS", flexible=True))


def routed_text(reply: Routed, screen: Screen, *, explain: bool) -> str:
    """Return which model would answer, by which route; with every step where that is wanted."""
    if not screen.terminal and not explain:
        return f"{clean(reply.model)}\t{clean(reply.route)}\t{clean(reply.reason)}\n"
    if reply.model:
        text = f"{mark('●', 'success', screen)}{clean(reply.model)} ({clean(reply.route)})\n"
    else:
        text = f"{mark('✖', 'error', screen)}{clean(reply.reason)}\n"
    if not explain:
        return text + paint(f"  {clean(reply.reason)}", "dim", screen) + "\n"
    steps: list[Row] = [(step.what, step.outcome) for step in reply.steps]
    parts = [table(_STEPS, steps, screen, header=True)] if steps else []
    if reply.candidates:
        rows: list[Row] = [
            (f"{each.score:g}", each.model, Cell(each.left_out, "dim")) for each in reply.candidates
        ]
        parts.append(table(_CANDIDATES, rows, screen, header=True))
    if reply.options:
        given = ", ".join(f"{name} {_shown(value)}" for name, value in reply.options.items())
        parts.append(f"where the request says nothing: {clean(given)}\n")
    return text + "\n".join(["", *parts])


def suits_text(reply: Suits, screen: Screen) -> str:
    """Return which profiles a model suits, and what is known of it."""
    rows: list[Row] = [
        (
            Cell(each.profile, "success" if each.suits else "error"),
            f"{each.score:g}",
            "; ".join(each.lacks) or "nothing",
        )
        for each in reply.profiles
    ]
    can = [name for name in ("tools", "vision", "streaming", "reasoning") if getattr(reply, name)]
    most = reply.max_output_tokens
    facts = [
        ("model", reply.model),
        ("family", reply.family or "unknown"),
        ("context", f"{reply.context_tokens} tokens, from its {reply.context_source}"),
        ("output", f"at most {most} tokens" if most else "as the context allows"),
        ("can", ", ".join(can) or "nothing"),
        ("known as", reply.pattern or "no row of a table"),
    ]
    return pairs(facts, screen) + "\n" + table(_PROFILES, rows, screen, header=True)


def _shown(value: object) -> str:
    return ", ".join(map(repr, value)) if isinstance(value, list) else str(value)
