"""
One connection to a llama-server, over its UNIX socket.

One answer at a time.  The parser is there to find where an answer ends; its body
goes to the receiver as it comes.  Whoever leaves early closes the connection: that is how
llama-server learns that nobody waits, and frees the slot.  Nothing here knows of models.
"""

import asyncio
from typing import Final, Protocol, cast

import httptools
from msgspec import Struct

from modeld.gateway.http import Body
from modeld.gateway.known_heads import KnownHeads

COALESCE_BYTES = 64 * 1024
"""Up to here a request is one write; beyond, a copy costs more than a second write."""
_NO_BODY: Final = frozenset((204, 304))


class AnswerHead(Struct, frozen=True):
    """What the gateway uses of the head of a server's answer."""

    status: int
    content_type: bytes
    length: int | None
    """Of the body; None where only its end tells."""


class Receiver(Protocol):
    """Whoever sent a request."""

    def answer_came(self, head: AnswerHead | None, body: bytes, is_last: bool) -> None:
        """Take what one read brought; `head` once, with the first of it."""

    def answer_failed(self, may_resend: bool) -> None:
        """Know that the connection is lost; `may_resend` if the server closed it while idle."""


class Owner(Protocol):
    """Whoever keeps connections."""

    known: KnownHeads[tuple[AnswerHead, bool]]
    """Heads of answers, and whether another may follow on their connection."""

    def take_back(self, upstream: "Upstream") -> None:
        """Keep a connection whose answer is complete."""

    def forget(self, upstream: "Upstream") -> None:
        """Know that a connection is lost."""


class Upstream(asyncio.Protocol):
    """One connection to one server.  Names in `on_...` are llhttp's callbacks."""

    def __init__(self, pool: Owner, path: str) -> None:
        self.path = path
        self.idle_since = 0.0
        self.is_lost = False
        self.is_counted = False
        """Whether it holds one of its server's places."""
        self._pool = pool
        self._transport: asyncio.Transport | None = None
        self._pieces: list[bytes] = []
        """Of a body, until the read that brought them is parsed."""
        self.on_body = self._pieces.append
        self._parser = httptools.HttpResponseParser(self)
        self._receiver: Receiver | None = None
        self._answers = 0
        self._is_paused = False
        self._forget()

    def _forget(self) -> None:
        self._head: AnswerHead | None = None
        self._is_head_told = False
        self._has_bytes = False
        self._is_complete = False
        self._is_reusable = False
        self._content_type = b""
        self._length: int | None = None
        self._is_chunked = False
        self._pieces.clear()

    def send(
        self,
        path: str,
        body: Body,
        receiver: Receiver,
        *,
        method: str = "POST",
        content_type: str = "application/json",
    ) -> None:
        """Send a request; the receiver will hear of its answer, or its failure."""
        assert self._receiver is None, "one answer at a time"
        assert self._transport is not None, "the pool gives connected ones"
        self._receiver = receiver
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n"
            f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode("ascii")
        if len(body) <= COALESCE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)

    @property
    def is_usable(self) -> bool:
        """Whether it seems connected still."""
        transport = self._transport
        return not self.is_lost and transport is not None and not transport.is_closing()

    def pause(self) -> None:
        """Stop reading until `resume`: the client is slower than the server."""
        if self._transport is not None and not self.is_lost and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        """Read on."""
        if self._transport is not None and not self.is_lost and self._is_paused:
            self._is_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once, and tell the receiver nothing."""
        self._receiver = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what came, in one call."""
        is_first, self._has_bytes = not self._has_bytes, True
        if is_first and self._receiver is not None and self._recognise(data):
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            if not self._is_complete:
                self._fail()
                return
            self._receiver_gets_all(is_reusable=False)
            return
        if self._is_complete:
            head = self._head
            if is_first and head is not None and head.length is not None:
                self._keep(data, head)
            self._receiver_gets_all(is_reusable=self._is_reusable)
        elif self._pieces or (self._head is not None and not self._is_head_told):
            head = None if self._is_head_told else self._head
            self._is_head_told = True
            body = self._take_pieces()
            if self._receiver is not None:
                self._receiver.answer_came(head, body, is_last=False)

    def _recognise(self, data: bytes) -> bool:
        """Pass on a whole answer whose head has come before; return whether it is one."""
        found = self._pool.known.find(data)
        if found is None:
            return False
        (head, is_reusable), length, body_at = found
        if len(data) != body_at + length:
            return False
        self._has_bytes = False
        self._deliver(
            AnswerHead(head.status, head.content_type, length),
            data[body_at:],
            is_reusable=is_reusable,
        )
        return True

    def _keep(self, data: bytes, head: AnswerHead) -> None:
        if head.status not in _NO_BODY:  # there, its length says nothing
            self._pool.known.keep(data, (head, self._is_reusable))

    def _take_pieces(self) -> bytes:
        pieces = self._pieces
        if len(pieces) == 1:
            return pieces.pop()
        body = b"".join(pieces)
        pieces.clear()
        return body

    def _receiver_gets_all(self, *, is_reusable: bool) -> None:
        head = None if self._is_head_told else self._head
        body = self._take_pieces()
        self._forget()
        self._deliver(head, body, is_reusable=is_reusable)

    def _deliver(self, head: AnswerHead | None, body: bytes, *, is_reusable: bool) -> None:
        """Give the receiver the last of its answer, and the pool its connection."""
        receiver, self._receiver = self._receiver, None
        self._answers += 1
        try:  # the client first, then the books
            if receiver is not None:
                receiver.answer_came(head, body, is_last=True)
        finally:
            transport = self._transport
            # what is unsent of a request that was answered early would begin the next one
            if is_reusable and transport is not None and not transport.get_write_buffer_size():
                if self._is_paused:
                    self.resume()
                self._pool.take_back(self)
            else:
                self.abort()

    def _fail(self) -> None:
        receiver, self._receiver = self._receiver, None
        may_resend = self._answers > 0 and not self._has_bytes
        self.abort()
        if receiver is not None:
            receiver.answer_failed(may_resend)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the receiver, unless this is the end of an answer that closing ends."""
        self.is_lost = True
        self._pool.forget(self)
        head = self._head
        is_end = exc is None and head is not None and head.length is None and not self._is_chunked
        if is_end:
            self._receiver_gets_all(is_reusable=False)
        else:
            self._fail()

    def on_message_begin(self) -> None:
        """Stop at an answer that nobody asked for."""
        if self._is_complete or self._receiver is None:
            raise ValueError("an answer without a question")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the three headers that matter."""
        name = name.lower()
        if name == b"content-type":
            self._content_type = value
        elif name == b"content-length" and self._head is None:
            self._length = int(value)
        elif name == b"transfer-encoding":
            self._is_chunked = True

    def on_headers_complete(self) -> None:
        """Keep the head, unless it is interim."""
        status = self._parser.get_status_code()
        if status >= 200:
            length = 0 if status in _NO_BODY else self._length
            self._head = AnswerHead(status, self._content_type, length)

    def on_message_complete(self) -> None:
        """Note the end, and whether there may be another; llhttp knows it only now."""
        if self._head is not None:
            self._is_complete = True
            self._is_reusable = self._parser.should_keep_alive()
