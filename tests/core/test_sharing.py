"""`core.sharing`: whose turn it is."""

import pytest
from msgspec.structs import replace

from modeld.core.entities import Origin, Server, ServerState
from modeld.core.sharing import Patience, whom_to_drain
from tests.core.test_plan import budget, server, want

NOW = 1000.0
WANT = want("new", origin=Origin.GATEWAY)


def busy(name: str, *, asked_at: float = NOW, ready_at: float = 0.0) -> Server:
    """Return a server that answers a request."""
    return replace(server(name, in_flight=1), asked_at=asked_at, ready_at=ready_at)


def patience(waited: float, batch: float = 10) -> Patience:
    """Return the patience of somebody who has waited so long."""
    return Patience(waited_seconds=waited, batch_seconds=batch, now=NOW)


def drained(
    servers: list[Server], waited: float = 10, pins: tuple[str, ...] = (), limit: int = 2
) -> list[str]:
    """Return the names of those that are drained."""
    found = whom_to_drain(WANT, servers, pins, budget(loaded=limit), patience=patience(waited))
    return [victim.name for victim in found]


def test_nobody_is_drained_before_the_batch_is_over() -> None:
    """Requests for a model that is there go on: that saves loads."""
    assert drained([busy("a"), busy("b")], waited=9.9) == []


def test_whoever_was_asked_longest_ago_is_drained_and_the_numbers_are_told() -> None:
    """The one that is needed least."""
    servers = [busy("a", asked_at=NOW - 1), busy("b", asked_at=NOW - 3)]
    found = whom_to_drain(WANT, servers, (), budget(), patience=patience(12.5))

    assert [victim.name for victim in found] == ["b"]
    assert "12.5 s" in found[0].reason
    assert ">= 10 s (gateway.batch_seconds)" in found[0].reason
    assert "3.0 s ago" in found[0].reason


def test_pinned_servers_are_never_drained() -> None:
    """A pin is a promise."""
    assert drained([busy("a"), busy("b", asked_at=NOW - 3)], pins=("b",)) == ["a"]
    assert drained([busy("a"), busy("b")], pins=("a", "b")) == []


def test_whoever_had_no_turn_yet_is_left_alone() -> None:
    """Two models must not change places faster than the batch."""
    assert drained([busy("a", ready_at=NOW - 9), busy("b", ready_at=NOW - 9)]) == []


@pytest.mark.parametrize("state", [ServerState.LOADING, ServerState.DRAINING, ServerState.STOPPING])
def test_only_what_answers_is_drained(state: ServerState) -> None:
    """What loads is finished first; what leaves goes anyway."""
    assert drained([replace(busy("a"), state=state)], limit=1) == []


def test_as_many_are_drained_as_it_takes_and_none_where_that_is_not_enough() -> None:
    """A drain that helps nobody is a loss to everybody."""
    large = want("new", 14, origin=Origin.GATEWAY)
    servers = [busy("a", asked_at=NOW - 1), busy("b", asked_at=NOW - 2), busy("c")]
    two = whom_to_drain(large, servers, (), budget(16, 4), patience=patience(10))

    assert [victim.name for victim in two] == ["b"]
    larger = want("new", 15.5, origin=Origin.GATEWAY)
    assert len(whom_to_drain(larger, servers, (), budget(16, 4), patience=patience(10))) == 3
    assert whom_to_drain(larger, servers, ("c",), budget(16, 4), patience=patience(10)) == ()
