"""
Reading a stream of server-sent events, however its bytes are cut.

Only what a llama-server sends: lines that end in LF or CRLF, `data:` and comments.  Other fields
are skipped.  No sockets here, and no JSON.
"""

from collections.abc import Iterator

MAX_EVENT_BYTES = 1 << 20


class EventTooLong(Exception):
    """No event of a llama-server has that many bytes."""


class EventReader:
    """Takes bytes, gives the data of each event; None for a comment, which shows life."""

    __slots__ = ("_bytes", "_data", "_held")

    def __init__(self) -> None:
        self._held = b""
        self._bytes = 0
        self._data: list[bytes] = []

    def feed(self, data: bytes) -> Iterator[bytes | None]:
        """
        Give the events that are whole now.

        Raises:
            EventTooLong: One won't end.
        """
        *lines, self._held = (self._held + data).split(b"\n")
        for line in lines:
            _check(len(line))
            yield from self._line(line.removesuffix(b"\r"))
        _check(len(self._held))

    def _line(self, line: bytes) -> Iterator[bytes | None]:
        if line.startswith(b"data:"):
            self._data.append(line[5:].removeprefix(b" "))
            self._bytes += len(line)
            _check(self._bytes)
        elif line.startswith(b":"):
            yield None
        elif not line and self._data:
            data, self._data = b"\n".join(self._data), []
            self._bytes = 0
            yield data


def _check(size_bytes: int) -> None:
    if size_bytes > MAX_EVENT_BYTES:
        raise EventTooLong
