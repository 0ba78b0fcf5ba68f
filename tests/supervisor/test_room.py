"""`supervisor.room`: turns, previous models, and loads that run out of memory."""

import asyncio
from itertools import pairwise

import pytest
from msgspec.structs import replace

from modeld.config.schema import Config, Gateway, KeepAlive, Models, Reload, Servers, Storage
from modeld.core.entities import Exit, Origin, Process, ServerState
from modeld.core.events import (
    ConfigRead,
    LoadAsked,
    PagesRead,
    PinAsked,
    ServerStarted,
    UnloadAsked,
)
from modeld.core.traffic import RequestsEnded, RequestStarted
from modeld.errors import ServerFailed
from tests.supervisor.test_idling import told
from tests.supervisor.test_loads import UNTHROTTLED, load, named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

ONE = Config(
    models=Models(max_concurrent_loaded=1, auto_unload_idle=False),
    gateway=Gateway(batch_seconds=10),
)
OUT_OF_MEMORY = (
    Exit(how="oom-kill"),
    Exit(code=1, lines=("ggml_backend_cuda_buffer_type_alloc_buffer: cudaMalloc failed",)),
    Exit(how="signalled", code=6, lines=("GGML_ASSERT(buffer) failed to allocate",)),
    Exit(how="signalled", code=6, lines=("what():  std::bad_alloc",)),
)


def wanted(machine: FakeMachine, name: str) -> "asyncio.Task[object]":
    """Have a program wait for a model."""
    return machine.request(LoadAsked, selection=named(name), origin=Origin.GATEWAY)


async def use(machine: FakeMachine, name: str) -> str:
    """Have a model answer a request that does not end; return its server."""
    server_id = machine.server(name).id
    machine.emit(RequestStarted(server_id=server_id))
    await machine.settle()
    return server_id


async def busy_tool(config: Config = ONE) -> tuple[FakeMachine, str]:
    """Return a machine on which `tool` answers a request, since some time."""
    machine = FakeMachine(config)
    await machine.start("tool", "other")
    await load(machine, "tool", origin=Origin.GATEWAY)
    server_id = await use(machine, "tool")
    await machine.pass_time(20)
    return machine, server_id


# --- turns ----------------------------------------------------------------------------------


@asynchronous
async def test_busy_model_gives_its_place_away_when_its_batch_is_over() -> None:
    """Else a model that is asked all the time starves every other."""
    machine, server_id = await busy_tool()
    task = wanted(machine, "other")
    await machine.pass_time(9)
    assert machine.world.servers[server_id].state is ServerState.READY

    await machine.pass_time(2)
    assert machine.world.servers[server_id].state is ServerState.DRAINING
    assert "tool finishes 1 requests: other has waited" in told(machine, "server-draining")[0]
    assert ">= 10 s (gateway.batch_seconds)" in told(machine, "server-draining")[0]

    machine.emit(RequestsEnded(server_id=server_id))
    await machine.settle()
    await machine.stops_all()
    await machine.brings_up("other")
    await task


@asynchronous
async def test_drained_model_finishes_what_it_answers_however_long() -> None:
    """Nobody asked for its end: no answer may be cut off for a turn."""
    machine, server_id = await busy_tool(replace(ONE, servers=Servers(stall_seconds=1000)))
    task = wanted(machine, "other")
    await machine.pass_time(90)

    assert machine.servers.stopped == []
    assert not task.done()
    unload = machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.pass_time(32)
    assert machine.servers.stopped == [server_id]  # but who asks for it has it in time
    await machine.stops_all()
    await unload


@asynchronous
async def test_requests_for_a_drained_model_queue_up_behind() -> None:
    """First come, first served; and they get it back when the other is idle."""
    machine, server_id = await busy_tool()
    first = wanted(machine, "other")
    await machine.pass_time(11)
    second = wanted(machine, "tool")
    await machine.settle()
    machine.emit(RequestsEnded(server_id=server_id))
    await machine.settle()
    await machine.stops_all()
    await machine.brings_up("other")
    await first
    other = await use(machine, "other")
    machine.emit(RequestsEnded(server_id=other))
    await machine.settle()
    await machine.stops_all()
    await machine.brings_up("tool")

    await second
    assert [each.model_name for each in machine.servers.started] == ["tool", "other", "tool"]


