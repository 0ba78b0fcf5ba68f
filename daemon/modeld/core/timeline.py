"""
What lay on the SSD over time, as a picture: one row a model, one bar a stay, a dot a use.

Returns the text of an SVG file that needs nothing but itself: no script, no font, no network.
GREEN bars were kept, RED ends were expired, YELLOW dots are uses that a slow disk served; shapes
and titles tell the same to who sees no colours.
"""

from collections.abc import Iterator, Sequence
from html import escape

from modeld.core.rank import DAY_SECONDS
from modeld.core.simulate import BEGINNING, Run, Stay, loads_of
from modeld.units import format_bytes, format_duration

ROW = 22
LEFT = 220
RIGHT = 20
TOP = 64
WIDTH = 1000
MAX_ROWS = 60
MAX_NAME = 28
MAX_DOTS = 5_000
TICK_DAYS = (1 / 24, 0.25, 1, 2, 7, 14, 30, 90, 365)
MAX_TICKS = 14
GREEN, YELLOW, RED, GREY = "#2e7d32", "#f9a825", "#c62828", "#9e9e9e"
GREY_TEXT = "#555555"


def svg(run: Run) -> str:
    """Return the picture of a run; the rows beyond `MAX_ROWS`, those used least, are left out."""
    names = _rows(run)
    height = TOP + ROW * len(names) + 30
    title = escape(run.scenario.name + (": " if run.scenario.description else ""))
    summary = run.summary
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12" role="img">',
        f"<title>{title}{escape(run.scenario.description)}</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="10" y="20" font-size="15">{title}{escape(run.scenario.description)}</text>',
        f'<text x="10" y="38" fill="{GREY_TEXT}">'
        f"{summary.from_ssd} of {summary.uses} uses from the SSD, {summary.copies} copies"
        f" ({format_bytes(summary.copied_bytes)}), {summary.expiries} expiries,"
        f" {format_duration(summary.seconds_saved)} saved</text>",
        *_axis(run, height),
        *_labels(run, names),
        *_bars(run.stays, names, run.seconds),
        *_dots(run, names),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _rows(run: Run) -> list[str]:
    """Return the models in the order of their first use, most used ones if there are too many."""
    models = sorted(run.scenario.models, key=lambda one: (-len(one.uses), one.name))[:MAX_ROWS]
    first = {one.name: one.uses[0].at if one.uses else -1.0 for one in models}
    return sorted(first, key=lambda name: (first[name], name))


def _x(seconds: float, whole: float) -> float:
    return LEFT + (WIDTH - LEFT - RIGHT) * seconds / max(whole, 1.0)


def _y(row: int) -> int:
    return TOP + ROW * row


def _axis(run: Run, height: int) -> Iterator[str]:
    days = run.seconds / DAY_SECONDS
    step = next((each for each in TICK_DAYS if days / each <= MAX_TICKS), days / MAX_TICKS)
    for number in range(int(days / step) + 1):
        x = _x(number * step * DAY_SECONDS, run.seconds)
        label = f"{number * step * 24:g} h" if step < 1 else f"day {number * step:g}"
        yield (
            f'<line x1="{x:.1f}" y1="{TOP - 4}" x2="{x:.1f}" y2="{height - 26}" stroke="#eeeeee"/>'
        )
        yield (
            f'<text x="{x:.1f}" y="{height - 10}" text-anchor="middle" fill="{GREY_TEXT}">'
            f"{label}</text>"
        )


def _labels(run: Run, names: Sequence[str]) -> Iterator[str]:
    sizes = {one.name: one.size_bytes for one in run.scenario.models}
    for row, name in enumerate(names):
        shown = name if len(name) <= MAX_NAME else name[: MAX_NAME - 1] + "…"
        yield (
            f'<text x="{LEFT - 8}" y="{_y(row) + 15}" text-anchor="end">{escape(shown)}'
            f' <tspan fill="#777777">{format_bytes(sizes[name])}</tspan></text>'
        )


def _bars(stays: Sequence[Stay], names: Sequence[str], whole: float) -> Iterator[str]:
    rows = {name: row for row, name in enumerate(names)}
    for stay in stays:
        if stay.model not in rows:
            continue
        x, end, y = _x(stay.began, whole), _x(stay.ended, whole), _y(rows[stay.model])
        told = "expired after" if stay.expired else "kept for"
        length = format_duration(stay.ended - stay.began)
        yield (
            f'<rect x="{x:.1f}" y="{y + 4}" width="{max(1.0, end - x):.1f}" height="{ROW - 8}"'
            f' fill="{GREEN}" fill-opacity="0.55"><title>{escape(stay.model)}: {told} {length}'
            "</title></rect>"
        )
        if stay.expired:
            yield f'<rect x="{end - 3:.1f}" y="{y + 1}" width="3" height="{ROW - 2}" fill="{RED}"/>'


def _dots(run: Run, names: Sequence[str]) -> Iterator[str]:
    rows = {name: row for row, name in enumerate(names)}
    stays: dict[str, list[Stay]] = {}
    for stay in run.stays:
        stays.setdefault(stay.model, []).append(stay)
    for load in loads_of(run.scenario)[:MAX_DOTS]:
        if load.model_id not in rows:
            continue
        at = load.at - BEGINNING
        fast = any(one.began <= at <= one.ended for one in stays.get(load.model_id, ()))
        y = _y(rows[load.model_id]) + ROW // 2
        fill, radius = (GREY, 2) if fast else (YELLOW, 4)
        yield f'<circle cx="{_x(at, run.seconds):.1f}" cy="{y}" r="{radius}" fill="{fill}"/>'
