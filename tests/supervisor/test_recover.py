"""`supervisor.recover`: what a starting daemon finds."""

import asyncio
from datetime import UTC, datetime

from msgspec.structs import replace

from modeld.core.entities import Exit, Found, Origin, Process, ServerState, State
from modeld.core.events import LoadAsked, ServerReady
from modeld.supervisor.ports import Loaded
from tests.core.test_plan import server
from tests.supervisor.test_loads import named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

ALIVE = Process(pid=77, start_ticks=1)


def left(name: str, process: Process | None, ended: Exit | None = None, age: float = 100) -> Found:
    """Return a server that an earlier daemon left, `age` seconds old."""
    created = datetime.fromtimestamp(1_800_000_000 - age, UTC)
    record = replace(server(name).record, created_at=created, server_id=f"{name:x<16}"[:16])
    return Found(record=record, process=process, exit=ended)


async def started(*found: Found, state: State | None = None) -> FakeMachine:
    """Return a machine that found these at its start, and that they answer."""
    machine = FakeMachine()
    machine.servers.left = list(found)
    machine.store.loaded = Loaded(state=state or State())
    for each in found:
        if each.process is not None:
            machine.emit(ServerReady(server_id=each.record.server_id))
    await machine.start("tool", "other")
    return machine


@asynchronous
async def test_server_that_lives_is_adopted_with_its_pid() -> None:
    """Promise 2: a loaded model survives the daemon."""
    machine = await started(left("tool", ALIVE))
    adopted = machine.server("tool")

    assert (adopted.state, adopted.process, adopted.adopted) == (ServerState.READY, ALIVE, True)
    assert machine.servers.started == []


@asynchronous
async def test_adopted_server_answers_a_load_without_a_new_one() -> None:
    """Else every restart would load everything twice."""
    machine = await started(left("tool", ALIVE))

    assert (await machine.request(LoadAsked, selection=named("tool"))).already


@asynchronous
async def test_adoption_is_no_use_of_the_model() -> None:
    """A daemon that restarts often must not push a rank."""
    machine = await started(left("tool", ALIVE))

    assert machine.world.stats_of("tool").total_uses == 0


@asynchronous
async def test_server_that_ended_meanwhile_is_counted_to_its_end_and_forgotten() -> None:
    """S0-24: adoption included."""
    ended = Exit(how="signalled", code=9, ended_at=datetime.fromtimestamp(1_800_000_000 - 40, UTC))
    gone = left("tool", None, ended, age=100)
    machine = await started(gone)

    assert machine.world.stats_of("tool").total_runtime_seconds == 60
    assert machine.servers.forgotten == [gone.record.server_id]
    assert any("ended while modeld was away" in text for _, text in machine.journal.events)


@asynchronous
async def test_run_time_is_not_counted_twice_when_a_heartbeat_counted_it() -> None:
    """Never double counted, however the daemon died."""
    ended = Exit(how="unknown", ended_at=datetime.fromtimestamp(1_800_000_000, UTC))
    gone = left("tool", None, ended, age=100)
    state = State(counted_seconds={gone.record.server_id: 60.0})
    machine = await started(gone, state=state)

    assert machine.world.stats_of("tool").total_runtime_seconds == 40


@asynchronous
async def test_closed_server_is_not_counted_again() -> None:
    """The daemon died between the count and the removal of the record."""
    gone = left("tool", None, Exit(ended_at=datetime.fromtimestamp(1_800_000_000, UTC)))
    machine = await started(gone, state=State(closed_servers=(gone.record.server_id,)))

    assert machine.world.stats_of("tool").total_runtime_seconds == 0


@asynchronous
async def test_repairs_of_the_state_are_told() -> None:
    """A damaged file must never be replaced in silence."""
    machine = FakeMachine()
    machine.store.loaded = Loaded(state=State(), problems=("stats.json was damaged",))
    await machine.start("tool")

    assert ("state-repaired", "stats.json was damaged") in machine.journal.events


@asynchronous
async def test_adopted_server_that_runs_out_of_memory_is_tried_again_with_its_need() -> None:
    """Else the second try books no memory and has no port: both limits would be passed by."""
    machine = FakeMachine()
    tool, other = left("tool", ALIVE), left("other", ALIVE)
    tool = replace(tool, record=replace(tool.record, port=9001))
    machine.servers.left = [tool, other]
    machine.emit(ServerReady(server_id=other.record.server_id))
    start = asyncio.create_task(machine.start("tool", "other"))
    await machine.settle()
    machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    await machine.settle()
    await machine.ends(tool.record.server_id, Exit(how="oom-kill"))
    await machine.stops_all()

    again = machine.servers.started[-1]
    await start
    assert (again.model_id, again.port) == ("tool", 9001)
    assert again.need_bytes == tool.record.need_bytes
