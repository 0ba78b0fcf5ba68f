"""
How modeld is, by the four parts of KAREN's plan of its server (S2-13).

Judged by what is known already: nothing is loaded, tried out or looked up on a disk, and the
answer is always 200, during loads as well.  A part tells in general words what is wrong with it,
without names and paths, since no key is asked for; `modelctl status` tells the rest.  `status`
stays the `ok` that `/health` has: it says that modeld serves, which its readers look for.
"""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import Struct, structs

from modeld.core.events import UsageAsked
from modeld.errors import ModeldError
from modeld.gateway import destination, management
from modeld.gateway.http import Answer, Problem
from modeld.gateway.table import Call, next_id
from modeld.supervisor.counting import Measures

LOW_DISK_BYTES: Final = 1 << 30
"""Free on the SSD; KAREN's server has the same bound."""
_encoder = msgspec.json.Encoder()


class Health(StrEnum):
    """How a part is; the worst comes last."""

    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class Part(Struct, frozen=True, omit_defaults=True):
    """One part, and what is wrong with it."""

    status: Health
    reason: str = ""


_FINE: Final = Part(Health.HEALTHY)


class _Parts(Struct, frozen=True, kw_only=True):
    server: Part
    models: Part
    performance: Part
    karen_integration: Part


class _Report(Struct, frozen=True, kw_only=True):
    status: str = "ok"
    overall: Health
    """That of the part that is worst."""
    components: _Parts
    last_check: str


async def health(call: Call) -> Answer:
    """Answer how each part is."""
    measures = await call.door.ask(UsageAsked(request_id=next_id(), measures=True))
    assert isinstance(measures, Measures)
    parts = _Parts(
        server=_server(call, measures),
        models=_models(measures),
        performance=_performance(call, measures),
        karen_integration=_integration(call),
    )
    report = _Report(
        overall=_worst(parts),
        components=parts,
        last_check=datetime.fromtimestamp(call.clock.now(), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    )
    return Answer(body=_encoder.encode(report))


def _worst(parts: _Parts) -> Health:
    found = {part.status for part in structs.astuple(parts)}
    return next(each for each in reversed(Health) if each in found)


def _server(call: Call, measures: Measures) -> Part:
    """Whether models can be loaded at all, and names are kept."""
    problem = call.door.routes.problem
    if problem:
        return Part(Health.UNHEALTHY, problem)  # as `/ready` has it
    if not measures.is_saved:
        return Part(Health.DEGRADED, "names and statistics can't be saved")
    return _FINE


def _models(measures: Measures) -> Part:
    """Whether the folders and files of models can be read."""
    if measures.folder_problems:
        return Part(Health.UNHEALTHY, f"folders that can't be read: {measures.folder_problems}")
    if measures.file_problems:
        return Part(Health.DEGRADED, f"files that can't be read: {measures.file_problems}")
    if not measures.models:
        return Part(Health.DEGRADED, "there is no model")
    return _FINE


def _performance(call: Call, measures: Measures) -> Part:
    """Whether there is room for more: requests, and copies of models."""
    if measures.waiting >= call.config.max_waiting:
        return Part(Health.DEGRADED, "requests are refused: too many wait for a model")
    free_bytes = measures.ssd_free_bytes
    if free_bytes is not None and free_bytes < LOW_DISK_BYTES:
        return Part(Health.DEGRADED, "less than 1 GiB is free on the SSD")
    return _FINE


def _integration(call: Call) -> Part:
    """Whether KAREN's extension gets an answer for a prompt that names no model."""
    routes = call.door.routes
    if management.current_model(call) is not None:
        return _FINE
    if not routes.default_model:
        return Part(Health.DEGRADED, "no model is loaded, and models.default is not set")
    try:
        destination.find(routes, call, routes.default_model, None)
    except (ModeldError, Problem):
        return Part(Health.DEGRADED, "models.default does not mean one model")
    return _FINE
