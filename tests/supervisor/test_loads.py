"""`supervisor.loads` and `.jobs`: from a request for a model to its answer."""

import asyncio
from collections.abc import Sequence

import pytest
from msgspec.structs import replace

from modeld.config.schema import Config, Gateway, Load, Models, Reload, Servers
from modeld.core.entities import Binary, Exit, Origin, ServerState
from modeld.core.events import (
    CancelAsked,
    FolderChanged,
    LoadAsked,
    Selection,
    ServerLoading,
    StateSaved,
    StopAsked,
    UnloadAsked,
)
from modeld.core.names import NameChange
from modeld.core.traffic import RequestsEnded, RequestStarted
from modeld.errors import (
    AddressInUse,
    ArgumentDenied,
    Busy,
    Cancelled,
    DoesNotFit,
    NameTaken,
    ServerFailed,
    StateNotSaved,
    Throttled,
    TooManyLoaded,
    Unavailable,
    UnknownModel,
    UnknownName,
)
from modeld.supervisor.ports import Folder
from modeld.wire.codec import Progress
from modeld.wire.load import Loaded, Planned
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

UNTHROTTLED = Config(reload=Reload(min_reload_seconds=0))


def named(pattern: str) -> Selection:
    """Return the selection of a person who types `pattern`."""
    return Selection(pattern=pattern)


async def load(machine: FakeMachine, name: str, **settings: object) -> Loaded:
    """Load a model to its end, everything going well."""
    task = machine.request(LoadAsked, selection=named(name), **settings)
    await machine.settle()
    if not task.done():
        await machine.stops_all()
        await machine.brings_up(name)
    reply: Loaded = await task
    return reply


@asynchronous
async def test_load_answers_when_the_server_is_ready() -> None:
    """The main job."""
    machine = FakeMachine()
    await machine.start("tool")

    reply = await load(machine, "tool")

    assert reply.model == "tool"
    assert machine.server("tool").state is ServerState.READY
    assert machine.servers.started[0].model_path == "/ssd/tool.gguf"
    assert machine.world.stats_of("tool").total_uses == 1


@asynchronous
async def test_load_tells_its_phases_in_order() -> None:
    """Whoever waits wants to see that something happens."""
    machine = FakeMachine()
    await machine.start("tool")
    told: list[Progress] = []
    task = machine.request(LoadAsked, told, selection=named("tool"))
    await machine.settle()
    server = machine.server("tool")
    await machine.brings_up("tool")
    machine.emit(ServerLoading(server_id=server.id, fraction=0.5))
    await task

    assert [each.phase for each in told] == ["queue", "start", "ready"]


@asynchronous
async def test_load_reports_the_fraction_that_the_engine_tells() -> None:
    """Decision 4: progress is real."""
    machine = FakeMachine()
    await machine.start("tool")
    told: list[Progress] = []
    machine.request(LoadAsked, told, selection=named("tool"))
    await machine.settle()
    server = machine.server("tool")
    machine.emit(machine_started(server.id))
    machine.emit(ServerLoading(server_id=server.id, stage="text_model", fraction=0.42))
    await machine.settle()

    assert (told[-1].phase, told[-1].fraction) == ("load", 0.42)


def machine_started(server_id: str) -> object:
    """Return the event that a process exists."""
    from modeld.core.entities import Process
    from modeld.core.events import ServerStarted

    return ServerStarted(server_id=server_id, process=Process(pid=1, start_ticks=1))


@asynchronous
async def test_load_replaces_what_runs_by_default() -> None:
    """S0-34."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one", "two")
    await load(machine, "one")

    reply = await load(machine, "two")

    assert reply.unloaded == ("one",)
    assert [each.record.model_name for each in machine.world.servers.values()] == ["two"]


@asynchronous
async def test_load_keeps_others_when_asked_or_configured() -> None:
    """`--nokill`, and `load.replace = false`."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one", "two")
    await load(machine, "one")
    await load(machine, "two", keep_others=True)

    assert len(machine.world.servers) == 2

    other = FakeMachine(replace(UNTHROTTLED, load=Load(replace=False)))
    await other.start("one", "two")
    await load(other, "one")
    await load(other, "two")

    assert len(other.world.servers) == 2


