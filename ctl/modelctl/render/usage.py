"""Text of `stats`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.answer import percent
from modelctl.render.screen import Cell, Column, Row, Screen, paint, table
from modeld.units import format_duration

if TYPE_CHECKING:
    from modeld.wire.usage import UsageReport, UsageRow

_STATS = (
    Column("NAME", flexible=True),
    Column("REQUESTS", right=True),
    Column("FAILED", right=True, droppable=4),
    Column("READY", right=True),
    Column("IN", right=True, droppable=3),
    Column("OUT", right=True),
    Column("TOK/S", right=True),
    Column("FIRST P50", right=True, droppable=1),
    Column("P95", right=True, droppable=5),
    Column("SWAPS", right=True, droppable=2),
    Column("SWAP", right=True, droppable=2),
)


def stats_text(reply: UsageReport, screen: Screen, *, header: bool) -> str:
    """Return what requests cost, the model with the most of them first."""
    rows = [_row(row) for row in reply.models]
    if not screen.terminal:
        return table(_STATS, rows, screen, header=header)
    if not rows:
        return paint("no requests yet\n", "dim", screen)
    text = table(_STATS, rows, screen, header=True)
    return text + (paint(_sum(reply), "dim", screen) if len(rows) > 1 else "")


def _row(row: UsageRow) -> Row:
    return (
        row.name,
        _count(row.requests),
        Cell(str(row.failed), "error" if row.failed else "plain"),
        Cell(_share(row.hit_rate), bare=_bare(row.hit_rate)),
        _count(row.prompt_tokens),
        _count(row.generated_tokens),
        "" if row.tokens_per_s is None else _three_figures(row.tokens_per_s),
        _seconds(row.first_token_p50_s),
        _seconds(row.first_token_p95_s),
        str(row.swaps),
        _seconds(row.mean_swap_s),
    )


def _sum(reply: UsageReport) -> str:
    total = reply.total
    parts = [
        f"{len(reply.models)} models",
        f"{total.requests} requests",
        f"{_share(total.hit_rate) or '0 %'} of them to a model that was ready",
    ]
    if total.mean_swap_s is not None:
        noun = "swap" if total.swaps == 1 else "swaps"
        parts.append(f"{total.swaps} {noun} in {_seconds(total.mean_swap_s).text} on average")
    return ", ".join(parts) + "\n"


def _share(fraction: float | None) -> str:
    return "" if fraction is None else percent(fraction)


def _count(count: int) -> Cell:
    """Return a number that is read at a glance; a pipe gets all of it."""
    if count < 10_000:
        return Cell(str(count))
    size, unit = next(pair for pair in ((1e9, "G"), (1e6, "M"), (1e3, "K")) if count >= pair[0])
    return Cell(f"{_three_figures(count / size)}{unit}", bare=str(count))


def _three_figures(value: float) -> str:
    return f"{value:.{2 if value < 9.995 else 1 if value < 99.95 else 0}f}"


def _seconds(seconds: float | None) -> Cell:
    """Return a time, in milliseconds where that says more; a pipe gets seconds."""
    if seconds is None:
        return Cell("")
    text = f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else format_duration(seconds)
    return Cell(text, bare=f"{seconds:g}")


def _bare(value: float | None) -> str:
    return "" if value is None else f"{value:g}"
