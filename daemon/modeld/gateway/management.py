"""
What manages models over HTTP: llama.cpp's router, llama-swap and KAREN, and `/ready`.

A load here is a program's: it waits for room and replaces nothing that somebody promised to
keep.  An unload lets requests in flight end, and refuses pinned models.  No GET keeps a model
loaded.  Whatever takes long is answered before clients give up, and goes on.
"""

import asyncio
import contextlib
from collections.abc import Awaitable

import msgspec
from msgspec import Struct

from modeld.core.entities import Model, ServerState
from modeld.core.events import Selection, VerdictAsked
from modeld.gateway import fields
from modeld.gateway.guard import may_be_of_page
from modeld.gateway.http import Answer, Problem
from modeld.gateway.openai import OPENAI, Listed, listed_models, shown_name
from modeld.gateway.table import ALWAYS, Answering, Call, Families, Local, Row, next_id
from modeld.supervisor.door import Routes

ANSWER_SECONDS = 10.0
"""Clients of llama.cpp's router, which answers at once, give up after 15."""
_CAN_LOAD = "/can-load"
_encoder = msgspec.json.Encoder()


class _Named(fields.Checked, kw_only=True):
    """A model by whichever key: the router's `model`, KAREN's `model_id` or `name`."""

    model_id: str | None = None
    name: str | None = None


_decoder = msgspec.json.Decoder(_Named)


class _Status(Struct, frozen=True):
    value: str


class _Done(Struct, frozen=True, kw_only=True):
    success: bool = True
    model: str
    model_id: str
    """The same, for KAREN."""
    status: _Status


class _Current(Struct, frozen=True):
    id: str | None


class _Models(Struct, frozen=True, kw_only=True):
    """What the three of them expect below one path."""

    object: str = "list"
    data: list[Listed]
    available: list[str]
    loaded: list[str]
    current: _Current


class _Running(Struct, frozen=True, kw_only=True):
    """One server, as llama-swap has it; what is nobody's business over HTTP is empty."""

    model: str
    state: str
    cmd: str = ""
    proxy: str = ""
    ttl: int = 0
    name: str = ""
    description: str = ""


class _AllRunning(Struct, frozen=True):
    running: list[_Running]


def list_models(call: Call) -> Answer:
    """Answer with all models, those that are loaded, and the one in use."""
    routes = call.door.routes
    listed = listed_models(routes)
    own = [each for each in listed if each.id not in routes.variants]
    loaded = [each.id for each in own if each.status.value == "loaded"]
    current = current_model(call)
    models = _Models(
        data=listed,
        available=[each.id for each in listed],
        loaded=loaded,
        current=_Current(shown_name(routes, current) if current is not None else None),
    )
    return Answer(body=_encoder.encode(models))


def current_model(call: Call) -> Model | None:
    """
    Return the model in use, of those that are loaded and generate.

    It is the one that was asked or loaded here last; before any was, the default model, else the
    one that was started last.
    """
    routes = call.door.routes
    ready = {
        route.server_id: model_id
        for model_id, route in routes.servers.items()
        if route.state is ServerState.READY and _generates(routes, model_id)
    }
    used = next((ready[each] for each in call.used() if each in ready), None)
    if used is None:
        default = routes.index.get(routes.default_model, ())
        used = next((each for each in ready.values() if each in default), None)
    if used is None:
        used = next(reversed(ready.values()), None)
    return routes.models[used] if used is not None else None


def _generates(routes: Routes, model_id: str) -> bool:
    facts = routes.guide.facts.get(model_id)
    return model_id in routes.models and (facts is None or facts.streaming)


async def load(call: Call) -> Answer:
    """Load a model; answer when it is ready, or that it loads where that takes long."""
    model = _find(call, _name_in(call))
    task = call.begin_load(model)
    await asyncio.wait({task}, timeout=ANSWER_SECONDS)
    if not task.done():
        return _done(call, model, "loading")
    task.result()
    return _done(call, model, "loaded")


