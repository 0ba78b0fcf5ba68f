"""
What was done, for people and for the journal.

Under systemd an event goes to journald with fields of its own, so that `journalctl --user
MODELD_MODEL=tool` finds it; elsewhere it is a line on stderr.  The last thousand are kept for
`modelctl events`.  `modeld.wire.events` names every kind that there is.

Writing never waits and never fails: what nobody takes is dropped.  Prompts and answers of models
never come here.
"""

import contextlib
import errno
import logging
import os
import re
import select
import socket
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from modeld.errors import Busy
from modeld.wire.daemon import Happened
from modeld.wire.events import EVENTS, Kind

SOCKET = "/run/systemd/journal/socket"
IDENTIFIER = "modeld"
STDERR = 2
MAX_KEPT = 1_000
PASSING = frozenset(("request-served",))
"""Told as they happen and never again: they are so many that they would push out all others."""
MAX_SUBSCRIBERS = 64
MAX_FIELD_BYTES = 16_384
LEAST_FIELD_BYTES = 256
MAX_LINE_BYTES = 4_096
"""What a pipe takes whole, so that a full one is noticed before it blocks (pipe(7))."""
LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}
_WORDS = ("emergency", "alert", "critical", "error", "warning", "notice", "info", "debug")
_COLOURS = {3: "\x1b[97;41m", 4: "\x1b[33m", 5: "\x1b[34m", 7: "\x1b[2m"}
_TOO_LARGE = (errno.EMSGSIZE, errno.ENOBUFS)
_NOT_IN_NAMES = re.compile(r"[^A-Z0-9_]")


class SystemJournal:
    """The `Journal` port."""

    def __init__(
        self,
        environment: Mapping[str, str],
        level: str = "info",
        *,
        descriptor: int = STDERR,
        socket_path: str = SOCKET,
    ) -> None:
        self._worst_shown = LEVELS[level]
        self._descriptor = descriptor
        self._socket_path = socket_path
        self._colour = _wants_colour(environment, descriptor)
        self._kept: deque[Happened] = deque(maxlen=MAX_KEPT)
        self._listeners: list[Callable[[Happened], None]] = []
        self._socket: socket.socket | None = None
        if _is_journal(environment, descriptor):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)

    def record(self, event: str, message: str, *, priority: int = 6, **fields: str | float) -> None:
        """Log one committed event.  Field names as in modeld(8), lower case, without the prefix."""
        kind = EVENTS.get(event, Kind("", priority, ""))
        happened = Happened(
            event=event,
            message=message,
            at=_now(),
            priority=kind.priority if priority == LEVELS["info"] else priority,
            message_id=kind.message_id,
            fields=dict(fields),
        )
        if happened.priority > max(self._worst_shown, LEVELS["info"]):
            return
        if event not in PASSING:
            self._kept.append(happened)
        if happened.priority <= self._worst_shown:
            self._write(happened)
        for listener in tuple(self._listeners):
            listener(happened)

    def recent(self, count: int) -> Sequence[Happened]:
        """Return the last events, oldest first."""
        return list(self._kept)[-count:] if count > 0 else []

    def subscribe(self, listener: Callable[[Happened], None]) -> Callable[[], None]:
        """
        Have `listener` called with every event from now on; returns what ends that.

        Raises:
            Busy: As many listen as may.
        """
        if len(self._listeners) >= MAX_SUBSCRIBERS:
            raise Busy(f"{MAX_SUBSCRIBERS} programs follow the events already")
        self._listeners.append(listener)

        def end() -> None:
            with contextlib.suppress(ValueError):
                self._listeners.remove(listener)

        return end

    def handler(self) -> logging.Handler:
        """Return a handler that brings what libraries log here; also from other threads."""
        return _Bridge(self._library)

    def close(self) -> None:
        """Let go of the socket; lines go to stderr from now on."""
        if self._socket is not None:
            self._socket.close()
        self._socket = None

    def _library(self, name: str, message: str, priority: int) -> None:
        if priority <= self._worst_shown:
            happened = Happened(
                event="library",
                message=message,
                at=_now(),
                priority=priority,
                message_id=EVENTS["library"].message_id,
            )
            self._write(happened, logger=name)

    def _write(self, happened: Happened, **more: str) -> None:
        fields = {**happened.fields, **more}
        if self._socket is not None:
            limit = MAX_FIELD_BYTES
            while limit >= LEAST_FIELD_BYTES:
                try:
                    self._socket.sendto(native(happened, fields, limit), self._socket_path)
                    return
                except BlockingIOError:
                    return  # journald is behind: lose a line rather than the loop's time
                except OSError as error:
                    if error.errno not in _TOO_LARGE:
                        break
                    limit //= 4
        self._write_line(happened, fields)

    def _write_line(self, happened: Happened, fields: Mapping[str, str | float]) -> None:
        poller = select.poll()
        poller.register(self._descriptor, select.POLLOUT)
        data = line(happened, fields, colour=self._colour).encode("utf-8", "replace")
        if len(data) > MAX_LINE_BYTES:
            data = data[: MAX_LINE_BYTES - 4] + b"...\n"
        with contextlib.suppress(OSError):
            if poller.poll(0):
                os.write(self._descriptor, data)


