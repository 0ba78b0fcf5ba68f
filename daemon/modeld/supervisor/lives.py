"""
What happens to servers: their events go through `core.lifecycle`, and what follows is done.

Starting is asked for by `loads`; everything after that is here: becoming ready, draining,
stopping, dying, stalling, being measured, being counted.  Nobody else changes a server.
"""

from datetime import UTC, datetime

from msgspec.structs import replace

from modeld.core import lifecycle
from modeld.core.entities import Exit, Kept, LaunchRecord, Server, ServerState
from modeld.core.events import (
    MemoryMeasured,
    ServerExited,
    ServerLoading,
    ServerReady,
    ServerStarted,
    SlotsSeen,
)
from modeld.core.lifecycle import Action, Trigger
from modeld.core.stats import count_runtime
from modeld.core.traffic import RequestMoved, RequestsEnded, RequestStarted
from modeld.supervisor import memory, settings
from modeld.supervisor.deaths import keep_last_words, note, note_death
from modeld.supervisor.explain import describe
from modeld.supervisor.promises import keep_promises
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import Motion, World
from modeld.units import format_duration

MEASURE_SECONDS = 5.0
LOOKS_A_STALL = 4
"""How often a server that moves nothing is looked at before it counts as stalled."""


class Lives:
    """Leads every server through its life."""

    def __init__(self, world: World, saver: Saver) -> None:
        self._world = world
        self._saver = saver
        self._measured_at = 0.0

    # --- from outside ------------------------------------------------------------------------

    def start(self, record: LaunchRecord) -> None:
        """Begin a life."""
        world = self._world
        deadline = lifecycle.first_deadline(
            world.ports.clock.monotonic(), settings.limits(world.config)
        )
        world.servers[record.server_id] = Server(record=record, deadline=deadline)
        world.last_records[record.model_id] = record
        note(
            self._world,
            "server-starting",
            record,
            f"starting {record.model_name}",
            tier=record.tier,
        )
        # background copies from the same disk hold still while it loads
        world.ports.copier.yield_to_load(record.model_path, True)
        world.ports.servers.start(record)

    def adopt(self, server: Server) -> None:
        """Take over a server that an earlier daemon started."""
        world = self._world
        now = world.ports.clock.monotonic()
        deadline = lifecycle.first_deadline(now, settings.limits(world.config))
        world.servers[server.id] = replace(server, deadline=deadline)
        world.last_records[server.record.model_id] = server.record
        world.ports.probe.watch(server.record)

    def stop(self, server_id: str, because: str, *, drain: bool, patient: bool = False) -> None:
        """
        Have a server end, after what it answers now or at once.

        Args:
            server_id: Which.
            because: Why; the first reason counts.
            drain: Whether it finishes what it answers, for as long as `servers.drain_seconds`.
            patient: For as long as it takes, since nobody asked for its end; a stall ends it too.
        """
        world = self._world
        server = world.servers.get(server_id)
        if server is None:
            return
        if not server.stopping_because:
            world.servers[server_id] = replace(server, stopping_because=because)
        drain = drain and bool(server.in_flight)
        self._apply(server_id, Trigger.DRAIN if drain else Trigger.STOP)
        after = world.servers[server_id]
        if after.state is ServerState.DRAINING and (patient or not after.deadline):
            deadline = world.ports.clock.monotonic() + world.config.servers.drain_seconds
            world.servers[server_id] = replace(after, deadline=0.0 if patient else deadline)

    def touch(self, server_id: str) -> None:
        """Count a server as used now."""
        server = self._world.servers.get(server_id)
        if server is not None:
            now = self._world.ports.clock.monotonic()
            self._world.servers[server_id] = replace(server, last_used_at=now)

    def keep(self, server_id: str, keep_alive_seconds: float | None) -> None:
        """Remember for how long a server is wanted, unless nothing is said of that."""
        world = self._world
        server = world.servers.get(server_id)
        if server is None or keep_alive_seconds in {None, server.keep_alive_seconds}:
            return
        world.servers[server_id] = replace(server, keep_alive_seconds=keep_alive_seconds)
        self.remember()

    def remember(self) -> None:
        """Have the state say what the next daemon has to know of the servers."""
        world = self._world
        kept = {
            server.id: Kept(
                last_used_at=server.last_used_at, keep_alive_seconds=server.keep_alive_seconds
            )
            for server in world.servers.values()
            if server.ready_at
        }
        if kept != world.state.kept:
            self._saver.observe(replace(world.state, kept=kept))

    # --- events ------------------------------------------------------------------------------

    def on_started(self, event: ServerStarted) -> None:
        """The process exists."""
        server = self._world.servers.get(event.server_id)
        if server is not None:
            self._world.servers[server.id] = replace(server, process=event.process)
            self._apply(server.id, Trigger.STARTED)

    def on_loading(self, event: ServerLoading) -> None:
        """Loading goes on."""
        server = self._world.servers.get(event.server_id)
        if server is not None:
            self._world.servers[server.id] = replace(
                server, stage=event.stage, fraction=max(0.0, min(1.0, event.fraction))
            )
            self._apply(server.id, Trigger.PROGRESS)

    def on_ready(self, event: ServerReady) -> None:
        """It answers."""
        world = self._world
        server = world.servers.get(event.server_id)
        if server is None or server.state is not ServerState.LOADING:
            return
        now = world.ports.clock.monotonic()
        world.servers[server.id] = replace(
            server,
            fraction=1.0,
            ready_at=now,
            last_used_at=server.last_used_at or now,
            context_tokens=event.context_tokens or server.record.context_tokens,
        )
        world.ports.probe.unwatch(server.id)
        world.ports.copier.yield_to_load(server.record.model_path, False)
        self._apply(server.id, Trigger.HEALTHY)
        self._measured_at = 0.0

    def on_request_started(self, event: RequestStarted) -> None:
        """A request went to a server."""
        self._note_requests(event.server_id, began=1)

    def on_request_moved(self, event: RequestMoved) -> None:
        """Bytes came."""
        motion = self._world.motions.get(event.server_id)
        if motion is not None:
            motion.moved_at = self._world.ports.clock.monotonic()

    def on_requests_ended(self, event: RequestsEnded) -> None:
        """Requests are over, and others began meanwhile; where none did, idle time begins here."""
        server = self._note_requests(event.server_id, began=event.began, ended=event.ended)
        if server is not None:
            self.keep(server.id, event.keep_alive_seconds)
            if not server.in_flight:
                self._apply(server.id, Trigger.IDLE)

    def _note_requests(self, server_id: str, *, began: int, ended: int = 0) -> Server | None:
        """Return a server that is known after counting its requests."""
        world = self._world
        server = world.servers.get(server_id)
        if server is None:
            return None
        now = world.ports.clock.monotonic()
        keep_promises(world, server_id, began)
        in_flight = max(0, server.in_flight + began - ended)
        if not in_flight:
            world.motions.pop(server_id, None)
        elif ended:
            self.on_request_moved(RequestMoved(server_id=server_id))
        elif not server.in_flight:
            world.motions[server_id] = Motion(now)
        after = replace(
            server,
            in_flight=in_flight,
            asked_at=now if began else server.asked_at,
            last_used_at=now if ended else server.last_used_at,
        )
        world.servers[server_id] = after
        return after

    def on_slots_seen(self, event: SlotsSeen) -> None:
        """A server that moves nothing was looked at: does it work all the same?"""
        motion = self._world.motions.get(event.server_id)
        if motion is not None and event.mark and event.mark != motion.mark:
            motion.mark = event.mark
            motion.moved_at = self._world.ports.clock.monotonic()

    def on_memory(self, event: MemoryMeasured) -> None:
        """Resident memory was measured; while loading, growth is a sign of progress."""
        world = self._world
        server = world.servers.get(event.server_id)
        if server is None:
            return
        world.servers[server.id] = memory.measured(world, server, event)
        if server.state is ServerState.LOADING:
            if event.resident_bytes > server.resident_bytes:
                self._apply(server.id, Trigger.PROGRESS)
        elif server.state is ServerState.READY:
            after = memory.learned(world, world.servers[server.id])
            if after is not world.state:
                self._saver.observe(after)

    def on_exited(self, event: ServerExited) -> Server | None:
        """The process is gone: count it, forget it, and remember a death that nobody ordered."""
        world = self._world
        server = world.servers.get(event.server_id)
        if server is None:
            world.ports.servers.forget(event.server_id)
            return None
        self._count(server, event.exit)
        keep_last_words(world, server.record.model_id, event.exit)
        self._apply(server.id, Trigger.EXITED)
        gone = world.servers.pop(server.id)
        world.promises.pop(server.id, None)
        world.at_work_until.pop(server.id, None)
        world.motions.pop(server.id, None)
        world.ports.probe.unwatch(server.id)
        memory.gone(world, server)
        if not server.ready_at:
            world.ports.copier.yield_to_load(server.record.model_path, False)
        cause = describe(event.exit)
        if gone.stopping_because:
            text = f"{gone.record.model_name} is unloaded: {gone.stopping_because}"
            note(world, "server-stopped", gone.record, text)
            if not gone.stopping_because.startswith((STALLED, STUCK)):
                return gone
        note_death(world, gone, event.exit, gone.stopping_because or cause)
        return gone

    # --- time --------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at deadlines, stalls and memory; once a second."""
        now = self._world.ports.clock.monotonic()
        for server in tuple(self._world.servers.values()):
            if server.deadline and now >= server.deadline:
                self._note_stuck(server)
                self._apply(server.id, Trigger.DEADLINE)
        self._look_for_stalls(now)
        if now - self._measured_at >= MEASURE_SECONDS:
            self._measured_at = now
            for server in self._world.servers.values():
                if server.process is not None:
                    self._world.ports.probe.measure_memory(server.id, server.process.pid)

    def count_running(self) -> None:
        """Put the run time so far of all servers into the state: a heartbeat, or the end."""
        for server in tuple(self._world.servers.values()):
            self._count(server, None)
        self.remember()

    def _note_stuck(self, server: Server) -> None:
        """Remember why a server is killed that never became ready."""
        if server.state in {ServerState.STARTING, ServerState.LOADING}:
            patience = settings.limits(self._world.config).start_stall_seconds
            because = f"{STUCK} for {format_duration(patience)} while it loaded"
            self._world.servers[server.id] = replace(server, stopping_because=because)

    def _look_for_stalls(self, now: float) -> None:
        world = self._world
        patience = world.config.servers.stall_seconds + TOLD_LATE_SECONDS
        for server_id, motion in tuple(world.motions.items()):
            server = world.servers.get(server_id)
            still = now - motion.moved_at
            if server is None or not server.in_flight or server.state not in SERVING:
                continue
            if still >= patience:
                because = f"{STALLED} {server.in_flight} requests for {format_duration(still)}"
                # what was told to stop before keeps its reason: its end is no death
                world.servers[server_id] = replace(
                    server, stopping_because=server.stopping_because or because
                )
                text = f"{server.record.model_name} {because}"
                note(world, "server-stalled", server.record, text, priority=3,
                     in_flight=server.in_flight)  # fmt: skip
                self._apply(server_id, Trigger.STALLED)
                world.motions.pop(server_id, None)
            elif still >= patience / LOOKS_A_STALL <= now - motion.looked_at:
                motion.looked_at = now
                world.ports.probe.look_at_slots(server_id, server.record.socket_path)

    # --- inside ------------------------------------------------------------------------------

    def _apply(self, server_id: str, trigger: Trigger) -> None:
        """Move a server through the table, and do what the table says."""
        world = self._world
        server = world.servers.get(server_id)
        if server is None:
            return
        limits = settings.limits(world.config)
        after, actions = lifecycle.step(server, trigger, world.ports.clock.monotonic(), limits)
        world.servers[server_id] = after
        for action in actions:
            match action:
                case Action.WATCH:
                    world.ports.probe.watch(after.record)
                case Action.STOP:
                    world.ports.servers.stop(server_id)
                case Action.KILL:
                    world.ports.servers.kill(server_id)
                case Action.FORGET:
                    world.ports.servers.forget(server_id)
        if after.state is not server.state:
            self._note_move(server, after, trigger)

    def _note_move(self, before: Server, after: Server, trigger: Trigger) -> None:
        name, record = after.record.model_name, after.record
        match after.state:
            case ServerState.READY:
                took = self._world.ports.clock.now() - record.created_at.timestamp()
                text = f"{name} is ready" + ("" if after.adopted else f" in {took:.1f} s")
                note(self._world, "server-ready", record, text, seconds=round(took, 3))
            case ServerState.DRAINING:
                text = f"{name} finishes {after.in_flight} requests: {after.stopping_because}"
                note(self._world, "server-draining", record, text)
            case ServerState.KILLING:
                text = f"{name} is killed: it was {before.state} for too long"
                note(self._world, "server-killed", record, text, priority=4)
            case ServerState.UNREAPABLE:
                pid = after.process.pid if after.process else 0
                text = (
                    f"{name} (pid {pid}) survives SIGKILL, reading {record.model_path}; "
                    "its memory stays booked"
                )
                note(self._world, "server-unreapable", record, text, priority=2)
            case _:
                note(
                    self._world,
                    "server-state",
                    record,
                    f"{name} is {after.state} ({trigger})",
                    priority=7,
                )

    def _count(self, server: Server, ended: Exit | None) -> None:
        """Add a server's run time to its model's, up to now or to its end."""
        if server.process is None and ended is None:
            return
        clock = self._world.ports.clock
        until = ended.ended_at.timestamp() if ended and ended.ended_at else clock.now()
        seconds = until - server.record.created_at.timestamp()
        if ended is not None and ended.how == "not-started":
            seconds = 0.0
        state, record = self._world.state, server.record
        after = count_runtime(
            state,
            record.model_id,
            server.id,
            seconds=max(0.0, seconds),
            closed=ended is not None,
            started_at=record.created_at.timestamp(),
        )
        if after is not state:
            self._saver.observe(after)


TOLD_LATE_SECONDS = 1.0
"""How late the gateway may tell that bytes of an answer came."""
STALLED = "moved none of"
STUCK = "made no progress"
"""How the reason begins when a server is stopped because it hangs: that is a death too."""
SERVING = frozenset({ServerState.READY, ServerState.DRAINING})


def utc(seconds: float) -> datetime:
    """Return unix seconds as a time with its zone."""
    return datetime.fromtimestamp(seconds, UTC)
