"""`supervisor.saving`: what is acknowledged is on the disk."""

import pytest

from modeld.core.entities import State
from modeld.core.events import NamesAsked, PinAsked, StateNotSaved, StateSaved
from modeld.core.names import NameChange
from modeld.core.stats import count_use
from modeld.errors import StateNotSaved as NotSaved
from modeld.supervisor.ports import Loaded
from tests.supervisor.test_loads import load, named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


@asynchronous
async def test_name_is_acknowledged_only_when_it_is_on_the_disk() -> None:
    """Promise 1: a crash after the answer must not lose it."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.held = []
    task = machine.request(
        NamesAsked, selection=named("tool"), change=NameChange(add_nicknames=("foo",))
    )
    await machine.settle()
    assert not task.done()

    machine.emit(StateSaved(generation=machine.store.held[0].generation))
    assert (await task).nicknames == ("foo",)


@asynchronous
async def test_name_is_taken_back_when_the_disk_refuses() -> None:
    """Else it would be there until the next restart, and then not."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.full = True

    with pytest.raises(NotSaved, match="No space left"):
        await machine.request(PinAsked, selection=named("tool"), pinned=True)
    assert machine.world.state.pins == ()


@asynchronous
async def test_later_names_are_saved_when_the_disk_has_room_again() -> None:
    """A full disk must not need a restart."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.full = True
    with pytest.raises(NotSaved):
        await machine.request(PinAsked, selection=named("tool"), pinned=True)
    machine.store.full = False

    await machine.request(PinAsked, selection=named("tool"), pinned=True)

    assert machine.store.saved[-1].pins == ("tool",)


@asynchronous
async def test_changes_that_come_together_are_saved_in_their_order() -> None:
    """Each one is undone alone when it fails, so each one is written alone."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.held = []
    first = machine.request(
        NamesAsked, selection=named("tool"), change=NameChange(add_nicknames=("a",))
    )
    second = machine.request(
        NamesAsked, selection=named("tool"), change=NameChange(add_nicknames=("b",))
    )
    await machine.settle()
    machine.emit(StateNotSaved(generation=machine.store.held[0].generation, reason="EIO"))
    await machine.settle()
    machine.emit(StateSaved(generation=machine.store.held[1].generation))

    with pytest.raises(NotSaved):
        await first
    assert (await second).nicknames == ("b",)


@asynchronous
async def test_change_that_changes_nothing_needs_no_disk() -> None:
    """S0-09: adding twice is a no-op."""
    machine = FakeMachine()
    await machine.start("tool")
    change = NameChange(add_nicknames=("a",))
    await machine.request(NamesAsked, selection=named("tool"), change=change)
    machine.store.full = True

    reply = await machine.request(NamesAsked, selection=named("tool"), change=change)

    assert reply.changes == ()


@asynchronous
async def test_uses_are_saved_within_seconds_without_being_asked() -> None:
    """S0-26, without a write a load."""
    machine = FakeMachine()
    await machine.start("tool")
    await load(machine, "tool")
    await machine.pass_time(3)

    assert machine.store.saved[-1].models["tool"].total_uses == 1


@asynchronous
async def test_uses_wait_in_memory_while_the_disk_refuses() -> None:
    """D3: kept, retried, and shown in the status."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.full = True
    await load(machine, "tool")
    await machine.pass_time(3)
    assert machine.world.saving.problem == "No space left"

    machine.store.full = False
    await machine.pass_time(8)
    assert machine.store.saved[-1].models["tool"].total_uses == 1
    assert machine.world.saving.problem == ""


@asynchronous
async def test_state_of_a_newer_modeld_is_never_written() -> None:
    """D5: a downgrade must not destroy what it does not understand."""
    machine = FakeMachine()
    machine.store.loaded = Loaded(
        state=State(nicknames={"foo": "tool"}),
        problems=("stats.json is of a newer modeld",),
        read_only=True,
    )
    await machine.start("tool")
    await load(machine, "tool")
    await machine.pass_time(5)

    with pytest.raises(NotSaved, match="newer modeld"):
        await machine.request(PinAsked, selection=named("tool"), pinned=True)
    assert machine.store.saved == []


@asynchronous
async def test_flush_saves_what_came_during_a_write() -> None:
    """The end of the daemon must not lose the last run times to a write that is under way."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.held = []
    machine.request(NamesAsked, selection=named("tool"), change=NameChange(set_nickname="foo"))
    await machine.settle()
    machine.supervisor.saver.observe(count_use(machine.world.state, "tool", 0))
    machine.supervisor.saver.flush()

    assert machine.store.held[-1].models["tool"].total_uses == 1
