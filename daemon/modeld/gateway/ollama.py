"""
The Ollama dialect: its routes, its errors, and which of a server's paths answers what.

A prompt is a chat of one turn, unless it is `raw` or the model has no chat template.  An empty
one loads the model, and with a `keep_alive` of 0 unloads it.  Models come and go as files here:
pull, create, push and blobs are answered with 501, `copy` gives a nickname, and `delete` takes
one back but never a file.  No sockets here.
"""

from typing import Final

from msgspec.structs import replace

from modeld.core.events import NamesAsked, Selection
from modeld.core.names import NameChange
from modeld.errors import NameTaken, UnknownName
from modeld.gateway import ollama_requests as requests
from modeld.gateway.fields import keep_alive_seconds
from modeld.gateway.http import Answer, Problem
from modeld.gateway.ollama_answers import (
    SIGN_OF_LIFE,
    Teller,
    Vectors,
    Words,
    embeddings,
    error_line,
)
from modeld.gateway.ollama_models import (
    Found,
    alive,
    choose,
    find,
    running,
    show,
    tags,
    version,
)
from modeld.gateway.table import Call, Dialect, Local, Relayed, Row, Wanted, next_id
from modeld.gateway.tasks import last_words
from modeld.gateway.translation import Instead

CHAT_PATH: Final = "/v1/chat/completions"


def error_body(problem: Problem) -> bytes:
    """Return an error as Ollama's API has it."""
    return error_line(problem)[:-1]


def sign_of_life(text: str) -> bytes:
    """Return what no reader of JSON sees."""
    del text
    return SIGN_OF_LIFE


OLLAMA = Dialect(
    error_body=error_body,
    stream_type=b"application/x-ndjson",
    stream_error=error_line,
    sign_of_life=sign_of_life,
    white_space=SIGN_OF_LIFE,
)


# --- what a server answers ------------------------------------------------------------------


def chat(call: Call) -> Wanted:
    """Prepare a turn of a chat."""
    ask = requests.read_chat(call.body)
    found = choose(call, ask.model, lambda: _last_words(ask), has_tools=bool(ask.tools))
    teller = Teller(_told(ask, found), call.clock, is_chat=True)
    if not ask.messages:
        return _instead(ask, teller, found)
    wanted = _relayed(ask, teller, found, (CHAT_PATH, requests.chat_body(ask)))
    return replace(wanted, has_tools=bool(ask.tools))


def generate(call: Call) -> Wanted:
    """Prepare an answer to a prompt."""
    ask = requests.read_generate(call.body)
    found = choose(call, ask.model, lambda: ask.prompt)
    model = found[0]
    if ask.suffix:
        raise Problem(400, f"{model.name} does not support insert")
    if ask.template:
        raise Problem(400, "the template of a model is its file's; requests can't replace it")
    teller = Teller(_told(ask, found), call.clock, is_chat=False)
    if not ask.prompt and not ask.images:
        return _instead(ask, teller, found)
    if ask.raw or not (model.header.has_chat_template or ask.images):
        return _relayed(ask, teller, found, ("/v1/completions", requests.raw_body(ask)))
    return _relayed(ask, teller, found, (CHAT_PATH, requests.prompt_body(ask)))


def embed(call: Call) -> Wanted:
    """Prepare embeddings."""
    return _embedded(call, is_single=False)


def embed_one(call: Call) -> Wanted:
    """Prepare the embedding of one prompt, as older clients ask for it."""
    return _embedded(call, is_single=True)


def _embedded(call: Call, *, is_single: bool) -> Wanted:
    ask = requests.read_embed(call.body)
    ask.stream = False
    model = find(call, ask.model)
    teller = Teller(ask.model or model.name, call.clock, is_chat=False)
    seconds = keep_alive_seconds(ask)
    if not ask.texts:
        instead = Instead(is_load=True, body=lambda: embeddings(teller, (), 0, is_single=is_single))
        return Wanted(
            model=ask.model or "",
            is_stream=False,
            path="",
            body=b"",
            instead=instead,
            keep_alive_seconds=seconds,
        )
    return Wanted(
        model=ask.model or "",
        is_stream=False,
        path="/v1/embeddings",
        body=requests.embed_body(ask),
        translator=lambda: Vectors(teller, is_single=is_single),
        keep_alive_seconds=seconds,
    )


