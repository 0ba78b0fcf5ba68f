"""
Models as Ollama lists and shows them, from what their files' headers say.

Templates and licences stay in the files.  Nothing here loads a model, or keeps one loaded.
"""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, cast

import msgspec
from msgspec import Struct

from modeld.core.entities import Model, ServerState
from modeld.core.events import ServersAsked
from modeld.core.routing import Decision, is_choice
from modeld.errors import UnknownModel
from modeld.gateway import destination
from modeld.gateway import ollama_requests as requests
from modeld.gateway.http import Answer, Problem
from modeld.gateway.table import Call, next_id
from modeld.supervisor.door import Routes
from modeld.wire.models import ServerRow, Servers

VERSION: Final = "0.12.6"
"""Of the API that is spoken here; clients refuse numbers below 0.6.4."""
NEVER: Final = datetime(2318, 1, 1, tzinfo=UTC)
"""Ollama's own word for a model that stays: some three hundred years from now."""
_ENCODERS: Final = frozenset(
    ("bert", "nomic-bert", "nomic-bert-moe", "jina-bert-v2", "jina-bert-v3", "modern-bert")
)
"""Architectures that only embed."""
_encoder = msgspec.json.Encoder()


Found = tuple[Model, Decision | None]


def find(call: Call, name: str | None) -> Model:
    """
    Return the model that is meant, with Ollama's words where there is none.

    Raises:
        Problem: 400 without a name, 404 without a model.
        Ambiguous: Several have the name.
    """
    return choose(call, name, None)[0]


def choose(
    call: Call, name: str | None, task: Callable[[], str] | None, *, has_tools: bool = False
) -> Found:
    """
    Return the model that is meant or chosen, and how it was chosen; otherwise as `find`.

    Args:
        call: The request.
        name: As given.
        task: Returns what the request is about; None where that chooses no model.
        has_tools: The request offers tools.
    """
    try:
        return destination.find(call.door.routes, call, name or "", task, has_tools=has_tools)
    except UnknownModel as error:
        text = error.message if is_choice(name or "") else f"model '{name}' not found"
        raise Problem(404, text, code=str(error.code)) from None
    except Problem as problem:
        raise Problem(problem.status, f"model is required ({problem.message})") from None


class _Details(Struct, frozen=True, kw_only=True):
    parent_model: str = ""
    format: str = "gguf"
    family: str
    families: tuple[str, ...]
    parameter_size: str
    quantization_level: str
    context_length: int
    embedding_length: int


class _Tag(Struct, frozen=True, kw_only=True):
    name: str
    model: str
    modified_at: datetime
    size: int
    digest: str
    details: _Details
    capabilities: tuple[str, ...]


class _Running(Struct, frozen=True, kw_only=True):
    name: str
    model: str
    size: int
    digest: str
    details: _Details
    expires_at: datetime
    size_vram: int
    """0: which part of a model lies on a GPU, its server does not say."""
    context_length: int


class _Shown(Struct, frozen=True, kw_only=True):
    modelfile: str
    parameters: str
    template: str
    details: _Details
    model_info: dict[str, str | int]
    capabilities: tuple[str, ...]
    modified_at: datetime


def alive(call: Call) -> Answer:
    """Say what clients look for before anything else."""
    del call
    return Answer(body=b"Ollama is running", content_type=b"text/plain; charset=utf-8")


def version(call: Call) -> Answer:
    """Say which API this is."""
    del call
    return Answer(body=_encoder.encode({"version": VERSION}))


def tags(call: Call) -> Answer:
    """List every model, and its variants, which are models of their own to whoever chooses one."""
    routes = call.door.routes
    named = [(model.id, _shown_name(routes, model)) for model in routes.models.values()]
    named += [(model_id, variant) for variant, model_id in routes.variants.items()]
    tags = [_tag(routes.models[model_id], name) for model_id, name in sorted(named)]
    return Answer(body=_encoder.encode({"models": tags}))


async def running(call: Call) -> Answer:
    """List the models that are loaded, with the time when each goes if nobody asks it."""
    servers = cast("Servers", await call.door.ask(ServersAsked(request_id=next_id())))
    rows = {row.server_id: row for row in servers.servers}
    routes, now = call.door.routes, call.clock.now()
    found = [
        _Running(
            name=_shown_name(routes, model),
            model=_shown_name(routes, model),
            size=model.size_bytes,
            digest=_digest(model),
            details=_details(model),
            expires_at=_expiry(rows.get(route.server_id), now),
            size_vram=0,
            context_length=route.context_tokens,
        )
        for model_id, route in sorted(routes.servers.items())
        if route.state is ServerState.READY and (model := routes.models.get(model_id))
    ]
    return Answer(body=_encoder.encode({"models": found}))


def _expiry(row: ServerRow | None, now: float) -> datetime:
    """Return when a server goes; far away where nothing ends it."""
    if row is None or row.left_seconds is None:
        return NEVER
    return datetime.fromtimestamp(now + row.left_seconds, UTC)


def show(call: Call) -> Answer:
    """Show what a model's file says of it."""
    ask = requests.read_name(call.body)
    model = find(call, ask.chosen)
    shown = _Shown(
        modelfile=f"FROM {model.location.path}",
        parameters="",
        template="",
        details=_details(model),
        model_info=_facts(model),
        capabilities=_capabilities(model),
        modified_at=_modified_at(model),
    )
    return Answer(body=_encoder.encode(shown))


def _tag(model: Model, name: str) -> _Tag:
    return _Tag(
        name=name,
        model=name,
        modified_at=_modified_at(model),
        size=model.size_bytes,
        digest=_digest(model),
        details=_details(model),
        capabilities=_capabilities(model),
    )


def _shown_name(routes: Routes, model: Model) -> str:
    return model.name if routes.index.get(model.name) == (model.id,) else model.id


def _modified_at(model: Model) -> datetime:
    return datetime.fromtimestamp(model.location.mtime_ns // 1_000_000_000, UTC)


def _digest(model: Model) -> str:
    """Return what tells this file from others; not of its content, which would take minutes."""
    mark = f"{model.id}\0{model.size_bytes}\0{model.location.mtime_ns}"
    return hashlib.sha256(mark.encode("utf-8", "surrogateescape")).hexdigest()


def _details(model: Model) -> _Details:
    header = model.header
    return _Details(
        family=header.architecture,
        families=(header.architecture,),
        parameter_size=header.size_label or _in_words(header.parameters),
        quantization_level=header.quantisation,
        context_length=header.context_tokens,
        embedding_length=header.embedding,
    )


def _in_words(parameters: int) -> str:
    for size, unit in ((1_000_000_000, "B"), (1_000_000, "M"), (1000, "K")):
        if parameters >= size:
            return f"{parameters / size:.1f}{unit}"
    return str(parameters)


def _facts(model: Model) -> dict[str, str | int]:
    header, kind = model.header, model.header.architecture
    return {
        "general.architecture": kind,
        "general.basename": header.name or model.name,
        "general.parameter_count": header.parameters,
        f"{kind}.context_length": header.context_tokens,
        f"{kind}.embedding_length": header.embedding,
        f"{kind}.block_count": header.layers,
        f"{kind}.attention.head_count": header.heads,
        f"{kind}.vocab_size": header.vocabulary,
    }


def _capabilities(model: Model) -> tuple[str, ...]:
    if model.header.architecture in _ENCODERS:
        return ("embedding",)
    found = ["completion"]
    if model.header.has_tool_template:
        found.append("tools")
    if model.location.mmproj_path:
        found.append("vision")
    return tuple(found)
