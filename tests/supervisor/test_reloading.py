"""`supervisor.reloading`: a configuration that is read again."""

import pytest
from msgspec.structs import replace

from modeld.config.schema import (
    Config,
    Entry,
    Load,
    Models,
    Parameters,
    Rewrite,
    Servers,
    Storage,
)
from modeld.core.events import BinaryProbed, ConfigRead, ReloadAsked, Selection
from modeld.errors import ConfigInvalid, ServerFailed
from modeld.supervisor import views
from modeld.supervisor.ports import no_binary
from modeld.supervisor.settings import folders
from tests.supervisor.test_loads import UNTHROTTLED, load
from tests.support.fake_ports import BINARY, FakeMachine
from tests.support.running import asynchronous


async def reload(machine: FakeMachine, config: Config | None) -> object:
    """Have the machine read `config`; None for an invalid one."""
    task = machine.request(ReloadAsked)
    await machine.settle()
    error = None if config else ConfigInvalid("modeld.toml:1: nonsense")
    request_id = machine.read_configs[-1]
    machine.emit(ConfigRead(request_id=request_id, config=config, error=error))
    await machine.settle()
    return await task


@asynchronous
async def test_reload_applies_what_changed_and_says_so() -> None:
    """S2-19."""
    machine = FakeMachine()
    await machine.start("tool")
    reply = await reload(machine, Config(load=Load(replace=False)))

    assert reply.changed == ("load.replace: true -> false",)
    assert machine.world.config.load.replace is False
    assert machine.notify.said[-2:] == ["reloading", "ready"]


@asynchronous
async def test_reload_of_an_invalid_configuration_changes_nothing() -> None:
    """S2-19: the old one stays in force, and the mistake is told."""
    machine = FakeMachine()
    await machine.start("tool")
    before = machine.world.config

    with pytest.raises(ConfigInvalid, match="nonsense"):
        await reload(machine, None)
    assert machine.world.config is before
    assert machine.notify.said[-1] == "ready"


@asynchronous
async def test_reload_keeps_servers_that_it_does_not_concern() -> None:
    """Peers unload everything for a comma."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a", "b")
    await load(machine, "a", keep_others=True)
    await load(machine, "b", keep_others=True)
    models = Models(entries={"b": Entry(arguments=("--temp", "0.2"))})
    reply = await reload(machine, replace(UNTHROTTLED, models=models))

    assert reply.kept == ("a",)
    assert machine.servers.stopped == [machine.server("b").id]

    await machine.stops_all()
    assert machine.servers.started[-1].arguments == ("--temp", "0.2")


@asynchronous
async def test_mode_comes_before_all_arguments_and_changes_with_a_reload() -> None:
    """S2-08: what servers are tuned for; whatever is asked for by name wins."""
    machine = FakeMachine(UNTHROTTLED)
    machine.hardware.binary = replace(BINARY, flags={**BINARY.flags, "--parallel": True})
    await machine.start("a")
    await load(machine, "a")
    servers = Servers(optimize_for="memory", arguments=("--temp", "0.2"))
    await reload(machine, replace(UNTHROTTLED, servers=servers))
    await machine.stops_all()

    assert machine.servers.started[-1].arguments == ("--parallel", "1", "--temp", "0.2")


@asynchronous
async def test_reload_leaves_a_server_with_arguments_of_its_own() -> None:
    """Somebody typed them for this load."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("a")
    await load(machine, "a", arguments=("--temp", "0.9"))
    models = Models(entries={"b": Entry(arguments=("--temp", "0.2"))})
    await reload(machine, replace(UNTHROTTLED, models=models))

    assert machine.servers.stopped == []


@asynchronous
async def test_reload_looks_at_new_folders() -> None:
    """A new disk is there without a restart."""
    machine = FakeMachine()
    await machine.start("a")
    before = machine.folders.scans
    await reload(machine, Config(storage=Storage(hdd_paths=("/hdd",))))

    assert machine.folders.scans == before + 1


@asynchronous
async def test_files_of_a_folder_that_is_no_longer_configured_are_not_taken() -> None:
    """The scan began before the reload: nobody knows where they belong, and another comes."""
    machine = FakeMachine(Config(storage=Storage(hdd_paths=("/hdd",))))
    machine.add("slow", tier="hdd1")
    await machine.start("tool")
    machine.folders.files = machine.folders.files[1:]
    scan, asked = machine.folders.scan, [folders(machine.config, "/home/me")]
    machine.folders.scan = asked.append  # type: ignore[method-assign]
    machine.add("slower", tier="hdd1")
    await reload(machine, Config())
    scan(asked[0])
    await machine.settle()
    assert set(machine.world.models) == {"slow", "tool"}

    scan(asked[1])
    await machine.settle()
    assert set(machine.world.models) == {"tool"}


@asynchronous
async def test_reload_names_keys_that_need_a_restart() -> None:
    """Else somebody waits for a change that never comes."""
    machine = FakeMachine()
    await machine.start("a")
    reply = await reload(machine, Config(servers=Servers(launcher="direct")))

    assert reply.needs_restart == ("servers.launcher",)


@asynchronous
async def test_reload_finds_a_binary_that_was_missing() -> None:
    """Whoever has just installed llama-server must not have to restart modeld."""
    machine = FakeMachine(UNTHROTTLED)
    found, machine.hardware.binary = machine.hardware.binary, no_binary("there is no llama-server")
    await machine.start("tool")
    with pytest.raises(ServerFailed, match="there is no llama-server"):
        await load(machine, "tool")
    machine.hardware.binary = found
    await reload(machine, UNTHROTTLED)

    assert (await load(machine, "tool")).model == "tool"


@asynchronous
async def test_restart_of_a_dead_server_waits_for_the_binary_that_is_being_asked() -> None:
    """Nothing can be started before it is known how, and nothing may fall over that."""
    machine = FakeMachine(UNTHROTTLED)
    await machine.start("tool")
    await load(machine, "tool")
    machine.world.binary = None
    await machine.ends(machine.server("tool").id)
    await machine.pass_time(5)
    assert len(machine.servers.started) == 1

    machine.emit(BinaryProbed(binary=machine.hardware.binary))
    await machine.settle()
    assert len(machine.servers.started) == 2


@asynchronous
async def test_reload_publishes_variants_and_tells_of_those_without_effect() -> None:
    """What a request means changes with the file, not with the next restart."""
    machine = FakeMachine()
    await machine.start("a", "b")
    cold = Rewrite(set=Parameters(temperature=0.0))
    entry = Entry(request=cold, variants={"a:cold": cold, "b": cold})
    reply = await reload(machine, Config(models=Models(entries={"a": entry})))

    routes = machine.supervisor.routes
    taken = "variant 'b' has no effect: the name means b"
    assert reply.warnings == (taken,)
    assert routes.find("a:cold").id == "a"
    assert routes.find("b").id == "b"
    assert routes.rewrites == {"a": (cold,), "a:cold": (cold, cold), "a:cold:latest": (cold, cold)}
    assert taken in views.status(machine.world, None).warnings
    shown = views.show(machine.world, Selection(pattern="a"))
    assert shown.request == ("set temperature 0.0",)
    assert shown.variants == {"a:cold": ("set temperature 0.0",) * 2}

    await reload(machine, Config())
    assert "a:cold" not in machine.supervisor.routes.index
