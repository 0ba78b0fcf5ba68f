"""
Servers that programs were told to use, between that answer and their requests.

In that moment a server looks idle, and whoever waits for room next would take it: with three
models and two places, one waiter's answer would be the next one's victim.  A promise is kept for
a second at most, since a program may leave without a request.  Nothing here stops or starts.
"""

from msgspec.structs import replace

from modeld.core.entities import Server
from modeld.supervisor.world import Promise, World

PROMISE_SECONDS = 1.0
"""From the answer to the request it takes a millisecond."""


def promise(world: World, server_id: str) -> None:
    """Keep a server for a program that is told that it is ready, until its request comes."""
    made = world.promises.setdefault(server_id, Promise())
    made.requests += 1
    made.until = world.ports.clock.monotonic() + PROMISE_SECONDS


def keep_promise(world: World, server_id: str) -> None:
    """A request came to a server: one promise less."""
    made = world.promises.get(server_id)
    if made is not None:
        made.requests -= 1
        if made.requests <= 0:
            del world.promises[server_id]


def expecting(world: World) -> tuple[Server, ...]:
    """Return the servers for a decision: those that are promised count as busy."""
    now = world.ports.clock.monotonic()
    return tuple(
        replace(server, in_flight=server.in_flight + 1)
        if (made := world.promises.get(server.id)) is not None and now < made.until
        else server
        for server in world.servers.values()
    )