@asynchronous
async def test_two_models_that_are_asked_all_the_time_change_places_no_faster_than_a_batch() -> (
    None
):
    """Each turn costs a load; a turn is worth at least its batch."""
    machine, _ = await busy_tool()
    waiting = {"other": wanted(machine, "other")}
    turns: list[float] = []
    for _ in range(60):
        await machine.pass_time(1)
        for server in tuple(machine.world.servers.values()):
            if server.state is ServerState.DRAINING:  # the answer ends, and the next request waits
                machine.emit(RequestsEnded(server_id=server.id))
                waiting[server.record.model_name] = wanted(machine, server.record.model_name)
                await machine.settle()
        await machine.stops_all()
        for server in tuple(machine.world.servers.values()):
            if server.state is ServerState.STARTING:
                name = server.record.model_name
                turns.append(machine.clock.time)
                await machine.brings_up(name)
                await waiting.pop(name)
                await use(machine, name)

    gaps = [later - earlier for earlier, later in pairwise(turns)]
    assert 3 <= len(turns) <= 6
    assert min(gaps) >= 10


@asynchronous
async def test_pinned_model_gives_no_place_away() -> None:
    """A pin is a promise; whoever waits is told when the gateway's patience ends."""
    machine, server_id = await busy_tool()
    await machine.request(PinAsked, selection=named("tool"), pinned=True)
    task = wanted(machine, "other")
    await machine.pass_time(30)

    assert machine.world.servers[server_id].state is ServerState.READY
    assert task.done()
    assert "is pinned" in str(task.exception())


# --- previous models ------------------------------------------------------------------------


@asynchronous
async def test_previous_models_go_before_the_next_loads_where_that_is_configured() -> None:
    """S3-17: but nothing that is busy, pinned or listed."""
    config = Config(
        models=Models(max_concurrent_loaded=5, eviction="immediate"),
        keep_alive=KeepAlive(models=("listed",)),
        reload=Reload(min_reload_seconds=0),
    )
    machine = FakeMachine(config)
    await machine.start("idle", "busy", "pinned", "listed", "next")
    await machine.brings_up("listed")
    for name in ("busy", "pinned"):
        await load(machine, name, keep_others=True)
        await machine.request(PinAsked, selection=named(name), pinned=True)
        await machine.pass_time(60)
    await load(machine, "idle", keep_others=True)
    await machine.request(PinAsked, selection=named("busy"), pinned=False)
    await use(machine, "busy")
    task = wanted(machine, "next")
    await machine.settle()

    assert machine.servers.stopped == [machine.server("idle").id]
    assert [each.model_name for each in machine.servers.started][-1] == "idle"
    await machine.stops_all()
    assert [each.model_name for each in machine.servers.started][-1] == "next"
    await machine.brings_up("next")
    reply = await task
    assert reply.unloaded == ("idle",)  # type: ignore[attr-defined]
    assert "models.eviction is immediate" in told(machine, "server-stopped")[-1]


@asynchronous
async def test_nothing_goes_for_a_load_that_can_not_be() -> None:
    """A model larger than the machine is refused before anything is touched."""
    machine = FakeMachine(Config(models=Models(eviction="immediate")))
    machine.add("huge", 64)
    await machine.start("tool")
    await load(machine, "tool")
    task = wanted(machine, "huge")
    await machine.settle()

    assert "Insufficient RAM" in str(task.exception())
    assert machine.servers.stopped == []


# --- out of memory --------------------------------------------------------------------------


async def runs_out(machine: FakeMachine, name: str, ended: Exit) -> None:
    """Let the newest server of a model die while it loads."""
    server = machine.server(name)
    machine.emit(ServerStarted(server_id=server.id, process=Process(pid=1, start_ticks=1)))
    await machine.ends(server.id, ended)


@pytest.mark.parametrize("ended", OUT_OF_MEMORY)
def test_load_that_runs_out_of_memory_gets_what_is_idle_and_is_tried_again(ended: Exit) -> None:
    """The figure was wrong, or other programs have the memory."""

    @asynchronous
    async def main() -> None:
        machine = FakeMachine(UNTHROTTLED)
        await machine.start("tool", "other")
        await load(machine, "other")
        task = machine.request(LoadAsked, selection=named("tool"), keep_others=True)
        await machine.settle()
        await runs_out(machine, "tool", ended)
        assert machine.servers.stopped == [machine.server("other").id]
        assert not task.done()
        await machine.stops_all()
        await machine.brings_up("tool")

        await task
        assert told(machine, "load-retried") == [
            "tool ran out of memory while it loaded: 1 idle go (other), and it is tried once more"
        ]

    main()


