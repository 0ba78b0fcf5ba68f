"""
The loop: one queue, one writer.

Front doors and host adapters put events in; this takes them out one by one, has the modules
beside it change the world, and publishes new routes when something that they show has changed.
Nothing here waits for anything but the next event, and no handler blocks.  What is slow was
started elsewhere and comes back as an event, or is done in slices, with a turn for everybody else
after each.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from modeld.config.load import expand
from modeld.config.schema import Config
from modeld.core import events as ev
from modeld.core import traffic
from modeld.core.entities import ServerState
from modeld.errors import Busy, ModeldError
from modeld.supervisor import recover, routing, settings, views
from modeld.supervisor.asks import Asks, refused
from modeld.supervisor.cache import Cache
from modeld.supervisor.cache_asks import CacheAsks
from modeld.supervisor.counting import Counting
from modeld.supervisor.disks import forget_gone, take_binary, take_files
from modeld.supervisor.door import OnProgress, Routes
from modeld.supervisor.explain import status_line, stuck_error
from modeld.supervisor.idling import Idling
from modeld.supervisor.importing import Importing
from modeld.supervisor.jobs import Jobs
from modeld.supervisor.lives import Lives
from modeld.supervisor.loads import Loads
from modeld.supervisor.logs import WorldLogs
from modeld.supervisor.memory_views import tell_verdict
from modeld.supervisor.ports import Ports
from modeld.supervisor.preloading import preload
from modeld.supervisor.publishing import Publisher
from modeld.supervisor.reading import Reading
from modeld.supervisor.reloading import Reloading
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import Waiter, World

MAX_QUEUED_EVENTS = 100_000
"""Far above what honest load makes: at this point the loop is not keeping up and says so."""
MAX_WAITERS = 4096
HEARTBEAT_SECONDS = 60.0
"""How much run time a crash of the machine may lose."""
MACHINE_SECONDS = 10.0
SURVEY_SECONDS = 1.5
"""How long the start waits for the first look at the disks before it says READY."""
ADOPTION_SECONDS = 1.0
"""How long it waits for adopted servers to answer."""


class Supervisor:
    """Owns the world; the `Door` of rpc and gateway."""

    def __init__(self, ports: Ports, config: Config, runtime_directory: str, home: str) -> None:
        self.world = World(ports, config, runtime_directory, home)
        self._queue: asyncio.Queue[ev.Event] = asyncio.Queue()
        self.saver = Saver(self.world)
        self.lives = Lives(self.world, self.saver)
        self.idling = Idling(self.world, self.lives)
        self.cache = Cache(self.world, self.saver)
        self.cache_asks = CacheAsks(self.world, self.cache)
        self.counting = Counting(self.world, self.saver, self.cache)
        self._reading = Reading(self.world)
        self.jobs = Jobs(self.world, self.saver, self.lives, self.cache, reading=self._reading)
        self._loads = Loads(self.world, self.saver, self.lives, self.jobs)
        self._asks = Asks(self.world, self.saver, self.lives, self.jobs, idling=self.idling)
        self._reloading = Reloading(self.world, self.lives, self.jobs)
        self._read_config: Callable[[str], None] | None = None
        self._is_preloaded = False
        self._publisher = Publisher(self.world)
        self.logs = WorldLogs(self.world)
        self._heartbeat_at = self._machine_at = ports.clock.monotonic()
        self._surveyed = asyncio.Event()
        self._adopted = asyncio.Event()
        self._changed = asyncio.Event()
        self._scanned = asyncio.Event()
        self.subscriptions = 0
        """How many clients follow the events; the doors count them."""
        self.finished = asyncio.Event()
        self._handlers = self._table()

    # --- the door ----------------------------------------------------------------------------

    @property
    def routes(self) -> Routes:
        """The newest routes."""
        return self.world.routes

    def submit(self, event: ev.Event) -> None:
        """Tell the loop that something happened."""
        self._queue.put_nowait(event)

    async def ask(self, event: ev.Event, on_progress: OnProgress | None = None) -> Struct:
        """
        Ask the loop for something and return its answer.

        Raises:
            ModeldError: It was refused or failed.
        """
        request_id: str = getattr(event, "request_id", "")
        assert request_id, f"{type(event).__name__} can't be answered"
        if len(self.world.waiters) >= MAX_WAITERS or self._queue.qsize() > MAX_QUEUED_EVENTS:
            raise Busy("too many requests wait already", retry_after_s=1)
        waiter = Waiter(asyncio.get_running_loop().create_future(), on_progress)
        assert waiter.future is not None
        self.world.waiters[request_id] = waiter
        self.submit(event)
        try:
            return await waiter.future
        except asyncio.CancelledError:
            self.submit(ev.WaiterLeft(request_id=request_id))
            raise

    async def changed(self) -> None:
        """Wait until the routes change."""
        await self._changed.wait()

    async def scanned(self) -> None:
        """Wait for the next look at the disks to end."""
        self._scanned.clear()
        await self._scanned.wait()

    # --- life --------------------------------------------------------------------------------

    async def start(self, read_config: Callable[[str], None]) -> None:
        """Read the state, adopt servers, look at the disks; return when modeld can serve."""
        world = self.world
        self._read_config = read_config
        world.machine = world.ports.hardware.machine()
        recover.load_state(world)
        world.ports.hardware.probe_binary(expand(world.config.servers.binary, world.home))
        living = await recover.adopt_servers(world, self.saver, self.lives)
        if not living:
            self._adopted.set()
        self._reloading.look_at_folders()
        self.cache.survey()
        world.on_config.append(lambda _: self.cache.survey())
        world.on_config.append(lambda _: self.jobs.plan_anew())
        self._runner = asyncio.create_task(self._run(), name="supervisor")
        self._runner.add_done_callback(self._ended)
        for event, seconds in ((self._surveyed, SURVEY_SECONDS), (self._adopted, ADOPTION_SECONDS)):
            try:
                await asyncio.wait_for(event.wait(), seconds)
            except TimeoutError:
                world.ports.journal.record(
                    "slow-start", "the start goes on in the background: a disk or a server is slow",
                    priority=5,
                )  # fmt: skip

    async def _run(self) -> None:
        """Take events until the end."""
        while not self.world.done:
            if self._publisher.is_behind:
                await asyncio.sleep(0)  # whoever else waits has a turn before the next slice
            else:
                self._handle(await self._queue.get())
            while not self._queue.empty():
                self._handle(self._queue.get_nowait())
            self._catch_up()
            self.idling.act()
            self.jobs.advance()
            self._publish()
            if self.world.stopping:
                self._end_if_done()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A bug in the loop ends the daemon: systemd starts it anew, the servers go on."""
        self.finished.set()
        if not task.cancelled() and task.exception() is not None:
            self.world.done = True

    async def wait_finished(self) -> None:
        """
        Wait for the end.

        Raises:
            Exception: Whatever bug ended the loop.
        """
        await self.finished.wait()
        await self._runner

    def _handle(self, event: ev.Event) -> None:
        handler = self._handlers[type(event)]
        request_id: str = getattr(event, "request_id", "")
        try:
            handler(event)
        except ModeldError as error:
            refused(self.world, request_id, error)

    def _table(self) -> dict[type[ev.Event], Callable[[Any], object]]:
        """Return which function takes which event."""
        world, lives, loads, asks = self.world, self.lives, self._loads, self._asks
        return {
            ev.LoadAsked: loads.on_asked,
            ev.CancelAsked: loads.on_cancel,
            ev.WaiterLeft: loads.on_left,
            ev.UnloadAsked: asks.on_unload,
            ev.NamesAsked: asks.on_names,
            ev.PinAsked: asks.on_pin,
            ev.HistoryAsked: Importing(world, self.saver).on_asked,
            ev.ReloadAsked: self._on_reload,
            ev.ConfigRead: self._reloading.on_read,
            traffic.RequestStarted: lives.on_request_started,
            traffic.RequestsRouted: lambda event: routing.note(world, event),
            traffic.RequestMoved: lives.on_request_moved,
            traffic.RequestsEnded: self._on_requests_ended,
            traffic.RequestLost: self.counting.on_lost,
            traffic.RequestServed: self.counting.on_served,
            ev.UsageAsked: self.counting.on_asked,
            ev.FilesFound: self._on_files,
            ev.FolderChanged: self._on_folder_changed,
            ev.CopyMoved: self._on_copy_moved,
            ev.PagesRead: self._on_pages,
            ev.CopyEnded: self.cache.on_ended,
            ev.CacheAsked: self.cache_asks.on_asked,
            ev.CopiesVerified: self.cache_asks.on_verified,
            ev.FilesRemoved: self.cache.on_removed,
            ev.SpaceMeasured: self.cache.on_space,
            ev.ServerStarted: lives.on_started,
            ev.ServerLoading: self._on_loading,
            ev.ServerReady: self._on_ready,
            ev.ServerExited: self._on_exited,
            ev.SlotsSeen: self._on_slots_seen,
            ev.ServersAsked: lambda event: world.answer(event.request_id, views.servers(world)),
            ev.VerdictAsked: lambda event: tell_verdict(world, event),
            ev.MemoryMeasured: lives.on_memory,
            ev.GpusFreed: lambda event: world.returning.discard(event.server_id),
            ev.NeedTold: self.jobs.estimates.on_told,
            ev.BinaryProbed: self._on_binary,
            ev.StateSaved: self.saver.on_saved,
            ev.StateNotSaved: self.saver.on_not_saved,
            ev.Tick: self._on_tick,
            ev.StopAsked: self._on_stop,
        }

    # --- handlers ----------------------------------------------------------------------------

    def _on_reload(self, event: ev.ReloadAsked) -> None:
        assert self._read_config is not None
        self.world.ports.notify.reloading()
        self._read_config(event.request_id)

    def _on_files(self, event: ev.FilesFound) -> None:
        take_files(self.world, event)
        self.cache.whereabouts.after_scan()
        self.world.when_published.append(self._after_files)

    def _after_files(self) -> None:
        self._take_deferred()
        self._surveyed.set()
        self._scanned.set()

    def _on_folder_changed(self, event: ev.FolderChanged) -> None:
        world = self.world
        world.ports.journal.record(
            "folder-changed", f"{event.tier}: {event.reason or 'changed'}", priority=7
        )
        world.scanning = True
        world.ports.scanner.scan(settings.folders(world.config, world.home))

    def _on_copy_moved(self, event: ev.CopyMoved) -> None:
        self.cache.on_moved(event)
        self.jobs.report_copy(event.copy_id)

    def _on_pages(self, event: ev.PagesRead) -> None:
        self._reading.on_pages(event)
        self.jobs.report_pages(event)

    def _on_loading(self, event: ev.ServerLoading) -> None:
        self.lives.on_loading(event)
        server = self.world.servers.get(event.server_id)
        if server is not None and server.state is ServerState.LOADING:
            self.jobs.report(server)

    def _on_ready(self, event: ev.ServerReady) -> None:
        self.lives.on_ready(event)
        server = self.world.servers.get(event.server_id)
        if server is not None and server.state is ServerState.READY:
            self.counting.loaded(server, self.world.job_of_server(server.id))
            self.jobs.finish(server)
            self.counting.save()
        self._check_adopted()

    def _on_exited(self, event: ev.ServerExited) -> None:
        server = self.lives.on_exited(event)
        if server is None:
            return
        self.jobs.after_exit(server, event)
        self._asks.on_gone(server.id)
        forget_gone(self.world)
        self.counting.save()
        self._check_adopted()

    def _on_requests_ended(self, event: traffic.RequestsEnded) -> None:
        self.lives.on_requests_ended(event)
        self.counting.on_ended(event)
        self.idling.after_request(event.server_id)

    def _on_slots_seen(self, event: ev.SlotsSeen) -> None:
        self.lives.on_slots_seen(event)
        self.idling.on_slots_seen(event)

    def _on_binary(self, event: ev.BinaryProbed) -> None:
        take_binary(self.world, event.binary)
        self.world.when_published.append(self._take_deferred)

    def _on_tick(self, _: ev.Tick) -> None:
        world = self.world
        now = world.ports.clock.monotonic()
        stuck = {each.id for each in world.servers.values() if each.state is ServerState.UNREAPABLE}
        self.lives.tick()
        self.idling.tick()
        for server in tuple(world.servers.values()):
            if server.state is ServerState.UNREAPABLE and server.id not in stuck:
                error = stuck_error(server)
                self.jobs.fail_server(server, error)
                self._asks.on_stuck(server, error)
        self.jobs.tick()
        self.jobs.estimates.tick()
        self.cache.tick()
        if now - self._heartbeat_at >= HEARTBEAT_SECONDS:
            self._heartbeat_at = now
            self.lives.count_running()
            self.counting.save()
        if now - self._machine_at >= MACHINE_SECONDS:
            self._machine_at = now
            world.machine = world.ports.hardware.machine()
        if now - world.last_scan_at >= world.config.storage.scan_interval_seconds:
            world.last_scan_at = now
            world.ports.scanner.scan(settings.folders(world.config, world.home))
        self.saver.tick()
        world.ports.notify.watchdog()
        world.ports.notify.status(status_line(world, self.cache.sentences()))

    def _on_stop(self, event: ev.StopAsked) -> None:
        world = self.world
        if world.stopping:  # asked again: nobody waits any longer
            for server_id in () if event.leave_servers else tuple(world.servers):
                world.ports.servers.kill(server_id)
            world.done = True
            return
        world.stopping = True
        world.ports.notify.stopping()
        self.counting.save()
        for job in tuple(world.jobs):
            if not event.leave_servers or not job.server_id:
                self.jobs.give_up(job, "modeld is stopping")
        if event.leave_servers:
            self.lives.count_running()
            world.done = True
        else:
            for server in tuple(world.servers.values()):
                self.lives.stop(server.id, "modeld is stopping", drain=False)

    # --- afterwards --------------------------------------------------------------------------

    def _take_deferred(self) -> None:
        """Take up requests that came before the first look at the disks."""
        world = self.world
        if world.surveyed and world.binary is not None:
            deferred, world.deferred = world.deferred, []
            for event in deferred:
                self._handle(event)
            if not self._is_preloaded:
                self._is_preloaded = True
                preload(world, self.jobs)

    def _check_adopted(self) -> None:
        servers = self.world.servers.values()
        if not any(each.adopted and each.state is ServerState.LOADING for each in servers):
            self._adopted.set()

    def _end_if_done(self) -> None:
        servers = self.world.servers.values()
        if all(each.state is ServerState.UNREAPABLE for each in servers):
            self.world.done = True

    def _catch_up(self) -> None:
        """Go on with names and models; call whoever waits for their publication, once all are."""
        if self._publisher.advance():
            self._publish()
            waiting, self.world.when_published = self.world.when_published, []
            for each in waiting:
                each()

    def _publish(self) -> None:
        """Publish new routes if anything that they show has changed."""
        if self._publisher.publish():
            # wakes everybody who waits now; whoever waits later waits for the next change
            self._changed.set()
            self._changed.clear()
