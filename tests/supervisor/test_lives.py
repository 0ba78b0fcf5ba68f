"""`supervisor.lives`: what happens to a server after its start."""

import pytest

from modeld.config.schema import Config, Servers
from modeld.core.entities import Exit, Origin, ServerState
from modeld.core.events import (
    LoadAsked,
    MemoryMeasured,
    Selection,
    ServerLoading,
    SlotsSeen,
    StopAsked,
    UnloadAsked,
)
from modeld.core.traffic import RequestMoved, RequestsEnded, RequestStarted
from modeld.errors import ServerFailed
from modeld.supervisor import settings
from tests.supervisor.test_loads import UNTHROTTLED, load, named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

SECONDS_OF_A_CRASH_LOOP = 60


def failed(machine: FakeMachine) -> list[str]:
    """Return what was logged about deaths."""
    return [message for event, message in machine.journal.events if event == "server-failed"]


@asynchronous
async def test_server_that_crashes_is_started_again_after_a_wait() -> None:
    """A3: back-off of a second first, and the cause is told."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    await machine.ends(machine.server("tool").id, Exit(how="signalled", code=11))

    assert len(machine.servers.started) == 1
    assert "SIGSEGV" in failed(machine)[0]

    await machine.pass_time(3)

    assert len(machine.servers.started) == 2
    assert machine.world.servers[machine.servers.started[1].server_id].state is ServerState.STARTING


@asynchronous
async def test_program_is_told_how_often_a_server_died_and_when_to_ask_again() -> None:
    """What it answers its own client has a Retry-After of that."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    await machine.ends(machine.server("tool").id, Exit(how="signalled", code=11))

    with pytest.raises(ServerFailed, match=r"has just died \(once in 10 min\)") as told:
        await machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    assert told.value.numbers == {"retry_after_s": 1, "deaths": 1}


@asynchronous
async def test_server_that_crash_loops_is_given_up_with_its_cause() -> None:
    """A3: at most eight starts in the first minute, then FAILED."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    for _ in range(SECONDS_OF_A_CRASH_LOOP):
        for server in tuple(machine.world.servers.values()):
            await machine.brings_up("tool")
            await machine.ends(server.id, Exit(how="exited", code=1))
        await machine.pass_time(1)

    assert len(machine.servers.started) <= 8
    assert "given up after 5 deaths" in failed(machine)[-1]
    with pytest.raises(ServerFailed, match="status 1"):
        await machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)


@asynchronous
async def test_operator_may_always_try_a_failed_model_again() -> None:
    """Whoever repaired something must not wait ten minutes."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    for _ in range(6):
        task = machine.request(LoadAsked, selection=named("tool"))
        await machine.settle()
        await machine.ends(machine.server("tool").id, Exit(code=1))
        with pytest.raises(ServerFailed):
            await task

    assert (await load(machine, "tool")).model == "tool"


@asynchronous
async def test_server_killed_for_memory_is_not_started_again_by_itself() -> None:
    """A10: the same size would die the same death."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    await machine.ends(machine.server("tool").id, Exit(how="oom-kill"))
    await machine.pass_time(120, step=10)

    assert len(machine.servers.started) == 1
    assert "want of memory" in failed(machine)[0]


@asynchronous
async def test_server_that_was_told_to_stop_is_no_death() -> None:
    """Else every unload would count towards giving up."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    task = machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.settle()
    await machine.stops_all()
    await task

    assert failed(machine) == []
    assert machine.world.deaths == {}


