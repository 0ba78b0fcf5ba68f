"""`supervisor.asks`: unload, names and pins."""

import pytest

from modeld.config.schema import Config, Models
from modeld.core.entities import Exit, Found, Origin, Process, ServerState, State
from modeld.core.events import (
    BinaryProbed,
    FolderChanged,
    LoadAsked,
    NamesAsked,
    PinAsked,
    Selection,
    ServerReady,
    UnloadAsked,
)
from modeld.core.names import NameChange
from modeld.core.traffic import RequestStarted
from modeld.errors import Cancelled, Pinned, UnknownModel, Usage
from modeld.supervisor.ports import Loaded, no_binary
from tests.supervisor.test_loads import UNTHROTTLED, load, named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


@asynchronous
async def test_unload_answers_when_the_process_is_gone() -> None:
    """S4-08: the memory must be free when the answer comes."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    task = machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.settle()
    assert not task.done()

    await machine.stops_all()
    assert (await task).models == ("tool",)


@asynchronous
async def test_unload_of_what_is_not_loaded_is_done_already() -> None:
    """S2-07: idempotent."""
    machine = FakeMachine()
    await machine.start("tool")

    assert (await machine.request(UnloadAsked, selections=(named("tool"),))).models == ()


@asynchronous
async def test_unload_of_an_unknown_model_is_an_error() -> None:
    """A typing error must not look like success."""
    machine = FakeMachine()
    await machine.start("tool")

    with pytest.raises(UnknownModel):
        await machine.request(UnloadAsked, selections=(named("tol"),))
    with pytest.raises(Usage):
        await machine.request(UnloadAsked)


@asynchronous
async def test_unload_keeps_pinned_models_unless_forced() -> None:
    """X-07: a pin is a promise."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a", "b")
    await load(machine, "a", pin=True)
    await load(machine, "b")
    with pytest.raises(Pinned):
        await machine.request(UnloadAsked, selections=(named("a"),))

    task = machine.request(UnloadAsked, everything=True)
    await machine.settle()
    await machine.stops_all()
    reply = await task

    assert (reply.models, reply.kept) == (("b",), ("a",))


@asynchronous
async def test_unload_lets_requests_in_flight_end_unless_it_must_be_now() -> None:
    """Somebody reads that answer."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    machine.emit(RequestStarted(server_id=machine.server("tool").id))
    machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.settle()
    assert machine.server("tool").state is ServerState.DRAINING

    machine.request(UnloadAsked, selections=(named("tool"),), now=True)
    await machine.settle()
    assert machine.server("tool").state is ServerState.STOPPING


@asynchronous
async def test_unload_cancels_a_load_under_way_and_tells_who_waited() -> None:
    """Else the model would be there a moment later."""
    machine = FakeMachine()
    await machine.start("tool")
    loading = machine.request(LoadAsked, selection=named("tool"))
    await machine.settle()
    unloading = machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.settle()
    await machine.stops_all()

    with pytest.raises(Cancelled):
        await loading
    assert (await unloading).models == ("tool",)


@asynchronous
async def test_pinned_model_is_not_replaced_by_a_load() -> None:
    """Promise 3."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a", "b")
    await load(machine, "a", pin=True)

    assert (await load(machine, "b")).unloaded == ()


@asynchronous
async def test_pin_and_unpin_say_what_changed() -> None:
    """A second pin is no news."""
    machine = FakeMachine()
    await machine.start("tool")
    first = await machine.request(PinAsked, selection=named("tool"), pinned=True)
    second = await machine.request(PinAsked, selection=named("tool"), pinned=True)

    assert len(first.changes) == 1
    assert second.changes == ()


@asynchronous
async def test_slot_is_cleared_without_naming_a_model() -> None:
    """`slot clear tool` needs no more."""
    machine = FakeMachine()
    await machine.start("tool")
    await machine.request(NamesAsked, selection=named("tool"), change=NameChange(set_slot="tool"))
    await machine.request(NamesAsked, selection=Selection(), change=NameChange(clear_slot="tool"))

    assert machine.world.state.slots == {}


