"""`supervisor.publishing`: routes are made anew where they would differ, and no more of them."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest
from msgspec.structs import replace

from modeld.config.schema import Config, Routing
from modeld.core.entities import Header, Model, ModelStats, Process
from modeld.core.events import (
    ConfigRead,
    FolderChanged,
    LoadAsked,
    NamesAsked,
    ReloadAsked,
    ServerReady,
    ServerStarted,
)
from modeld.core.limits import Facts, Row
from modeld.core.names import NameChange
from modeld.core.routing import Ask
from modeld.supervisor import guide as guiding
from modeld.supervisor import outlooks
from modeld.supervisor.guide import Prospect
from modeld.supervisor.world import World
from tests.supervisor.test_loads import named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


async def watched(monkeypatch: pytest.MonkeyPatch, *names: str) -> tuple[FakeMachine, list[str]]:
    """Return a machine with two models, and the list of those that are looked at from now on."""
    machine, looked_at = FakeMachine(), list[str]()
    await machine.start(*(names or ("tool", "other")))
    look = outlooks.prospect

    def counted(world: World, model: Model) -> Prospect:
        looked_at.append(model.id)
        return look(world, model)

    monkeypatch.setattr(outlooks, "prospect", counted)
    return machine, looked_at


def test_name_that_changes_has_no_other_model_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """With thousands of models every answer would stand still for longer than a token takes."""

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch)
        change = NameChange(add_nicknames=("mine",))
        await machine.request(NamesAsked, selection=named("tool"), change=change)

        assert machine.world.routes.index["mine"] == ("tool",)
        assert looked_at == ["tool"]

    main()


def test_scan_that_finds_nothing_new_publishes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A download changes its folder all the time."""

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch)
        before = machine.world.routes
        machine.emit(FolderChanged(tier="ssd"))
        await machine.settle()

        assert machine.world.routes is before
        assert looked_at == []

    main()


def test_everything_is_looked_at_anew_with_another_configuration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What a model would be loaded with is all in there."""

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch)
        memory = replace(machine.config.memory, limit_gb=0.5)
        machine.emit(ConfigRead(request_id="r", config=replace(machine.config, memory=memory)))
        await machine.settle()

        assert sorted(looked_at) == ["other", "tool"]

    main()


def test_file_and_measurement_that_change_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was thought too large for the machine may be none."""

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch)
        machine.folders.files[0] = replace(
            machine.folders.files[0], header=Header(architecture="gemma3", tensor_count=1)
        )
        machine.emit(FolderChanged(tier="ssd"))
        await machine.settle()
        assert looked_at == ["tool"]

        stats = ModelStats(arguments=("--temp", "0"))
        machine.world.state = replace(machine.world.state, models={"other": stats})
        await machine.pass_time(1)
        assert looked_at == ["tool", "other"]

    main()


async def read(machine: FakeMachine, config: Config) -> None:
    """Put a configuration in force, without waiting for what comes of it."""
    machine.emit(ConfigRead(request_id="r", config=config))
    await asyncio.sleep(0)


def test_reload_that_concerns_no_model_has_none_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that changes nothing: with thousands of models either held the loop up."""

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch)
        await read(machine, replace(machine.config))
        before = machine.world.naming
        await read(machine, replace(machine.config, routing=Routing(default_profile="fast")))

        assert machine.world.routes.guide.router.decide(Ask(name="auto")).profile == "fast"
        assert machine.world.naming is before
        assert looked_at == []

    main()


def test_table_that_changes_has_only_facts_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a model is loaded with is no matter of what it can do, nor the other way round."""

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch)
        facts = counted_facts(monkeypatch)
        machine.world.limits = (Row(pattern="tool*", family="mine"),)
        await read(machine, replace(machine.config))
        assert machine.world.routes.guide.facts["tool"].family == "mine"
        assert looked_at == []
        assert sorted(facts) == ["other", "tool"]

        servers = replace(machine.config.servers, context_tokens=64)
        await read(machine, replace(machine.config, servers=servers))
        assert set(machine.world.routes.guide.contexts.values()) == {64}
        assert sorted(looked_at) == ["other", "tool"]

    main()


def counted_facts(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the list of the models whose facts are looked up from now on."""
    found, look_up = list[str](), guiding.facts

    def counted(model: Model, rows: Sequence[Row], *, any_template: bool) -> Facts:
        found.append(model.id)
        return look_up(model, rows, any_template=any_template)

    monkeypatch.setattr(guiding, "facts", counted)
    return found


def test_loop_has_a_turn_for_others_between_some_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer under way must not stand still while all models are looked at."""
    count = 3 * outlooks.SLICE_MODELS + 1

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch, *(f"m{number}" for number in range(count)))
        before, turns = machine.world.routes, list[int]()
        servers = replace(machine.config.servers, context_tokens=64)
        task = machine.request(ReloadAsked)
        await machine.settle()
        machine.emit(
            ConfigRead(
                request_id=machine.read_configs[-1], config=replace(machine.config, servers=servers)
            )
        )
        while not task.done():
            turns.append(len(looked_at))
            # all at once, or nothing: names that mean nothing yet would be unknown
            assert machine.world.routes is before or set(turns) >= {count}
            await asyncio.sleep(0)

        steps = [after - was for was, after in pairwise((*turns, len(looked_at)))]
        assert max(steps) <= outlooks.SLICE_MODELS
        assert len(looked_at) == count
        assert set(machine.world.routes.guide.contexts.values()) == {64}

    main()


def test_servers_are_shown_while_models_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request must not be sent to one that is gone."""
    count = 3 * outlooks.SLICE_MODELS

    @asynchronous
    async def main() -> None:
        machine, looked_at = await watched(monkeypatch, *(f"m{number}" for number in range(count)))
        loading = machine.request(LoadAsked, selection=named("m7"))
        await machine.settle()
        servers = replace(machine.config.servers, context_tokens=64)
        await read(machine, replace(machine.config, servers=servers))
        server_id = machine.server("m7").id
        machine.emit(ServerStarted(server_id=server_id, process=Process(pid=7, start_ticks=1)))
        machine.emit(ServerReady(server_id=server_id, context_tokens=8192))
        await asyncio.sleep(0)
        assert machine.world.routes.ready("m7") is not None
        assert len(looked_at) < count

        await machine.settle()
        assert (await loading).model == "m7"
        assert len(looked_at) == count

    main()
