"""
What memory there is and whether a model would fit, for somebody who asks.

Reads only; by the functions that would decide.
"""

from collections.abc import Sequence

from modeld.core.entities import Model, Server
from modeld.core.events import Selection, VerdictAsked
from modeld.core.fit import Need, booked_bytes, booked_gpu_bytes
from modeld.core.plan import Want, can_load
from modeld.errors import ModeldError
from modeld.supervisor import choosing, settings
from modeld.supervisor.world import World
from modeld.wire.load import Verdict
from modeld.wire.models import GpuRow


def gpu_rows(world: World, servers: Sequence[Server]) -> tuple[GpuRow, ...]:
    """Return each GPU that the engine uses, with what is promised of it."""
    if not settings.uses_gpus(world):
        return ()
    budget = settings.budget(world.config, world.machine).gpu_bytes
    return tuple(
        GpuRow(
            name=gpu.name,
            total_bytes=budget[index],
            booked_bytes=booked_gpu_bytes(servers, index),
            in_use_bytes=gpu.used_bytes,
        )
        for index, gpu in enumerate(world.machine.gpus)
    )


def tell_verdict(world: World, event: VerdictAsked) -> None:
    """Answer whether a model could be loaded."""
    try:
        world.answer(event.request_id, verdict(world, event.selection))
    except ModeldError as error:
        world.fail(event.request_id, error)


def want_of(model: Model, need: Need) -> Want:
    """Return what a load of a model would want."""
    return Want(
        model_id=model.id,
        name=model.name,
        need_bytes=need.need_bytes,
        need_gpu_bytes=need.gpu_bytes,
    )


def verdict(world: World, selection: Selection) -> Verdict:
    """Return whether a model could be loaded beside what runs, in the order of S4-01."""
    try:
        model = choosing.choose(world, selection).model
    except ModeldError as error:
        if error.code != "model_not_found":
            raise
        wanted = selection.pattern or selection.nickname or selection.slot
        return Verdict(can_load=False, reason=f"Model {wanted} not found in registry")
    if world.server_of(model.id) is not None:
        return Verdict(can_load=True, reason="Model already loaded", model=model.name)
    asked = settings.arguments(world, model, None)
    need = settings.need_of(world, model, asked)
    want = want_of(model, need)
    budget = settings.budget(world.config, world.machine)
    here = tuple(world.servers.values())
    can, reason = can_load(want, here, budget)
    return Verdict(
        can_load=can,
        reason=reason,
        model=world.label(model.id),
        need_bytes=need.need_bytes,
        need_gpu_bytes=need.gpu_bytes,
        need_source=need.source,
        need_parts={part.name: part.size_bytes for part in need.parts},
        available_bytes=max(0, budget.memory_bytes - booked_bytes(here)),
    )
