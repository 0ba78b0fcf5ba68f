"""
HTTP/1.1 as the gateway speaks it: what a request and an answer are, and answers as bytes.

No sockets and no clock, and no parsing: see `reading`.
"""

import functools
import re
from http import HTTPStatus
from typing import Final

from msgspec import Struct

MAX_MESSAGE_LETTERS = 2000
_CODES: Final = {
    400: "bad_request",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    408: "request_timeout",
    413: "request_too_large",
    414: "target_too_long",
    415: "unsupported_media_type",
    417: "expectation_failed",
    429: "too_many_requests",
    431: "head_too_large",
    501: "not_implemented",
    503: "busy",
    505: "version_not_supported",
}
_STATUS_LINES: Final = {s.value: b"HTTP/1.1 %d %b\r\n" % (s, s.phrase.encode()) for s in HTTPStatus}
_FIELD_NAME: Final = re.compile(rb"[A-Za-z0-9-]+")
_FIELD_VALUE: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")

CHUNK: Final = b"%x\r\n%b\r\n"
"""A piece of a body whose length nobody knew: its own length, and itself."""

Headers = tuple[tuple[str, str], ...]
Body = bytes | bytearray


class Problem(Exception):
    """A request that is answered with an error; a dialect finds the words for the body."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str = "",
        kind: str = "invalid_request_error",
        headers: Headers = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message[:MAX_MESSAGE_LETTERS]  # it may quote what a stranger sent
        self.code = code or _CODES.get(status, "error")
        self.kind = kind
        self.headers = headers


class RequestHead(Struct, frozen=True, kw_only=True):
    """A request without its body."""

    method: str
    path: str
    """As sent: ASCII, percent-encoding and all."""
    query: str
    headers: dict[bytes, bytes]
    """By name in lower case; the last one where a name came twice, and never Content-Length."""
    minor: int
    """Of the version: HTTP/1.0 or HTTP/1.1."""
    keep_alive: bool
    length: int | None
    """Of the body; None where it comes in chunks."""
    expects_continue: bool


class Answer(Struct, frozen=True, kw_only=True):
    """An answer that is known as a whole."""

    status: int = 200
    body: bytes = b""
    content_type: bytes = b"application/json"
    headers: Headers = ()


@functools.lru_cache(maxsize=256)
def header_line(name: bytes, value: bytes) -> bytes:
    """
    Return one header as it is sent.

    Raises:
        ValueError: The name or value could end its line early.
    """
    if not _FIELD_NAME.fullmatch(name) or not _FIELD_VALUE.fullmatch(value):
        raise ValueError(f"not a header: {name!r}: {value!r}")
    return b"%b: %b\r\n" % (name, value)


class ResponseWriter:
    """Frames one answer, by length, in chunks or by closing, as the request allows."""

    __slots__ = ("_minor", "common", "has_body", "is_chunked", "is_started", "keep_alive")

    def __init__(self, head: RequestHead | None, *, common: bytes = b"") -> None:
        """Answer `head`, None for bytes that were no request; `common` are lines for every head."""
        self.keep_alive = head is not None and head.keep_alive
        """Whether the connection lives on; settled by `start`."""
        self.is_started = False
        self._minor = head.minor if head is not None else 1
        self.has_body = head is None or head.method != "HEAD"
        self.is_chunked = False
        """Whether its body goes in chunks; settled by `start`."""
        self.common = common

    def start(
        self, status: int, content_type: bytes, length: int | None, headers: bytes = b""
    ) -> bytes:
        """Return the head of an answer whose body has `length` bytes, None if that isn't known."""
        assert not self.is_started, "an answer has one head"
        self.is_started = True
        framing = b""
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        elif self._minor == 1:
            self.is_chunked = True
            framing = b"Transfer-Encoding: chunked\r\n"
        else:
            self.keep_alive = False
        if not self.keep_alive:
            framing += b"Connection: close\r\n"
        elif self._minor == 0:
            framing += b"Connection: keep-alive\r\n"
        return b"".join(
            (
                _STATUS_LINES.get(status) or b"HTTP/1.1 %d Error\r\n" % status,
                header_line(b"Content-Type", content_type) if content_type else b"",
                framing,
                self.common,
                headers,
                b"\r\n",
            )
        )

    def body(self, data: bytes) -> bytes:
        """Return a piece of the body as it is sent."""
        if not self.has_body or not data:
            return b""
        return CHUNK % (len(data), data) if self.is_chunked else data

    def end(self) -> bytes:
        """Return what ends the body."""
        return b"0\r\n\r\n" if self.is_chunked and self.has_body else b""

    def whole(self, answer: Answer) -> bytes:
        """Return a whole answer."""
        lines = b"".join(header_line(n.encode(), v.encode()) for n, v in answer.headers)
        head = self.start(answer.status, answer.content_type, len(answer.body), lines)
        return head + self.body(answer.body)