@asynchronous
async def test_load_waits_for_the_victim_to_be_gone_before_it_starts() -> None:
    """Else both would be in memory for a moment."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one", "two")
    await load(machine, "one")
    machine.request(LoadAsked, selection=named("two"))
    await machine.settle()

    assert len(machine.servers.started) == 1

    await machine.stops_all()

    assert len(machine.servers.started) == 2


@asynchronous
async def test_load_drains_a_busy_victim_before_it_stops_it() -> None:
    """An answer that is being given is not cut off."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one", "two")
    await load(machine, "one")
    first = machine.server("one")
    machine.emit(RequestStarted(server_id=first.id))
    machine.request(LoadAsked, selection=named("two"))
    await machine.settle()

    assert machine.server("one").state is ServerState.DRAINING
    assert machine.servers.stopped == []

    machine.emit(RequestsEnded(server_id=first.id))
    await machine.settle()

    assert machine.servers.stopped == [first.id]


@asynchronous
async def test_load_of_what_runs_is_no_work_and_never_throttled() -> None:
    """S0-29: checked before the throttle, with this sentence."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.world.gateway_addresses = ("127.0.0.1:8080",)
    await load(machine, "tool")

    again = await load(machine, "tool")

    assert again.already
    assert again.message == "Model already running on host:port 127.0.0.1:8080 with same args."
    assert len(machine.servers.started) == 1


@asynchronous
async def test_load_with_other_arguments_is_another_load() -> None:
    """S0-29 says: with the same arguments."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool")

    reply = await load(machine, "tool", arguments=("--temp", "0.5"))

    assert not reply.already
    assert machine.servers.started[1].arguments == ("--temp", "0.5")


@asynchronous
async def test_load_is_throttled_on_the_same_port_only() -> None:
    """S0-27 and S0-28, with the exact sentence."""
    machine = FakeMachine()
    await machine.start("one", "two")
    await load(machine, "one", port=8081)
    machine.clock.time += 17.5

    with pytest.raises(Throttled, match=r"^Too soon to reload\. Wait 13s\.$"):
        await load(machine, "two", port=8081)

    assert (await load(machine, "two", port=8082, keep_others=True)).address == "127.0.0.1:8082"


@asynchronous
async def test_load_that_is_refused_does_not_start_the_clock() -> None:
    """Nothing was loaded, so nothing has to cool down."""
    machine = FakeMachine()
    machine.add("huge", 20)
    await machine.start("one")
    with pytest.raises(DoesNotFit):
        await load(machine, "huge")

    assert (await load(machine, "one")).model == "one"


@asynchronous
async def test_load_of_the_gateway_is_never_throttled() -> None:
    """The throttle binds operators."""
    machine = FakeMachine()
    await machine.start("one", "two")
    await load(machine, "one")

    assert (await load(machine, "two", origin=Origin.GATEWAY)).model == "two"


@asynchronous
async def test_load_of_a_program_is_not_throttled_and_holds_nobody_up() -> None:
    """The throttle is there for a person's slips."""
    machine = FakeMachine()
    await machine.start("one", "two")
    await load(machine, "one", by_program=True, keep_others=True)
    await load(machine, "two", by_program=True, keep_others=True)

    assert (await load(machine, "one", arguments=("--temp", "0.5"))).model == "one"
    with pytest.raises(Throttled):
        await load(machine, "two", arguments=("--temp", "0.5"))


