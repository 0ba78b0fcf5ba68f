"""
Text of `simulate`: what happened when, the figures, and how policies compare.

GREEN is kept, YELLOW copied, RED expired; the tag says the same without colours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.cache import OUTCOMES
from modelctl.render.screen import Column, Row, Screen, Style, clean, mark, paint, spell, table
from modeld.units import format_bytes, format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from modeld.wire.simulate import EventRow, PolicyRow, SimulationReport

TAG_COLUMNS = 12
DAY_SECONDS = 86_400
_POLICIES = (
    Column("POLICY"),
    Column("SAVED", right=True),
    Column("SAVED/GB", right=True),
    Column("GB/DAY", right=True),
    Column("WRITTEN", right=True, droppable=2),
    Column("EXPIRED", right=True, droppable=1),
    Column("REGRETTED", right=True, droppable=3),
    Column("OF BOUND", right=True),
)


def scenarios_text(scenarios: Mapping[str, str], screen: Screen, *, header: bool) -> str:
    """Return the scenarios that there are."""
    columns = (Column("SCENARIO"), Column("DESCRIPTION", flexible=True))
    return table(columns, sorted(scenarios.items()), screen, header=header or screen.terminal)


def report_text(reply: SimulationReport, screen: Screen) -> str:
    """Return what happened, the figures, and what was expected and did not come true."""
    about = f": {clean(reply.description)}" if reply.description else ""
    parts = [paint(f"{clean(reply.scenario)}{about}", "bold", screen) + "\n"]
    parts += [_event_line(event, screen) for event in reply.events]
    if reply.events_left_out:
        parts.append(f"... {reply.events_left_out} further events\n")
    parts += [_summary(reply, screen)]
    if reply.comparison:
        rows = [_policy_row(row) for row in reply.comparison]
        parts += ["\n" * screen.terminal, table(_POLICIES, rows, screen, header=True)]
    return "".join((*parts, _verdict(reply, screen)))


def _event_line(event: EventRow, screen: Screen) -> str:
    style: Style = OUTCOMES.get(event.outcome, "error" if event.tag == "FAILED" else "plain")
    tag, message = spell(f"[{clean(event.tag)}]", screen), spell(clean(event.message), screen)
    if not screen.terminal:
        return f"{_moment(event.at_s)}\t{paint(tag, style, screen)}\t{message}\n"
    gap = " " * max(0, TAG_COLUMNS - len(tag))
    return f"{_moment(event.at_s):<13}  {paint(tag, style, screen)}{gap}  {message}\n"


def _summary(reply: SimulationReport, screen: Screen) -> str:
    summary = reply.summary
    kept = ", ".join(clean(model) for model in summary.residents) or "nothing"
    lines = [
        f"policy {clean(reply.policy)}, {format_bytes(reply.ssd_bytes)} of SSD,"
        f" {format_duration(reply.seconds)}",
        f"{summary.from_ssd} of {summary.uses} uses from the SSD,"
        f" {format_duration(summary.seconds_saved)} saved,"
        f" {format_duration(summary.seconds_waited)} waited",
        f"{format_bytes(summary.copied_bytes)} copied (copies: {summary.copies},"
        f" expiries: {summary.expiries}, without room: {summary.failed})",
        f"on the SSD at the end: {paint(kept, OUTCOMES['keep'], screen)}",
    ]
    return "\n" * screen.terminal + "".join(f"{line}\n" for line in lines)


def _policy_row(row: PolicyRow) -> Row:
    return (
        row.policy,
        format_duration(row.saved_s),
        f"{row.saved_s_per_gb:.2f} s",
        f"{row.written_gb_per_day:.1f}",
        format_bytes(row.written_bytes),
        str(row.expiries),
        str(row.regretted_expiries),
        f"{row.of_bound * 100:.0f} %",
    )


def _verdict(reply: SimulationReport, screen: Screen) -> str:
    if not reply.expects:
        return ""
    if not reply.unmet:
        return f"{mark('●', 'success', screen)}all came as the scenario expects\n"
    word = paint("NOT AS EXPECTED", "error", screen)
    return "".join(f"{word} {spell(clean(one), screen)}\n" for one in reply.unmet)


def _moment(seconds: float) -> str:
    days, rest = divmod(int(seconds), DAY_SECONDS)
    return f"day {days} {rest // 3600:02}:{rest % 3600 // 60:02}"
