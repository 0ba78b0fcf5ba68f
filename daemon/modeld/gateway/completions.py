"""
What a llama-server says, as far as translators need it: completions, their events, embeddings.

Whatever else an answer holds is skipped unread.  No I/O here, and no dialect but the server's.
"""

from typing import TypeVar

import msgspec
from msgspec import Struct

from modeld.gateway.translation import nonsense

Found = TypeVar("Found")


class Function(Struct, gc=False):
    """What a tool is called with, or a part of it."""

    name: str | None = None
    arguments: str | None = None


class CallPart(Struct, gc=False):
    """A tool call, or a part of one."""

    index: int = 0
    function: Function | None = None


class Delta(Struct, gc=False):
    """Words of a chat: a message, or what is new in it."""

    content: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[CallPart] | None = None


class Logprobs(Struct, gc=False):
    """How likely the words were."""

    content: msgspec.Raw | None = None


class Choice(Struct, gc=False):
    """One of the answers; only the first is ever told."""

    delta: Delta | None = None
    message: Delta | None = None
    text: str | None = None
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class Usage(Struct, gc=False):
    """Tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


class Timings(Struct, gc=False):
    """How long they took."""

    prompt_ms: float = 0.0
    predicted_ms: float = 0.0


class Trouble(Struct, gc=False):
    """An error inside a stream."""

    message: str = ""


class Chunk(Struct, gc=False):
    """An answer, or an event of its stream."""

    choices: list[Choice] = []
    usage: Usage | None = None
    timings: Timings | None = None
    error: Trouble | None = None


class Vector(Struct, gc=False):
    """The embedding of one text."""

    embedding: msgspec.Raw
    index: int = 0


class VectorList(Struct, gc=False):
    """Embeddings."""

    data: list[Vector]
    usage: Usage | None = None


_chunk_decoder = msgspec.json.Decoder(Chunk)
_vectors_decoder = msgspec.json.Decoder(VectorList)


def read_chunk(data: bytes) -> Chunk:
    """
    Return an answer, or an event.

    Raises:
        Problem: It is none.
    """
    return _decode(_chunk_decoder, data)


def read_vectors(data: bytes) -> VectorList:
    """
    Return embeddings.

    Raises:
        Problem: They are none.
    """
    return _decode(_vectors_decoder, data)


def _decode(decoder: "msgspec.json.Decoder[Found]", data: bytes) -> Found:
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        raise nonsense("what is no answer") from None
