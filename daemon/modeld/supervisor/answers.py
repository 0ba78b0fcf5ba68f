"""
What whoever waited for a model is answered when it is ready.

Facts about a server in the words of the wire.  Nothing here loads anything; a program that is told
to send its request gets its promise with the answer.
"""

from modeld.core.entities import Server
from modeld.supervisor.promises import promise
from modeld.supervisor.world import Job, World
from modeld.units import format_duration
from modeld.wire.load import Loaded


def loaded(
    world: World,
    request_id: str,
    server: Server,
    *,
    seconds: float = 0.0,
    already: bool = False,
    job: Job | None = None,
) -> Loaded:
    """Return the answer for one waiter."""
    record = server.record
    waiter = world.waiter(request_id)
    if waiter.will_send:
        promise(world, server.id)
    address = (
        f"127.0.0.1:{record.port}"
        if record.port
        else next(iter(world.gateway_addresses), record.socket_path)
    )
    took = format_duration(seconds)
    message = (
        f"Model already running on host:port {address} with same args."
        if already
        else f"{record.model_name} is ready on {address} in {took}"
    )
    return Loaded(
        model=record.model_name,
        server_id=server.id,
        address=address,
        seconds=round(seconds, 3),
        already=already,
        message=message,
        memory_bytes=server.booked_bytes,
        context_tokens=server.context_tokens,
        tier=record.tier,
        unloaded=tuple(each.name for each in job.plan.victims) if job and job.plan else (),
        candidates=waiter.candidates,
        names=waiter.names,
        warnings=tuple(waiter.warnings),
    )
