"""What only a user manager can do wrong; the promise itself is in test_servers.py."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeld.core.events import ServerExited, ServerStarted
from modeld.errors import Unavailable
from modeld.host.servers import bus
from modeld.host.servers.bus import BusError, UserManager
from modeld.host.servers.systemd import SystemdServers
from tests.support import launchers, units
from tests.support.launchers import systemctl
from tests.support.running import asynchronous
from tests.support.server_rig import Rig, eventually

pytestmark = pytest.mark.systemd


@pytest.fixture
def launcher() -> Iterator[launchers.AnyLauncher]:
    """The launcher on systemd."""
    with launchers.launcher("systemd") as launcher:
        yield launcher
    for drop_in in units.user_directory().glob("modeld-llama@.service.d/90-test.conf"):
        drop_in.unlink()
    systemctl("daemon-reload")


def drop_in(text: str) -> None:
    """Add something to the template unit."""
    path = units.user_directory() / "modeld-llama@.service.d" / "90-test.conf"
    path.write_text(f"[Service]\n{text}\n")
    systemctl("daemon-reload")


async def failure(launcher: launchers.AnyLauncher) -> ServerExited:
    """Return what becomes of a start that cannot succeed."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    servers.start(rig.fake("healthy"))
    exited = await rig.event(ServerExited)
    await servers.close()
    return exited


@asynchronous
async def test_sandbox_that_cannot_be_built_is_explained(launcher: launchers.AnyLauncher) -> None:
    """Where user namespaces are off this is what every load looks like."""
    drop_in("BindPaths=/nowhere/at/all")
    exited = await failure(launcher)

    assert exited.exit.how == "not-started"
    assert "226/NAMESPACE" in exited.exit.detail
    assert "10-sandbox.conf" in exited.exit.detail


@asynchronous
async def test_launcher_that_is_missing_is_explained(launcher: launchers.AnyLauncher) -> None:
    """An interpreter that an upgrade took away."""
    drop_in("ExecStart=\nExecStart=/nowhere/python %i")
    exited = await failure(launcher)

    assert exited.exit.how == "not-started"
    assert "203/EXEC" in exited.exit.detail


@asynchronous
async def test_unit_that_fails_before_its_server_is_reported_at_once(
    launcher: launchers.AnyLauncher,
) -> None:
    """Somebody's own drop-in may do anything."""
    drop_in("ExecStartPre=/bin/false")
    begin = time.monotonic()
    exited = await failure(launcher)

    assert exited.exit.how == "not-started"
    assert "systemctl --user status modeld-llama@" in exited.exit.detail
    assert time.monotonic() - begin < 5


@asynchronous
async def test_unit_that_is_missing_is_explained(launcher: launchers.AnyLauncher) -> None:
    """Half an installation."""
    template = units.user_directory() / "modeld-llama@.service"
    template.unlink()
    systemctl("daemon-reload")
    exited = await failure(launcher)

    assert exited.exit.how == "not-started"
    assert "not found" in exited.exit.detail


@asynchronous
async def test_lost_connection_is_made_again(launcher: launchers.AnyLauncher) -> None:
    """A bus that starts anew must not cost the daemon its hands."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    assert isinstance(servers, SystemdServers)
    first, second = rig.fake("healthy"), rig.fake("healthy")
    servers.start(first)
    await rig.event(ServerStarted)
    connection = servers._manager._bus
    assert connection is not None
    connection.disconnect()
    servers.start(second)
    await rig.event(ServerStarted, lambda event: event.server_id == second.server_id)
    for record in (first, second):
        servers.kill(record.server_id)
    await eventually(lambda: len(rig.of(ServerExited)) == 2)
    await servers.close()

    assert {event.exit.how for event in rig.of(ServerExited)} == {"signalled"}


@asynchronous
async def test_bus_that_is_not_there_is_told(
    launcher: launchers.AnyLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A daemon that cannot see its servers must not start as if there were none."""
    monkeypatch.setattr(bus, "CALL_SECONDS", 0.3)
    rig = Rig(launcher.runtime)
    servers = SystemdServers(rig.emit, launcher.runtime, "unix:path=/nowhere/bus")
    servers.start(rig.fake("healthy"))
    exited = await rig.event(ServerExited)
    with pytest.raises(Unavailable, match="user manager cannot be reached"):
        await servers.find()
    await servers.close()

    assert exited.exit.how == "not-started"


@asynchronous
async def test_stop_during_the_start_is_not_forgotten(launcher: launchers.AnyLauncher) -> None:
    """A load that is cancelled at once must not go on in the dark."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    record = rig.fake("healthy")
    servers.start(record)
    servers.stop(record.server_id)
    exited = await rig.event(ServerExited)
    await servers.close()

    assert exited.exit.how in {"exited", "signalled"}


@asynchronous
async def test_failure_is_forgotten_with_the_server(launcher: launchers.AnyLauncher) -> None:
    """Hundreds of dead instances in `systemctl --user --failed` help nobody."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    record = rig.fake("crash")
    servers.start(record)
    await rig.event(ServerExited)
    before = systemctl("list-units", "--all", "--plain", "--no-legend", "modeld-llama@*")
    servers.forget(record.server_id)
    await eventually(
        lambda: not systemctl("list-units", "--all", "--plain", "--no-legend", "modeld-llama@*")
    )
    await servers.close()

    assert record.server_id in before


@asynchronous
async def test_exit_status_is_known_after_the_daemon_was_away(
    launcher: launchers.AnyLauncher,
) -> None:
    """What the manager keeps, a new daemon can tell."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    record = rig.fake("crash")
    servers.start(record)
    await rig.event(ServerExited)
    await servers.close()
    servers = launcher.make(rig.emit)
    (found,) = await servers.find()
    await servers.close()

    assert found.exit is not None
    assert (found.exit.how, found.exit.code) == ("exited", 3)
    assert found.exit.lines[-1] == "complaint 29"
    assert found.exit.ended_at is not None
    assert abs(found.exit.ended_at.timestamp() - time.time()) < 60


@asynchronous
async def test_refusal_of_the_manager_is_no_lost_connection() -> None:
    """It is not asked again and again."""
    manager = UserManager(os.environ["DBUS_SESSION_BUS_ADDRESS"])
    begin = time.monotonic()
    with pytest.raises(BusError) as caught:
        await manager.call("StartUnit", "ss", "no such unit", "fail")
    await manager.close()

    assert caught.value.refused
    assert time.monotonic() - begin < 5


@asynchronous
async def test_start_is_quick(launcher: launchers.AnyLauncher) -> None:
    """The manager and the launcher are part of what a person waits for."""
    rig = Rig(launcher.runtime)
    servers = launcher.make(rig.emit)
    took = []
    for _ in range(5):
        record = rig.fake("healthy")
        begin = time.perf_counter()
        servers.start(record)
        await eventually(Path(record.socket_path).exists)
        took.append(time.perf_counter() - begin)
        servers.kill(record.server_id)
        await rig.event(ServerExited, lambda event, i=record.server_id: event.server_id == i)
        await asyncio.sleep(0)
    await servers.close()
    print(f"start to socket: {min(took) * 1000:.0f} ms")

    assert min(took) < 1
