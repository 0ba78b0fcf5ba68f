"""
Events for whoever follows them, as they happen, until the client leaves.

What is sent is what the journal has; a client that reads slowly is the server's business.
"""

import asyncio

from msgspec import Struct

from modeld.errors import Busy
from modeld.rpc.server import Send
from modeld.supervisor.loop import Supervisor
from modeld.wire.daemon import Subscribe
from modeld.wire.load import Done

MAX_SUBSCRIPTIONS = 64
"""Each keeps one of the places for requests until its client leaves."""


async def follow(ask: Subscribe, supervisor: Supervisor, send: Send) -> Struct:
    """
    Send past events, and then, where that is wanted, every further one.

    Raises:
        Busy: Too many follow already.
    """
    journal = supervisor.world.ports.journal
    for event in journal.recent(ask.backlog) if ask.backlog else ():
        send(event)
    if not ask.follow:
        return Done()
    if supervisor.subscriptions >= MAX_SUBSCRIPTIONS:
        raise Busy(f"{MAX_SUBSCRIPTIONS} programs follow the events already", retry_after_s=10)
    supervisor.subscriptions += 1
    unsubscribe = journal.subscribe(send)
    try:
        await asyncio.get_running_loop().create_future()
    finally:
        supervisor.subscriptions -= 1
        unsubscribe()
    raise AssertionError("a subscription ends by being cancelled")
