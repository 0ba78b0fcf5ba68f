"""
The daemon's entry: argv, environment, configuration; builds the adapters; starts the loop.

The only place that reads the environment, and the only one that decides an exit status.
"""

import argparse
import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path

import uvloop
from msgspec import Struct

from modeld.config.load import Loaded, expand
from modeld.config.schema import Config
from modeld.core.events import ConfigRead, Event, ReloadAsked, StopAsked, Tick
from modeld.errors import ConfigInvalid, ModeldError
from modeld.gateway.server import Gateway
from modeld.host.clock import SystemClock
from modeld.host.config_files import ConfigFiles
from modeld.host.copy import FileCopier, PageReader
from modeld.host.directories import check_socket, prepare_runtime, take_lock
from modeld.host.estimate import FitParams
from modeld.host.gpus import LocalGpus
from modeld.host.hardware import LocalHardware
from modeld.host.journal import SystemJournal
from modeld.host.keys import KeyFile, read_keys
from modeld.host.limits import LimitsFile, read_limits
from modeld.host.notify import ServiceManager, listen_fds, turn_away
from modeld.host.probe import ServerProbe
from modeld.host.scan import FileScanner
from modeld.host.scenarios import ScenarioFolders
from modeld.host.servers.direct import DirectServers
from modeld.host.store import FileStore
from modeld.host.watch import FolderWatcher
from modeld.rpc.configuration import answer_alone
from modeld.rpc.handlers import LOOKS, Handlers, decoder
from modeld.rpc.server import RpcServer
from modeld.supervisor.loop import Supervisor
from modeld.supervisor.ports import Emit, Ports, Servers
from modeld.version import VERSION
from modeld.wire.endpoint import runtime_directory, socket_path

EXIT_CANNOT_CREATE = 73
TICK_SECONDS = 1.0
DRAIN_SECONDS = 8.0
"""For requests in flight, within the unit's TimeoutStopSec."""
CLOSE_SECONDS = 2.0
_PACKAGE = Path(__file__).resolve().parent
SCENARIO_FOLDERS = (_PACKAGE / "scenarios", _PACKAGE.parents[1] / "etc" / "scenarios")
"""Of an installation, and of a checkout."""