@asynchronous
async def test_server_that_ignores_the_order_to_stop_is_killed_in_time() -> None:
    """S0-35: TERM, grace, KILL; then it is unreapable and said to be."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    task = machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.pass_time(9)
    assert machine.servers.killed == []

    await machine.pass_time(2)
    assert machine.servers.killed == [server.id]

    await machine.pass_time(11)
    assert machine.world.servers[server.id].state is ServerState.UNREAPABLE
    with pytest.raises(ServerFailed, match="survives SIGKILL"):
        await task


@asynchronous
async def test_server_that_moves_no_request_is_ended_as_a_death() -> None:
    """A4: `/health` says ok for ever; only tokens tell."""
    machine = FakeMachine(Config(servers=Servers(stall_seconds=120)))
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(RequestStarted(server_id=server.id))
    for _ in range(14):
        await machine.pass_time(10, step=10)
        for looked in machine.probe.looked:
            machine.emit(SlotsSeen(server_id=looked, mark=""))
        machine.probe.looked.clear()

    assert machine.servers.stopped == [server.id]
    await machine.ends(server.id)
    assert "moved none of 1 requests" in failed(machine)[0]


@asynchronous
async def test_server_whose_first_bytes_come_at_the_last_moment_is_left_alone() -> None:
    """The gateway tells of them with its beat, which may be a second later."""
    machine = FakeMachine(Config(servers=Servers(stall_seconds=1)))
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(RequestStarted(server_id=server.id))
    await machine.pass_time(1.9, step=0.1)
    machine.emit(RequestMoved(server_id=server.id))
    await machine.pass_time(1.9, step=0.1)

    assert machine.servers.stopped == []
    await machine.pass_time(1, step=0.1)
    assert machine.servers.stopped == [server.id]


@asynchronous
async def test_server_whose_slots_move_is_left_alone_though_no_byte_comes() -> None:
    """A long answer that is not streamed is not a stall."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(RequestStarted(server_id=server.id))
    for number in range(60):
        await machine.pass_time(10, step=10)
        for looked in machine.probe.looked:
            machine.emit(SlotsSeen(server_id=looked, mark=str(number)))
        machine.probe.looked.clear()

    assert machine.servers.stopped == []


@asynchronous
async def test_server_whose_bytes_move_is_not_even_looked_at() -> None:
    """The common case costs nothing."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(RequestStarted(server_id=server.id))
    for _ in range(30):
        await machine.pass_time(10, step=10)
        machine.emit(RequestMoved(server_id=server.id))

    assert machine.probe.looked == []


@asynchronous
async def test_load_that_stands_still_is_ended_after_its_time() -> None:
    """No wait without a bound; but any progress begins it anew."""
    machine = FakeMachine(Config(servers=Servers(start_stall_seconds=60)))
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    from tests.supervisor.test_loads import machine_started

    server = machine.server("tool")
    machine.emit(machine_started(server.id))
    for fraction in range(5):
        machine.emit(ServerLoading(server_id=server.id, fraction=fraction / 10))
        await machine.pass_time(50, step=10)
    assert machine.servers.killed == []

    await machine.pass_time(20, step=10)
    assert machine.servers.killed == [server.id]
    await machine.ends(server.id, Exit(how="signalled", code=9))
    with pytest.raises(ServerFailed):
        await task


@asynchronous
async def test_growing_memory_counts_as_progress_of_a_load() -> None:
    """Under mmap the engine tells nothing for minutes; a slow disk must not be killed."""
    machine = FakeMachine(Config(servers=Servers(start_stall_seconds=60)))
    await machine.start("tool")
    machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    from tests.supervisor.test_loads import machine_started

    server = machine.server("tool")
    machine.emit(machine_started(server.id))
    for number in range(10):
        await machine.pass_time(50, step=10)
        machine.emit(MemoryMeasured(server_id=server.id, resident_bytes=number + 1))

    assert machine.servers.killed == []


@asynchronous
async def test_run_time_is_counted_once_on_every_way_out() -> None:
    """S0-24: exit, crash, unload; R3: the original lost it."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool")
    machine.clock.time += 100
    await machine.ends(machine.server("tool").id, Exit(how="signalled", code=11))

    assert machine.world.stats_of("tool").total_runtime_seconds == 100

    await load(machine, "tool")
    machine.clock.time += 50
    machine.request(UnloadAsked, everything=True)
    await machine.settle()
    await machine.stops_all()

    assert machine.world.stats_of("tool").total_runtime_seconds == 150
    assert machine.world.stats_of("tool").last_runtime_seconds == 50


