"""
Requests, from the bytes of a connection.

llhttp, in its strict mode, does the grammar.  What it lets through and this module refuses: a
repeated Host or other single header, a missing Host, targets other than `/path`, versions other
than 1.0 and 1.1, any Transfer-Encoding but `chunked`, trailers, and heads beyond the limits.  No
sockets and no clock: the reader is fed what came.

A head is parsed when it is whole, so that the way a client cuts its bytes changes nothing.
Pipelining is refused: the first request is answered, then the connection is closed, and the
client sends the others again, as RFC 9112 9.3.2 has it.  An Upgrade is ignored, as 9110 7.8 allows.
"""

import re
from typing import Final

import httptools
from msgspec.structs import replace

from modeld.gateway.http import Body, Problem, RequestHead
from modeld.gateway.known_heads import KnownHeads

MAX_HEAD_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024
MAX_HEADERS = 100
MAX_CHUNK_OVERHEAD_BYTES = 64 * 1024
"""Chunk sizes and extensions that may come without any body between them."""

# A second one of these could be read differently by whoever comes next.
_SINGLE: Final = frozenset((
    b"authorization", b"content-length", b"content-type", b"expect", b"host", b"origin",
    b"transfer-encoding", b"x-api-key",
))  # fmt: skip
_UNKEPT: Final = frozenset((b"expect", b"upgrade", b"transfer-encoding"))
"""With one of these more than the head decides how its message is read."""
_OTHER_VERSION: Final = re.compile(rb" HTTP/(?!1\.[01]$)[0-9.]+$")


Heads = KnownHeads[tuple[RequestHead, bytes]]
"""Each with its first line."""


class _Stop(Exception):
    """Ends the parser from inside a callback."""


