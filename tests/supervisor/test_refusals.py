"""`supervisor.refusals`: a program that asks again and again, and the journal."""

from modeld.config.schema import Config, Models
from modeld.core.entities import Origin
from modeld.core.events import LoadAsked, PinAsked
from modeld.supervisor.refusals import REPEAT_SECONDS
from tests.supervisor.test_loads import UNTHROTTLED, load, named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


async def pinned() -> FakeMachine:
    """Return a machine whose only place is a pinned model's."""
    models = Models(max_concurrent_loaded=1)
    machine = FakeMachine(Config(models=models, reload=UNTHROTTLED.reload))
    await machine.start("tool", "other", "third")
    await load(machine, "tool")
    await machine.request(PinAsked, selection=named("tool"), pinned=True)
    return machine


async def refused(machine: FakeMachine, name: str, origin: Origin = Origin.GATEWAY) -> None:
    """Have somebody ask for a model that has no place."""
    task = machine.request(LoadAsked, selection=named(name), origin=origin, keep_others=True)
    await machine.settle()
    assert "is pinned" in str(task.exception())


def told(machine: FakeMachine) -> list[str]:
    """Return what the journal has of refused loads."""
    return [text for event, text in machine.journal.events if event == "load-refused"]


@asynchronous
async def test_the_same_refusal_is_told_once_a_minute_and_then_how_often() -> None:
    """A client that tries again every second would write 86,400 warnings a day."""
    machine = await pinned()
    for _ in range(5):
        await refused(machine, "other")
    await refused(machine, "third")
    reason = "is not loaded: Max concurrent models (1) reached; tool is pinned"
    assert told(machine) == [f"other {reason}", f"third {reason}"]

    await machine.pass_time(REPEAT_SECONDS)
    await refused(machine, "other")

    assert told(machine)[2:] == [f"other {reason} (4 times more in between)"]


@asynchronous
async def test_what_an_operator_asked_for_is_always_told() -> None:
    """They look for it."""
    machine = await pinned()
    for _ in range(3):
        task = machine.request(LoadAsked, selection=named("other"), keep_others=True, force=True)
        await machine.settle()
        assert task.exception() is not None

    assert len(told(machine)) == 3
