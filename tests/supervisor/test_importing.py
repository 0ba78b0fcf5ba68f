"""`supervisor.importing`: what another program remembers, on the disk before it is acknowledged."""

import asyncio
from datetime import UTC, datetime

import pytest

from modeld.core.events import BinaryProbed, HistoryAsked, NamesAsked
from modeld.core.history import Past
from modeld.core.names import NameChange
from modeld.errors import StateNotSaved as NotSaved
from modeld.wire.history import HistoryImported
from tests.supervisor.test_loads import named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def past(name: str = "tool", **fields: object) -> Past:
    """Return a record of one file."""
    facts: dict[str, object] = {"total_uses": 3, "use_timestamps": (NOON,), **fields}
    return Past(path=f"/old/{name}.gguf", **facts)  # type: ignore[arg-type]


async def ask(machine: FakeMachine, *records: Past, **fields: object) -> HistoryImported:
    """Have records taken over."""
    reply = await machine.request(HistoryAsked, records=records, **fields)
    assert isinstance(reply, HistoryImported)
    return reply


@asynchronous
async def test_history_is_on_the_disk_when_it_is_acknowledged() -> None:
    """A crash after the answer must not lose it."""
    machine = FakeMachine()
    await machine.start("tool")
    reply = await ask(machine, past())

    assert machine.store.saved[-1].models["tool"].total_uses == 3
    assert reply.records[0].model == "tool"
    assert reply.records[0].taken == ("3 uses",)


@asynchronous
async def test_history_again_adds_nothing_and_says_so() -> None:
    """Idempotent, and nothing is refused in silence."""
    machine = FakeMachine()
    await machine.start("tool")
    await ask(machine, past())
    reply = await ask(machine, past())

    assert machine.world.state.models["tool"].total_uses == 3
    assert reply.records[0].left == ("its uses were taken over before",)


@asynchronous
async def test_history_of_an_unknown_model_is_left() -> None:
    """Its uses belong to no model here."""
    machine = FakeMachine()
    await machine.start("tool")
    reply = await ask(machine, past("gone"), past("tool"))

    assert reply.records[0].model == ""
    assert "no such model" in reply.records[0].left[0]
    assert reply.records[1].taken


@asynchronous
async def test_history_that_is_only_tried_changes_nothing() -> None:
    """--dry-run tells; that is all."""
    machine = FakeMachine()
    await machine.start("tool")
    before = machine.world.state
    reply = await ask(machine, past(), dry_run=True)

    assert reply.records[0].taken == ("3 uses",)
    assert machine.world.state is before


@asynchronous
async def test_history_is_taken_back_when_the_disk_refuses() -> None:
    """Else a second try would find it taken over, though it never reached the disk."""
    machine = FakeMachine()
    await machine.start("tool")
    machine.store.full = True
    with pytest.raises(NotSaved):
        await ask(machine, past(arguments=("--ctx-size", "4096"), nicknames=("t",)))
    machine.store.full = False
    reply = await ask(machine, past())

    assert machine.world.state.nicknames == {}
    assert machine.world.state.models["tool"].arguments == ()
    assert reply.records[0].taken == ("3 uses",)


@asynchronous
async def test_arguments_are_kept_where_the_model_has_none() -> None:
    """What a person tuned for a model is worth more than the counts."""
    machine = FakeMachine()
    await machine.start("tool")
    await ask(machine, past(arguments=("--ctx-size", "4096")))
    reply = await ask(machine, past(arguments=("--ctx-size", "2048")))

    assert machine.world.state.models["tool"].arguments == ("--ctx-size", "4096")
    assert any("it has some of its own" in sentence for sentence in reply.records[0].left)


@asynchronous
async def test_arguments_that_could_not_be_passed_on_are_left() -> None:
    """A model that can't be loaded any more would be a bad souvenir."""
    machine = FakeMachine()
    await machine.start("tool")
    reply = await ask(machine, past(arguments=("--port", "8080")), arguments=("--no-such-thing",))

    assert machine.world.state.models["tool"].arguments == ()
    assert "'--port' is not passed on" in reply.records[0].left[0]
    assert "--no-such-thing" in reply.arguments_problem


@asynchronous
async def test_nicknames_come_too_but_never_from_another_model() -> None:
    """A nickname names one model; the one that has it keeps it."""
    machine = FakeMachine()
    await machine.start("tool", "chat")
    await machine.request(
        NamesAsked, selection=named("chat"), change=NameChange(add_nicknames=("mine",))
    )
    reply = await ask(machine, past(nicknames=("mine", "yours")))

    assert machine.world.state.nicknames == {"mine": "chat", "yours": "tool"}
    assert "nickname 'mine' names chat already" in reply.records[0].left


@asynchronous
async def test_two_files_of_one_model_are_added_up() -> None:
    """The same name in two folders there, one model here."""
    machine = FakeMachine()
    await machine.start("tool")
    again = Past(path="/other/tool.gguf", total_uses=2)
    reply = await ask(machine, past(), again)

    assert machine.world.state.models["tool"].total_uses == 5
    assert reply.records[1].taken == ("together with /old/tool.gguf",)


@asynchronous
async def test_arguments_wait_for_the_engine_that_judges_them() -> None:
    """Right after a start nobody knows yet what it takes; what is wrong would be written down."""
    machine = FakeMachine()
    await machine.start("tool")
    engine, machine.world.binary = machine.world.binary, None
    assert engine is not None
    reply = asyncio.ensure_future(ask(machine, past(), arguments=("--no-such-thing",)))
    without = await ask(machine, past("other"))
    await machine.settle()
    assert without.arguments_problem == ""
    assert not reply.done()

    machine.emit(BinaryProbed(binary=engine))

    assert "no-such-thing" in (await reply).arguments_problem
