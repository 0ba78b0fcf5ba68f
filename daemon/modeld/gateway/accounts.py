"""
What one request cost: the times that the gateway saw, the tokens that the server reports at last.

Answers pass unread.  Their first and last few KB are kept as they go by, and looked at once, when
all is over: llama-server ends every answer with `usage`, `timings` or both, except that embeddings
and rankings begin with it, and Anthropic's streams tell the prompt at the start.  Text that people
or models wrote can't pass for it, since quotes inside strings are escaped.  Where neither end says
anything, nothing is counted, and an answer that broke off is not looked at.
"""

import re
from collections.abc import Awaitable
from typing import Annotated, Final, TypeVar

import msgspec
from msgspec import Meta, Struct

from modeld.core.usage import Figures
from modeld.supervisor.door import Route
from modeld.supervisor.ports import Clock

HEAD_BYTES = 1024
TAIL_BYTES = 2048
"""More than four times of what a server's last event takes."""
_MAX_KEPT_BYTES = 2 * TAIL_BYTES
"""From here on the middle is dropped."""
_NAMED: Final = re.compile(rb'"\w+":\s*(\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\})')
"""A name and its object, which holds numbers, and objects of numbers."""
_USAGE: Final = b'"usage":'
_TIMINGS: Final = b'"timings":'

_Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]


class _Cached(Struct, gc=False):
    cached_tokens: _Count = 0


class _Usage(Struct, gc=False):
    """OpenAI's two ways of saying it, and Anthropic's, whose input leaves out what was cached."""

    prompt_tokens: _Count = 0
    completion_tokens: _Count = 0
    prompt_tokens_details: _Cached | None = None
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    input_tokens_details: _Cached | None = None
    cache_read_input_tokens: _Count = 0


class _Timings(Struct, gc=False):
    """llama-server's own."""

    prompt_n: _Count = 0
    cache_n: _Count = 0
    predicted_n: _Count = 0
    predicted_ms: Annotated[float, Meta(ge=0)] = 0.0


class _Whole(Struct, gc=False):
    """An answer, of which only these two matter."""

    usage: _Usage | None = None
    timings: _Timings | None = None


_Found = TypeVar("_Found")
_wholes = msgspec.json.Decoder(_Whole)
_usages = msgspec.json.Decoder(_Usage)
_timings = msgspec.json.Decoder(_Timings)