@asynchronous
async def test_load_of_a_program_takes_what_runs_with_any_arguments() -> None:
    """S4-04: loaded is loaded; a person chose those arguments."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one")
    await load(machine, "one", arguments=("--temp", "0.5"))

    assert (await load(machine, "one", by_program=True)).already
    assert len(machine.servers.started) == 1


@asynchronous
async def test_load_of_a_program_is_refused_where_an_operators_is() -> None:
    """S4-04: it makes no room unless that is asked for, and changes nothing."""
    machine = FakeMachine(Config(models=Models(max_concurrent_loaded=1)))
    await machine.start("one", "two")
    await load(machine, "one", by_program=True, keep_others=True)
    with pytest.raises(TooManyLoaded):
        await load(machine, "two", by_program=True, keep_others=True)

    assert machine.servers.stopped == []


@asynchronous
async def test_load_starts_one_server_for_two_hundred_waiters() -> None:
    """A15: single flight, and everybody is answered."""
    machine = FakeMachine()
    await machine.start("tool")
    tasks = [
        machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
        for _ in range(200)
    ]
    await machine.settle()
    await machine.brings_up("tool")
    replies = await asyncio.gather(*tasks)

    assert len(machine.servers.started) == 1
    assert len(replies) == 200
    assert machine.world.stats_of("tool").total_uses == 1


@asynchronous
async def test_load_tells_every_waiter_when_the_server_dies() -> None:
    """A15: nobody is left behind."""
    machine = FakeMachine()
    await machine.start("tool")
    tasks = [
        machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY) for _ in range(5)
    ]
    await machine.settle()
    await machine.ends(machine.server("tool").id, Exit(how="exited", code=3, lines=("no luck",)))
    results = await asyncio.gather(*tasks, return_exceptions=True)

    assert all(isinstance(each, ServerFailed) for each in results)
    assert "status 3" in str(results[0])
    assert "no luck" in str(results[0])


@asynchronous
async def test_load_says_what_may_help_when_the_engine_said_why() -> None:
    """A failed load says why, and gives a hint."""
    machine = FakeMachine()
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    lines = ("E llama_model_load: unknown model architecture: 'new'",)
    await machine.ends(machine.server("tool").id, Exit(code=1, lines=lines))

    with pytest.raises(ServerFailed) as caught:
        await task

    assert "too old" in caught.value.hint


@asynchronous
async def test_load_goes_on_when_its_waiter_leaves() -> None:
    """A load once begun is finished: it will be warm for the next try."""
    machine = FakeMachine()
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    task.cancel()
    await machine.settle()

    assert (await machine.brings_up("tool")).state is ServerState.READY


@asynchronous
async def test_cancel_ends_a_load_that_nobody_else_waits_for() -> None:
    """`--cancel-on-interrupt`."""
    machine = FakeMachine()
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    await machine.request(CancelAsked, load_request_id="r1")

    with pytest.raises(Cancelled):
        await task
    assert machine.servers.stopped == [machine.servers.started[0].server_id]


@asynchronous
async def test_cancel_leaves_the_load_to_others_who_wait() -> None:
    """One person's Ctrl-C must not take another's model."""
    machine = FakeMachine()
    await machine.start("tool")
    first = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    second = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    await machine.settle()
    await machine.request(CancelAsked, load_request_id="r1")
    await machine.brings_up("tool")

    with pytest.raises(Cancelled):
        await first
    assert (await second).model == "tool"


@asynchronous
async def test_load_changes_names_first_and_durably() -> None:
    """S0-01: the nickname is acknowledged with the load, so it must be on the disk before."""
    machine = FakeMachine()
    await machine.start("tool")
    reply = await load(machine, "tool", names=NameChange(set_nickname="foo", set_slot="tool"))

    assert machine.store.saved[0].nicknames == {"foo": "tool"}
    assert len(reply.names) == 2


@asynchronous
async def test_load_with_names_only_starts_stops_and_signals_nothing() -> None:
    """S0-02."""
    machine = FakeMachine()
    await machine.start("tool", "other")
    await load(machine, "other")
    reply = await machine.request(
        LoadAsked, selection=named("tool"), names=NameChange(set_nickname="foo"), names_only=True
    )

    assert reply.nicknames == ("foo",)
    assert len(machine.servers.started) == 1
    assert machine.servers.stopped == []


@asynchronous
async def test_load_does_not_begin_when_its_names_are_not_saved() -> None:
    """All or nothing: half of what was asked for is what nobody asked for."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.full = True

    with pytest.raises(StateNotSaved):
        await load(machine, "tool", names=NameChange(set_nickname="foo"))
    assert machine.servers.started == []
    assert machine.world.state.nicknames == {}


@asynchronous
async def test_load_finds_models_by_nickname_and_slot() -> None:
    """S0-04 and S0-08; an empty slot and an unknown nickname are errors."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one", "two")
    await load(machine, "one", names=NameChange(set_nickname="foo", set_slot="tool"))
    by_nickname = machine.request(LoadAsked, selection=Selection(nickname="foo"))
    by_slot = machine.request(LoadAsked, selection=Selection(slot="tool"))

    assert (await by_nickname).model == (await by_slot).model == "one"
    with pytest.raises(UnknownName):
        await machine.request(LoadAsked, selection=Selection(nickname="fo"))
    with pytest.raises(UnknownName):
        await machine.request(LoadAsked, selection=Selection(slot="chat"))


@asynchronous
async def test_load_takes_the_highest_rank_when_several_fit() -> None:
    """S0-31, and R2: the original took the lowest."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("qwen-a", "qwen-b")
    await load(machine, "qwen-b")
    reply = await machine.request(LoadAsked, selection=named("qwen"))

    assert reply.model == "qwen-b"
    assert [each.model for each in reply.candidates] == ["qwen-b", "qwen-a"]


