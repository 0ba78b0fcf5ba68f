"""
Drawing on a terminal: colour, widths, tables, and their plain form for pipes.

What is told by colour is told by a symbol and a word too.  Text that came from files or other
programs is cleaned before it is drawn, lest a file name drive the terminal.  Pure: whoever calls
knows the width and whether it is a terminal at all.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

Style = Literal["plain", "error", "warning", "success", "info", "bold", "dim"]

_CODES: dict[Style, str] = {
    "error": "97;41",  # white on red
    "warning": "33",
    "success": "32",
    "info": "94",  # the bright blue: the other can't be read on black
    "bold": "1",
    "dim": "2",
}
_ASCII = {"●": "*", "◐": "~", "○": "-", "✖": "x", "█": "#", "░": ".", "…": "~", "→": "->", "•": "*"}
MIN_FLEXIBLE_COLUMNS = 12
"""A name shortened below this says nothing any more."""
READABLE_COLUMNS = 18
"""Before a name is shortened below this, columns that may be left out are."""


class Screen(NamedTuple):
    """Where text goes."""

    width: int = 80
    terminal: bool = False
    colour: bool = False
    unicode: bool = True
    dumb: bool = False
    """A terminal that can't move its cursor."""


class Cell(NamedTuple):
    """One field of a table."""

    text: str
    style: Style = "plain"
    symbol: str = ""
    """Drawn before the text on a terminal, left out in a pipe."""
    bare: str = ""
    """What a pipe gets instead of the text, where that differs."""


class Column(NamedTuple):
    """One column of a table."""

    title: str
    right: bool = False
    flexible: bool = False
    """Whether its text may be shortened."""
    droppable: int = 0
    """Left out where the terminal is too narrow, highest first; 0 for never."""


Row = Sequence[Cell | str]


def paint(text: str, style: Style, screen: Screen) -> str:
    """Return `text` in the colour of `style`, where colours are wanted."""
    if not screen.colour or style == "plain" or not text:
        return text
    return f"\x1b[{_CODES[style]}m{text}\x1b[0m"


def mark(symbol: str, style: Style, screen: Screen) -> str:
    """Return a coloured symbol to begin a line with; nothing in a pipe."""
    return f"{paint(spell(symbol, screen), style, screen)} " if screen.terminal else ""


def spell(text: str, screen: Screen) -> str:
    """Return `text` without symbols that the terminal's encoding lacks."""
    if screen.unicode:
        return text
    return "".join(_ASCII.get(letter, letter) for letter in text)


def clean(text: str, *, keep: str = "") -> str:
    """Return `text` with all that can't be seen written out, except the letters in `keep`."""
    if text.isprintable():
        return text
    return "".join(
        letter
        if letter.isprintable() or letter in keep
        else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )


def columns_of(text: str) -> int:
    """Return how many columns of a terminal `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(
        0 if combining(letter) else 2 if east_asian_width(letter) in "WF" else 1 for letter in text
    )


def cut(text: str, width: int) -> str:
    """Return `text` shortened to `width` columns, its end replaced by `…`."""
    if columns_of(text) <= width:
        return text
    kept, used = [], 1
    for letter in text:
        used += columns_of(letter)
        if used > width:
            break
        kept.append(letter)
    return "".join(kept) + "…"


def table(columns: Sequence[Column], rows: Sequence[Row], screen: Screen, *, header: bool) -> str:
    """
    Return the rows as a table for a terminal, or tab-separated for a pipe.

    In a pipe nothing is shortened, coloured or left out, and titles come only with `header`.
    """
    cells = [[cell if isinstance(cell, Cell) else Cell(cell) for cell in row] for row in rows]
    if not screen.terminal:
        titles = ["\t".join(column.title for column in columns)] if header else []
        lines = ["\t".join(clean(cell.bare or cell.text) or "-" for cell in row) for row in cells]
        return "".join(f"{line}\n" for line in (*titles, *lines))
    title_row = [Cell(column.title, "bold") for column in columns]
    drawn = [[_drawn(cell, screen) for cell in row] for row in (title_row, *cells)]
    widths = _fit(columns, drawn, screen.width)
    return "".join(f"{_line(columns, row, widths, screen)}\n" for row in drawn)


def _drawn(cell: Cell, screen: Screen) -> Cell:
    text = clean(cell.text) or "-"
    if cell.symbol:
        text = f"{spell(cell.symbol, screen)} {text}"
    return cell._replace(text=text)


def _fit(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int) -> list[int]:
    """Return the width of each column, 0 for one that has no place."""
    natural = [max(columns_of(row[at].text) for row in rows) for at in range(len(columns))]
    widths = list(natural)
    # What says nothing goes first.
    order = sorted(
        (all(row[at].text == "-" for row in rows[1:]), column.droppable, at)
        for at, column in enumerate(columns)
        if column.droppable
    )
    while (excess := sum(w + 2 for w in widths if w) - 2 - width) > 0:
        least = READABLE_COLUMNS if order else MIN_FLEXIBLE_COLUMNS
        flexible = [
            at for at, column in enumerate(columns) if column.flexible and widths[at] > least
        ]
        if flexible:
            widest = max(flexible, key=widths.__getitem__)
            widths[widest] = max(least, widths[widest] - excess)
        elif order:
            widths[order.pop()[2]] = 0
            # What was shortened before may now have its place again.
            widths = [
                full if now and column.flexible else now
                for now, full, column in zip(widths, natural, columns, strict=True)
            ]
        else:
            break
    return widths


def _line(
    columns: Sequence[Column], row: Sequence[Cell], widths: Sequence[int], screen: Screen
) -> str:
    parts: list[str] = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        if not width:
            continue
        text = spell(cut(cell.text, width), screen)
        gap = " " * max(0, width - columns_of(text))
        painted = paint(text, cell.style, screen)
        parts.append(gap + painted if column.right else painted + gap)
    return "  ".join(parts).rstrip()


def pairs(rows: Sequence[tuple[str, str]], screen: Screen) -> str:
    """Return labels and values, a pair a line: aligned for a terminal, else tab-separated."""
    if not screen.terminal:
        return "".join(f"{label}\t{clean(value) or '-'}\n" for label, value in rows)
    width = max((columns_of(label) for label, _ in rows), default=0)
    return "".join(
        f"{paint(label.ljust(width), 'dim', screen)}  {spell(clean(value) or '-', screen)}\n"
        for label, value in rows
    )


def bar(fraction: float, width: int, screen: Screen) -> str:
    """Return a bar of `width` columns, filled for `fraction` of its length."""
    full = round(min(max(fraction, 0.0), 1.0) * width)
    return spell("█" * full + "░" * (width - full), screen)
