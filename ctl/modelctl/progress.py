"""
What a load looks like while it goes on: live lines on a terminal, plain ones elsewhere, or JSON.

A phase takes one line.  On a terminal the line of the present phase is drawn again ten times a
second at most and stays when the phase is over; elsewhere a line is written when a phase begins
and at every tenth of it.  Writes where it is told to, and decides nothing.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from modelctl.render.answer import body, encode_item, percent
from modelctl.render.screen import Screen, bar, clean, columns_of, cut, paint, spell
from modeld.units import format_duration
from modeld.wire.codec import Progress

REDRAW_S = 0.1
BAR_COLUMNS = 20
PHASE_COLUMNS = 6
_CLEAR = "\r\x1b[K"


class Sink(NamedTuple):
    """Where the lines go, and what the writer can't know by itself."""

    write: Callable[[str], None]
    screen: Callable[[], Screen]
    """Asked for every line, since people resize their terminals."""
    clock: Callable[[], float]


class Writer(Protocol):
    """Shows the steps of one request."""

    def step(self, progress: Progress) -> None:
        """Show a step."""

    def tick(self) -> None:
        """Show that time passes."""

    def finish(self) -> None:
        """Leave the terminal as plain text wants it."""


class Silent:
    """Shows nothing."""

    def step(self, progress: Progress) -> None:
        """Show nothing."""

    def tick(self) -> None:
        """Show nothing."""

    def finish(self) -> None:
        """Leave nothing behind."""


class Json(Silent):
    """One JSON object a step."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def step(self, progress: Progress) -> None:
        """Write the step."""
        self._sink.write(encode_item("progress", body(progress)) + "\n")


class Plain(Silent):
    """One line where a phase begins, and one at each tenth of it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._last: tuple[str, str, int] = ("", "", -1)

    def step(self, progress: Progress) -> None:
        """Write a line if this step is worth one."""
        # The text of a copy tells bytes and rate, which change at every step.
        text = "" if progress.phase == "copy" and progress.fraction > 0 else progress.text
        now = (progress.phase, text, int(progress.fraction * 10))
        if now == self._last:
            return
        self._last = now
        words = [f"{progress.phase}:", clean(progress.model), clean(_told(progress))]
        if progress.fraction >= 0:
            words.append(percent(progress.fraction))
        self._sink.write(" ".join(word for word in words if word) + "\n")


class Live(Silent):
    """A line a phase, drawn again as it moves."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._now: Progress | None = None
        self._named = ""
        """The model that a line above has named already."""
        self._began_at = 0.0
        self._drawn_at = float("-inf")

    def step(self, progress: Progress) -> None:
        """Draw the step; the line of an earlier phase stays above it."""
        if progress.phase == "ready":
            # The answer follows at once, and says the same better.
            self.finish()
            return
        now = self._sink.clock()
        if self._now is None or self._now.phase != progress.phase:
            self._close_line()
            self._began_at, self._drawn_at = now, float("-inf")
        self._now = progress
        if now - self._drawn_at >= REDRAW_S:
            self._draw()

    def tick(self) -> None:
        """Draw the line again, with the time that has passed."""
        if self._now is not None:
            self._draw()

    def finish(self) -> None:
        """End the line, whatever state it is in."""
        self._close_line()
        self._now = None

    def _close_line(self) -> None:
        if self._now is not None:
            self._draw()
            self._named = self._now.model
            self._sink.write("\n")

    def _draw(self) -> None:
        assert self._now is not None
        self._drawn_at = self._sink.clock()
        screen = self._sink.screen()
        elapsed_s = self._drawn_at - self._began_at
        model = "" if self._now.model == self._named else self._now.model
        self._sink.write(_CLEAR + _line(self._now, model, elapsed_s, screen))


def _told(progress: Progress) -> str:
    """Return the text of a step without a percentage that is shown already."""
    share, sign, rest = progress.text.partition(" %, ")
    # How modeld writes it in the journal, where there is no bar: `43%, 2.0 GB of 4.7 GB`.
    if not sign:
        share, sign, rest = progress.text.partition("%, ")
    return rest if sign and share.isdecimal() and progress.fraction >= 0 else progress.text


def _line(progress: Progress, model: str, elapsed_s: float, screen: Screen) -> str:
    """Return one line, narrower than the terminal: what matters least is left out first."""
    phase = f"{cut(clean(progress.phase), PHASE_COLUMNS):<{PHASE_COLUMNS}}"
    room = screen.width - 1 - PHASE_COLUMNS
    share = f"{percent(progress.fraction):>5}" if progress.fraction >= 0 else ""
    wishes = (f"  {bar(progress.fraction, BAR_COLUMNS, screen)} {share}", f"  {share}", "")
    shown = next(one for one in wishes if columns_of(one) <= room) if share else ""
    room -= columns_of(shown)
    time = f"  {format_duration(elapsed_s)}" if elapsed_s >= 1 else ""
    time = time if len(time) <= room else ""
    room -= len(time) + 2
    text = clean(" ".join(word for word in (model, _told(progress)) if word))
    if text and room > 1:
        shown += f"  {spell(cut(text, room), screen)}"
    return f"{paint(phase, 'info', screen)}{shown}{paint(time, 'dim', screen)}"
