"""
Servers as units of the user manager: each an instance of `modeld-llama@.service`.

The manager, not the daemon, is the parent.  So a server outlives the daemon whatever happens to
that, has limits and a sandbox, and its exit status is kept until somebody has read it.  The unit
executes `host/launch.py`, which becomes the server that its launch record names.

Asking to end is done by the exit line and a signal, not by `StopUnit`: how long to wait before
SIGKILL is the supervisor's decision.  The unit's own TimeoutStopSec counts when a person stops
`app-modeld.slice`.
"""

import asyncio
import contextlib
import os
import shutil
import signal
from collections.abc import AsyncGenerator, Coroutine, Sequence
from datetime import UTC, datetime
from pathlib import Path

from modeld.core.entities import Exit, Found, LaunchRecord
from modeld.core.events import ServerExited, ServerStarted
from modeld.errors import Unavailable
from modeld.host.servers.bus import BusError, Service, UserManager
from modeld.host.servers.engine import LAST_LINES, Engine
from modeld.host.servers.following import follow_unit
from modeld.host.servers.journal import last_words, unit_lines
from modeld.host.servers.process import Handle
from modeld.host.servers.records import Records, record_paths
from modeld.supervisor.ports import Emit

START_SECONDS = 30.0
LAG_SECONDS = 2.0
"""How far the manager may be behind the kernel in what it says of a process."""
LAG_PAUSE_SECONDS = 0.003
KILL_ALL = ("all", signal.SIGKILL.value)
LAUNCHER_FAILURES = frozenset({69, 78})
LAUNCHER_MARK = "modeld-launch: "
# systemd.exec(5), "process exit codes": what went wrong before the unit's program was run
SETUP_FAILURES = {
    203: "EXEC", 217: "USER", 218: "CAPABILITIES", 224: "RUNTIME_DIRECTORY", 226: "NAMESPACE",
    228: "SECCOMP",
}  # fmt: skip
SANDBOX_FAILURES = frozenset({217, 218, 226})
PORT_LEAVES = "modeld-llama@*.service.d"
PORT_DROP_IN = """\
# Written by modeld: this server was loaded with a TCP port.
[Service]
PrivateNetwork=no
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
"""


class _Unit:
    """One server, and the names it goes by."""

    def __init__(self, server_id: str, runtime_directory: str) -> None:
        self.server_id = server_id
        self.name = f"modeld-llama@{server_id}.service"
        self.engine = Engine(record_paths(runtime_directory, server_id).stdin_path)


