"""`supervisor.idling` and `.preloading`: what stays loaded, and what goes by itself."""

import asyncio

import pytest

from modeld.config.schema import Config, Entry, KeepAlive, Models, Reload
from modeld.core.entities import Exit, Found, Origin, Process
from modeld.core.events import LoadAsked, PinAsked, ServerReady, SlotsSeen, StopAsked, UnloadAsked
from modeld.core.traffic import RequestsEnded, RequestStarted
from modeld.supervisor import views
from modeld.supervisor.ports import Loaded
from tests.supervisor.test_loads import load, named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


def told(machine: FakeMachine, event: str) -> list[str]:
    """Return what was logged of one kind."""
    return [message for kind, message in machine.journal.events if kind == event]


async def ask(machine: FakeMachine, name: str, keep_alive_seconds: float | None = None) -> None:
    """Have a model answer one request."""
    server_id = machine.server(name).id
    machine.emit(RequestStarted(server_id=server_id))
    machine.emit(RequestsEnded(server_id=server_id, keep_alive_seconds=keep_alive_seconds))
    await machine.settle()


async def with_tool(config: Config | None = None) -> FakeMachine:
    """Return a machine on which `tool` is ready."""
    machine = FakeMachine(config)
    await machine.start("tool", "other")
    await load(machine, "tool")
    return machine


@asynchronous
async def test_idle_model_is_unloaded_after_its_time_by_a_timer() -> None:
    """S1-52, S4-09: nobody has to call anything."""
    machine = await with_tool()
    await machine.pass_time(300)
    assert machine.servers.stopped == []

    await machine.pass_time(1)
    assert machine.servers.stopped == [machine.server("tool").id]
    await machine.stops_all()
    assert told(machine, "server-stopped") == [
        "tool is unloaded: idle 301 s > 300 s (models.idle_timeout_seconds)"
    ]
    assert machine.world.deaths == {}


@asynchronous
async def test_idle_time_starts_at_the_end_of_the_last_request() -> None:
    """A long answer is no idleness, and its end is the last use."""
    machine = await with_tool()
    machine.emit(RequestStarted(server_id=machine.server("tool").id))
    await machine.pass_time(100, step=10)
    machine.emit(RequestsEnded(server_id=machine.server("tool").id))
    await machine.settle()
    await machine.pass_time(300, step=10)
    assert machine.servers.stopped == []

    await machine.pass_time(1)
    assert len(machine.servers.stopped) == 1


@asynchronous
async def test_model_that_is_not_kept_goes_with_the_end_of_its_last_request() -> None:
    """`keep_alive: 0` at once, but not before another request has its answer."""
    machine = await with_tool()
    server_id = machine.server("tool").id
    machine.emit(RequestStarted(server_id=server_id))
    await ask(machine, "tool", 0)
    assert machine.servers.stopped == []

    machine.emit(RequestsEnded(server_id=server_id))
    await machine.settle()
    assert machine.servers.stopped == [server_id]


@asynchronous
async def test_request_without_a_keep_alive_leaves_what_an_earlier_one_said() -> None:
    """As with Ollama: who preloads with -1 wants it to stay, whoever asks next."""
    machine = await with_tool()
    await ask(machine, "tool", -1)
    await ask(machine, "tool")
    await machine.pass_time(10_000, step=1000)
    assert machine.servers.stopped == []

    await ask(machine, "tool", 20)
    await machine.pass_time(21)
    assert len(machine.servers.stopped) == 1


@pytest.mark.parametrize(
    "config",
    [
        Config(models=Models(auto_unload_idle=False)),
        Config(models=Models(entries={"tool": Entry(keep_alive="-1")})),
        Config(keep_alive=KeepAlive(models=("tool",))),
    ],
)
def test_model_that_is_to_stay_is_not_unloaded_by_a_timer(config: Config) -> None:
    """S1-51, S4-09."""

    @asynchronous
    async def main() -> None:
        machine = await with_tool(config)
        await machine.pass_time(100_000, step=10_000)

        assert machine.servers.stopped == []

    main()