async def can_load(call: Call) -> Answer:
    """Answer whether a model could be loaded now, beside what runs, and why not."""
    name = call.argument.removesuffix(_CAN_LOAD)
    if name == call.argument:
        raise Problem(404, f"there is no {call.head.path} here: it may end in {_CAN_LOAD}")
    asked = VerdictAsked(request_id=next_id(), selection=Selection(pattern=name, exact=True))
    verdict = await call.door.ask(asked)
    return Answer(body=_encoder.encode(msgspec.structs.asdict(verdict)))


async def unload(call: Call) -> Answer:
    """Unload the model that the path names, or else the body."""
    model = _find(call, call.argument or _name_in(call))
    is_gone = await _within_reason(call.unload(model))
    return _done(call, model, "unloaded" if is_gone else "unloading")


async def unload_as_llama_swap(call: Call) -> Answer:
    """Unload the model that the path names."""
    await _within_reason(call.unload(_find(call, call.argument)))
    return _ok()


async def unload_all(call: Call) -> Answer:
    """Unload everything but the pinned."""
    await _within_reason(call.unload(None))
    return Answer(body=b'{"msg":"ok"}')


async def unload_all_by_get(call: Call) -> Answer:
    """Do so for a GET, unless a web page may have had it sent."""
    if may_be_of_page(call.head):
        raise Problem(403, "a page may not unload models")
    if call.head.method != "HEAD":  # which only looks whether there is something
        await unload_all(call)
    return _ok()


def list_running(call: Call) -> Answer:
    """Answer with the servers that are ready or on their way."""
    routes = call.door.routes
    running = [
        _Running(
            model=shown_name(routes, routes.models[each]) if each in routes.models else each,
            state="ready" if route.state is ServerState.READY else "starting",
        )
        for each, route in routes.servers.items()
    ]
    return Answer(body=_encoder.encode(_AllRunning(running)))


def ready(call: Call) -> Answer:
    """Answer that models can be loaded; a 503 says what keeps them from it."""
    if call.door.routes.problem:
        raise Problem(503, call.door.routes.problem, code="unavailable", kind="server_error")
    return Answer(body=b'{"status":"ok"}')


def _name_in(call: Call) -> str:
    found = fields.read(_decoder, call.body)
    return found.model or found.model_id or found.name or ""


def _find(call: Call, name: str) -> Model:
    if not name:
        raise Problem(400, "model name is missing from the request")
    return call.door.routes.find(name)


async def _within_reason(work: Awaitable[None]) -> bool:
    """Return whether it is done already; what was begun goes on."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWER_SECONDS):
            await work
            return True
    return False


def _done(call: Call, model: Model, status: str) -> Answer:
    name = shown_name(call.door.routes, model)
    return Answer(body=_encoder.encode(_Done(model=name, model_id=name, status=_Status(status))))


def _ok() -> Answer:
    return Answer(body=b"OK", content_type=b"text/plain; charset=utf-8")


_ROUTER: Families = ("llamacpp", "karen")
_SWAP: Families = ("llama-swap",)


def _row(method: str, path: str, answer: Answering, families: Families) -> Row:
    return Row(method=method, path=path, dialect=OPENAI, action=Local(answer), families=families)


# fmt: off
ROWS = (
    _row("GET",  "/ready",               ready,                ALWAYS),
    _row("GET",  "/models",              list_models,          _ROUTER),
    _row("GET",  "/models/*",            can_load,             _ROUTER),
    _row("POST", "/models/load",         load,                 _ROUTER),
    _row("POST", "/models/unload",       unload,               _ROUTER),
    _row("POST", "/models/unload/*",     unload,               _ROUTER),
    _row("GET",  "/running",             list_running,         _SWAP),
    _row("GET",  "/unload",              unload_all_by_get,    _SWAP),
    _row("POST", "/api/models/unload",   unload_all,           _SWAP),
    _row("POST", "/api/models/unload/*", unload_as_llama_swap, _SWAP),
)
# fmt: on
