"""`supervisor.publishing`: routes are made anew where they would differ, and no more of them."""

import pytest
from msgspec.structs import replace

from modeld.core.entities import Header, Model, ModelStats
from modeld.core.events import ConfigRead, FolderChanged, NamesAsked
from modeld.core.names import NameChange
from modeld.supervisor import publishing
from modeld.supervisor.guide import Prospect
from modeld.supervisor.world import World
from tests.supervisor.test_loads import named
from tests.support.fake_ports import FakeMachine
from tests.support.running import asynchronous


async def watched(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeMachine, list[str]]:
    """Return a machine with two models, and the list of those that are looked at from now on."""
    machine, looked_at = FakeMachine(), list[str]()
    await machine.start("tool", "other")
    look = publishing.prospect

    def counted(world: World, model: Model) -> Prospect:
        looked_at.append(model.id)
        return look(world, model)

    monkeypatch.setattr(publishing, "prospect", counted)
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