@pytest.mark.parametrize(
    ("config", "seconds"),
    [
        (Config(keep_alive=KeepAlive(strategy="ram")), 1800),
        (Config(keep_alive=KeepAlive(strategy="ssd")), 120),
        (Config(models=Models(entries={"tool": Entry(keep_alive="1m")})), 60),
        (Config(keep_alive=KeepAlive(enabled=False, models=("tool",))), 300),
    ],
)
def test_model_stays_as_long_as_the_configuration_says(config: Config, seconds: int) -> None:
    """S3-14, S1-53."""

    @asynchronous
    async def main() -> None:
        machine = await with_tool(config)
        await machine.pass_time(seconds, step=seconds)
        assert machine.servers.stopped == []

        await machine.pass_time(1)
        assert len(machine.servers.stopped) == 1

    main()


@asynchronous
async def test_server_is_not_stopped_under_a_request_that_came_with_the_end_of_the_last() -> None:
    """It would be told to end while it answers, and hang until it is killed."""
    machine = await with_tool()
    server_id = machine.server("tool").id
    machine.emit(RequestStarted(server_id=server_id))
    await machine.settle()
    machine.emit(RequestsEnded(server_id=server_id, keep_alive_seconds=0.0))
    machine.emit(RequestStarted(server_id=server_id))
    await machine.settle()
    assert machine.servers.stopped == []

    machine.emit(RequestsEnded(server_id=server_id, keep_alive_seconds=0.0))
    await machine.settle()
    assert machine.servers.stopped == [server_id]


@asynchronous
async def test_pinned_model_stays_until_it_is_unpinned() -> None:
    """S1-54: a pin is kept."""
    machine = await with_tool()
    await machine.request(PinAsked, selection=named("tool"), pinned=True)
    await ask(machine, "tool", 0)
    await machine.pass_time(10_000, step=1000)
    assert machine.servers.stopped == []

    await machine.request(PinAsked, selection=named("tool"), pinned=False)
    await machine.pass_time(1)
    assert len(machine.servers.stopped) == 1


@asynchronous
async def test_model_with_a_port_is_asked_for_its_work_before_it_goes() -> None:
    """What comes on its own port, modeld never sees."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool", port=8081)
    server = machine.server("tool")
    await machine.pass_time(305)
    assert set(machine.probe.looked) == {server.id}
    machine.emit(SlotsSeen(server_id=server.id, mark="0:7:0:10:20"))
    await machine.settle()
    await machine.pass_time(300)
    assert machine.servers.stopped == []

    await machine.pass_time(1)
    machine.emit(SlotsSeen(server_id=server.id, mark="0:9:0:10:20"))
    await machine.settle()
    await machine.pass_time(301)
    assert machine.servers.stopped == []

    machine.emit(SlotsSeen(server_id=server.id, mark="0:9:0:10:20"))
    await machine.settle()
    assert machine.servers.stopped == [server.id]


@asynchronous
async def test_model_that_answers_on_its_own_port_is_not_taken_for_another() -> None:
    """Promise 3: modeld sees none of its requests, and asks the server itself."""
    machine = FakeMachine(Config(reload=Reload(min_reload_seconds=0)))
    await machine.start("tool", "other", "third")
    await load(machine, "tool", port=8081)
    tool = machine.server("tool")
    await load(machine, "other", keep_others=True)
    machine.emit(SlotsSeen(server_id=tool.id, mark="0:7:1:10:20", is_busy=True))
    await machine.settle()
    await machine.pass_time(1)
    await ask(machine, "other")

    await load(machine, "third", keep_others=True, force=True)

    assert machine.server("tool").id == tool.id
    assert {each.record.model_name for each in machine.world.servers.values()} == {"tool", "third"}


@asynchronous
async def test_load_may_say_how_long_the_model_stays() -> None:
    """`modelctl load --keep-alive 10m`, and again for one that runs."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool", keep_alive_seconds=600.0)
    await machine.pass_time(600, step=10)
    assert machine.servers.stopped == []

    await load(machine, "tool", keep_alive_seconds=-1.0)
    await machine.pass_time(6000, step=100)
    assert machine.servers.stopped == []


