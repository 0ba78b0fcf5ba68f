"""
Text of `cache` and `rank`.

One colour an outcome, here and in `simulate`: what expires is RED, what is copied yellow, what is
kept green.  The word stands beside it always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.answer import percent, rank
from modelctl.render.models import rank_sum
from modelctl.render.screen import (
    Cell,
    Column,
    Row,
    Screen,
    Style,
    bar,
    clean,
    mark,
    paint,
    spell,
    table,
)
from modeld.units import format_bytes, format_duration

if TYPE_CHECKING:
    from modeld.wire.cache import (
        CacheChanged,
        CacheDecision,
        CacheReport,
        CacheVerified,
        CopyRow,
        RankReport,
        RankRow,
        TierRow,
    )

BAR_COLUMNS = 20
NEVER_DAYS = 999.0
"""The idle days of a model that was never used, in both formulas."""
OUTCOMES: dict[str, Style] = {
    "keep": "success",
    "copy": "warning",
    "expire": "error",
    "pause": "info",
    "resume": "info",
    "cancel": "info",
}
_TIERS = (
    Column("TIER"),
    Column("SIZE", right=True, droppable=2),
    Column("FREE", right=True),
    Column("MODELS", right=True),
    Column("BYTES", right=True, droppable=1),
    Column("PATH", flexible=True),
)
_COPIES = (
    Column("COPY", flexible=True),
    Column("PROGRESS", droppable=1),
    Column("DONE", right=True),
    Column("BYTES", right=True, droppable=2),
    Column("RATE", right=True),
    Column("LEFT", right=True),
)
_RANKS = (
    Column("NAME", flexible=True),
    Column("RANK", right=True),
    Column("IDLE", right=True),
    Column("TIER", droppable=1),
)


def cache_text(reply: CacheReport, screen: Screen) -> str:
    """Return the tiers, the copies under way, and what the SSD has cost so far."""
    if not screen.terminal:
        return _cache_lines(reply, screen)
    parts = [table(_TIERS, [_tier_row(tier) for tier in reply.tiers], screen, header=True)]
    if reply.copies:
        rows = [_copy_row(copy, screen) for copy in reply.copies]
        parts += ["\n", table(_COPIES, rows, screen, header=True)]
    return "".join((*parts, "\n", paint(_wear(reply), "dim", screen), "\n"))


def _cache_lines(reply: CacheReport, screen: Screen) -> str:
    """Return the same for a pipe: what each line is about is its first word."""
    tiers: list[Row] = [["tier", *_tier_row(tier)] for tier in reply.tiers]
    copies: list[Row] = [["copy", *_copy_row(copy, screen)] for copy in reply.copies]
    wear: Row = (
        "wear",
        reply.policy,
        format_bytes(reply.copied_bytes),
        str(reply.expiries),
        str(reply.regretted_expiries),
    )
    return "".join(
        table((), rows, screen, header=False) for rows in (tiers, copies, [wear]) if rows
    )


def _tier_row(tier: TierRow) -> list[Cell | str]:
    known = tier.total_bytes > 0
    return [
        Cell(tier.tier, "error" if tier.problem else "plain"),
        format_bytes(tier.total_bytes) if known else "",
        format_bytes(tier.free_bytes) if known else "",
        str(tier.models),
        format_bytes(tier.model_bytes),
        tier.path,
    ]


def _copy_row(copy: CopyRow, screen: Screen) -> list[Cell | str]:
    fraction = copy.copied_bytes / max(1, copy.total_bytes)
    left = format_duration(copy.eta_s) if copy.eta_s >= 0 else ""
    row: list[Cell | str] = [
        Cell(copy.model, "dim" if copy.paused else "warning"),
        bar(fraction, BAR_COLUMNS, screen),
        percent(fraction),
        f"{format_bytes(copy.copied_bytes)} of {format_bytes(copy.total_bytes)}",
        f"{format_bytes(round(copy.rate_bytes_per_s))}/s" if copy.rate_bytes_per_s > 0 else "",
        "paused" if copy.paused else left,
    ]
    if not screen.terminal:
        del row[1]
    return row


def _wear(reply: CacheReport) -> str:
    text = f"policy {clean(reply.policy)}; {format_bytes(reply.copied_bytes)} copied so far"
    if reply.expiries:
        noun = "copy" if reply.expiries == 1 else "copies"
        text += f", {reply.expiries} {noun} expired, {reply.regretted_expiries} of them"
        text += " loaded again within a week"
    return text


def decisions_text(reply: CacheChanged, screen: Screen) -> str:
    """Return what is done, or would be: one decision a line, its inequality below it."""
    if not screen.terminal:
        rows: list[Row] = [
            (one.action, one.model, format_bytes(one.size_bytes), one.reason)
            for one in reply.decisions
        ]
        return table((), rows, screen, header=False)
    if not reply.decisions:
        word = "nothing would be done" if reply.dry_run else "nothing to do"
        return paint(f"{word}\n", "dim", screen)
    return "".join(_decision_lines(one, screen) for one in reply.decisions)


def _decision_lines(one: CacheDecision, screen: Screen) -> str:
    word = paint(clean(one.action).upper(), OUTCOMES.get(one.action, "plain"), screen)
    gap = " " * max(1, 8 - len(one.action))
    size = f"  {format_bytes(one.size_bytes)}" if one.size_bytes else ""
    reason = f"        {spell(clean(one.reason), screen)}\n" if one.reason else ""
    return f"{word}{gap}{clean(one.model)}{size}\n{reason}"


def verified_text(reply: CacheVerified, screen: Screen) -> str:
    """Return which files were read again and found as they were, or not."""
    good = mark("●", "success", screen)
    bad = paint("DAMAGED", "error", screen)
    lines = [f"{good}intact {clean(path)}" for path in reply.intact]
    lines += [f"{bad} {clean(path)}, removed" for path in reply.damaged]
    return "".join(f"{line}\n" for line in lines) or paint(
        "modeld has made no such copy\n", "dim", screen
    )


def rank_text(reply: RankReport, screen: Screen, *, header: bool) -> str:
    """Return the models, highest rank first."""
    rows = [_rank_row(row) for row in reply.ranks]
    if screen.terminal and not rows:
        return paint("no models found\n", "dim", screen)
    return table(_RANKS, rows, screen, header=header or screen.terminal)


def _rank_row(row: RankRow) -> list[Cell | str]:
    return [row.name, rank(row.rank), _idle(row.idle_days), "+".join(row.tiers)]


def explained_text(reply: RankReport, screen: Screen) -> str:
    """Return each rank with the terms that it is the sum of, and what the policy makes of it."""
    if not screen.terminal:
        rows = [
            [*_rank_row(row), rank_sum(row.rank, row.terms), row.verdict] for row in reply.ranks
        ]
        return table((), rows, screen, header=False)
    head = paint(f"{clean(reply.formula)} formula\n", "dim", screen)
    return head + "".join(_explained(row, screen) for row in reply.ranks)


def _explained(row: RankRow, screen: Screen) -> str:
    idle = "never used" if row.idle_days >= NEVER_DAYS else f"idle {_idle(row.idle_days)}"
    where = "+".join(row.tiers) or "no file"
    lines = [
        f"{paint(clean(row.name), 'bold', screen)}  {idle}, {clean(where)}",
        f"  {clean(rank_sum(row.rank, row.terms))}",
        *([f"  {spell(clean(row.verdict), screen)}"] if row.verdict else []),
    ]
    return "".join(f"{line}\n" for line in lines)


def _idle(days: float) -> str:
    return "never" if days >= NEVER_DAYS else f"{days:.1f} d"