@asynchronous
async def test_load_that_runs_out_of_memory_twice_fails_with_the_cause() -> None:
    """Once at most: the same would happen for ever."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool", "other")
    await load(machine, "other")
    task = machine.request(LoadAsked, selection=named("tool"), keep_others=True)
    await machine.settle()
    await runs_out(machine, "tool", Exit(how="oom-kill"))
    await machine.stops_all()
    await runs_out(machine, "tool", Exit(how="oom-kill"))

    with pytest.raises(ServerFailed, match="for want of memory"):
        await task
    assert len(machine.servers.started) == 3


@pytest.mark.parametrize(
    "ended", [Exit(how="oom-kill"), Exit(code=1, lines=("unknown model architecture",))]
)
def test_nothing_goes_where_it_would_not_help(ended: Exit) -> None:
    """No idle model, or another cause."""

    @asynchronous
    async def main() -> None:
        machine = FakeMachine(UNTHROTTLED)
        await machine.start("tool", "other")
        await load(machine, "other")
        if ended.how == "oom-kill":
            await use(machine, "other")
        task = machine.request(LoadAsked, selection=named("tool"), keep_others=True)
        await machine.settle()
        await runs_out(machine, "tool", ended)

        with pytest.raises(ServerFailed):
            await task
        assert machine.servers.stopped == []

    main()


@asynchronous
async def test_nothing_goes_for_a_load_at_the_start_that_runs_out_of_memory() -> None:
    """Nothing is unloaded for it: else the last of the list would empty the machine."""
    machine = FakeMachine(Config(models=Models(preload=("tool", "other"))))
    await machine.start("tool", "other")
    await machine.brings_up("tool")
    await runs_out(machine, "other", Exit(how="oom-kill"))

    assert machine.servers.stopped == []
    assert machine.server("tool").state is ServerState.READY


# --- restarts -------------------------------------------------------------------------------


@asynchronous
async def test_restart_after_a_crash_waits_for_a_place_and_takes_nobody_s() -> None:
    """Another model came in between: it is not unloaded for a model that nobody asks for now."""
    machine = FakeMachine(ONE)
    await machine.start("tool", "other")
    await load(machine, "tool", origin=Origin.GATEWAY)
    await machine.ends(machine.server("tool").id, Exit(code=1))
    await load(machine, "other", origin=Origin.GATEWAY)
    await machine.pass_time(100, step=5)
    assert [each.model_name for each in machine.servers.started] == ["tool", "other"]
    assert told(machine, "load-refused") == []

    unload = machine.request(UnloadAsked, selections=(named("other"),))
    await machine.settle()
    await machine.stops_all()
    await unload
    assert [each.model_name for each in machine.servers.started][-1] == "tool"


@asynchronous
async def test_restart_after_a_crash_waits_no_longer_than_a_request() -> None:
    """No wait without a bound."""
    machine = FakeMachine(ONE)
    await machine.start("tool", "other")
    await load(machine, "tool", origin=Origin.GATEWAY)
    await machine.ends(machine.server("tool").id, Exit(code=1))
    await load(machine, "other", origin=Origin.GATEWAY)
    await machine.pass_time(700, step=10)

    assert machine.world.jobs == []
    assert "Max concurrent models (1) reached" in told(machine, "load-refused")[0]


# --- other limits ---------------------------------------------------------------------------


@asynchronous
async def test_load_that_is_planned_is_planned_anew_when_the_limits_change() -> None:
    """Else it would start over a limit that holds since then."""
    disks = Storage(ssd_path="/ssd", hdd_paths=("/hdd1",))
    machine = FakeMachine(Config(storage=disks))
    machine.page_cache.holds = True
    machine.add("slow", tier="hdd1")
    await machine.start("tool")
    await load(machine, "tool", origin=Origin.GATEWAY)
    await use(machine, "tool")
    task = wanted(machine, "slow")
    await machine.settle()
    read_id = machine.page_cache.reads[0]
    machine.emit(ConfigRead(request_id="", config=replace(ONE, storage=disks)))
    machine.emit(PagesRead(read_id=read_id, read_bytes=1, total_bytes=1, is_over=True))
    await machine.settle()
    assert [each.model_name for each in machine.servers.started] == ["tool"]

    machine.emit(RequestsEnded(server_id=machine.server("tool").id))
    await machine.settle()
    await machine.stops_all()
    read_id = machine.page_cache.reads[-1]
    machine.emit(PagesRead(read_id=read_id, read_bytes=1, total_bytes=1, is_over=True))
    await machine.settle()
    await machine.brings_up("slow")
    await task