class RequestReader:
    """
    Reads one request after the other from the bytes of one connection.

    After each `receive`, `head` is set once the head is whole and `is_complete` once the body
    is; then `take_body`, answer, and `reset`.  Attributes named `on_...` are llhttp's callbacks.
    """

    __slots__ = (
        "_body",
        "_count",
        "_headers",
        "_held",
        "_is_replay",
        "_known",
        "_line",
        "_max_body_bytes",
        "_missing_bytes",
        "_overhead_bytes",
        "_parser",
        "_problem",
        "_url",
        "has_more",
        "head",
        "is_complete",
    )

    def __init__(self, max_body_bytes: int, known: Heads) -> None:
        self._max_body_bytes = max_body_bytes
        self._known = known
        self._parser = httptools.HttpRequestParser(self)
        self.reset()

    def reset(self) -> None:
        """Make ready for the next request."""
        self.head: RequestHead | None = None
        self.is_complete = False
        self.has_more = False
        """More bytes came after the request: the connection can't be used again."""
        self._held = b""
        self._line = b""
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._count = 0
        self._body: Body = b""
        self._missing_bytes = 0
        """Of the body of a request whose head was known."""
        self._overhead_bytes = 0
        self._is_replay = False
        self._problem: Problem | None = None

    @property
    def has_begun(self) -> bool:
        """Whether any byte of a request has come."""
        return self.head is not None or bool(self._held)

    @property
    def line(self) -> bytes:
        """The first line of a request, as far as it came; also of one that was refused."""
        return self._line or self._held.partition(b"\r\n")[0]

    @property
    def body_bytes(self) -> int:
        """How much of a body is held now."""
        return len(self._body)

    def take_body(self) -> Body:
        """Return the body, once."""
        body, self._body = self._body, b""
        return body

    def receive(self, data: bytes) -> None:
        """
        Read what came.

        Raises:
            Problem: It is no request that the gateway answers; the connection must be closed.
        """
        if self.is_complete:
            self.has_more = True
        elif self._missing_bytes:
            self._take(data)
        elif self.head is not None:
            self._overhead_bytes += len(data)
            self._parse(data)
            if self._overhead_bytes > MAX_CHUNK_OVERHEAD_BYTES and self.head.length is None:
                raise Problem(400, "too much chunk framing and too little body")
        elif self._held or not self._recognise(data):
            self._receive_head(data)

    def _recognise(self, data: bytes) -> bool:
        """Begin a request whose head has come before, here or elsewhere; return whether it has."""
        found = self._known.find(data)
        if found is None:
            return False
        (head, line), length, body_at = found
        if length > self._max_body_bytes:
            return False
        self.head = head if head.length == length else replace(head, length=length)
        self._line, self._missing_bytes = line, length
        self._take(data[body_at:])
        return True

    def _take(self, data: bytes) -> None:
        """Take what came of the body of such a request, which llhttp knows nothing of."""
        missing = self._missing_bytes
        if len(data) > missing:
            self.has_more = True
            data = data[:missing]
        self._missing_bytes = missing - len(data)
        if not self._body:
            self._body = data
        else:
            self.on_body(data)
        self.is_complete = not self._missing_bytes

    def _receive_head(self, data: bytes) -> None:
        if self._held:  # a head of 32 KiB in single bytes costs 0.1 s of copying, once
            data = self._held + data
        while data.startswith(b"\r\n"):  # RFC 9112 2.2: empty lines before a request are ignored
            data = data[2:]
        if data.startswith(b"\x16"):  # the client would wait in vain for the end of its head
            raise Problem(400, "this is TLS; modeld speaks plain HTTP: use http://")
        end = data.find(b"\r\n\r\n")
        if (end if end >= 0 else len(data)) > MAX_HEAD_BYTES:
            self._line = data[:MAX_HEAD_BYTES].partition(b"\r\n")[0]
            raise Problem(431, f"the head of a request may have {MAX_HEAD_BYTES} bytes")
        if end < 0:
            if b"\n\n" in data:  # typed by hand; the head would never be whole
                self._line = data.partition(b"\n")[0]
                raise Problem(400, "malformed request: lines end in CR LF")
            self._held = data
            return
        self._held = b""
        self._line = data[: data.find(b"\r\n")]
        self._parse(data)
        head = self.head
        if head is not None and not _UNKEPT & head.headers.keys():
            self._known.keep(data, (head, self._line))

    def _parse(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            if not self.is_complete:
                raise (self._problem or self._malformed(error)) from None
            self.has_more = True

    def _malformed(self, error: Exception) -> Problem:
        if self.head is None and _OTHER_VERSION.search(self._line):
            return Problem(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        return Problem(400, f"malformed request: {error}")

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Read the body with a parser that never heard of the Upgrade."""
        assert self.head is not None, "llhttp reports an Upgrade at the end of a head"
        size = self.head.length
        framing = b"Transfer-Encoding: chunked" if size is None else b"Content-Length: %d" % size
        self._is_replay = True
        self._parser = httptools.HttpRequestParser(self)
        self._parser.feed_data(b"POST / HTTP/1.1\r\n%b\r\n\r\n" % framing)
        self._is_replay = False
        self._parse(rest)

    def _refuse(self, status: int, message: str) -> None:
        self._problem = Problem(status, message)
        raise _Stop

    def on_message_begin(self) -> None:
        """Stop at a second request in the same bytes."""
        if self.is_complete:
            raise _Stop

    def on_url(self, url: bytes) -> None:
        """Keep the target."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or refuse it."""
        if self._is_replay:
            return
        if self.head is not None:
            self._refuse(400, "trailers are not accepted")
        name = name.lower()
        if name in self._headers and name in _SINGLE:
            self._refuse(400, f"more than one {name.decode()} header")
        self._count += 1
        if self._count > MAX_HEADERS:
            self._refuse(431, f"a request may have {MAX_HEADERS} headers")
        self._headers[name] = value.rstrip()

    def on_headers_complete(self) -> None:
        """Judge the head as a whole."""
        if self._is_replay:
            return
        path, _, query = self._check_target().partition("?")
        length = self._check_framing()
        expect = self._headers.get(b"expect", b"")
        if expect and expect.lower() != b"100-continue":
            self._refuse(417, "only Expect: 100-continue is understood")
        minor = self._line[-1] - ord("0")
        self.head = RequestHead(
            method=self._parser.get_method().decode(),
            path=path,
            query=query,
            headers=self._headers,
            minor=minor,
            keep_alive=self._parser.should_keep_alive(),
            length=length,
            expects_continue=bool(expect) and minor == 1 and length != 0,
        )

    def _check_target(self) -> str:
        if not self._line.endswith((b" HTTP/1.1", b" HTTP/1.0")):
            self._refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here")
        if self._line[:-9] != self._parser.get_method() + b" " + self._url:
            self._refuse(400, "malformed request line")
        if len(self._url) > MAX_TARGET_BYTES:
            self._refuse(414, f"a target may have {MAX_TARGET_BYTES} bytes")
        if self._url[:2] == b"//":
            self._refuse(400, "the target begins with two slashes: a base URL must not end in one")
        if self._url[:1] != b"/" or b"#" in self._url:
            self._refuse(400, "the target must be a path")
        if b"host" not in self._headers:
            self._refuse(400, "the Host header is missing")
        return self._url.decode("ascii")

    def _check_framing(self) -> int | None:
        encoding = self._headers.get(b"transfer-encoding")
        if encoding is not None:
            if encoding.lower() != b"chunked" or not self._line.endswith(b"1.1"):
                self._refuse(501, "only Transfer-Encoding: chunked is understood, in HTTP/1.1")
            return None
        length = int(self._headers.pop(b"content-length", b"0"))  # llhttp saw to the digits
        self._check_size(length)
        return length

    def _check_size(self, size: int) -> None:
        if size > self._max_body_bytes:
            self._refuse(413, f"a body may have {self._max_body_bytes} bytes")

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body."""
        self._overhead_bytes = 0
        if not self._body:
            self._body = data
        else:  # one growing buffer: a list of the pieces of tiny chunks would take 50 times as much
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += data
        self._check_size(len(self._body))

    def on_message_complete(self) -> None:
        """Note the end; what llhttp takes for the end where it sees an Upgrade is none."""
        self.is_complete = not self._parser.should_upgrade()
