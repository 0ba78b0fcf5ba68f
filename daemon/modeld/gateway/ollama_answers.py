"""
A llama-server's answers, told as Ollama tells them: NDJSON, nanoseconds, whole tool calls.

One line for each event that has words, as it comes; what a tool is called with is collected until
it is whole, within bounds, for Ollama gives arguments as an object.  Nonsense from the server
becomes an error in the stream.  No sockets here.
"""

from collections.abc import Iterator
from datetime import UTC, datetime

import msgspec
from msgspec import Struct

from modeld.gateway.completions import (
    CallPart,
    Choice,
    Chunk,
    Delta,
    Function,
    Timings,
    Usage,
    read_vectors,
)
from modeld.gateway.http import Problem
from modeld.gateway.retelling import Retelling
from modeld.gateway.translation import nonsense
from modeld.supervisor.ports import Clock

MAX_CALLS = 256
MAX_ARGUMENTS_BYTES = 1 << 20
SIGN_OF_LIFE = b" "
"""
White space before the next line's JSON, which every parser skips.  A blank line is what some
clients expect to have to skip, but Ollama's own Python client takes it for broken JSON.
"""
_encoder = msgspec.json.Encoder()


class _Failure(Struct, frozen=True):
    error: str


def error_line(problem: Problem) -> bytes:
    """Return an error as it comes in the middle of a stream."""
    return _encoder.encode(_Failure(problem.message)) + b"\n"


_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


# --- what Ollama says -----------------------------------------------------------------------


class _Called(Struct, frozen=True):
    index: int
    name: str
    arguments: msgspec.Raw


class _Call(Struct, frozen=True):
    function: _Called


class _Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    role: str
    content: str
    thinking: str = ""
    tool_calls: tuple[_Call, ...] = ()