def _told(ask: requests.Ask, found: Found) -> str:
    """Return what the answer calls its model: what it was called, unless it was chosen."""
    model, decision = found
    return ask.model if ask.model and decision is None else model.name


def _last_words(ask: requests.Chat) -> str:
    return last_words((turn.role, turn.content) for turn in reversed(ask.messages))


def _relayed(ask: requests.Ask, teller: Teller, found: Found, to: tuple[str, bytes]) -> Wanted:
    path, body = to
    return Wanted(
        model=ask.model or "",
        decision=found[1],
        is_stream=ask.is_stream,
        path=path,
        body=body,
        translator=lambda: Words(teller),
        loading_words=lambda _name, text, _now: teller.words("", text, (), None),
        keep_alive_seconds=keep_alive_seconds(ask),
    )


def _instead(ask: requests.Ask, teller: Teller, found: Found) -> Wanted:
    seconds = keep_alive_seconds(ask)
    is_load = seconds != 0
    reason = "load" if is_load else "unload"
    return Wanted(
        model=ask.model or "",
        decision=found[1],
        is_stream=ask.is_stream,
        path="",
        body=b"",
        instead=Instead(is_load=is_load, body=lambda: teller.acted(reason)),
        keep_alive_seconds=seconds,
    )


# --- names ----------------------------------------------------------------------------------


async def copy(call: Call) -> Answer:
    """
    Give a model a further name: a nickname, which costs no disk.

    Raises:
        NameTaken: Another model goes by that name; a nickname would silently come before it.
    """
    ask = requests.read_copy(call.body)
    model = find(call, ask.source)
    name = ask.destination.removesuffix(":latest")
    if set(call.door.routes.index.get(name, ())) - {model.id}:
        raise NameTaken(f"'{name}' is the name of another model")
    change = NameChange(add_nicknames=(name,))
    selection = Selection(model_id=model.id)
    await call.door.ask(NamesAsked(request_id=next_id(), selection=selection, change=change))
    return Answer(content_type=b"")


async def delete(call: Call) -> Answer:
    """Take a nickname back; a model's file stays."""
    name = requests.read_name(call.body).chosen
    model = find(call, name)
    change = NameChange(delete_nicknames=(name.removesuffix(":latest"),))
    try:
        await call.door.ask(NamesAsked(request_id=next_id(), selection=Selection(), change=change))
    except UnknownName:
        raise Problem(
            501, f"modeld deletes no model files; remove {model.location.path} yourself"
        ) from None
    return Answer(content_type=b"")


def unserved(call: Call) -> Answer:
    """
    Refuse what would write model files.

    Raises:
        Problem: 501, always.
    """
    raise Problem(
        501, f"{call.head.path}: models come as GGUF files into modeld's folders, not over this API"
    )


# fmt: off
ROWS = (
    Row(method="GET",    path="/",               dialect=OLLAMA, action=Local(alive)),
    Row(method="GET",    path="/api/version",    dialect=OLLAMA, action=Local(version)),
    Row(method="GET",    path="/api/tags",       dialect=OLLAMA, action=Local(tags)),
    Row(method="GET",    path="/api/ps",         dialect=OLLAMA, action=Local(running)),
    Row(method="POST",   path="/api/show",       dialect=OLLAMA, action=Local(show)),
    Row(method="POST",   path="/api/chat",       dialect=OLLAMA, action=Relayed(chat)),
    Row(method="POST",   path="/api/generate",   dialect=OLLAMA, action=Relayed(generate)),
    Row(method="POST",   path="/api/embed",      dialect=OLLAMA, action=Relayed(embed)),
    Row(method="POST",   path="/api/embeddings", dialect=OLLAMA, action=Relayed(embed_one)),
    Row(method="POST",   path="/api/copy",       dialect=OLLAMA, action=Local(copy)),
    Row(method="DELETE", path="/api/delete",     dialect=OLLAMA, action=Local(delete)),
    Row(method="POST",   path="/api/pull",       dialect=OLLAMA, action=Local(unserved)),
    Row(method="POST",   path="/api/create",     dialect=OLLAMA, action=Local(unserved)),
    Row(method="POST",   path="/api/push",       dialect=OLLAMA, action=Local(unserved)),
    Row(method="GET",    path="/api/blobs/*",    dialect=OLLAMA, action=Local(unserved)),
    Row(method="POST",   path="/api/blobs/*",    dialect=OLLAMA, action=Local(unserved)),
)
# fmt: on