@asynchronous
async def test_load_refuses_an_unknown_model_with_this_sentence() -> None:
    """S0-30."""
    machine = FakeMachine()
    await machine.start("tool")

    with pytest.raises(UnknownModel, match=r"^Model 'nothing' not found\.$"):
        await load(machine, "nothing")


@asynchronous
async def test_load_refuses_a_nickname_that_another_model_has() -> None:
    """S0-05: unless it is moved."""
    machine = FakeMachine()
    await machine.start("one", "two")
    await load(machine, "one", names=NameChange(set_nickname="foo"))

    with pytest.raises(NameTaken):
        await load(machine, "two", names=NameChange(set_nickname="foo"))


@asynchronous
async def test_load_refuses_arguments_that_open_the_machine() -> None:
    """G3, before anything is touched."""
    machine = FakeMachine()
    await machine.start("tool")

    with pytest.raises(ArgumentDenied):
        await load(machine, "tool", arguments=("--tools", "all"))
    assert machine.servers.started == []


@asynchronous
async def test_load_keeps_arguments_when_they_are_stored() -> None:
    """`--store`; one-off arguments win over stored ones (S0-C2)."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool", arguments=("--temp", "0.1"), store=True)
    await load(machine, "tool", arguments=("--temp", "0.9"))
    await load(machine, "tool")

    assert [each.arguments for each in machine.servers.started] == [
        ("--temp", "0.1"),
        ("--temp", "0.9"),
        ("--temp", "0.1"),
    ]


@asynchronous
async def test_load_refuses_in_order_memory_then_count() -> None:
    """S4-01: an operator who keeps others meets both limits."""
    machine = FakeMachine(UNTHROTTLED)
    machine.add("big", 15)
    await machine.start("a", "b", "c")
    await load(machine, "a", keep_others=True)
    await load(machine, "b", keep_others=True)

    with pytest.raises(DoesNotFit, match="Insufficient RAM"):
        await load(machine, "big", keep_others=True)
    with pytest.raises(TooManyLoaded, match=r"Max concurrent models \(2\) reached"):
        await load(machine, "c", keep_others=True)


@asynchronous
async def test_load_by_force_unloads_the_least_recently_used() -> None:
    """S4-06."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a", "b", "c")
    await load(machine, "a", keep_others=True)
    machine.clock.time += 10
    await load(machine, "b", keep_others=True)
    reply = await load(machine, "c", keep_others=True, force=True)

    assert reply.unloaded == ("a",)


@asynchronous
async def test_load_of_the_gateway_makes_room_and_never_takes_a_busy_model() -> None:
    """Promise 3; it waits instead, and gives up after a bounded time."""
    config = Config(models=Models(max_concurrent_loaded=1), gateway=Gateway(max_wait_seconds=30))
    machine = FakeMachine(config)
    await machine.start("a", "b")
    await load(machine, "a", origin=Origin.GATEWAY)
    first = machine.server("a")
    machine.emit(RequestStarted(server_id=first.id))
    task = machine.request(LoadAsked, selection=named("b"), origin=Origin.GATEWAY)
    await machine.settle()

    assert not task.done()
    assert machine.servers.stopped == []

    machine.emit(RequestsEnded(server_id=first.id))
    await machine.settle()
    await machine.stops_all()
    await machine.brings_up("b")

    assert (await task).unloaded == ("a",)


@asynchronous
async def test_load_of_the_gateway_gives_up_when_room_does_not_come() -> None:
    """No wait without a bound."""
    config = Config(models=Models(max_concurrent_loaded=1), gateway=Gateway(max_wait_seconds=30))
    machine = FakeMachine(config)
    await machine.start("a", "b")
    await load(machine, "a", origin=Origin.GATEWAY)
    machine.emit(RequestStarted(server_id=machine.server("a").id))
    task = machine.request(LoadAsked, selection=named("b"), origin=Origin.GATEWAY)
    await machine.pass_time(40, step=5)

    with pytest.raises(Busy):
        await task