class _Reply(Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    created_at: datetime
    message: _Message | None = None
    response: str | None = None
    thinking: str = ""
    logprobs: msgspec.Raw | None = None
    done: bool
    done_reason: str = ""
    total_duration: int | None = None
    load_duration: int | None = None
    prompt_eval_count: int | None = None
    prompt_eval_duration: int | None = None
    eval_count: int | None = None
    eval_duration: int | None = None


class _Embeddings(Struct, frozen=True, kw_only=True):
    model: str
    embeddings: tuple[msgspec.Raw, ...]
    total_duration: int
    load_duration: int
    prompt_eval_count: int


class _Embedding(Struct, frozen=True):
    embedding: msgspec.Raw


class Teller:
    """Says things in Ollama's words for one request."""

    def __init__(self, model: str, clock: Clock, *, is_chat: bool) -> None:
        """Begin to measure; `model` is the name as it was asked for."""
        self.model = model
        self._clock = clock
        self._is_chat = is_chat
        self._begun_at = clock.monotonic()
        self._sent_at = self._begun_at

    def note_sent(self) -> None:
        """Know that the request goes to the server: the model is loaded."""
        self._sent_at = self._clock.monotonic()

    @property
    def durations_ns(self) -> tuple[int, int]:
        """How long all took until now, and the loading."""
        total = self._clock.monotonic() - self._begun_at
        return int(total * 1e9), int((self._sent_at - self._begun_at) * 1e9)

    def words(
        self, content: str, thinking: str, calls: tuple[_Call, ...], logprobs: msgspec.Raw | None
    ) -> bytes:
        """Return a line with something new."""
        return self._line(self._reply(content, thinking, calls, logprobs))

    def done(self, reason: str, chunk: Chunk, reply: _Reply | None = None) -> bytes:
        """Return the last line, with the counts; it holds `reply` where that is all there is."""
        total_ns, load_ns = self.durations_ns
        usage, timings = chunk.usage or Usage(), chunk.timings or Timings()
        last = msgspec.structs.replace(
            reply or self._reply("", "", (), None),
            done=True,
            done_reason="length" if reason == "length" else "stop",
            total_duration=total_ns,
            load_duration=load_ns,
            prompt_eval_count=usage.prompt_tokens,
            prompt_eval_duration=int(timings.prompt_ms * 1e6),
            eval_count=usage.completion_tokens,
            eval_duration=int(timings.predicted_ms * 1e6),
        )
        return self._line(last)

    def acted(self, reason: str) -> bytes:
        """Return what answers when a model was only loaded or unloaded."""
        reply = self._reply("", "", (), None)
        return self._line(msgspec.structs.replace(reply, done=True, done_reason=reason))

    def whole(self, choice: Choice, chunk: Chunk, calls: tuple[_Call, ...]) -> bytes:
        """Return an answer that is no stream."""
        words = choice.message or Delta()
        reply = self._reply(
            choice.text or words.content or "",
            words.reasoning_content or "",
            calls,
            choice.logprobs.content if choice.logprobs else None,
        )
        return self.done(choice.finish_reason or "", chunk, reply)

    def _reply(
        self, content: str, thinking: str, calls: tuple[_Call, ...], logprobs: msgspec.Raw | None
    ) -> _Reply:
        now = datetime.fromtimestamp(self._clock.now(), UTC)
        if self._is_chat:
            message = _Message(
                role="assistant", content=content, thinking=thinking, tool_calls=calls
            )
            return _Reply(
                model=self.model, created_at=now, message=message, logprobs=logprobs, done=False
            )
        return _Reply(
            model=self.model,
            created_at=now,
            response=content,
            thinking=thinking,
            logprobs=logprobs,
            done=False,
        )

    @staticmethod
    def _line(reply: _Reply) -> bytes:
        return _encoder.encode(reply) + b"\n"


class Calls:
    """Tool calls that come in parts."""

    def __init__(self) -> None:
        self._parts: dict[int, tuple[str, list[str]]] = {}
        self._bytes = 0

    def add(self, parts: list[CallPart]) -> None:
        """
        Take parts.

        Raises:
            Problem: They are too many.
        """
        for part in parts:
            function = part.function or Function()
            name, arguments = self._parts.get(part.index, ("", []))
            arguments.append(function.arguments or "")
            self._bytes += len(arguments[-1]) + len(function.name or "") + 1
            self._parts[part.index] = (name + (function.name or ""), arguments)
        if len(self._parts) > MAX_CALLS or self._bytes > MAX_ARGUMENTS_BYTES:
            raise nonsense("more tool calls than can be")

    def take(self, *, is_cut: bool) -> tuple[_Call, ...]:
        """
        Return the calls; those that a limit cut short are left out.

        Raises:
            Problem: The arguments of one are no object.
        """
        calls = []
        for index, (name, pieces) in enumerate(self._parts.values()):
            text = "".join(pieces).strip() or "{}"
            try:
                _object_decoder.decode(text)
            except (msgspec.MsgspecError, RecursionError):
                if is_cut:
                    continue
                raise nonsense(f"a call of {name} whose arguments are no object") from None
            calls.append(_Call(_Called(index, name, msgspec.Raw(text.encode()))))
        self._parts.clear()
        return tuple(calls)


# --- translators ----------------------------------------------------------------------------


class Words(Retelling):
    """Tells of words, thoughts and tool calls."""

    def __init__(self, teller: Teller) -> None:
        super().__init__()
        self._teller = teller
        teller.note_sent()
        self._calls = Calls()
        self._numbers = Chunk()
        self._reason = ""

    def _whole(self, chunk: Chunk, choice: Choice) -> bytes:
        if choice.message is not None and choice.message.tool_calls:
            self._calls.add(_numbered(choice.message.tool_calls))
        calls = self._calls.take(is_cut=choice.finish_reason == "length")
        return self._teller.whole(choice, chunk, calls)

    def _is_finished(self) -> bool:
        return bool(self._reason)

    def _last(self) -> bytes:
        return self._teller.done(self._reason, self._numbers)

    def _error(self, problem: Problem) -> bytes:
        return error_line(problem)

    def _sign_of_life(self) -> bytes:
        return SIGN_OF_LIFE

    def _chunk(self, chunk: Chunk) -> Iterator[bytes]:
        if chunk.error is not None:
            raise Problem(502, chunk.error.message or "the server failed")
        if chunk.usage is not None or chunk.timings is not None:
            self._numbers = chunk
        for choice in chunk.choices[:1]:
            yield from self._choice(choice)

    def _choice(self, choice: Choice) -> Iterator[bytes]:
        words = choice.delta or Delta()
        content, thinking = choice.text or words.content or "", words.reasoning_content or ""
        if words.tool_calls:
            self._calls.add(words.tool_calls)
        calls: tuple[_Call, ...] = ()
        if choice.finish_reason:
            self._reason = choice.finish_reason
            calls = self._calls.take(is_cut=self._reason == "length")
        if content or thinking or calls:
            logprobs = choice.logprobs.content if choice.logprobs else None
            yield self._teller.words(content, thinking, calls, logprobs)


class Vectors:
    """Translates embeddings, which are never a stream."""

    def __init__(self, teller: Teller, *, is_single: bool) -> None:
        """Translate for `/api/embed`; for the older `/api/embeddings` if it is a single one."""
        self._teller = teller
        self._is_single = is_single
        teller.note_sent()

    def piece(self, data: bytes) -> bytes:
        """Never called."""
        del data
        raise AssertionError("embeddings are no stream")

    def end(self) -> bytes:
        """Never called."""
        raise AssertionError("embeddings are no stream")

    def whole(self, body: bytes) -> bytes:
        """
        Return the embeddings.

        Raises:
            Problem: They make no sense.
        """
        found = read_vectors(body)
        vectors = tuple(v.embedding for v in sorted(found.data, key=lambda v: v.index))
        if self._is_single and len(vectors) != 1:
            raise nonsense(f"{len(vectors)} embeddings for one text")
        usage = found.usage or Usage()
        return embeddings(self._teller, vectors, usage.prompt_tokens, is_single=self._is_single)


def embeddings(
    teller: Teller, vectors: tuple[msgspec.Raw, ...], tokens: int, *, is_single: bool
) -> bytes:
    """Return embeddings as the path that was asked has them; none make an empty one."""
    if is_single:
        return _encoder.encode(_Embedding(vectors[0] if vectors else msgspec.Raw(b"[]")))
    total_ns, load_ns = teller.durations_ns
    return _encoder.encode(
        _Embeddings(
            model=teller.model,
            embeddings=vectors,
            total_duration=total_ns,
            load_duration=load_ns,
            prompt_eval_count=tokens,
        )
    )


def _numbered(parts: list[CallPart]) -> list[CallPart]:
    """Return whole calls by their place: an answer that is no stream does not number them."""
    return [CallPart(index, part.function) for index, part in enumerate(parts)]
