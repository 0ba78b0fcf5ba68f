"""
A llama-server's answers, told as KAREN's plan of its server has them, and its errors.

The words come whole or in events; thoughts and tool calls are not told.  Errors say no more than
is meant for people.  No sockets here.
"""

from collections.abc import Iterator
from typing import Final

import msgspec
from msgspec import Struct

from modeld.gateway.completions import Choice, Chunk, Delta
from modeld.gateway.http import Problem
from modeld.gateway.openai import sign_of_life
from modeld.gateway.retelling import Retelling
from modeld.supervisor.ports import Clock

_NO_DETAIL: Final = "the request failed; modeld's log may say why"
_Told = dict[str, msgspec.Raw]
_encoder = msgspec.json.Encoder()


# --- errors -----------------------------------------------------------------------------------


class _Error(Struct, frozen=True, kw_only=True):
    message: str
    type: str
    code: str


class _Failure(Struct, frozen=True, kw_only=True):
    """`detail` is what KAREN's servers say; `error` what everybody else's clients read."""

    detail: str
    error: _Error


def error_body(problem: Problem) -> bytes:
    """Return an error; that something broke is all that is told where nothing better is known."""
    text = _NO_DETAIL if problem.status == 500 else problem.message
    error = _Error(message=text, type=problem.kind, code=problem.code)
    return _encoder.encode(_Failure(detail=text, error=error))


def stream_error(problem: Problem) -> bytes:
    """Return an error as an event."""
    return b"data: %b\n\n" % error_body(problem)


# --- its answer -------------------------------------------------------------------------------


class _Timing(Struct, frozen=True, kw_only=True):
    inference_time_ms: float
    """Since the server was asked."""
    total_time_ms: float
    """Since the request came: with what it waited for its model."""


class _Reply(Struct, frozen=True, kw_only=True):
    response: str
    model_id: str
    parameters: _Told
    timing: _Timing


class _Piece(Struct, frozen=True):
    response: str


class _Last(_Reply, frozen=True, kw_only=True):
    done: bool = True


class Teller:
    """Says things in KAREN's words for one request."""

    def __init__(self, model_id: str, parameters: _Told, clock: Clock) -> None:
        """Begin to measure; `parameters` are those that the server sees."""
        self._model_id = model_id
        self._parameters = parameters
        self._clock = clock
        self._begun_at = clock.monotonic()
        self._sent_at = self._begun_at

    def note_sent(self) -> None:
        """Know that the request goes to the server: the model is loaded."""
        self._sent_at = self._clock.monotonic()

    @property
    def _timing(self) -> _Timing:
        now = self._clock.monotonic()
        return _Timing(
            inference_time_ms=round((now - self._sent_at) * 1000, 3),
            total_time_ms=round((now - self._begun_at) * 1000, 3),
        )

    def whole(self, text: str) -> bytes:
        """Return an answer that is no stream."""
        reply = _Reply(
            response=text,
            model_id=self._model_id,
            parameters=self._parameters,
            timing=self._timing,
        )
        return _encoder.encode(reply)

    def piece(self, text: str) -> bytes:
        """Return an event with a few words."""
        return b"data: %b\n\n" % _encoder.encode(_Piece(text))

    def last(self) -> bytes:
        """Return the last event, which has no words."""
        last = _Last(
            response="",
            model_id=self._model_id,
            parameters=self._parameters,
            timing=self._timing,
        )
        return b"data: %b\n\n" % _encoder.encode(last)


class Words(Retelling):
    """Tells of words alone."""

    def __init__(self, teller: Teller) -> None:
        super().__init__()
        self._teller = teller
        teller.note_sent()
        self._has_reason = False

    def _whole(self, chunk: Chunk, choice: Choice) -> bytes:
        del chunk
        return self._teller.whole(choice.text or (choice.message or Delta()).content or "")

    def _is_finished(self) -> bool:
        return self._has_reason

    def _last(self) -> bytes:
        return self._teller.last()

    def _error(self, problem: Problem) -> bytes:
        return stream_error(problem)

    def _sign_of_life(self) -> bytes:
        return sign_of_life("")

    def _chunk(self, chunk: Chunk) -> Iterator[bytes]:
        if chunk.error is not None:
            raise Problem(500, chunk.error.message, kind="server_error")
        for choice in chunk.choices[:1]:
            yield self._words(choice)

    def _words(self, choice: Choice) -> bytes:
        self._has_reason = self._has_reason or bool(choice.finish_reason)
        words = choice.delta or Delta()
        text = choice.text or words.content or ""
        if text:
            return self._teller.piece(text)
        # a model that thinks says nothing for a while, and the client should know that it lives
        return sign_of_life("thinking") if words.reasoning_content else b""