class Account:
    """One request to a model, from its coming to its end."""

    __slots__ = (
        "_began",
        "_clock",
        "_ended",
        "_failure",
        "_first",
        "_head",
        "_is_stream",
        "_model_id",
        "_sent",
        "_tail",
        "_waited",
        "_was_ready",
    )

    def __init__(self, model_id: str, clock: Clock) -> None:
        self._model_id = model_id
        self._clock = clock
        self._began = clock.monotonic()
        self._was_ready = True
        self._waited = 0.0
        self._sent = 0.0
        self._first = 0.0
        self._head = b""
        self._tail: bytes | bytearray = b""
        self._ended = self._began
        self._failure = ""
        self._is_stream = False

    @property
    def was_sent(self) -> bool:
        """Whether a server was asked."""
        return self._sent > 0

    async def waiting_for(self, load: Awaitable[Route]) -> Route:
        """Await the load of its model, however that ends."""
        self._was_ready = False
        began = self._clock.monotonic()
        try:
            return await load
        finally:
            self._waited += self._clock.monotonic() - began

    def sent(self) -> None:
        """Note that a server has it, whose answer begins with the next bytes."""
        self._sent = self._clock.monotonic()
        self._first = 0.0
        self._head = self._tail = b""

    def took(self, body: bytes) -> None:
        """Keep the ends of what passes, and when the first of it came."""
        if not self._first and body:
            self._first = self._clock.monotonic()
        tail = self._tail
        if not tail and len(body) <= _MAX_KEPT_BYTES:  # for most answers this is all
            self._tail = body
            return
        if not isinstance(tail, bytearray):
            tail = self._tail = bytearray(tail)
        tail += body
        if len(tail) > _MAX_KEPT_BYTES:
            if not self._head:
                self._head = bytes(tail[:HEAD_BYTES])
            del tail[:-TAIL_BYTES]

    def close(self, failure: str, *, is_stream: bool) -> None:
        """Note that it is over.  `failure` is one of `core.usage.FAILURES`, or empty."""
        self._ended = self._clock.monotonic()
        self._failure = failure
        self._is_stream = is_stream

    def figures(self) -> Figures:
        """Return what it cost; after `close`, at any time: others wait for their answers."""
        usage = timings = None
        if not self._failure and self._tail:
            usage, timings = _read(self._head, self._tail)
        prompt = cached = generated = 0
        seconds = 0.0
        if timings is not None:
            cached, generated = timings.cache_n, timings.predicted_n
            prompt = timings.prompt_n + cached
            seconds = timings.predicted_ms / 1000
        if usage is not None:
            prompt, cached, generated = _tokens(usage)
        first = 0.0
        if self._is_stream and self._first:
            first = self._first - self._sent
        elif seconds:
            first = max(0.0, self._ended - self._sent - seconds)
        return Figures(
            model_id=self._model_id,
            waited_seconds=self._waited,
            was_ready=self._was_ready and self._sent > 0,
            first_token_seconds=first,
            seconds=self._ended - self._began,
            prompt_tokens=prompt,
            cached_tokens=cached,
            generated_tokens=generated,
            generation_seconds=seconds,
            failure=self._failure,
        )


def failure_of(status: int, *, was_sent: bool) -> str:
    """Return the class of failure of a request that was answered with this status."""
    if status < 400:
        return ""
    if status == 429 and not was_sent:
        return "busy"
    if not was_sent and status != 400:  # that is for a prompt that its server found too long
        return "load"
    return "refused" if status < 500 or status == 501 else "server"  # it can't do that


def _read(head: bytes, tail: bytes | bytearray) -> tuple[_Usage | None, _Timings | None]:
    """Return what the ends of an answer say; one that is short and no stream is read at once."""
    if tail[:1] == b"{" and not head:
        try:
            whole = _wholes.decode(tail)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            pass  # it may still end as it should
        else:
            return whole.usage, whole.timings
    usage = _decode(_usages, tail, tail.rfind(_USAGE))
    timings = _decode(_timings, tail, tail.rfind(_TIMINGS))
    is_halved = usage is not None and usage.output_tokens > 0 and usage.input_tokens == 0
    if is_halved or (usage is None and timings is None):
        start = head or tail
        first = _decode(_usages, start, start.find(_USAGE))
        if usage is not None and first is not None:
            usage.input_tokens = first.input_tokens
            usage.cache_read_input_tokens = first.cache_read_input_tokens
        usage = usage or first
    return usage, timings


def _decode(
    decoder: "msgspec.json.Decoder[_Found]", data: bytes | bytearray, at: int
) -> _Found | None:
    """Return the object whose name is at `at`; None where there is none, or something else."""
    found = _NAMED.match(data, at) if at >= 0 else None
    if found is None:
        return None
    try:
        return decoder.decode(found[1])
    except (msgspec.MsgspecError, UnicodeError):
        return None


def _tokens(usage: _Usage) -> tuple[int, int, int]:
    """Return the tokens of the prompt, how many of them were cached, and those generated."""
    if usage.prompt_tokens or usage.completion_tokens:
        details = usage.prompt_tokens_details
        return (
            usage.prompt_tokens,
            details.cached_tokens if details is not None else 0,
            usage.completion_tokens,
        )
    if usage.input_tokens_details is not None:
        cached = usage.input_tokens_details.cached_tokens
        return usage.input_tokens, cached, usage.output_tokens
    cached = usage.cache_read_input_tokens
    return usage.input_tokens + cached, cached, usage.output_tokens