@asynchronous
async def test_dry_run_shows_the_plan_and_touches_nothing() -> None:
    """What it prints is what `load` would do, by the same functions."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("one", "two")
    await load(machine, "one")
    plan: Planned = await machine.request(
        LoadAsked, selection=named("two"), dry_run=True, names=NameChange(set_slot="tool")
    )

    assert [each.action for each in plan.steps] == ["name", "stop", "start"]
    assert "<=" in plan.reason
    assert plan.argv[0] == "/usr/bin/llama-server"
    assert len(machine.servers.started) == 1
    assert machine.world.state.slots == {}


@asynchronous
async def test_dry_run_is_never_throttled() -> None:
    """It loads nothing, so there is nothing to hold back."""
    machine = FakeMachine()
    await machine.start("one", "two")
    await load(machine, "one")
    plan: Planned = await machine.request(LoadAsked, selection=named("two"), dry_run=True)

    assert plan.model == "two"


@asynchronous
async def test_load_waits_for_the_first_look_at_the_disks() -> None:
    """A request right after the start must not be told that its model is unknown."""
    machine = FakeMachine()
    machine.add("tool")
    scan, asked = machine.folders.scan, list[Sequence[Folder]]()
    machine.folders.scan = asked.append  # type: ignore[method-assign]
    starting = asyncio.create_task(machine.supervisor.start(machine.read_configs.append))
    await machine.settle()
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    assert not task.done()

    scan(asked[0])
    await starting
    await machine.settle()
    await machine.brings_up("tool")

    assert (await task).model == "tool"


@asynchronous
async def test_load_fails_with_advice_when_there_is_no_engine() -> None:
    """A machine without llama-server has to be told what to install."""
    machine = FakeMachine()
    machine.hardware.binary = Binary(argv=(), problem="no llama-server on PATH")
    await machine.start("tool")

    with pytest.raises(ServerFailed, match="no llama-server"):
        await load(machine, "tool")


@asynchronous
async def test_load_is_refused_when_modeld_is_stopping() -> None:
    """What begins then would be killed at once."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.world.stopping = True

    with pytest.raises(Unavailable):
        await load(machine, "tool")


@asynchronous
async def test_load_does_not_wait_for_ever_for_what_survives_sigkill() -> None:
    """A dead disk holds one server: that must not hold up every load from then on."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool", "chat")
    await load(machine, "tool")
    machine.request(LoadAsked, selection=named("chat"))
    await machine.pass_time(40)

    assert machine.server("tool").state is ServerState.UNREAPABLE
    assert machine.server("chat").state is ServerState.STARTING


@asynchronous
async def test_load_with_other_arguments_starts_beside_what_survives_sigkill() -> None:
    """The same model: its stuck server can't be replaced, and is not waited for again and again."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool")
    machine.request(LoadAsked, selection=named("tool"), arguments=("--temp", "0.1"))
    await machine.pass_time(40)

    assert len(machine.servers.started) == 2


@asynchronous
async def test_load_tells_its_waiter_when_its_server_can_not_be_ended() -> None:
    """A load that hangs in the kernel ends for whoever waits, though not for the kernel."""
    config = Config(servers=Servers(start_stall_seconds=5))
    machine = FakeMachine(config)
    await machine.start("tool")
    task = machine.request(LoadAsked, selection=named("tool"))
    await machine.pass_time(20)

    with pytest.raises(ServerFailed, match="survives SIGKILL"):
        await task
    assert not machine.world.jobs


@asynchronous
async def test_load_does_not_begin_after_the_order_to_stop() -> None:
    """Its names were on their way to the disk: a server started then would keep modeld alive."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.held = []
    task = machine.request(LoadAsked, selection=named("tool"), names=NameChange(set_nickname="foo"))
    await machine.settle()
    machine.emit(StopAsked(leave_servers=False))
    machine.emit(StateSaved(generation=machine.store.held[0].generation))
    await machine.settle()

    assert not machine.servers.started
    assert machine.supervisor.finished.is_set()
    task.cancel()


@asynchronous
async def test_load_of_an_operator_goes_on_when_they_leave_it_in_the_queue() -> None:
    """Ctrl-C says that the load goes on; a program that leaves wants nothing any more."""
    for origin, loads in ((Origin.OPERATOR, 1), (Origin.GATEWAY, 0)):
        machine = FakeMachine(UNTHROTTLED)
        await machine.start("tool", "chat", "code")
        await load(machine, "chat")
        machine.request(LoadAsked, selection=named("tool"), keep_others=False)
        await machine.settle()
        waiting = machine.request(LoadAsked, selection=named("code"), origin=origin)
        await machine.settle()
        waiting.cancel()
        await machine.settle()
        await machine.stops_all()
        await machine.brings_up("tool")
        await machine.stops_all()

        started = [each.model_name for each in machine.servers.started]
        assert started.count("code") == loads


@asynchronous
async def test_load_keeps_arguments_though_the_model_runs_with_them() -> None:
    """`--store` is a promise of its own, whether or not something has to be started."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool", arguments=("--temp", "0.1"))
    await load(machine, "tool", arguments=("--temp", "0.1"), store=True)

    assert machine.store.saved[-1].models["tool"].arguments == ("--temp", "0.1")


