"""
A machine that exists only in memory: fakes of all ports, and a clock that only tests move.

Nothing starts by itself.  A test says what the machine does next (`started`, `ready`, `dies`), so
that every order of events can be played.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar

from msgspec import Struct

from modeld.config.schema import Config
from modeld.core.catalog import build_catalog
from modeld.core.entities import (
    Binary,
    Exit,
    Found,
    FoundFile,
    Gpu,
    Header,
    LaunchRecord,
    Machine,
    Process,
    Server,
    State,
)
from modeld.core.events import (
    BinaryProbed,
    Event,
    FilesFound,
    PagesRead,
    ServerExited,
    ServerReady,
    ServerStarted,
    StateNotSaved,
    StateSaved,
    Tick,
)
from modeld.supervisor.loop import Supervisor
from modeld.supervisor.ports import CopyOrder, Folder, Loaded, Ports
from modeld.wire.codec import Progress
from modeld.wire.daemon import Happened

GB = 1024**3
BINARY = Binary(
    argv=("/usr/bin/llama-server",),
    version="1",
    flags={
        "-m": True, "--model": True, "--host": True, "--port": True, "--alias": True,
        "-c": True, "--ctx-size": True, "-ngl": True, "--temp": True, "--jinja": False,
        "--tools": True,
    },
)  # fmt: skip
Reply = TypeVar("Reply", bound=Struct)


class FakeClock:
    """Time that only a test moves."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        """Return the wall clock."""
        return self.time

    def monotonic(self) -> float:
        """Return the same clock: what differs is tested elsewhere."""
        return self.time


class FakeServers:
    """Remembers what was asked for."""

    kind = "direct"

    def __init__(self) -> None:
        self.started: list[LaunchRecord] = []
        self.stopped: list[str] = []
        self.killed: list[str] = []
        self.forgotten: list[str] = []
        self.left: list[Found] = []
        self.logs: dict[str, list[str]] = {}

    def start(self, record: LaunchRecord) -> None:
        """Remember."""
        self.started.append(record)

    def stop(self, server_id: str) -> None:
        """Remember."""
        self.stopped.append(server_id)

    def kill(self, server_id: str) -> None:
        """Remember."""
        self.killed.append(server_id)

    def forget(self, server_id: str) -> None:
        """Remember."""
        self.forgotten.append(server_id)

    async def find(self) -> Sequence[Found]:
        """Return what a test left there."""
        return self.left

    async def log_lines(self, server_id: str, count: int) -> Sequence[str]:
        """Return a line."""
        return [f"log of {server_id}"][:count]

    async def follow_log(
        self, server_id: str, backlog: int
    ) -> AsyncGenerator[tuple[str, ...], None]:
        """Give what is in the log, and what is put there."""
        given = 0
        lines = self.logs.setdefault(server_id, [])
        first = tuple(lines[-backlog:] if backlog else ())
        given = len(lines)
        yield first
        while True:
            new = tuple(lines[given:])
            given = len(lines)
            yield new
            await asyncio.sleep(0.005)

    async def close(self) -> None:
        """Do nothing."""


class FakeProbe:
    """Remembers what was watched."""

    def __init__(self) -> None:
        self.watched: list[str] = []
        self.looked: list[str] = []

    def watch(self, record: LaunchRecord) -> None:
        """Remember."""
        self.watched.append(record.server_id)

    def unwatch(self, server_id: str) -> None:
        """Do nothing."""

    def look_at_slots(self, server_id: str, socket_path: str) -> None:
        """Remember."""
        self.looked.append(server_id)

    def measure_memory(self, server_id: str, pid: int) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class FakeStore:
    """A disk that takes everything, or nothing."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self.saved: list[State] = []
        self.full = False
        self.held: list[State] | None = None
        self.loaded = Loaded(state=State())

    def load(self) -> Loaded:
        """Return what a test put there."""
        return self.loaded

    def save(self, state: State) -> None:
        """Save at once, refuse, or hold back."""
        if self.held is not None:
            self.held.append(state)
        elif self.full:
            self._emit(StateNotSaved(generation=state.generation, reason="No space left"))
        else:
            self.saved.append(state)
            self._emit(StateSaved(generation=state.generation))

    async def close(self) -> None:
        """Do nothing."""


