"""
What happens, told as it happens: the states of models as llama.cpp's router tells them, and logs.

Nothing here loads a model or keeps one loaded.  Whoever reads slowly is told how things are when
it reads again, not all that was in between.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator
from urllib.parse import parse_qs

import msgspec
from msgspec import Struct

from modeld.core.entities import ServerState
from modeld.gateway.http import Answer, Problem
from modeld.gateway.openai import OPENAI, Listed, listed_model, shown_name
from modeld.gateway.table import Call, Followed, Local, Row, belonging
from modeld.supervisor.door import Route, Routes

HISTORY_LINES = 200
"""What was logged before, and is told first."""
_SIGN_OF_LIFE = b":\n\n"
_STAGE = "text_model"
_TEXT = b"text/plain; charset=utf-8"
_encoder = msgspec.json.Encoder()


class _Progress(Struct, frozen=True, kw_only=True):
    """Stages as llama.cpp names them; modeld knows of one, which is all of a model."""

    stages: tuple[str, ...] = (_STAGE,)
    current: str = _STAGE
    value: float


class _Data(Struct, frozen=True, kw_only=True, omit_defaults=True):
    status: str
    progress: _Progress | None = None
    info: Listed | None = None


class _Event(Struct, frozen=True, kw_only=True, omit_defaults=True):
    model: str
    event: str
    data: _Data | None = None


# --- models ---------------------------------------------------------------------------------


def follow_models(call: Call) -> AsyncGenerator[bytes, None]:
    """Return what tells each change of a model's state."""
    return _model_events(call)


async def _model_events(call: Call) -> AsyncGenerator[bytes, None]:
    door = call.door
    told = door.routes
    yield _SIGN_OF_LIFE
    while True:
        if door.routes is told:
            try:
                async with asyncio.timeout(call.config.heartbeat_seconds):
                    await door.changed()
            except TimeoutError:
                yield _SIGN_OF_LIFE
            continue
        before, told = told, door.routes
        events = list(_changes(before, told))
        if events:
            yield b"".join(b"data: %b\n\n" % _encoder.encode(event) for event in events)


def _changes(before: Routes, now: Routes) -> Iterator[_Event]:
    """Give what has become of every model between two looks, as the router words it."""
    if before.models.keys() != now.models.keys():
        yield _Event(model="*", event="models_reload")
    for model_id, was in before.servers.items():
        route = now.servers.get(model_id)
        if route is None or route.server_id != was.server_id:
            yield _status(before, model_id, "unloaded")
    for model_id, route in now.servers.items():
        old = before.servers.get(model_id)
        same = old if old is not None and old.server_id == route.server_id else None
        yield from _progress(now, route, same)


def _progress(routes: Routes, route: Route, old: Route | None) -> Iterator[_Event]:
    if old is None:
        name = _name(routes, route.model_id)
        yield _Event(model=name, event="model_status", data=_Data(status="loading"))
    if route.state is ServerState.READY:
        if old is None or old.state is not ServerState.READY:
            yield _status(routes, route.model_id, "loaded")
    elif old is not None and old.fraction != route.fraction:
        data = _Data(status="loading", progress=_Progress(value=route.fraction))
        name = _name(routes, route.model_id)
        yield _Event(model=name, event="status_change", data=data)


def _status(routes: Routes, model_id: str, status: str) -> _Event:
    model = routes.models.get(model_id)
    info = listed_model(routes, model) if model is not None and status == "loaded" else None
    data = _Data(status=status, info=info)
    return _Event(model=_name(routes, model_id), event="status_change", data=data)


def _name(routes: Routes, model_id: str) -> str:
    model = routes.models.get(model_id)
    return shown_name(routes, model) if model is not None else model_id


# --- logs -----------------------------------------------------------------------------------


def show_log(call: Call) -> Answer:
    """Answer with what modeld did of late."""
    lines = call.door.logs.recent(HISTORY_LINES)
    return Answer(body=_as_text(lines), content_type=_TEXT)


def follow_log(call: Call) -> AsyncGenerator[bytes, None]:
    """Return what tells all that modeld does."""
    return _texts(call.door.logs.follow_own(_history(call)))


def follow_server_log(call: Call) -> AsyncGenerator[bytes, None]:
    """
    Return what tells the log lines of a model's server, and of the next one after it.

    Raises:
        UnknownModel: There is no such model.
        Ambiguous: There are several.
    """
    model = call.door.routes.find(call.argument)
    return _texts(call.door.logs.follow(model.id, _history(call)))


def _history(call: Call) -> int:
    try:
        wanted = parse_qs(call.head.query, keep_blank_values=True, max_num_fields=16)
    except ValueError:
        raise Problem(400, "a query may have 16 parameters") from None
    return 0 if "no-history" in wanted else HISTORY_LINES


async def _texts(batches: AsyncGenerator[tuple[str, ...], None]) -> AsyncGenerator[bytes, None]:
    try:
        async for lines in batches:
            yield _as_text(lines)
    finally:
        await batches.aclose()


def _as_text(lines: tuple[str, ...]) -> bytes:
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


_MODELS = Followed(content_type=b"text/event-stream", begin=follow_models)
_OWN_LOG = Followed(content_type=_TEXT, begin=follow_log)
_SERVER_LOG = Followed(content_type=_TEXT, begin=follow_server_log)
ROWS = (
    *belonging(
        ("llamacpp",),
        (Row(method="GET", path="/models/sse", dialect=OPENAI, action=_MODELS),),
    ),
    *belonging(
        ("llama-swap",),
        (
            Row(method="GET", path="/logs", dialect=OPENAI, action=Local(show_log)),
            Row(method="GET", path="/logs/stream", dialect=OPENAI, action=_OWN_LOG),
            Row(method="GET", path="/logs/stream/*", dialect=OPENAI, action=_SERVER_LOG),
        ),
    ),
)
