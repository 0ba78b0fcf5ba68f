"""Text of `init`: the folders that were found, what becomes of each, and what to type next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from modelctl.render.doctor import many
from modelctl.render.screen import Cell, Column, Row, Screen, clean, mark, paint, table
from modeld.units import format_bytes

if TYPE_CHECKING:
    from modelctl.setup.report import FolderRow, InitReport

_COLUMNS = (
    Column("FOLDER", flexible=True),
    Column("MODELS", right=True),
    Column("SIZE", right=True),
    Column("DISK"),
    Column("SETTING"),
)
_KINDS = {"ssd": "SSD", "rotating": "rotating", "unknown": "unknown"}


def report_text(report: InitReport, screen: Screen) -> str:
    """Return every folder as a row; for people also what was written, and what comes next."""
    rows = [_row(each) for each in report.folders]
    if not screen.terminal:
        columns = (*_COLUMNS, Column("WHY"))
        rows = [(*row, each.why) for row, each in zip(rows, report.folders, strict=True)]
        return table(columns, rows, screen, header=False)
    drawn = table(_COLUMNS, rows, screen, header=True).splitlines()
    whys = ["", *(f"    {paint(clean(each.why), 'dim', screen)}\n" for each in report.folders)]
    text = "".join(f"{line}\n{why}" for line, why in zip(drawn, whys, strict=True))
    models = sum(each.models for each in report.folders if each.key)
    size = format_bytes(sum(each.size_bytes for each in report.folders if each.key))
    lines = [f"{many(models, 'model')}, {size}"]
    if report.searched:
        lines[0] += f"; {many(len(report.searched), 'usual place')} looked at"
    lines.append(_done(report, screen))
    lines += [f"  {clean(change)}" for change in report.changed]
    lines.append("next:")
    width = max(len(each.command) for each in report.next)
    lines += [
        f"  {clean(each.command):<{width}}  {paint(f'# {each.why}', 'dim', screen)}"
        for each in report.next
    ]
    return text + "".join(f"{line}\n" for line in lines)


def _row(folder: FolderRow) -> Row:
    setting = folder.key.removeprefix("storage.")
    more = "" if folder.complete else "+"
    return (
        folder.path,
        Cell(f"{folder.models}{more}", bare=str(folder.models)),
        Cell(format_bytes(folder.size_bytes) + more, bare=str(folder.size_bytes)),
        Cell(f"{_KINDS[folder.disk_kind]} {folder.disk}", bare=f"{folder.disk_kind}:{folder.disk}"),
        Cell(setting, "success", "●") if setting else Cell("left", "dim", "○", "-"),
    )


def _done(report: InitReport, screen: Screen) -> str:
    if report.written:
        return f"{mark('●', 'success', screen)}{clean(report.file)} is written"
    if report.changed:
        return paint("nothing was changed: --dry-run", "dim", screen)
    return paint("nothing has changed", "dim", screen)