class SystemdServers:
    """`supervisor.ports.Servers` on a systemd user manager."""

    kind = "systemd"

    def __init__(self, emit: Emit, runtime_directory: str, bus_address: str) -> None:
        """
        Prepare; nothing is connected yet.

        Args:
            emit: For events, in the loop's thread.
            runtime_directory: `$XDG_RUNTIME_DIR/modeld`, as the unit files name it.
            bus_address: Of the user's bus.
        """
        self._emit = emit
        self._runtime_directory = runtime_directory
        self._drop_ins = Path(runtime_directory).parent / "systemd" / "user"
        self._records = Records(runtime_directory)
        self._manager = UserManager(bus_address)
        self._units: dict[str, _Unit] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, record: LaunchRecord) -> None:
        """Write the record and start the unit: `ServerStarted`, or `ServerExited`."""
        unit = self._units[record.server_id] = self._unit(record.server_id)
        try:
            self._records.make_room(record)
        except OSError as error:
            self._never_started(unit, f"{error.filename}: {error.strerror}")
            return
        self._in_background(self._start(unit, record))

    def stop(self, server_id: str) -> None:
        """Ask it to end."""
        if unit := self._units.get(server_id):
            unit.engine.stop()

    def kill(self, server_id: str) -> None:
        """Kill every process of the unit."""
        if unit := self._units.get(server_id):
            unit.engine.kill()
            self._in_background(self._try("KillUnit", "ssi", unit.name, *KILL_ALL))

    def forget(self, server_id: str) -> None:
        """Remove record, socket and FIFOs, and have the manager forget the unit."""
        self._units.pop(server_id, None)
        self._records.forget(server_id)
        self._in_background(self._forget(self._unit(server_id)))

    async def find(self) -> Sequence[Found]:
        """
        Return every server that was left, and watch those that live.

        Raises:
            Unavailable: The user manager does not answer.
        """
        try:
            return await self._find()
        except BusError as error:
            raise Unavailable(
                f"servers that may run cannot be found: {error}",
                hint="is the user manager there? see: systemctl --user status",
            ) from error

    async def log_lines(self, server_id: str, count: int) -> Sequence[str]:
        """Return its last lines in the user's journal."""
        return await unit_lines(self._unit(server_id).name, count)

    def follow_log(self, server_id: str, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """Give its last lines in the user's journal, then all that it writes."""
        return follow_unit(self._unit(server_id).name, backlog)

    async def close(self) -> None:
        """Let go of everything; what was not even started by now is found by the next daemon."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for unit in self._units.values():
            unit.engine.let_go()
        self._units.clear()
        await self._manager.close()

    # --- a server's life --------------------------------------------------------------------

    async def _start(self, unit: _Unit, record: LaunchRecord) -> None:
        try:
            await asyncio.to_thread(self._records.write, record)
            if record.port:
                await self._allow_port(unit)
            await self._manager.call("RefUnit", "s", unit.name)  # or a good end would be forgotten
            result = await self._manager.start(unit.name, START_SECONDS)
            handle = await self._hold(unit)
        except (BusError, OSError) as error:
            await self._try("KillUnit", "ssi", unit.name, *KILL_ALL)  # should it run after all
            self._never_started(unit, str(error))
            return
        if handle is None:
            await self._report(unit, f"systemd: {result}; see: systemctl --user status {unit.name}")
            return
        self._emit(ServerStarted(server_id=unit.server_id, process=handle.process))
        self._watch(unit, handle)

    async def _hold(self, unit: _Unit) -> Handle | None:
        """
        Return the unit's main process; None where it has none (any more).

        Raises:
            BusError: The manager does not answer.
        """
        deadline = asyncio.get_running_loop().time() + LAG_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            service = await self._manager.service(unit.name)
            if not service.main_pid and service.active_state != "activating":
                return None
            handle = Handle.find(service.main_pid) if service.main_pid else None
            again = await self._manager.service(unit.name)
            # The same before and after it was opened: so it was that process all the while.
            same = (again.main_pid, again.invocation_id) == (
                service.main_pid,
                service.invocation_id,
            )
            if handle is not None and same:
                return handle
            if handle is not None:
                handle.close()
            await asyncio.sleep(LAG_PAUSE_SECONDS)
        return None

    def _watch(self, unit: _Unit, handle: Handle) -> None:
        def ended() -> None:
            unit.engine.let_go()
            self._in_background(self._report(unit))

        handle.watch(ended)
        unit.engine.hold(handle)

    async def _report(self, unit: _Unit, otherwise: str = "") -> None:
        """Tell how a server ended, once the manager knows."""
        try:
            service = await self._ended_service(unit)
        except BusError:
            service = Service()
        lines: tuple[str, ...] = ()
        if not unit.engine.stop_was_asked or service.exit_status in LAUNCHER_FAILURES:
            lines = await last_words(unit.name, LAST_LINES)
        exit_ = exit_of(service, lines, otherwise)
        self._emit(ServerExited(server_id=unit.server_id, exit=exit_))

    async def _ended_service(self, unit: _Unit) -> Service:
        """
        Return what the manager says of a service that has ended.

        Raises:
            BusError: It does not answer.
        """
        deadline = asyncio.get_running_loop().time() + LAG_SECONDS
        while True:
            service = await self._manager.service(unit.name)
            is_over = service.active_state in {"failed", "inactive"}
            if service.exit_kind or is_over or asyncio.get_running_loop().time() > deadline:
                return service
            await asyncio.sleep(LAG_PAUSE_SECONDS)

    def _never_started(self, unit: _Unit, detail: str) -> None:
        exit_ = Exit(how="not-started", detail=detail, ended_at=datetime.now(UTC))
        self._emit(ServerExited(server_id=unit.server_id, exit=exit_))

    async def _forget(self, unit: _Unit) -> None:
        await self._try("ResetFailedUnit", "s", unit.name)
        await self._try("UnrefUnit", "s", unit.name)
        drop_in = self._drop_ins / f"{unit.name}.d"
        if drop_in.is_dir():
            shutil.rmtree(drop_in, ignore_errors=True)
            await self._try("Reload", "")

    async def _allow_port(self, unit: _Unit) -> None:
        """
        Let one unit listen on TCP.

        Raises:
            BusError: The manager does not answer.
            OSError: The drop-in cannot be written.
        """
        drop_in = self._drop_ins / f"{unit.name}.d"
        drop_in.mkdir(parents=True, exist_ok=True)
        (drop_in / "50-port.conf").write_text(PORT_DROP_IN, encoding="utf-8")
        await self._manager.call("Reload", "")

    # --- adoption ---------------------------------------------------------------------------

    async def _find(self) -> list[Found]:
        loaded = await self._manager.units("modeld-llama@*.service")
        records, damaged = self._records.read_all()
        found = []
        for record in records:
            unit = self._units[record.server_id] = self._unit(record.server_id)
            loaded.pop(unit.name, None)
            found.append(await self._recognise(unit, record))
        # What has a unit, or leave for a port, but no record that could be read.
        left = {
            *loaded,
            *(path.name.removesuffix(".d") for path in self._drop_ins.glob(PORT_LEAVES)),
        }
        strangers = {name.partition("@")[2].removesuffix(".service") for name in left}
        for server_id in sorted(strangers.union(damaged) - self._units.keys()):
            unit = self._unit(server_id)
            await self._try("KillUnit", "ssi", unit.name, *KILL_ALL)
            self._records.forget(server_id)
            await self._forget(unit)
        return found

    async def _recognise(self, unit: _Unit, record: LaunchRecord) -> Found:
        await self._try("RefUnit", "s", unit.name)
        handle = await self._hold(unit)
        if handle is not None:
            self._watch(unit, handle)
            return Found(record=record, process=handle.process)
        service = await self._manager.service(unit.name)
        lines = await unit_lines(unit.name, LAST_LINES)
        return Found(record=record, process=None, exit=exit_of(service, lines))

    # --- small things -----------------------------------------------------------------------

    def _unit(self, server_id: str) -> _Unit:
        return _Unit(server_id, self._runtime_directory)

    async def _try(self, member: str, signature: str, *body: object) -> None:
        """Call the manager where nothing can be done about a refusal."""
        with contextlib.suppress(BusError):
            await self._manager.call(member, signature, *body)

    def _in_background(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def exit_of(service: Service, lines: tuple[str, ...], otherwise: str = "") -> Exit:
    """Return how a server ended, as the manager and its last lines have it."""
    ended_at = (
        datetime.fromtimestamp(service.exited_at_us / 1e6, UTC) if service.exited_at_us else None
    )
    how, code, detail = "unknown", service.exit_status, ""
    if service.result == "oom-kill":
        how = "oom-kill"
    elif service.exit_kind == os.CLD_EXITED:
        how = "exited"
        refusal = next((line for line in reversed(lines) if line.startswith(LAUNCHER_MARK)), "")
        if code in SETUP_FAILURES:
            how, detail = "not-started", f"systemd: status {code}/{SETUP_FAILURES[code]}"
            if code in SANDBOX_FAILURES:
                detail += "; without user namespaces remove modeld-llama@.service.d/10-sandbox.conf"
        elif code in LAUNCHER_FAILURES and refusal:
            how, detail = "not-started", refusal.removeprefix(LAUNCHER_MARK)
    elif service.exit_kind:
        how = "signalled"
    elif otherwise:
        how, detail = "not-started", otherwise
    return Exit(how=how, code=code, detail=detail, lines=lines, ended_at=ended_at)