@asynchronous
async def test_load_keeps_no_arguments_that_are_refused_or_not_saved() -> None:
    """What was not acknowledged must not be there later."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool", arguments=("--temp", "0.1"), store=True)
    with pytest.raises(ArgumentDenied):
        await load(machine, "tool", arguments=("--tools", "all"), store=True)
    machine.store.full = True
    with pytest.raises(StateNotSaved):
        await load(machine, "tool", arguments=("--temp", "0.5"), store=True)

    assert machine.world.stats_of("tool").arguments == ("--temp", "0.1")
    assert len(machine.servers.started) == 1


@asynchronous
async def test_change_of_jobs_wakes_who_waits_for_a_model() -> None:
    """`wait` looks again when a load fails that never had a server."""
    machine = FakeMachine(Config(models=Models(max_concurrent_loaded=1)))
    await machine.start("tool", "chat")
    await load(machine, "chat")
    machine.emit(RequestStarted(server_id=machine.server("chat").id))
    waiting = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    await machine.settle()
    changed = asyncio.create_task(machine.supervisor.changed())
    await machine.settle()
    machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.settle()

    assert changed.done()
    with pytest.raises(Cancelled):
        await waiting


@asynchronous
async def test_server_that_a_program_was_promised_is_not_taken_before_its_request() -> None:
    """Three models and two places: else one waiter's answer is the next one's victim."""
    machine = FakeMachine(Config(models=Models(max_concurrent_loaded=1)))
    await machine.start("tool", "chat")
    first = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    await machine.settle()
    second = machine.request(LoadAsked, selection=named("chat"), origin=Origin.GATEWAY)
    await machine.settle()
    tool = await machine.brings_up("tool")
    await first
    assert not machine.servers.stopped

    machine.emit(RequestStarted(server_id=tool.id))
    await machine.settle()
    assert not machine.servers.stopped

    machine.emit(RequestsEnded(server_id=tool.id))
    await machine.settle()
    assert machine.servers.stopped == [tool.id]
    assert not machine.world.promises
    second.cancel()


@asynchronous
async def test_promise_to_a_program_that_leaves_ends_by_itself() -> None:
    """No wait without a bound: whoever never sends its request must not keep the place."""
    machine = FakeMachine(Config(models=Models(max_concurrent_loaded=1)))
    await machine.start("tool", "chat")
    first = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    second = machine.request(LoadAsked, selection=named("chat"), origin=Origin.GATEWAY)
    await machine.settle()
    tool = await machine.brings_up("tool")
    await first
    await machine.pass_time(3)

    assert machine.servers.stopped == [tool.id]
    second.cancel()


@asynchronous
async def test_load_of_a_file_that_was_replaced_is_another_load() -> None:
    """A better quantisation under the old name must not be answered by 'already running'."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool")
    machine.folders.files[0] = replace(machine.folders.files[0], mtime_ns=99)
    machine.emit(FolderChanged(tier="ssd"))
    await machine.settle()
    by_program = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    assert (await by_program).already

    assert not (await load(machine, "tool")).already
    assert (await load(machine, "tool")).already
    assert len(machine.servers.started) == 2


@asynchronous
async def test_load_on_the_port_of_the_gateway_touches_nothing() -> None:
    """What can't work must not take the server that runs first."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    machine.world.gateway_addresses = ("127.0.0.1:8080",)
    await load(machine, "tool")
    with pytest.raises(AddressInUse, match="gateway"):
        await machine.request(LoadAsked, selection=named("tool"), port=8080)

    assert machine.server("tool").state is ServerState.READY


@asynchronous
async def test_load_with_other_arguments_takes_waiting_programs_along() -> None:
    """They asked for the model, not for its arguments: an operator's change must not fail them."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    program = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    person = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    other = machine.request(LoadAsked, selection=named("tool"), arguments=("--temp", "0.1"))
    await machine.settle()
    await machine.stops_all()
    server = await machine.brings_up("tool")

    assert (await program).server_id == (await other).server_id == server.id
    with pytest.raises(Cancelled):
        await person