class FakeFolders:
    """Scanner and watcher of folders that exist only here."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self.files: list[FoundFile] = []
        self.scans = 0

    def scan(self, folders: Sequence[Folder]) -> None:
        """Find what a test put there."""
        self.scans += 1
        files, tiers = tuple(self.files), tuple(folder.tier for folder in folders)
        self._emit(FilesFound(files=files, catalog=build_catalog(files, tiers)))

    def watch(self, folders: Sequence[Folder]) -> Sequence[str]:
        """Watch nothing."""
        return ()

    async def close(self) -> None:
        """Do nothing."""


class FakeCopier:
    """Remembers what was to be copied; a test says how it goes."""

    def __init__(self) -> None:
        self.orders: list[CopyOrder] = []
        self.removed: list[str] = []
        self.urgent: list[str] = []
        self.yielded: list[tuple[str, bool]] = []
        self.paused: list[str] = []
        self.cancelled: list[str] = []
        self.surveys = 0
        self.foreign: set[str] = set()
        self.unverified: set[str] = set()
        self.verified: list[tuple[str, ...]] = []

    def start(self, order: CopyOrder) -> None:
        """Remember."""
        self.orders.append(order)

    def make_urgent(self, copy_id: str) -> None:
        """Remember."""
        self.urgent.append(copy_id)

    def pause(self, copy_id: str) -> None:
        """Remember."""
        self.paused.append(copy_id)

    def resume(self, copy_id: str) -> None:
        """Forget."""
        self.paused.remove(copy_id)

    def cancel(self, copy_id: str) -> None:
        """Remember."""
        self.cancelled.append(copy_id)

    def yield_to_load(self, path: str, busy: bool) -> None:
        """Remember."""
        self.yielded.append((path, busy))

    def remove(self, model_id: str, folder: str, paths: Sequence[str]) -> None:
        """Remember."""
        self.removed.append(model_id)

    def is_ours(self, folder: str, path: str) -> bool:
        """All but what a test says otherwise of."""
        return path not in self.foreign

    def is_verified(self, folder: str, path: str) -> bool:
        """All but what a test says otherwise of."""
        return path not in self.unverified

    def verify(self, folder: str, paths: Sequence[str], urgent: bool) -> None:
        """Remember."""
        self.verified.append(tuple(paths))

    def survey(self, folder: Folder) -> None:
        """Count."""
        self.surveys += 1

    async def close(self) -> None:
        """Do nothing."""


class FakePageCache:
    """Remembers what was to be read; says at once that nothing had to be."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self.reads: list[str] = []
        self.stopped: list[str] = []
        self.holds = False

    def read(self, read_id: str, paths: Sequence[str], most_bytes: int) -> None:
        """Remember; all is cached already, unless a test says otherwise."""
        self.reads.append(read_id)
        if not self.holds:
            self._emit(PagesRead(read_id=read_id, read_bytes=1, total_bytes=1, is_over=True))

    def stop(self, read_id: str) -> None:
        """Remember."""
        self.stopped.append(read_id)

    async def close(self) -> None:
        """Do nothing."""


