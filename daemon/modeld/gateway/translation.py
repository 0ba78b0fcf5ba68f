"""
Answers in other words than the server's: what an exchange asks of a dialect that translates.

A stream is translated piece by piece, as it comes.  An answer that is one JSON, and every error,
is read as a whole first, within bounds.  What the words are, the dialect knows; no I/O here.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec
from msgspec import Struct

from modeld.gateway.http import Problem

SERVER_STREAM_TYPE = b"text/event-stream"
"""Of the streams that are translated."""
MAX_ERROR_BYTES = 64 * 1024
"""Of a server's error that has to be told in other words."""
MAX_WHOLE_BYTES = 64 * 1024 * 1024
"""Of an answer that is translated as a whole: a thousand embeddings have 50 MB."""


class Translator(Protocol):
    """Turns one answer of a server into the dialect that was asked in."""

    def piece(self, data: bytes) -> bytes:
        """Return what a piece of a stream becomes; nonsense becomes an error in the stream."""

    def end(self) -> bytes:
        """Return what is left to say at the end of a stream."""

    def whole(self, body: bytes) -> bytes:
        """
        Return what an answer that is no stream becomes.

        Raises:
            Problem: The server's answer makes no sense.
        """


class Instead(Struct, frozen=True, kw_only=True):
    """What is done with a model where its server is not to be asked anything."""

    is_load: bool
    """Load it; else unload it."""
    body: Callable[[], bytes]
    """What answers when it is done, in the stream where one is wanted."""


class Collected:
    """A server's answer that is read as a whole: an error, or one to be translated."""

    __slots__ = ("_body", "_status", "_translator")

    def __init__(self, status: int, translator: Translator | None) -> None:
        self._status = status
        self._translator = translator
        self._body = bytearray()

    def take(self, data: bytes) -> None:
        """
        Keep a piece.

        Raises:
            Problem: It is too much.
        """
        if self._status != 200:
            self._body += data[: MAX_ERROR_BYTES - len(self._body)]
            return
        self._body += data
        if len(self._body) > MAX_WHOLE_BYTES:
            raise nonsense(f"an answer of more than {MAX_WHOLE_BYTES} bytes")

    def finish(self) -> bytes:
        """
        Return the answer, translated.

        Raises:
            Problem: It is an error, or makes no sense.
        """
        if self._status != 200 or self._translator is None:
            raise _read_error(self._status, bytes(self._body))
        return self._translator.whole(bytes(self._body))


def nonsense(what: str) -> Problem:
    """Return what to say of an answer that can't be translated."""
    return Problem(502, f"the server sent {what}", code="server_failed", kind="server_error")


class _ServerError(Struct):
    message: str = ""
    type: str = "server_error"


class _ServerFailure(Struct):
    error: _ServerError


def _read_error(status: int, body: bytes) -> Problem:
    """Return what a server's error says, in whatever words it came, and that there were none."""
    if not 400 <= status < 600:  # a 204 has no room for words, and nobody here follows a 302
        return nonsense(f"the status {status}, which nothing was asked for")
    try:
        error = msgspec.json.decode(body, type=_ServerFailure).error
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        error = _ServerError(message=body.decode("utf-8", "replace"))
    message = error.message.strip() or f"the server failed with status {status} and without a word"
    return Problem(status, message, code=error.type, kind=error.type)
