"""
Ollama's requests, read and put into a llama-server's words.

Options that belong to a model's load (`num_ctx`, `num_batch`, `num_gpu`, `num_thread`, `use_mmap`,
...) are accepted and left out: how a model is loaded, its configuration says, and no request
changes it under the feet of others.  Pure functions; which model is meant is asked elsewhere.
"""

import re
from collections import deque
from typing import Annotated, Final

import msgspec
from msgspec import Meta, Struct, field, structs

from modeld.gateway import fields
from modeld.gateway.http import Body, Problem

Json = dict[str, object]
_encoder = msgspec.json.Encoder()
_MAX_INT64 = 2**63 - 1
_BASE64 = re.compile(r"[A-Za-z0-9+/\r\n]++={0,2}\s*+", re.ASCII)
"""Possessive: what could take a line's end in two ways tried all of them, for days."""
MAX_PICTURES: Final = 1000
"""In one request: each becomes three objects on the way to the server."""
_PICTURES: Final = {"/9j/": "jpeg", "R0lG": "gif", "UklG": "webp"}
"""How each kind begins in base64; PNG otherwise, and the server looks for itself."""
_SERVER_NAMES: Final = {"num_predict": "n_predict", "num_keep": "n_keep"}


class Options(Struct, kw_only=True):
    """The sampling of one answer, in Ollama's names; those not listed are ignored."""

    num_predict: fields.CountOrLess = None
    num_keep: fields.CountOrLess = None
    seed: Annotated[int, Meta(ge=-1, le=_MAX_INT64)] | Annotated[float, Meta(ge=-1)] | None = None
    temperature: float | None = None
    top_k: fields.CountOrLess = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    stop: str | list[str] | None = None
    repeat_penalty: float | None = None
    repeat_last_n: fields.CountOrLess = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    mirostat: fields.Count = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None


class Called(Struct):
    """The function of a tool call; its arguments are an object here, a string at the server."""

    name: str
    arguments: Json | None = None


class ToolCall(Struct, kw_only=True):
    """What a model asked for in an earlier turn."""

    id: str = ""
    function: Called


class Turn(fields.Message, kw_only=True):
    """A message."""

    role: str = "user"
    thinking: str | None = None
    images: list[str] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


class Ask(fields.Checked, kw_only=True):
    """What requests for answers have in common."""

    options: Options | None = None
    format: str | Json | None = None
    think: bool | str | None = None
    logprobs: bool | None = None

    @property
    def is_stream(self) -> bool:
        """Whether a stream is wanted: yes, unless it is refused."""
        return self.stream is not False


class Chat(Ask, kw_only=True):
    """`/api/chat`."""

    messages: list[Turn] = field(default_factory=list)  # type: ignore[assignment]  # only read
    tools: list[Json] | None = None  # type: ignore[assignment]  # only read


class Generate(Ask, kw_only=True):
    """`/api/generate`."""

    prompt: str = ""
    suffix: str = ""
    system: str = ""
    template: str = ""
    raw: bool = False
    images: list[str] | None = None


class Embed(Ask, kw_only=True):
    """`/api/embed`, and `/api/embeddings` with a `prompt`."""

    input: str | list[str] | None = None
    prompt: str = ""
    dimensions: Annotated[int, Meta(ge=1, le=1 << 20)] | None = None

    @property
    def texts(self) -> list[str]:
        """What is to be embedded."""
        given = self.prompt if self.input is None else self.input
        return ([given] if given else []) if isinstance(given, str) else given


class Named(fields.Checked, kw_only=True):
    """A request about a model."""

    name: str = ""
    """What older clients say for `model`."""

    @property
    def chosen(self) -> str:
        """The name that is given; empty for none."""
        return self.model or self.name


class Copied(fields.Checked, kw_only=True):
    """`/api/copy`."""

    source: str = ""
    destination: Annotated[str, Meta(min_length=1)]


_named_decoder = msgspec.json.Decoder(Named)
_copied_decoder = msgspec.json.Decoder(Copied)
_chat_decoder = msgspec.json.Decoder(Chat)
_generate_decoder = msgspec.json.Decoder(Generate)
_embed_decoder = msgspec.json.Decoder(Embed)


def read_name(body: Body) -> Named:
    """
    Return a request about a model.

    Raises:
        Problem: 400, it makes no sense.
    """
    return fields.read(_named_decoder, body)


def read_copy(body: Body) -> Copied:
    """
    Return a request for a further name.

    Raises:
        Problem: 400, it makes no sense.
    """
    return fields.read(_copied_decoder, body)


def read_chat(body: Body) -> Chat:
    """
    Return a request for a turn of a chat.

    Raises:
        Problem: 400, it makes no sense.
    """
    return fields.read(_chat_decoder, body)


def read_generate(body: Body) -> Generate:
    """
    Return a request for an answer to a prompt.

    Raises:
        Problem: 400, it makes no sense.
    """
    return fields.read(_generate_decoder, body)


def read_embed(body: Body) -> Embed:
    """
    Return a request for embeddings.

    Raises:
        Problem: 400, it makes no sense.
    """
    return fields.read(_embed_decoder, body)


