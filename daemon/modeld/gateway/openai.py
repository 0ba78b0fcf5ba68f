"""
The OpenAI dialect: what is generated, the list of models, its errors; and `/health`.

`/health` is the gateway's own, and says nothing of any server: while one loads, llama-server
answers 503 to the same question, which clients take for an outage.  No sockets here.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import msgspec
from msgspec import Struct, structs

from modeld.core.entities import Model, ServerState
from modeld.gateway import fields, tasks
from modeld.gateway.http import Answer, Problem
from modeld.gateway.table import ALWAYS, Call, Dialect, Local, Relayed, Row, Wanted
from modeld.supervisor.door import Routes

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(fields.Checked)
_RESPONSE_PROSE = fields.PROSE | {"annotations"}
_LINK_KEYS = ("image_url", "file_url")
_STATUS_VALUES = {
    ServerState.STARTING: "loading",
    ServerState.LOADING: "loading",
    ServerState.READY: "loaded",
}


class _Error(Struct, frozen=True):
    """What OpenAI's clients make their exceptions of."""

    message: str
    type: str
    param: str | None
    code: str


class _Failure(Struct, frozen=True):
    error: _Error


def error_body(problem: Problem) -> bytes:
    """Return an error as OpenAI's API has it."""
    return _encoder.encode(_Failure(_Error(problem.message, problem.kind, None, problem.code)))


def stream_error(problem: Problem) -> bytes:
    """Return an error as an event; the client raises, and misses no `[DONE]`."""
    return b"data: %b\n\n" % error_body(problem)


def sign_of_life(text: str) -> bytes:
    """Return a comment, which every reader of events skips."""
    return b": %b\n\n" % text.encode("ascii", "replace").replace(b"\n", b" ")


class _Words(Struct, frozen=True):
    reasoning_content: str
    role: str = "assistant"


class _Said(Struct, frozen=True):
    delta: _Words
    index: int = 0
    finish_reason: str | None = None


class _Chunk(Struct, frozen=True, kw_only=True):
    """A part of a chat's stream that modeld itself says."""

    id: str = "chatcmpl-modeld"
    object: str = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[_Said, ...]


def loading_words(model: str, text: str, now: float) -> bytes:
    """Return a text as the model's thoughts, which people see and programs don't take for it."""
    chunk = _Chunk(created=int(now), model=model, choices=(_Said(_Words(text)),))
    return b"data: %b\n\n" % _encoder.encode(chunk)


OPENAI = Dialect(
    error_body=error_body,
    stream_type=b"text/event-stream",
    stream_error=stream_error,
    sign_of_life=sign_of_life,
)


class _EventOfError(Struct, frozen=True, kw_only=True, tag="error"):
    """
    An error in the stream of a response.

    It has its words twice: beside the type, as the API has them, and in `error`, as llama-server
    does, for clients that raise.
    """

    code: str
    message: str
    param: str | None = None
    error: _Error


def response_error(problem: Problem) -> bytes:
    """Return an error as an event of a response, whose readers go by its type."""
    error = _Error(problem.message, problem.kind, None, problem.code)
    event = _EventOfError(code=problem.code, message=problem.message, error=error)
    return b"event: error\ndata: %b\n\n" % _encoder.encode(event)


RESPONSES = structs.replace(OPENAI, stream_error=response_error)


class _Response(fields.Checked, kw_only=True):
    """A request for a response, whose messages are in its `input`."""

    input: str | list[dict[str, object]] | None = None


_response_decoder = msgspec.json.Decoder(_Response)


def to_server(path: str) -> Callable[[Call], Wanted]:
    """Return what prepares a request for the server's `path`, which speaks the same dialect."""
    words = loading_words if path == "/v1/chat/completions" else None
    task_of = tasks.BY_PATH.get(path)

    def prepare(call: Call) -> Wanted:
        found = fields.read(_decoder, call.body)
        return Wanted(
            model=found.model or "",
            is_stream=bool(found.stream),
            path=path,
            body=call.body,
            task=task_of(call.body) if task_of is not None else None,
            has_tools=fields.has_tools(found),
            loading_words=words,
            keep_alive_seconds=fields.keep_alive_seconds(found),
        )

    return prepare


def to_response(call: Call) -> Wanted:
    """Return what prepares a request for a response; its input may be pictures."""
    found = fields.read(_response_decoder, call.body)
    for item in found.input if isinstance(found.input, list) else ():
        followed = {
            key: value
            for key, value in item.items()
            if key in _LINK_KEYS or not isinstance(value, str)
        }
        fields.refuse_links([followed], _RESPONSE_PROSE)
    return Wanted(
        model=found.model or "",
        is_stream=bool(found.stream),
        path="/v1/responses",
        body=call.body,
        task=tasks.of_response(call.body),
        has_tools=fields.has_tools(found),
        keep_alive_seconds=fields.keep_alive_seconds(found),
    )


# --- the list of models ---------------------------------------------------------------------


class _Status(Struct, frozen=True):
    value: str


class _Meta(Struct, frozen=True, kw_only=True):
    """As llama-server's own list has it; `n_ctx` only where a server runs."""

    n_ctx: int | None
    n_ctx_train: int
    n_vocab: int
    n_embd: int
    n_params: int
    size: int
    ftype: str


