"""
How long a request is to its model: what is refused before a server, or a load, is spent on it.

A token is at least a byte, so a body of fewer bytes than its context has tokens is never counted:
most requests cost one comparison.  A longer one is counted by the server's own tokenizer, with the
template and the tools that it would have; llama-server refuses a prompt as long as its context, and
so does this.  What no tokenizer is near for, or would choke on, is estimated at four letters a
token, and refused only where that is four times the context: no text is that far off.  Requests
with pictures or sounds are not counted, since their bytes say nothing.  A chat template may add
more tokens than the JSON around the messages has bytes; what slips through so, the server refuses.
"""

import asyncio
import math
from collections.abc import Callable

import msgspec
from msgspec import Struct

from modeld.gateway.http import Body, Problem
from modeld.gateway.table import Wanted
from modeld.gateway.upstream import AnswerHead, Upstream

LETTERS_PER_TOKEN = 4
FAR_OVER = 4
"""Times the context, by which an estimate alone refuses."""
WARN_FRACTION = 0.9
"""From here on, the client is told how full its context is."""
COUNT_SECONDS = 30.0
_MAX_ANSWER_BYTES = 64 << 20
_MEDIA = (b'"data:', b'"base64"', b'"input_audio"')
_encoder = msgspec.json.Encoder()


class _Count(Struct):
    input_tokens: int


class _Tokens(Struct):
    tokens: list[msgspec.Raw]


class _Prompt(Struct):
    prompt: str | None = None


class _Counter(Struct, frozen=True):
    """How one kind of request is counted."""

    path: str
    body: Callable[[Body], Body]
    """What is asked of the server; empty where it can't be."""
    read: Callable[[bytes], int]


_prompt_decoder = msgspec.json.Decoder(_Prompt)
_count_decoder = msgspec.json.Decoder(_Count)
_tokens_decoder = msgspec.json.Decoder(_Tokens)


def _same(body: Body) -> Body:
    return body


def _content(body: Body) -> Body:
    try:
        prompt = _prompt_decoder.decode(body).prompt
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return b""  # tokens, or several prompts
    return _encoder.encode({"content": prompt, "add_special": True}) if prompt else b""


def _input_tokens(answer: bytes) -> int:
    return _count_decoder.decode(answer).input_tokens


def _listed(answer: bytes) -> int:
    return len(_tokens_decoder.decode(answer).tokens)


_PROMPT = _Counter("/tokenize", _content, _listed)
_BY_PATH = {
    "/v1/chat/completions": _Counter("/v1/chat/completions/input_tokens", _same, _input_tokens),
    "/v1/responses": _Counter("/v1/responses/input_tokens", _same, _input_tokens),
    "/v1/messages": _Counter("/v1/messages/count_tokens", _same, _input_tokens),
    "/v1/completions": _PROMPT,
    "/completion": _PROMPT,
    "/completions": _PROMPT,
}


def may_be_too_long(wanted: Wanted, context_tokens: int) -> bool:
    """Return whether a request has to be counted; the most of them are too short for it."""
    if not 0 < context_tokens < len(wanted.body) or wanted.path not in _BY_PATH:
        return False
    return not any(mark in wanted.body for mark in _MEDIA)


def refuse_far_over(name: str, wanted: Wanted, context_tokens: int) -> None:
    """
    Check that a request is not far longer than a context, by an estimate.

    Args:
        name: Of the model, for people.
        wanted: The request.
        context_tokens: What its server has, or would have; 0 where nobody knows.

    Raises:
        Problem: 400, it is.
    """
    least_letters = FAR_OVER * LETTERS_PER_TOKEN * context_tokens
    if len(wanted.body) <= least_letters or not may_be_too_long(wanted, context_tokens):
        return
    letters = len(wanted.body.decode("utf-8", "replace"))
    if letters > least_letters:
        tokens = math.ceil(letters / LETTERS_PER_TOKEN)
        raise _too_long(name, f"about {tokens} tokens (estimated)", context_tokens)


def fraction_of(name: str, tokens: int, context_tokens: int) -> float:
    """
    Return how much of a context a prompt fills.

    Raises:
        Problem: 400, it leaves no room for a single token.
    """
    if tokens >= context_tokens:
        raise _too_long(name, f"{tokens} tokens", context_tokens)
    return tokens / context_tokens


def _too_long(name: str, told: str, context_tokens: int) -> Problem:
    return Problem(
        400,
        f"prompt is too long: {told} > {context_tokens - 1} maximum; this model's maximum context "
        f"length is {context_tokens} tokens, of which one is for the answer ({name})",
        code="context_length_exceeded",
    )


async def count(upstream: Upstream, wanted: Wanted) -> int | None:
    """
    Return how many tokens a server makes of a request; None where it does not say.

    The connection goes back to its pool, or is closed where the answer never came.
    """
    counter = _BY_PATH[wanted.path]
    body = counter.body(wanted.body)
    answer = _Whole()
    # asked in any case, so that the connection is given back as it is after every answer
    upstream.send(counter.path, body or b'{"content":""}', answer)
    try:
        async with asyncio.timeout(COUNT_SECONDS):
            data = await answer.done
    except (TimeoutError, asyncio.CancelledError) as error:
        upstream.abort()
        if isinstance(error, asyncio.CancelledError):
            raise
        return None
    if not body or data is None:
        return None
    try:
        return counter.read(data)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None


class _Whole:
    """Receives one answer as a whole."""

    def __init__(self) -> None:
        self.done: asyncio.Future[bytes | None] = asyncio.get_running_loop().create_future()
        self._status = 0
        self._body = bytearray()

    def answer_came(self, head: AnswerHead | None, body: bytes, is_last: bool) -> None:
        """Keep what came; tell of it at the end."""
        if head is not None:
            self._status = head.status
        if len(self._body) < _MAX_ANSWER_BYTES:
            self._body += body
        if is_last and not self.done.done():
            self.done.set_result(bytes(self._body) if self._status == 200 else None)

    def answer_failed(self, may_resend: bool) -> None:
        """Know that there will be none."""
        del may_resend
        if not self.done.done():
            self.done.set_result(None)