@asynchronous
async def test_run_time_goes_to_the_disk_while_the_server_runs() -> None:
    """D8: a crash of the machine costs a minute, not a day."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    await machine.pass_time(130, step=10)

    assert machine.store.saved[-1].models["tool"].total_runtime_seconds >= 60


@asynchronous
async def test_memory_that_was_measured_decides_the_next_time() -> None:
    """Requirements, "Decided": measured before everything else."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    machine.emit(MemoryMeasured(server_id=machine.server("tool").id, resident_bytes=12345678))
    await machine.settle()

    (seen,) = machine.world.stats_of("tool").measured
    assert seen.memory_bytes == 12345678
    need = settings.need_of(machine.world, machine.world.models["tool"], ())
    assert (need.need_bytes, need.source) == (12345678, "measured")


@asynchronous
async def test_requests_are_counted_and_idle_time_starts_at_the_last_end() -> None:
    """Peers that count from the start of a request unload what works."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(RequestStarted(server_id=server.id))
    machine.emit(RequestStarted(server_id=server.id))
    machine.clock.time += 30
    machine.emit(RequestsEnded(server_id=server.id))
    await machine.settle()
    assert machine.server("tool").in_flight == 1

    machine.emit(RequestsEnded(server_id=server.id))
    await machine.settle()
    assert machine.server("tool").last_used_at == machine.clock.time


@asynchronous
async def test_stop_of_the_daemon_ends_all_servers_before_it_ends() -> None:
    """Promise 2: a deliberate stop frees everything."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    machine.emit(StopAsked(leave_servers=False))
    await machine.settle()
    assert not machine.supervisor.finished.is_set()

    await machine.stops_all()
    assert machine.supervisor.finished.is_set()
    assert machine.world.servers == {}


@asynchronous
async def test_stop_that_leaves_servers_stops_none_and_counts_their_time() -> None:
    """Promise 2: a loaded model survives a restart."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    machine.clock.time += 40
    machine.emit(StopAsked(leave_servers=True))
    await machine.settle()

    assert machine.supervisor.finished.is_set()
    assert machine.servers.stopped == []
    assert machine.world.stats_of("tool").total_runtime_seconds == 40


@asynchronous
async def test_bug_in_the_loop_ends_the_daemon_instead_of_freezing_it() -> None:
    """Systemd starts it anew and the servers go on; a loop that hangs helps nobody."""
    machine = FakeMachine()
    await machine.start("tool")

    def explode(_: object) -> None:
        raise RuntimeError("a bug")

    machine.supervisor._handlers[LoadAsked] = explode
    machine.request(LoadAsked, selection=Selection(pattern="tool")).add_done_callback(
        lambda task: task.cancelled()
    )
    await machine.settle()

    assert machine.supervisor.finished.is_set()
    with pytest.raises(RuntimeError, match="a bug"):
        await machine.supervisor.wait_finished()


@asynchronous
async def test_load_that_stands_still_says_so_and_not_that_it_was_killed() -> None:
    """SIGKILL is what modeld did about it, not what was wrong."""
    machine = FakeMachine(Config(servers=Servers(start_stall_seconds=60)))
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    await machine.pass_time(61, step=61)
    await machine.ends(machine.server("tool").id, Exit(how="signalled", code=9))

    with pytest.raises(ServerFailed, match="made no progress for 1m"):
        await task
    assert "made no progress" in failed(machine)[0]


@asynchronous
async def test_server_that_stalls_after_the_order_to_stop_is_no_death() -> None:
    """Else what was unloaded on purpose is started again a second later."""
    machine = FakeMachine(Config(servers=Servers(stall_seconds=5, drain_seconds=60)))
    await machine.start("tool")
    await load(machine, "tool")
    server = machine.server("tool")
    machine.emit(RequestStarted(server_id=server.id))
    machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.pass_time(10)
    assert server.id in machine.servers.stopped

    await machine.ends(server.id)
    await machine.pass_time(10)

    assert not failed(machine)
    assert len(machine.servers.started) == 1