class Listed(Struct, frozen=True, kw_only=True):
    """One model, in OpenAI's and Anthropic's words; `status` and `meta` are llama.cpp's."""

    id: str
    display_name: str
    aliases: list[str]
    object: str = "model"
    type: str = "model"
    created: int
    created_at: str
    owned_by: str = "modeld"
    status: _Status
    meta: _Meta


class _List(Struct, frozen=True, kw_only=True):
    """All of them, as one page."""

    object: str = "list"
    data: list[Listed]
    has_more: bool = False
    first_id: str | None
    last_id: str | None


def _names(routes: Routes) -> Mapping[str, list[str]]:
    """Return what else each model may be called, leaving out what is ambiguous."""
    names: dict[str, list[str]] = {model_id: [] for model_id in routes.models}
    for name, ids in routes.index.items():
        is_variant = name.removesuffix(":latest") in routes.variants
        if len(ids) == 1 and ids[0] in names and not is_variant:
            names[ids[0]].append(name)
    return names


def shown_name(routes: Routes, model: Model) -> str:
    """Return what people call a model; its id where they call several so."""
    return model.name if routes.index.get(model.name) == (model.id,) else model.id


def _listed(routes: Routes, model: Model, names: list[str]) -> Listed:
    route = routes.servers.get(model.id)
    shown = shown_name(routes, model)
    header = model.header
    created = model.location.mtime_ns // 1_000_000_000
    return Listed(
        id=shown,
        display_name=shown,
        aliases=sorted(name for name in names if name != shown),
        created=created,
        created_at=datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        status=_Status(_STATUS_VALUES.get(route.state, "unloaded") if route else "unloaded"),
        meta=_Meta(
            n_ctx=(route.context_tokens or None) if route else None,
            n_ctx_train=header.context_tokens,
            n_vocab=header.vocabulary,
            n_embd=header.embedding,
            n_params=header.parameters,
            size=model.size_bytes,
            ftype=header.quantisation,
        ),
    )


def listed_models(routes: Routes) -> list[Listed]:
    """Return every model, by the name that people use, and its variants after it."""
    names = _names(routes)
    variants: dict[str, list[str]] = {}
    for variant, model_id in sorted(routes.variants.items()):
        variants.setdefault(model_id, []).append(variant)
    found = []
    for model in sorted(routes.models.values(), key=lambda model: model.id):
        listed = _listed(routes, model, names[model.id])
        found.append(listed)
        found += [_as_variant(listed, name) for name in variants.get(model.id, ())]
    return found


def listed_model(routes: Routes, model: Model, name: str = "") -> Listed:
    """Return one model, by the name that people use, or as its variant `name`."""
    listed = _listed(routes, model, _names(routes)[model.id])
    return _as_variant(listed, name) if name in routes.variants else listed


def _as_variant(listed: Listed, name: str) -> Listed:
    return structs.replace(listed, id=name, display_name=name, aliases=[])


def list_models(call: Call) -> Answer:
    """Answer with every model."""
    data = listed_models(call.door.routes)
    first, last = (data[0].id, data[-1].id) if data else (None, None)
    return Answer(body=_encoder.encode(_List(data=data, first_id=first, last_id=last)))


def show_model(call: Call) -> Answer:
    """Answer with the model that the path names."""
    routes = call.door.routes
    model = routes.find(call.argument)
    return Answer(body=_encoder.encode(listed_model(routes, model, call.argument)))


def health(call: Call) -> Answer:
    """Answer that the gateway is here."""
    del call
    return Answer(body=b'{"status":"ok"}')


_RESPONSE = Relayed(to_response)
FAMILIES = ("openai", "llamacpp", "llama-swap", "karen")
"""All of them generate in OpenAI's words."""
_LISTING = (*FAMILIES, "anthropic")
_HEALTH, _LIST, _SHOW = Local(health), Local(list_models), Local(show_model)


def _passed_on(path: str, server_path: str = "") -> Row:
    action = Relayed(to_server(server_path or path))
    return Row(method="POST", path=path, dialect=OPENAI, action=action)


# llama-server has each of these under several names; without `/v1`, completions and embeddings
# are answered in its own way: see `native`.
# fmt: off
ROWS = (
    Row(method="GET",  path="/health",      dialect=OPENAI, action=_HEALTH, families=ALWAYS),
    Row(method="GET",  path="/v1/health",   dialect=OPENAI, action=_HEALTH, families=ALWAYS),
    Row(method="GET",  path="/v1/models",   dialect=OPENAI, action=_LIST,   families=_LISTING),
    Row(method="GET",  path="/v1/models/*", dialect=OPENAI, action=_SHOW,   families=_LISTING),
    Row(method="POST", path="/v1/responses",         dialect=RESPONSES, action=_RESPONSE),
    Row(method="POST", path="/responses",            dialect=RESPONSES, action=_RESPONSE),
    _passed_on("/v1/chat/completions"),
    _passed_on("/chat/completions", "/v1/chat/completions"),
    _passed_on("/v1/completions"),
    _passed_on("/v1/embeddings"),
    _passed_on("/v1/rerank"),
    _passed_on("/v1/reranking", "/v1/rerank"),
    _passed_on("/rerank", "/v1/rerank"),
    _passed_on("/reranking", "/v1/rerank"),
)
# fmt: on
