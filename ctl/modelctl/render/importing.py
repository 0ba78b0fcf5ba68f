"""Text of `import-config`: what was taken, what was left, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.screen import Cell, Column, Row, Screen, clean, mark, paint, table

if TYPE_CHECKING:
    from modelctl.importing.gleaning import Left, Taken
    from modelctl.importing.report import ImportReport
    from modeld.wire.history import HistoryRow

_COLUMNS = (
    Column("WAS"),
    Column("THERE"),
    Column("HERE, OR WHY NOT"),
)
MAX_VALUE_LETTERS = 160


def report_text(report: ImportReport, screen: Screen) -> str:
    """Return every key and record with what became of it, and a sum on a terminal."""
    rows: list[Row] = [_taken_row(taken) for taken in report.taken]
    rows += [row for record in report.history for row in _record_rows(record)]
    rows += [_left_row(left) for left in report.left]
    text = table(_COLUMNS, rows, screen, header=screen.terminal) if rows else ""
    return text + _sum(report, screen)


def _taken_row(taken: Taken) -> Row:
    note = f"  ({taken.note})" if taken.note else ""
    return (
        Cell("taken", "success", "●"),
        taken.source,
        f"{taken.key} = {_shown(taken.value)}{note}",
    )


def _record_rows(record: HistoryRow) -> list[Row]:
    to = f"{record.model}: " if record.model else ""
    rows: list[Row] = [
        (Cell("taken", "success", "●"), record.path, f"{to}{sentence}") for sentence in record.taken
    ]
    rows += [(Cell("left", "dim", "○"), record.path, f"{to}{sentence}") for sentence in record.left]
    return rows


def _left_row(left: Left) -> Row:
    word = Cell("wrong", "error", "✖") if left.wrong else Cell("left", "dim", "○")
    line = f"line {left.line}: " if left.line else ""
    return (word, left.source, f"{line}{left.reason}")


def _shown(value: object) -> str:
    """Return a value as JSON has it, which is near enough to TOML to be read."""
    from msgspec import json

    text = json.encode(value).decode()
    return text if len(text) <= MAX_VALUE_LETTERS else f"{text[:MAX_VALUE_LETTERS]}..."


def _sum(report: ImportReport, screen: Screen) -> str:
    """Return what was done with it; nothing in a pipe, where the rows say all."""
    if not screen.terminal:
        return ""
    if report.dry_run:
        return paint("nothing was changed: --dry-run\n", "dim", screen)
    dot = mark("●", "success", screen)
    lines = [f"{dot}written: {clean(path)}" for path in report.written]
    lines += [f"  {clean(change)}" for change in report.changed]
    if not lines and not any(record.taken for record in report.history):
        lines = [paint("nothing was changed", "dim", screen)]
    return "".join(f"{line}\n" for line in lines)
