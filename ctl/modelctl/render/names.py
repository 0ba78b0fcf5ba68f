"""Text of `nick`, `slot`, `pin` and `unpin`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from modelctl.render.screen import Column, Screen, clean, mark, paint, table

if TYPE_CHECKING:
    from modeld.wire.names import Named


def named_text(reply: Named, screen: Screen) -> str:
    """Return what was changed, a sentence a line."""
    if not reply.changes:
        return paint("nothing to change, it was so already\n", "dim", screen)
    dot = mark("●", "success", screen)
    return "".join(f"{dot}{clean(change)}\n" for change in reply.changes)


def names_text(
    title: str, names: Mapping[str, str], screen: Screen, *, prefix: str = "", header: bool = False
) -> str:
    """Return names and their models as a table, in the order of the alphabet."""
    rows = [[f"{prefix}{name}", model] for name, model in sorted(names.items())]
    if screen.terminal and not rows:
        return paint(f"no {'nicknames' if title == 'NICK' else 'slots'}\n", "dim", screen)
    columns = (Column(title), Column("MODEL", flexible=True))
    return table(columns, rows, screen, header=screen.terminal or header)