class _Bridge(logging.Handler):
    """Takes log records of Python's libraries."""

    def __init__(self, write: Callable[[str, str, int], None]) -> None:
        super().__init__()
        self._take = write

    def emit(self, record: logging.LogRecord) -> None:
        """Pass a record on; one that can't be formatted is none of our business."""
        with contextlib.suppress(TypeError, ValueError, KeyError):
            self._take(record.name, self.format(record), _priority(record.levelno))


def native(happened: Happened, fields: Mapping[str, str | float], limit: int) -> bytes:
    """
    Return one entry in journald's own protocol.

    A value with a line feed is preceded by its length, 64 bits, little endian.

    Args:
        happened: The event.
        fields: Its fields, without the prefix.
        limit: [bytes] Of each value; longer ones are cut.

    Source: systemd's "Native Journal Protocol".
    """
    entry: dict[str, str] = {
        "MESSAGE": happened.message,
        "PRIORITY": str(happened.priority),
        "SYSLOG_IDENTIFIER": IDENTIFIER,
        "MODELD_EVENT": happened.event,
        **({"MESSAGE_ID": happened.message_id} if happened.message_id else {}),
        **{f"MODELD_{_field_name(name)}": str(value) for name, value in fields.items()},
    }
    data = bytearray()
    for name, text in entry.items():
        value = text.encode("utf-8", "replace")[:limit]
        data += name.encode()
        data += b"\n" + len(value).to_bytes(8, "little") if b"\n" in value else b"="
        data += value + b"\n"
    return bytes(data)


def line(happened: Happened, fields: Mapping[str, str | float], *, colour: bool) -> str:
    """Return one event as a line for people; control characters do not get through."""
    told = " ".join(f"{name}={_quoted(value)}" for name, value in fields.items())
    word = _WORDS[happened.priority]
    text = _printable(f"{word} {happened.event}: {happened.message}")
    start = _COLOURS.get(max(3, happened.priority), "") if colour else ""
    tail = _printable(f"  {told}") if told else ""
    return (
        f"{happened.at} {start}{text}\x1b[0m{tail}\n" if start else f"{happened.at} {text}{tail}\n"
    )


def _now() -> str:
    """Return the time in RFC 3339, UTC, to the millisecond."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_journal(environment: Mapping[str, str], descriptor: int) -> bool:
    """Whether the descriptor leads to journald, as systemd says in `JOURNAL_STREAM`."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _wants_colour(environment: Mapping[str, str], descriptor: int) -> bool:
    plain = environment.get("NO_COLOR") or environment.get("TERM", "dumb") == "dumb"
    return not plain and os.isatty(descriptor)


def _priority(level: int) -> int:
    for least, priority in ((50, 2), (40, 3), (30, 4), (20, 6)):
        if level >= least:
            return priority
    return LEVELS["debug"]


def _field_name(name: str) -> str:
    return _NOT_IN_NAMES.sub("_", name.upper())[:57]  # 64 with the prefix


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def _quoted(value: str | float) -> str:
    text = str(value)
    return f'"{text}"' if " " in text or not text else text
