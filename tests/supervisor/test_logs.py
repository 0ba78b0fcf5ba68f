"""`supervisor.logs`: what modeld did and what servers wrote, as it comes."""

import asyncio
from contextlib import aclosing

import pytest
from msgspec.structs import replace

from modeld.supervisor import logs
from tests.supervisor.test_loads import UNTHROTTLED, load
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often, so that no test waits."""
    monkeypatch.setattr(logs, "LOOK_SECONDS", 0.005)


@asynchronous
async def test_log_goes_on_with_the_models_next_server() -> None:
    """Whoever watches a model does not care that it was loaded anew."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a")
    async with aclosing(machine.supervisor.logs.follow("a", 10)) as batches, asyncio.timeout(5):
        assert await anext(batches) == ()
        await load(machine, "a")
        first = machine.servers.started[-1].server_id
        machine.servers.logs.setdefault(first, []).append("first")
        assert await _next(batches) == ("first",)
        record = machine.servers.started[-1]
        machine.servers.logs["next"] = ["second"]
        machine.world.last_records["a"] = replace(record, server_id="next")
        assert await _next(batches) == ("second",)


@asynchronous
async def test_own_log_is_what_was_done_and_what_is_done() -> None:
    """The same sentences as the journal has."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a")
    machine.world.ports.journal.record("started", "it began")
    async with aclosing(machine.supervisor.logs.follow_own(1)) as batches, asyncio.timeout(5):
        (line,) = await anext(batches)
        assert line.endswith(" it began")
        machine.world.ports.journal.record("started", "it went on")
        (line,) = await anext(batches)
        assert line.endswith(" it went on")


@asynchronous
async def test_slow_reader_is_told_how_much_it_missed() -> None:
    """Lines that nobody takes are not kept for ever."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a")
    async with aclosing(machine.supervisor.logs.follow_own(0)) as batches, asyncio.timeout(5):
        await anext(batches)
        for number in range(logs.MAX_UNREAD + 5):
            machine.world.ports.journal.record("started", f"{number}")
        lines = await anext(batches)

    assert lines[0] == "... 5 lines are left out"
    assert len(lines) == logs.MAX_UNREAD + 1


async def _next(batches: "logs.AsyncGenerator[logs.Lines, None]") -> logs.Lines:
    async for batch in batches:
        if batch:
            return batch
    raise AssertionError("it ended")