def chat_body(ask: Chat) -> bytes:
    """
    Return the body for the server's `/v1/chat/completions`.

    Raises:
        Problem: 400, a picture or the format makes no sense.
    """
    body = _common(ask) | _format(ask) | {"messages": _messages(ask.messages)}
    if ask.tools:
        body["tools"] = ask.tools
    return _encoder.encode(body)


def prompt_body(ask: Generate) -> bytes:
    """
    Return the body for `/v1/chat/completions`: the prompt as a chat of one turn.

    Raises:
        Problem: 400, a picture or the format makes no sense.
    """
    turns = [Turn(role="system", content=ask.system)] if ask.system else []
    turns.append(Turn(content=ask.prompt, images=ask.images))
    return _encoder.encode(_common(ask) | _format(ask) | {"messages": _messages(turns)})


def raw_body(ask: Generate) -> bytes:
    """
    Return the body for `/v1/completions`: the prompt as it is.

    Raises:
        Problem: 400, the format makes no sense.
    """
    found = _schema(ask)
    shape: Json = {} if found is None else {"json_schema": found}
    prompt = f"{ask.system}\n\n{ask.prompt}" if ask.system and not ask.raw else ask.prompt
    return _encoder.encode(_common(ask) | shape | {"prompt": prompt})


def embed_body(ask: Embed) -> bytes:
    """Return the body for the server's `/v1/embeddings`."""
    body: Json = {"input": ask.texts}
    if ask.dimensions is not None:
        body["dimensions"] = ask.dimensions
    return _encoder.encode(body)


def _common(ask: Ask) -> Json:
    body: Json = {}
    for name, value in structs.asdict(ask.options or Options()).items():
        if value is not None:
            body[_SERVER_NAMES.get(name, name)] = value
    if ask.is_stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if ask.logprobs:
        body |= {"logprobs": True, "top_logprobs": ask.top_logprobs or 0}
    if ask.think is not None:
        body["chat_template_kwargs"] = {"enable_thinking": bool(ask.think)}
        if isinstance(ask.think, str):
            body["reasoning_effort"] = ask.think
    return body


def _schema(ask: Ask) -> Json | None:
    if ask.format is None or ask.format == "":
        return None
    if ask.format == "json":
        return {"type": "object"}
    if isinstance(ask.format, str):
        raise Problem(400, f"invalid format: {ask.format[:64]!r} is neither json nor a JSON schema")
    return ask.format


def _format(ask: Ask) -> Json:
    schema = _schema(ask)
    if schema is None:
        return {}
    if ask.format == "json":
        return {"response_format": {"type": "json_object"}}
    return {"response_format": {"type": "json_schema", "json_schema": {"schema": schema}}}


# --- messages -------------------------------------------------------------------------------


def _messages(turns: list[Turn]) -> list[Json]:
    """Return the messages; calls get ids, and each result of a tool the id of its call."""
    if sum(len(turn.images or ()) for turn in turns) > MAX_PICTURES:
        raise Problem(400, f"a request may have {MAX_PICTURES} images")
    open_calls = _OpenCalls()
    messages: list[Json] = []
    for number, turn in enumerate(turns):
        message: Json = {"role": turn.role, "content": turn.content or ""}
        if turn.images:
            message["content"] = _with_pictures(turn)
        if turn.thinking:
            message["reasoning_content"] = turn.thinking
        if turn.tool_calls:
            message["tool_calls"] = calls = []
            for index, call in enumerate(turn.tool_calls):
                call_id = call.id or f"call_{number}_{index}"
                open_calls.add(call_id, call.function.name)
                calls.append(_call(call_id, call.function))
        if turn.role == "tool":
            message["tool_call_id"] = turn.tool_call_id or open_calls.take(turn.tool_name)
            if turn.tool_name:
                message["name"] = turn.tool_name
        messages.append(message)
    return messages


def _call(call_id: str, function: Called) -> Json:
    arguments = _encoder.encode(function.arguments or {}).decode()
    return {
        "id": call_id,
        "type": "function",
        "function": {"name": function.name, "arguments": arguments},
    }


class _OpenCall(Struct):
    id: str
    is_taken: bool = False


class _OpenCalls:
    """Calls without a result yet; to take one costs the same, however many there are."""

    def __init__(self) -> None:
        self._all: deque[_OpenCall] = deque()
        self._by_name: dict[str, deque[_OpenCall]] = {}

    def add(self, call_id: str, name: str) -> None:
        """Keep a call."""
        call = _OpenCall(call_id)
        self._all.append(call)
        self._by_name.setdefault(name, deque()).append(call)

    def take(self, tool_name: str | None) -> str:
        """Return, and take off, the oldest call; of this tool if that is known."""
        calls = self._by_name.get(tool_name, deque()) if tool_name else self._all
        while calls:
            call = calls.popleft()
            if not call.is_taken:  # from the other queue
                call.is_taken = True
                return call.id
        return "call"


def _with_pictures(turn: Turn) -> list[Json]:
    parts: list[Json] = [{"type": "text", "text": turn.content or ""}]
    for image in turn.images or []:
        if not _BASE64.fullmatch(image):
            raise Problem(400, "illegal base64 data in images", code="media_url_denied")
        kind = _PICTURES.get(image[:4], "png")
        parts.append(
            {"type": "image_url", "image_url": {"url": f"data:image/{kind};base64,{image}"}}
        )
    return parts