class Settings(Struct, frozen=True, kw_only=True):
    """What the command line and the environment say."""

    files: ConfigFiles
    environment: dict[str, str]
    home: str
    runtime: str
    state: Path
    cache: Path
    keys: KeyFile
    limits: LimitsFile


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the daemon; return its exit status."""
    options = _parse(sys.argv[1:] if arguments is None else arguments)
    settings = _settings(options, os.environ)
    if options.answer:
        sys.stdout.buffer.write(answer_alone(sys.stdin.buffer.read(), settings.files))
        return 0
    try:
        loaded = read_config(settings)
        if options.check:
            print("the configuration is valid", *loaded.notes, sep="\n")
            return 0
        check_socket(socket_path(settings.environment, os.getuid()))
        prepare_runtime(settings.runtime)
        with take_lock(settings.runtime):
            return uvloop.run(_serve(settings, loaded))
    except ModeldError as error:
        below = "\n       "  # further mistakes stand below the first, as modelctl has them
        print(f"error: {error.message.replace(chr(10), below)}", file=sys.stderr)
        if error.hint:
            print(f"hint:  {error.hint}", file=sys.stderr)
        if isinstance(error, ConfigInvalid):
            turn_away(chain.from_iterable(listen_fds(os.environ, os.getpid()).values()))
        return error.status.exit_status
    except OSError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CANNOT_CREATE


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="modeld",
        description="Supervisor of local language models; modelctl talks to it.  See modeld(8).",
        allow_abbrev=False,
    )
    parser.add_argument("--config", metavar="FILE", help="read FILE and no other")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="override one key"
    )
    parser.add_argument("--check", action="store_true", help="check the configuration and exit")
    # for modelctl, where no daemon runs: one question about the configuration, on stdin
    parser.add_argument("--answer", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--version", action="version", version=f"modeld {VERSION}")
    return parser.parse_args(arguments)


def _settings(options: argparse.Namespace, environment: Mapping[str, str]) -> Settings:
    home = environment.get("HOME") or str(Path("~").expanduser())
    state = environment.get("XDG_STATE_HOME") or f"{home}/.local/state"
    cache = environment.get("XDG_CACHE_HOME") or f"{home}/.cache"
    return Settings(
        files=ConfigFiles(
            dict(environment),
            home=home,
            explicit=options.config,
            overrides=tuple(options.set),
            look_beside=(
                lambda config: _look_at(read_keys, config.gateway.key_file, home),
                lambda config: _look_at(read_limits, config.models.limits_file, home),
            ),
        ),
        environment=dict(environment),
        home=home,
        runtime=runtime_directory(environment, os.getuid()),
        state=Path(state) / "modeld",
        cache=Path(cache) / "modeld",
        keys=KeyFile(),
        limits=LimitsFile(),
    )


def _look_at(read: Callable[[str], object], name: str, home: str) -> None:
    """
    Read a file that a configuration names, if it names one.

    Raises:
        ConfigInvalid: It has mistakes.
    """
    path = expand(name, home)
    if Path(path).is_absolute():  # any other is a mistake of the configuration's own
        read(path)


def read_config(settings: Settings) -> Loaded:
    """
    Read the configuration files, and those of keys and of limits that they name.

    Raises:
        ConfigInvalid: They have mistakes, all told at once; or a file can't be read.
    """
    loaded = settings.files.read()
    settings.limits.read(_limits_file(settings, loaded.config))
    settings.keys.read(_key_file(settings, loaded.config))
    return loaded


def _key_file(settings: Settings, config: Config) -> str:
    return expand(config.gateway.key_file, settings.home)


def _limits_file(settings: Settings, config: Config) -> str:
    return expand(config.models.limits_file, settings.home)


def _use_limits(settings: Settings, supervisor: Supervisor, config: Config) -> None:
    supervisor.world.limits = settings.limits.rows(_limits_file(settings, config))


def _keys(settings: Settings, config: Config) -> tuple[bytes, ...]:
    return settings.keys.keys(_key_file(settings, config))


async def _serve(settings: Settings, loaded: Loaded) -> int:
    """Build everything, serve until told to stop, and return the exit status."""
    config = loaded.config
    loop = asyncio.get_running_loop()
    holder: list[Supervisor] = []

    def emit(event: Event) -> None:
        holder[0].submit(event)

    ports = _ports(settings, config, emit)
    supervisor = Supervisor(ports, config, settings.runtime, settings.home)
    holder.append(supervisor)
    supervisor.world.pid = os.getpid()
    supervisor.world.device_environment = settings.environment
    _use_limits(settings, supervisor, config)
    supervisor.world.on_config.append(lambda new: _use_limits(settings, supervisor, new))
    supervisor.world.config_origins = loaded.origins
    supervisor.world.config_notes = loaded.notes
    inherited = listen_fds(settings.environment, os.getpid())
    handlers = Handlers(supervisor, ScenarioFolders(SCENARIO_FOLDERS), settings.files)
    rpc = RpcServer(handlers, decoder(), ports.journal, LOOKS)
    gateway = Gateway(supervisor, config.gateway, ports.clock, keys=_keys(settings, config))
    _handle_signals(loop, supervisor, gateway)
    ticker = loop.create_task(_tick(supervisor))
    try:
        await supervisor.start(lambda request_id: _reread(loop, settings, supervisor, request_id))
        # what is there now stays: else every full collection looks at all of it, for 20 ms
        gc.collect()
        gc.freeze()
        await gateway.start([socket.socket(fileno=each) for each in inherited.get("http", [])])
        supervisor.world.on_config.append(
            lambda new: gateway.reconfigure(new.gateway, _keys(settings, new))
        )
        supervisor.world.gateway_addresses = tuple(gateway.addresses)
        supervisor.world.present = lambda: (gateway.connections, gateway.waiting)
        descriptor = next(iter(inherited.get("rpc", [])), None)
        rpc.start(socket_path(settings.environment, os.getuid()), descriptor)
        ports.notify.ready()
        for note in loaded.notes:
            ports.journal.record("config-unused", note)
        where = ", ".join(gateway.addresses) or "no gateway"
        ports.journal.record("started", f"modeld {VERSION} serves ({ports.servers.kind}, {where})")
        await supervisor.wait_finished()
    finally:
        ticker.cancel()
        await _close(supervisor, gateway, rpc)
    return 0


def _ports(settings: Settings, config: Config, emit: Emit) -> Ports:
    """Build every adapter of this machine."""
    journal = SystemJournal(settings.environment, config.log.level)
    logging.getLogger().addHandler(journal.handler())
    gpus = LocalGpus(settings.environment)
    return Ports(
        clock=SystemClock(),
        servers=_servers(settings, config, emit),
        probe=ServerProbe(emit, gpus.of_process),
        store=FileStore(emit, settings.state),
        scanner=FileScanner(emit, settings.cache / "headers.msgpack"),
        watcher=FolderWatcher(emit),
        copier=FileCopier(emit),
        page_cache=PageReader(emit),
        hardware=LocalHardware(
            emit, settings.cache / "binaries.json", settings.environment, gpus.all
        ),
        estimator=FitParams(emit, settings.cache / "fit-params.json", settings.environment),
        journal=journal,
        notify=ServiceManager(settings.environment),
    )


def _servers(settings: Settings, config: Config, emit: Emit) -> Servers:
    """Build the launcher that the configuration wants, or that the machine has."""
    environment = settings.environment
    wanted = config.servers.launcher
    if wanted == "auto":
        # systemd tells a service its own pid this way; a child that inherits it is no service
        is_service = environment.get("SYSTEMD_EXEC_PID") == str(os.getpid())
        wanted = "systemd" if is_service and _bus_address(environment) else "direct"
    if wanted == "direct":
        return DirectServers(emit, settings.runtime)
    # dbus-fast takes 60 ms to import, and only this needs it
    from modeld.host.servers.systemd import SystemdServers  # noqa: PLC0415

    address = _bus_address(environment)
    if not address:
        raise ConfigInvalid(
            "servers.launcher is systemd, and there is no user bus",
            hint='run modeld as a user service, or set servers.launcher = "direct"',
        )
    return SystemdServers(emit, settings.runtime, address)


def _bus_address(environment: Mapping[str, str]) -> str:
    """Return the address of the user's bus; empty where there is none."""
    explicit = environment.get("DBUS_SESSION_BUS_ADDRESS", "")
    socket_file = f"{environment.get('XDG_RUNTIME_DIR', '')}/bus"
    return explicit or (f"unix:path={socket_file}" if Path(socket_file).is_socket() else "")


