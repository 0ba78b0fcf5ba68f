"""What the loop hears of requests."""

import asyncio

from modeld.core.routing import Decision, Step
from modeld.core.traffic import RequestMoved, RequestsEnded, RequestsRouted, RequestStarted
from modeld.gateway.reports import MAX_REMEMBERED_SERVERS, ROUTED_SECONDS, Reports
from tests.support.fake_door import FakeDoor
from tests.support.gateway import run, until


class SetClock:
    """Says what it is told."""

    def __init__(self) -> None:
        self.time = 0.0

    def now(self) -> float:
        """Return the wall clock."""
        return self.time

    def monotonic(self) -> float:
        """Return time that never jumps."""
        return self.time


def test_an_end_is_told_soon_when_nothing_follows() -> None:
    """Idle time begins with it, and so does the right to unload."""

    async def main() -> None:
        door = FakeDoor()
        reports = Reports(door, SetClock())
        reports.started("a")
        reports.ended("a")

        assert door.in_flight() == {"a": 1}
        await until(lambda: door.in_flight() == {})

    run(main)


def test_ends_are_told_before_the_next_start() -> None:
    """One request after the other must never look like two at once."""

    async def main() -> None:
        door = FakeDoor()
        reports = Reports(door, SetClock())
        for _ in range(3):
            reports.started("a")
            reports.ended("a")
        reports.flush()

        told = [RequestStarted(server_id="a"), RequestsEnded(server_id="a", ended=3, began=2)]
        assert door.events == told
        await asyncio.sleep(0.05)
        assert door.events == told

    run(main)


def test_start_that_takes_the_place_of_an_end_is_told_with_it() -> None:
    """The loop need not wake for each of two thousand requests a second, and never counts fewer."""

    async def main() -> None:
        door = FakeDoor()
        reports = Reports(door, SetClock())
        reports.started("a")
        reports.ended("a")
        reports.started("a")
        assert door.in_flight() == {"a": 1}
        assert len(door.events) == 1

        reports.started("a")
        assert door.in_flight() == {"a": 2}
        reports.started("b")
        assert door.in_flight() == {"a": 2, "b": 1}

    run(main)


def test_loop_is_not_woken_by_starts_where_clients_ask_without_a_pause() -> None:
    """Two thousand requests a second would wake it as often, for nothing new."""

    async def main() -> None:
        door = FakeDoor()
        reports = Reports(door, SetClock())
        for _ in range(2):
            reports.started("a")
        for _ in range(5):
            for _ in range(2):
                reports.ended("a")
                reports.started("a")
            reports.ended("a")
            reports._tell()
            assert door.in_flight() == {"a": 2}
            reports.started("a")

        assert sum(isinstance(event, RequestStarted) for event in door.events) == 2
        reports.ended("a")
        reports.ended("a")
        await until(lambda: door.in_flight() == {})

    run(main)


def test_bytes_are_told_once_a_second_for_each_server() -> None:
    """The watchdog needs a sign of life from each, not a flood from one."""
    door = FakeDoor()
    reports = Reports(door, SetClock())
    for moving in ("a", "b", "a", "", "a"):  # without a server it was a look
        reports.moving.add(moving)
    reports.tell_moves()
    reports.tell_moves()

    assert sorted(event.server_id for event in door.events) == ["a", "b"]
    assert all(isinstance(event, RequestMoved) for event in door.events)


def test_routed_is_told_at_once_and_then_now_and_then() -> None:
    """A thousand requests a second must not write a thousand lines."""
    door, clock = FakeDoor(), SetClock()
    reports = Reports(door, clock)
    one = Decision(model_id="m", route="rule:1", pattern="^x", steps=(Step("rule 1", "fits"),))

    for _ in range(5):
        reports.routed(one)
    reports.routed(Decision(model_id="m", route="default"))
    clock.time += ROUTED_SECONDS
    reports.routed(one)

    told = [event for event in door.events if isinstance(event, RequestsRouted)]
    assert [(event.route, event.requests) for event in told] == [
        ("rule:1", 1),
        ("default", 1),
        ("rule:1", 5),
    ]
    assert (told[0].pattern, told[0].reason) == ("^x", "rule 1: fits")


def test_servers_are_remembered_by_when_they_were_wanted_last() -> None:
    """A request without a model may mean the one before; and memory has its bounds."""
    reports = Reports(FakeDoor(), SetClock())
    for server in ("a", "b", "b", "a"):
        reports.started(server)
    reports.note_use("c")

    assert reports.used() == ("c", "a", "b")
    for number in range(MAX_REMEMBERED_SERVERS):
        reports.started(str(number))
    assert len(reports.used()) == MAX_REMEMBERED_SERVERS
    assert "c" not in reports.used()