@asynchronous
async def test_unload_ends_the_wait_for_another_start_after_a_death() -> None:
    """What was unloaded on purpose must not come back by itself a moment later."""
    for everything in (True, False):
        machine = FakeMachine()
        await machine.start("tool")
        await load(machine, "tool")
        await machine.ends(machine.server("tool").id, Exit(how="signalled", code=11))
        named_ones = () if everything else (named("tool"),)
        await machine.request(UnloadAsked, selections=named_ones, everything=everything)
        await machine.pass_time(70)

        assert len(machine.servers.started) == 1
        assert not machine.world.deaths  # what `ps` calls failed can be cleared


@asynchronous
async def test_unload_of_several_touches_none_when_one_is_pinned() -> None:
    """A refusal must leave everything as it was."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool", "chat", "kept")
    await machine.request(PinAsked, selection=named("kept"), pinned=True)
    await load(machine, "chat")
    machine.emit(RequestStarted(server_id=machine.server("chat").id))
    machine.world.config = Config(models=Models(max_concurrent_loaded=1))
    waiting = machine.request(LoadAsked, selection=named("tool"), origin=Origin.GATEWAY)
    await machine.settle()
    with pytest.raises(Pinned):
        await machine.request(UnloadAsked, selections=(named("tool"), named("kept")))

    assert machine.world.job_of("tool") is not None
    waiting.cancel()


@asynchronous
async def test_model_whose_file_is_gone_answers_and_is_unloaded_by_its_name() -> None:
    """A file deleted under a running server must not leave it to nobody."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool", "chat")
    await load(machine, "tool")
    await machine.request(PinAsked, selection=named("tool"), pinned=True)
    machine.folders.files.clear()
    machine.emit(FolderChanged(tier="ssd"))
    await machine.settle()

    routes = machine.supervisor.routes
    assert routes.ready(routes.find("tool").id) is not None
    assert (await load(machine, "tool")).already
    with pytest.raises(UnknownModel, match="file is gone"):
        await machine.request(LoadAsked, selection=named("tool"), arguments=("--jinja",))
    assert (
        "no longer pinned"
        in (await machine.request(PinAsked, selection=named("tool"), pinned=False)).changes[0]
    )
    task = machine.request(UnloadAsked, selections=(named("tool"),))
    await machine.settle()
    await machine.stops_all()
    assert (await task).models == ("tool",)
    assert not machine.world.models
    assert not machine.world.gone


@asynchronous
async def test_adopted_server_without_a_file_is_unloaded_by_its_name() -> None:
    """The file may have gone while modeld was away."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    record = machine.servers.started[0]
    later = FakeMachine()
    later.servers.left = [Found(record=record, process=Process(pid=1, start_ticks=1))]
    await later.start()
    later.emit(ServerReady(server_id=record.server_id))
    await later.settle()
    task = later.request(UnloadAsked, selections=(named("tool"),))
    await later.settle()
    await later.stops_all()

    assert (await task).models == ("tool",)


@asynchronous
async def test_pin_of_a_model_that_is_only_remembered_can_be_taken_back() -> None:
    """A promise about a file that was deleted must not be for ever."""
    machine = FakeMachine()
    machine.store.loaded = Loaded(state=State(pins=("lost",)))
    await machine.start("tool")
    await machine.request(PinAsked, selection=named("lost"), pinned=False)

    assert machine.store.saved[-1].pins == ()
    with pytest.raises(UnknownModel):
        await machine.request(PinAsked, selection=named("lost"), pinned=True)


@asynchronous
async def test_routes_say_what_keeps_every_model_from_being_loaded() -> None:
    """Whoever waits for a modeld that can serve must not be told so too early, or too long."""
    machine = FakeMachine(UNTHROTTLED)
    assert machine.supervisor.routes.problem
    await machine.start("tool")
    assert not machine.supervisor.routes.problem

    machine.emit(BinaryProbed(binary=no_binary("no llama-server was found")))
    await machine.settle()
    assert machine.supervisor.routes.problem == "no llama-server was found"
