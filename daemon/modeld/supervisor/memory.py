"""
What servers were seen to take, and what is learned from it.

A measurement is booked at once and remembered for the same file, context and arguments.  How
much that is, `modeld.core.fit` says; whoever measures is a port.
"""

from msgspec.structs import replace

from modeld.core.demand import read_demand
from modeld.core.entities import Server, ServerState, State
from modeld.core.events import MemoryMeasured
from modeld.core.fit import copied_bytes, learnable_bytes, taken_bytes, weights_and_rest
from modeld.core.plan import Want
from modeld.core.shapes import Measurement
from modeld.core.stats import remember_memory
from modeld.supervisor import settings
from modeld.supervisor.world import World

RETURNED = 0.75
"""Of a server's memory on a GPU: with so much of it back the next load may begin."""


def measured(world: World, server: Server, event: MemoryMeasured) -> Server:
    """Return a server with what it was seen to take."""
    if any(event.gpu_bytes):  # how much is used is needed when this server ends
        world.machine = world.ports.hardware.machine()
    server = replace(server, resident_bytes=event.resident_bytes, gpu_bytes=event.gpu_bytes)
    is_plain = server.state is ServerState.READY and not server.adopted
    weights, rest = _expected(world, server) if is_plain else (0, 0)
    if not weights or not event.private_bytes or _is_on_gpus(server):
        return server
    if not server.first_bytes:
        copied = copied_bytes(event.private_bytes, weights, rest)
        server = replace(server, copied_bytes=copied)
    mapped = weights - server.copied_bytes
    taken = taken_bytes(event.resident_bytes, event.private_bytes, mapped)
    return replace(server, resident_bytes=taken, first_bytes=server.first_bytes or taken)


def _expected(world: World, server: Server) -> tuple[int, int]:
    """Return the weights of a server's model, and what it is expected to need besides."""
    model = world.models.get(server.record.model_id)
    if model is None:
        return 0, 0
    return weights_and_rest(model, settings.known_of(world, model, server.record.arguments))


def gone(world: World, server: Server) -> None:
    """Have a server's memory of GPUs waited for: drivers give it back after the process is gone."""
    held = server.gpu_bytes if any(server.gpu_bytes) else server.record.need_gpu_bytes
    if any(held) and world.machine.gpus:
        used = [gpu.used_bytes for gpu in world.machine.gpus]
        # an estimate may be more than all that is used: so much never comes back
        pairs = zip(used, held, strict=False)
        most = [now - int(RETURNED * min(part, now)) for now, part in pairs]
        world.returning.add(server.id)
        world.ports.hardware.await_gpus(server.id, most)


def is_returning(world: World, want: Want) -> bool:
    """Whether a load has to wait for memory of GPUs that others gave up."""
    return any(want.need_gpu_bytes) and bool(world.returning)


def learned(world: World, server: Server) -> State:
    """Return the state that remembers what a server was seen to take, or the same one."""
    record = server.record
    mark = ":".join(record.file_mark.rsplit(":", 2)[-2:])
    if not mark:  # a record of an older daemon: nobody knows what file it was
        return world.state
    demand = read_demand(record.arguments, world.binary, record.context_tokens)
    expected = sum(_expected(world, server))
    seen = Measurement(
        file_mark=mark,
        context_tokens=record.context_tokens,
        arguments=demand.key,
        memory_bytes=learnable_bytes(server.resident_bytes, server.first_bytes, expected),
        gpu_bytes=server.gpu_bytes,
    )
    return remember_memory(world.state, record.model_id, seen)


def _is_on_gpus(server: Server) -> bool:
    """Whether some of the weights lie where resident memory does not show them."""
    return any(server.gpu_bytes) or any(server.record.need_gpu_bytes)