class FakeHardware:
    """A machine of 16 GB."""

    def __init__(self, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self.binary = BINARY
        self.memory_bytes = 16 * GB
        self.gpus: tuple[Gpu, ...] = ()
        self.awaited: list[tuple[str, list[int]]] = []

    def machine(self) -> Machine:
        """Return it."""
        return Machine(memory_bytes=self.memory_bytes, gpus=self.gpus, boot_id="boot")

    def await_gpus(self, server_id: str, used_bytes: Sequence[int]) -> None:
        """Remember; a test says when memory is back."""
        self.awaited.append((server_id, list(used_bytes)))

    def probe_binary(self, wanted: str) -> None:
        """Find the engine at once."""
        self._emit(BinaryProbed(binary=self.binary))


class FakeEstimator:
    """An llama-fit-params that answers when a test says so."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[str, ...]]] = []

    def ask(self, key: str, words: Sequence[str]) -> None:
        """Remember."""
        self.asked.append((key, tuple(words)))

    async def close(self) -> None:
        """Do nothing."""


class FakeJournal:
    """Remembers what was logged."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self.listeners: list[Callable[[Happened], None]] = []

    def record(self, event: str, message: str, *, priority: int = 6, **fields: str | float) -> None:
        """Remember."""
        self.events.append((event, message))
        for listener in self.listeners:
            listener(Happened(event=event, message=message, at="", fields=dict(fields)))

    def recent(self, count: int) -> Sequence[Happened]:
        """Return the last ones."""
        return [Happened(event=e, message=m, at="") for e, m in self.events[-count:]]

    def subscribe(self, listener: Callable[[Happened], None]) -> Callable[[], None]:
        """Call it, until the returned function is called."""
        self.listeners.append(listener)
        return lambda: self.listeners.remove(listener)


class FakeNotify:
    """A service manager that listens to nobody."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def ready(self) -> None:
        """Remember."""
        self.said.append("ready")

    def status(self, text: str) -> None:
        """Do nothing."""

    def reloading(self) -> None:
        """Remember."""
        self.said.append("reloading")

    def stopping(self) -> None:
        """Remember."""
        self.said.append("stopping")

    def watchdog(self) -> None:
        """Remember."""
        self.said.append("watchdog")


class FakeMachine:
    """A supervisor on a machine of fakes; use it inside a running event loop."""

    def __init__(self, config: Config | None = None) -> None:
        self.clock = FakeClock()
        self.servers, self.probe = FakeServers(), FakeProbe()
        self.store, self.folders = FakeStore(self.emit), FakeFolders(self.emit)
        self.hardware, self.journal = FakeHardware(self.emit), FakeJournal()
        self.notify, self.copier = FakeNotify(), FakeCopier()
        self.page_cache = FakePageCache(self.emit)
        self.estimator = FakeEstimator()
        self.config = config or Config()
        self.read_configs: list[str] = []
        ports = Ports(
            clock=self.clock,
            servers=self.servers,
            probe=self.probe,
            store=self.store,
            scanner=self.folders,
            watcher=self.folders,
            copier=self.copier,
            page_cache=self.page_cache,
            hardware=self.hardware,
            estimator=self.estimator,
            journal=self.journal,
            notify=self.notify,
        )
        self.supervisor = Supervisor(ports, self.config, "/run/modeld", "/home/me")
        self.world = self.supervisor.world
        self._number = 0

    def emit(self, event: Event) -> None:
        """Put an event into the loop."""
        self.supervisor.submit(event)

    def add(self, name: str, gigabytes: float = 1.0, tier: str = "ssd") -> None:
        """Put a model file on a disk, before the start."""
        size = int(gigabytes * GB)
        self.folders.files.append(
            FoundFile(
                tier=tier,
                path=f"/{tier}/{name}.gguf",
                relative_path=f"{name}.gguf",
                size_bytes=size,
                mtime_ns=len(self.folders.files),
                header=Header(
                    architecture="llama", tensor_count=1, tensor_bytes=size, extent_bytes=size
                ),
            )
        )

    async def start(self, *names: str) -> None:
        """Start with these models of 1 GB."""
        for name in names:
            self.add(name)
        await self.supervisor.start(self.read_configs.append)
        await self.settle()

    async def settle(self) -> None:
        """Let the loop handle all that it has."""
        for _ in range(20):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 1.0) -> None:
        """Move the clock, with a tick each step."""
        for _ in range(int(seconds / step)):
            self.clock.time += step
            self.emit(Tick())
            await self.settle()

    def request(
        self,
        make: Callable[..., Event],
        progress: list[Progress] | None = None,
        **settings: Any,  # noqa: ANN401
    ) -> "asyncio.Task[Any]":
        """Ask for something; the task ends with the answer."""
        self._number += 1
        event = make(request_id=f"r{self._number}", **settings)
        told = progress.append if progress is not None else None
        return asyncio.create_task(self.supervisor.ask(event, told))

    def server(self, name: str) -> Server:
        """Return the newest server of a model."""
        return [each for each in self.world.servers.values() if each.record.model_name == name][-1]

    async def brings_up(self, name: str) -> Server:
        """Let the newest server of a model start and become ready."""
        server = self.server(name)
        self.emit(ServerStarted(server_id=server.id, process=Process(pid=4242, start_ticks=1)))
        self.emit(ServerReady(server_id=server.id, context_tokens=8192))
        await self.settle()
        return self.world.servers[server.id]

    async def ends(self, server_id: str, exit_: Exit | None = None) -> None:
        """Let a server's process end."""
        self.emit(ServerExited(server_id=server_id, exit=exit_ or Exit()))
        await self.settle()

    async def stops_all(self) -> None:
        """Let every server that was told to stop end."""
        for server_id in [*self.servers.stopped, *self.servers.killed]:
            if server_id in self.world.servers:
                await self.ends(server_id)