@asynchronous
async def test_next_daemon_knows_how_long_a_server_is_wanted() -> None:
    """A restart must neither unload what is to stay, nor keep what is over time for ever."""
    machine = await with_tool()
    await ask(machine, "tool", 1000)
    await machine.pass_time(500, step=10)
    before = machine.server("tool")
    machine.emit(StopAsked(leave_servers=True))
    await machine.settle()
    machine.supervisor.saver.flush()

    later = FakeMachine()
    later.clock.time = machine.clock.time + 600
    later.store.loaded = Loaded(state=machine.store.saved[-1])
    process = Process(pid=4242, start_ticks=1)
    later.servers.left = [Found(record=before.record, process=process)]
    later.add("tool")
    start = asyncio.create_task(later.start())
    await later.settle()
    later.emit(ServerReady(server_id=before.id))
    await start
    adopted = later.world.servers[before.id]

    assert (adopted.last_used_at, adopted.keep_alive_seconds) == (before.last_used_at, 1000)
    await later.pass_time(30)
    assert later.servers.stopped == []
    await later.pass_time(1)
    assert later.servers.stopped == [before.id]


@asynchronous
async def test_server_that_takes_a_dead_one_s_place_is_kept_as_long() -> None:
    """Whoever asked for -1 does not know that it crashed."""
    machine = await with_tool()
    await ask(machine, "tool", -1)
    await machine.ends(machine.server("tool").id, Exit(code=1))
    await machine.pass_time(5)
    await machine.brings_up("tool")
    await machine.pass_time(10_000, step=1000)

    assert machine.server("tool").keep_alive_seconds == -1
    assert machine.servers.stopped == []


@asynchronous
async def test_jump_of_the_wall_clock_unloads_nothing() -> None:
    """A laptop that is set right after a year must not lose its models."""
    machine = await with_tool()
    machine.clock.now = lambda: machine.clock.time + 1e8  # type: ignore[method-assign]
    await machine.pass_time(300)
    assert machine.servers.stopped == []
    assert views.servers(machine.world).servers[0].idle_seconds == 300

    await machine.pass_time(1)
    assert len(machine.servers.stopped) == 1


@asynchronous
async def test_unload_of_what_is_idle_takes_only_what_is_over_time() -> None:
    """S4-09: and nothing where idle models stay."""
    machine = await with_tool()
    await machine.pass_time(299, step=299)
    reply = await machine.request(UnloadAsked, idle=True)
    assert reply.models == ()

    machine.clock.time += 2
    task = machine.request(UnloadAsked, idle=True)
    await machine.settle()
    await machine.stops_all()
    assert (await task).models == ("tool",)
    assert "idle 301 s > 300 s" in told(machine, "server-stopped")[0]


@asynchronous
async def test_ps_shows_how_long_a_model_stays_and_why() -> None:
    """S1-55."""
    machine = await with_tool()
    await machine.pass_time(100, step=100)
    row = views.servers(machine.world).servers[0]
    assert (row.idle_seconds, row.left_seconds) == (100, 200)
    assert row.stays_because == "models.idle_timeout_seconds"

    await ask(machine, "tool", -1)
    assert views.servers(machine.world).servers[0].left_seconds is None


# --- at the start ---------------------------------------------------------------------------


@asynchronous
async def test_models_are_loaded_at_the_start_within_the_limits() -> None:
    """S1-51, S3-20: in order, and what does not fit is told."""
    config = Config(
        keep_alive=KeepAlive(models=("tool",)), models=Models(preload=("nobody", "other", "third"))
    )
    machine = FakeMachine(config)
    await machine.start("tool", "other", "third")

    assert [each.model_name for each in machine.servers.started] == ["tool", "other"]
    assert told(machine, "preload-skipped") == [
        "nobody is not loaded at the start: model 'nobody' not found"
    ]
    assert told(machine, "load-refused") == [
        "third is not loaded: Max concurrent models (2) reached"
    ]


@asynchronous
async def test_nothing_is_loaded_at_the_start_where_that_is_off() -> None:
    """S1-53."""
    config = Config(
        keep_alive=KeepAlive(enabled=False, models=("tool",)), models=Models(preload=("tool",))
    )
    machine = FakeMachine(config)
    await machine.start("tool")

    assert machine.servers.started == []


@asynchronous
async def test_program_that_joins_a_load_of_the_start_gets_its_own_rules() -> None:
    """A load of the start gives up without room; a program's makes room."""
    config = Config(models=Models(max_concurrent_loaded=1, preload=("tool", "other")))
    machine = FakeMachine(config)
    await machine.start("tool", "other")
    await machine.brings_up("tool")
    task = machine.request(LoadAsked, selection=named("other"), origin=Origin.GATEWAY)
    await machine.settle()
    await machine.stops_all()
    await machine.brings_up("other")

    assert (await task).model == "other"