def _handle_signals(
    loop: asyncio.AbstractEventLoop, supervisor: Supervisor, gateway: Gateway
) -> None:
    """
    Map signals to events.

    SIGTERM and SIGINT end modeld, after what is being answered; a second one ends it at once.
    Under systemd the servers go on, and `ExecStopPost` ends them where the stop is deliberate.
    SIGUSR1 ends modeld and leaves the servers for the next one.
    """
    leave = supervisor.world.ports.servers.kind == "systemd"

    endings: list[asyncio.Task[None]] = []

    async def end(leave_servers: bool) -> None:
        # what is being answered is finished first: its server must still be there
        await gateway.drain(DRAIN_SECONDS)
        supervisor.submit(StopAsked(leave_servers=leave_servers))

    def stop(leave_servers: bool) -> None:
        if endings:
            endings[0].cancel()
            for _ in range(2):  # the second one kills
                supervisor.submit(StopAsked(leave_servers=leave_servers))
        else:
            endings.append(loop.create_task(end(leave_servers)))

    loop.add_signal_handler(signal.SIGTERM, stop, leave)
    loop.add_signal_handler(signal.SIGINT, stop, leave)
    loop.add_signal_handler(signal.SIGUSR1, stop, True)
    loop.add_signal_handler(signal.SIGHUP, supervisor.submit, ReloadAsked())


def _reread(
    loop: asyncio.AbstractEventLoop, settings: Settings, supervisor: Supervisor, request_id: str
) -> None:
    """Read the configuration in a thread; what came of it is an event."""

    def read() -> ConfigRead:
        try:
            loaded = read_config(settings)
            return ConfigRead(
                request_id=request_id,
                config=loaded.config,
                origins=loaded.origins,
                notes=loaded.notes,
                changed=settings.keys.news,
            )
        except ModeldError as error:
            return ConfigRead(request_id=request_id, config=None, error=error)
        except Exception as error:  # noqa: BLE001 (a bug there must not leave a reload unanswered)
            invalid = ConfigInvalid(f"the configuration could not be read: {error!r}")
            return ConfigRead(request_id=request_id, config=None, error=invalid)

    future = loop.run_in_executor(None, read)
    future.add_done_callback(lambda done: supervisor.submit(done.result()))


async def _tick(supervisor: Supervisor) -> None:
    """Put time into the loop."""
    while True:
        await asyncio.sleep(TICK_SECONDS)
        supervisor.submit(Tick())


async def _close(supervisor: Supervisor, gateway: Gateway, rpc: RpcServer) -> None:
    """Close the doors first, then write what is not written, then let go of the servers."""
    ports = supervisor.world.ports
    await gateway.drain(0)
    await rpc.close(0.5)
    supervisor.saver.flush()
    for port in (
        ports.copier,
        ports.page_cache,
        ports.scanner,
        ports.watcher,
        ports.probe,
        ports.estimator,
        ports.store,
        ports.servers,
    ):
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(port.close(), CLOSE_SECONDS)
    ports.journal.record("stopped", "modeld ends")


if __name__ == "__main__":
    sys.exit(main())
