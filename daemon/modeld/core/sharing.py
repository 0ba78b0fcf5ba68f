"""
Whose turn it is, where models that are asked for all the time hold up one that waits for a place.

A server that answers is never stopped, so requests for its model go on for as long as they come:
that batches them, and saves loads.  But whoever waits for its place must not wait for ever.  After
`gateway.batch_seconds` the server that was asked longest ago is drained: it finishes what it
answers and gets nothing new, and further requests for its model queue up behind.  A server that
has been ready for less than that is left alone, so that two models never change places faster.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct
from msgspec.structs import replace

from modeld.core.entities import Server, ServerState
from modeld.core.fit import Budget
from modeld.core.plan import Victim, Want, plan_load
from modeld.errors import ModeldError


class Patience(Struct, frozen=True, kw_only=True):
    """How long somebody has waited, and how long is long enough."""

    waited_seconds: float
    """Only because others were busy."""
    batch_seconds: float
    now: float
    """[monotonic s]"""


def whom_to_drain(
    want: Want,
    servers: Sequence[Server],
    pins: Collection[str],
    budget: Budget,
    *,
    patience: Patience,
) -> tuple[Victim, ...]:
    """
    Return the busy servers to drain, longest not asked first; none while there is patience.

    As few as make room for `want`, together with what is idle; none where that can't be enough.
    """
    if patience.waited_seconds < patience.batch_seconds:
        return ()
    busy = [server for server in servers if _may_be_drained(server, pins, patience)]
    after = {server.id: server for server in servers}
    chosen: list[Server] = []
    for server in sorted(busy, key=lambda each: each.asked_at):
        after[server.id] = replace(server, state=ServerState.DRAINING)
        chosen.append(server)
        try:
            plan_load(want, tuple(after.values()), pins, budget)
        except ModeldError:
            continue
        return tuple(_victim(each, want, patience) for each in chosen)
    return ()


def _may_be_drained(server: Server, pins: Collection[str], patience: Patience) -> bool:
    is_busy = server.state is ServerState.READY and server.in_flight > 0
    had_its_turn = patience.now - server.ready_at >= patience.batch_seconds
    return is_busy and had_its_turn and server.record.model_id not in pins


def _victim(server: Server, want: Want, patience: Patience) -> Victim:
    """Return a server with the numbers that decided."""
    reason = (
        f"{want.name} has waited {patience.waited_seconds:.1f} s for its place, "
        f">= {patience.batch_seconds:g} s (gateway.batch_seconds), and it was asked "
        f"{max(0.0, patience.now - server.asked_at):.1f} s ago, longest ago of the busy ones"
    )
    return Victim(server.id, server.record.model_name, reason)
