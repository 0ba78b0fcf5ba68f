"""
A llama-server's completions in other words: the stream's events one by one, or the whole.

What a dialect says to each chunk, at the end and of trouble, is its own; here is only what all of
them share: nonsense and a part of an answer become one error, and after that nothing more is told.
No sockets here.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

from modeld.gateway.completions import Choice, Chunk, read_chunk
from modeld.gateway.events import EventReader, EventTooLong
from modeld.gateway.http import Problem
from modeld.gateway.translation import nonsense


class Retelling(ABC):
    """Translates chat completions and completions."""

    def __init__(self) -> None:
        self._events = EventReader()
        self._is_over = False

    def piece(self, data: bytes) -> bytes:
        """Return what a dialect says to these bytes."""
        if self._is_over:
            return b""
        told: list[bytes] = []
        try:
            for event in self._events.feed(data):
                told.extend(self._told(event))
        except Problem as problem:
            told.append(self._fail(problem))
        except EventTooLong:
            told.append(self._fail(nonsense("an event without end")))
        return b"".join(told)

    def end(self) -> bytes:
        """Return the last words, where the server did not say that it was over."""
        if self._is_over:
            return b""
        if not self._is_finished():
            return self._fail(nonsense("only a part of its answer"))
        self._is_over = True
        return self._last()

    def whole(self, body: bytes) -> bytes:
        """
        Return an answer that is no stream.

        Raises:
            Problem: It makes no sense.
        """
        chunk = read_chunk(body)
        if not chunk.choices:
            raise nonsense("an answer without words")
        return self._whole(chunk, chunk.choices[0])

    def _fail(self, problem: Problem) -> bytes:
        self._is_over = True
        return self._error(problem)

    def _told(self, event: bytes | None) -> Iterator[bytes]:
        if self._is_over:
            return
        if event is None:
            yield self._sign_of_life()
        elif event == b"[DONE]":
            yield self.end()
        else:
            yield from self._chunk(read_chunk(event))

    # --- what a dialect says ------------------------------------------------------------------

    @abstractmethod
    def _chunk(self, chunk: Chunk) -> Iterator[bytes]:
        """Give what is said to a chunk; raises `Problem` for one that is an error."""

    @abstractmethod
    def _whole(self, chunk: Chunk, choice: Choice) -> bytes:
        """Return an answer that is no stream; raises `Problem` where it makes no sense."""

    @abstractmethod
    def _is_finished(self) -> bool:
        """Whether the server said why it ended."""

    @abstractmethod
    def _last(self) -> bytes:
        """Return what ends a stream."""

    @abstractmethod
    def _error(self, problem: Problem) -> bytes:
        """Return an error in a stream."""

    @abstractmethod
    def _sign_of_life(self) -> bytes:
        """Return what says that the server lives, and that clients skip."""
