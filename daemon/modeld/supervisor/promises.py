"""
Servers that look idle and are not: promised to a program, or at work on a port of their own.

Between the answer that a model is ready and the program's request, whoever waits for room next
would take its server: with three models and two places, one waiter's answer would be the next
one's victim.  A promise is kept for a second at most, since a program may leave without a
request.  Nothing here stops or starts.
"""

from msgspec.structs import replace

from modeld.core.entities import Server
from modeld.supervisor.world import Promise, World

LOOK_SECONDS = 2.5
"""Between two looks at a server with a port of its own it is one."""
PROMISE_SECONDS = 1.0
"""From the answer to the request it takes a millisecond."""


def promise(world: World, server_id: str) -> None:
    """Keep a server for a program that is told that it is ready, until its request comes."""
    made = world.promises.setdefault(server_id, Promise())
    made.requests += 1
    made.until = world.ports.clock.monotonic() + PROMISE_SECONDS


def keep_promises(world: World, server_id: str, requests: int) -> None:
    """Requests came to a server: so many promises less."""
    made = world.promises.get(server_id)
    if made is not None:
        made.requests -= requests
        if made.requests <= 0:
            del world.promises[server_id]


def expect_work(world: World, server_id: str) -> None:
    """Count a server as busy until the next look: it answers somebody on a port of its own."""
    world.at_work_until[server_id] = world.ports.clock.monotonic() + LOOK_SECONDS


def expecting(world: World) -> tuple[Server, ...]:
    """Return the servers for a decision: those that are promised, or at work, count as busy."""
    now = world.ports.clock.monotonic()
    return tuple(
        replace(server, in_flight=server.in_flight + 1)
        if _is_promised(world, server.id, now) or world.at_work_until.get(server.id, 0.0) > now
        else server
        for server in world.servers.values()
    )


def _is_promised(world: World, server_id: str, now: float) -> bool:
    made = world.promises.get(server_id)
    return made is not None and now < made.until
