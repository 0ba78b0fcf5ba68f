"""`supervisor.asks`: unload, names and pins."""

import pytest

from modeld.core.entities import ServerState
from modeld.core.events import (
    LoadAsked,
    NameChange,
    NamesAsked,
    PinAsked,
    RequestStarted,
    Selection,
    UnloadAsked,
)
from modeld.errors import Cancelled, Pinned, UnknownModel, Usage
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
