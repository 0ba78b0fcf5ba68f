"""
How a load becomes a server, for one waiter or for two hundred.

Jobs are planned one after another, so that no two count on the same memory: planned, room made,
started, ready.  Whoever leaves does not end what was begun.  Requests become jobs in `loads`;
nothing here knows what was typed.
"""

from msgspec.structs import replace

from modeld.core.entities import LaunchRecord, Model, Origin, Server, ServerState
from modeld.core.events import PagesRead, ServerExited
from modeld.core.fit import Budget
from modeld.core.plan import Plan, Want, plan_load
from modeld.core.stats import count_use, note_load, note_regret
from modeld.errors import (
    Busy,
    Cancelled,
    DoesNotFit,
    ModeldError,
    Pinned,
    ServerFailed,
    TooManyLoaded,
)
from modeld.supervisor import memory, settings
from modeld.supervisor.answers import loaded
from modeld.supervisor.cache import Cache
from modeld.supervisor.copies import SSD, progress
from modeld.supervisor.estimates import Estimates
from modeld.supervisor.explain import start_error
from modeld.supervisor.launching import launch_record, warnings
from modeld.supervisor.lives import Lives
from modeld.supervisor.promises import expecting
from modeld.supervisor.reading import Reading
from modeld.supervisor.refusals import Refusals
from modeld.supervisor.room import Room, leaving
from modeld.supervisor.saving import Saver
from modeld.supervisor.world import Job, Phase, World
from modeld.wire.codec import Progress

GATEWAY_PORT = "gateway"
BINARY_HINT = (
    "install llama-server, set servers.binary, or pip install 'modeld[engine]'; "
    "then: modelctl reload"
)


class Jobs:
    """Every load that is under way."""

    def __init__(
        self, world: World, saver: Saver, lives: Lives, cache: Cache, *, reading: Reading
    ) -> None:
        self._world = world
        self._saver = saver
        self._lives = lives
        self._cache = cache
        self._reading = reading
        self._room = Room(world, lives)
        self._budget: Budget | None = None
        """What the last plan was made for."""
        self.estimates = Estimates(world)
        self._refusals = Refusals(world)

    def plan(self, want: Want) -> Plan:
        """
        Return what has to go for `want`.

        Raises:
            ModeldError: Whatever `plan_load` raises.
        """
        world = self._world
        previous = self._room.previous(want)
        self._budget = settings.budget(world.config, world.machine)
        servers = leaving(self._expected(), previous)
        plan = plan_load(want, servers, world.state.pins, self._budget)
        return replace(plan, victims=(*previous, *plan.victims)) if previous else plan

    def _expected(self) -> tuple[Server, ...]:
        """Return all servers, with those that will start when their models are read."""
        jobs = self._world.jobs
        booked = [
            Server(record=job.record) for job in jobs if job.phase is Phase.READING and job.record
        ]
        return (*expecting(self._world), *booked)

    def restart(self, record: LaunchRecord) -> None:
        """Start a server that died, as it was."""
        world = self._world
        model = world.models.get(record.model_id)
        if world.stopping or model is None or model.id in world.gone:
            return
        if world.job_of(model.id) is not None or world.server_of(model.id):
            return
        server = world.servers.get(record.server_id)  # it may be leaving for other settings
        wish = server.keep_alive_seconds if server else world.last_keep_alives.get(model.id)
        self.begin(model, record.one_off, port=record.port, is_restart=True)
        world.jobs[-1].keep_alive_seconds = wish

    def begin(
        self,
        model: Model,
        one_off: tuple[str, ...] | None = None,
        *,
        port: int = 0,
        is_restart: bool = False,
    ) -> None:
        """Queue a load that nobody waits for: it unloads nothing to be done."""
        world = self._world
        asked = settings.arguments(world, model, one_off)
        need = settings.need_of(world, model, asked)
        want = Want(
            model_id=model.id,
            name=world.label(model.id),
            need_bytes=need.need_bytes,
            need_gpu_bytes=need.gpu_bytes,
            port=port,
        )
        now = world.ports.clock.monotonic()
        job = Job(want=want, arguments=asked, one_off=one_off, begun_at=now, is_restart=is_restart)
        world.jobs.append(job)

    def advance(self) -> None:
        """Take every job as far as it can go now."""
        world = self._world
        for job in tuple(world.jobs):
            if not any(job is each for each in world.jobs):
                continue  # given up for one before it
            if job.phase is Phase.MAKING_ROOM:
                self._go_on(job)
            if job.phase is Phase.READING and self._is_read(job):
                self._launch(job)
            if job.phase is not Phase.QUEUED:
                continue
            if any(each.phase is Phase.MAKING_ROOM for each in world.jobs):
                continue
            try:
                self._make_room(job)
            except ModeldError as error:
                if self._may_pass(job, error):
                    self._wait_longer(job, error)
                else:
                    self._fail(job, error)

    def plan_anew(self) -> None:
        """Take back the plans of loads that have no server yet, where the limits are others now."""
        if self._budget == settings.budget(self._world.config, self._world.machine):
            return
        for job in self._world.jobs:
            if job.phase is Phase.READING:  # what is read stays in the page cache
                self._reading.give_up(job.copy_id)
                job.record, job.server_id, job.copy_id = None, "", ""
            if job.phase is not Phase.LOADING:
                job.phase, job.waiting_for = Phase.QUEUED, frozenset()

    def _is_read(self, job: Job) -> bool:
        """Whether a model was read once, by its copy or ahead of its server."""
        return self._cache.is_read(job.copy_id) and self._reading.is_over(job.copy_id)

    def tick(self) -> None:
        """Start again what died and has waited long enough."""
        world = self._world
        now = world.ports.clock.monotonic()
        for model_id, deaths in tuple(world.deaths.items()):
            record = world.last_records.get(model_id)
            if deaths.restart and now >= deaths.retry_at and record and not world.stopping:
                world.deaths[model_id] = deaths.without_restart()
                self.restart(record)

    def _make_room(self, job: Job) -> None:
        world = self._world
        if self.estimates.are_awaited(job):
            return None
        plan = self.plan(job.want)
        unhurried = self._room.in_turn(plan)
        if unhurried and (job.want.origin is Origin.GATEWAY or not job.waiters):
            # other loads may go on meanwhile; whoever came first is first again then
            finish = Busy(f"{len(unhurried)} servers finish their requests first", retry_after_s=1)
            return self._wait_longer(job, finish, takes_turn=False)
        self._room.hurry(unhurried, f"{job.want.name} was asked for")
        job.plan = plan
        by_person = job.want.origin is Origin.OPERATOR and not job.want.by_program
        if by_person and job.waiters:
            port = str(job.want.port) if job.want.port else GATEWAY_PORT
            self._saver.observe(note_load(world.state, port, world.ports.clock.now()))
        for victim in plan.victims:
            self._tell(job, "stop", f"{victim.name}: {victim.reason}")
            self._lives.stop(victim.server_id, victim.reason, drain=True)
            for other in tuple(world.jobs):
                if other.server_id == victim.server_id and other.phase is Phase.READING:
                    self.give_up(other, victim.reason)
        # besides, what goes because it ran out of memory once
        victims = (each.server_id for each in plan.victims)
        job.waiting_for |= frozenset((*plan.leaving, *victims))
        job.phase = Phase.MAKING_ROOM
        if not job.waiting_for & world.servers.keys():
            self._start(job)
        return None

    def _go_on(self, job: Job) -> None:
        """Start a job whose room is free; plan it anew when what it waits for never ends."""
        left = [each for key, each in self._world.servers.items() if key in job.waiting_for]
        if not left:
            self._start(job)
        elif all(each.state is ServerState.UNREAPABLE for each in left):
            job.phase, job.waiting_for = Phase.QUEUED, frozenset()

    def _start(self, job: Job) -> None:
        world = self._world
        model = world.models.get(job.want.model_id)
        if model is None or model.id in world.gone:
            gone = ServerFailed(f"{job.want.name} is gone from the disks", hint="modelctl list")
            return self._fail(job, gone)
        if world.binary is None:  # it is being asked for its options; its answer comes here again
            return None
        if world.binary.problem:
            return self._fail(job, ServerFailed(world.binary.problem, hint=BINARY_HINT))
        if memory.is_returning(world, job.want):
            return None
        location = self._cache.whereabouts.location(model)
        record = launch_record(
            world,
            job.want,
            model,
            asked=job.arguments,
            one_off=job.one_off,
            location=location,
        )
        job.record, job.server_id = record, record.server_id
        copy = self._cache.consider(model, urgent=True) if record.tier != SSD else None
        if copy is not None and not self._cache.is_read(copy.order.copy_id):
            job.phase, job.copy_id = Phase.READING, copy.order.copy_id
            self._tell(job, "copy", copy.decision.reason, fraction=0.0)
            return None
        if copy is None and record.tier != SSD:
            # a slow disk gives one reader all its speed, and a server that maps a file a fraction
            job.phase, job.copy_id = Phase.READING, record.server_id
            self._reading.begin(record, location)
            self._tell(job, "load", f"reading from {record.tier}", fraction=0.0)
            return None
        return self._launch(job)

    def _launch(self, job: Job) -> None:
        """Start the server, now that nothing is in its way."""
        world, record = self._world, job.record
        assert record is not None
        model = world.models.get(job.want.model_id)
        if model is None:
            gone = ServerFailed(f"{job.want.name} is gone from the disks", hint="modelctl list")
            return self._fail(job, gone)
        job.phase = Phase.LOADING
        for request_id in job.waiters:
            waiter = world.waiter(request_id)
            want = job.want
            waiter.warnings += warnings(world, model, want.need_bytes, want.need_gpu_bytes)
        self._tell(job, "start", f"llama-server from {record.tier}")
        return self._lives.start(record)

    def _may_pass(self, job: Job, error: ModeldError) -> bool:
        """Whether what is in the way of a load may go by itself, and the load can wait for it."""
        if job.is_restart and not job.waiters:
            budget = settings.budget(self._world.config, self._world.machine)
            fits = job.want.need_bytes <= budget.memory_bytes
            return fits and isinstance(error, Busy | DoesNotFit | TooManyLoaded | Pinned)
        return isinstance(error, Busy) and job.want.origin is Origin.GATEWAY

    def _wait_longer(self, job: Job, error: ModeldError, *, takes_turn: bool = True) -> None:
        """Leave a job in the queue, but not for ever; where others are busy, it gets its turn."""
        world = self._world
        now = world.ports.clock.monotonic()
        is_left = not job.waiters and not job.is_restart
        if now - job.begun_at > world.config.gateway.max_wait_seconds or is_left:
            self._fail(job, error)
        elif takes_turn and isinstance(error, Busy) and job.waiters:
            job.busy_since = job.busy_since or now
            self._room.give_turn(job, self._expected())

    # --- ends --------------------------------------------------------------------------------

    def report(self, server: Server) -> None:
        """Tell whoever waits for a server how far it is."""
        job = self._world.job_of_server(server.id)
        if job is not None:
            stage = server.stage.replace("_", " ")
            self._tell(job, "load", stage, fraction=server.fraction)

    def report_pages(self, event: PagesRead) -> None:
        """Tell whoever waits for a model how far it is read."""
        for job in self._world.jobs:
            if job.copy_id == event.read_id and job.phase is Phase.READING and event.total_bytes:
                fraction = event.read_bytes / event.total_bytes
                self._tell(job, "load", "reading", fraction=fraction)

    def report_copy(self, copy_id: str) -> None:
        """Tell whoever waits for a model how far its copy has read it."""
        copy = self._cache.copies.get(copy_id)
        if copy is None:
            return
        for job in self._world.jobs:
            if job.copy_id == copy_id and job.phase is Phase.READING:
                fraction = copy.read_bytes / max(1, copy.total_bytes)
                self._tell(job, "copy", progress(copy), fraction=fraction)

    def finish(self, server: Server) -> None:
        """A server is ready: count the use, answer everybody."""
        world = self._world
        if not server.adopted:
            now, model_id = world.ports.clock.now(), server.record.model_id
            after = note_regret(count_use(world.state, model_id, now), model_id, now)
            self._saver.observe(after)
            self._cache.note_use(model_id)
        job = world.job_of_server(server.id)
        if job is None:
            return
        world.jobs.remove(job)
        self._lives.keep(server.id, job.keep_alive_seconds)
        seconds = world.ports.clock.monotonic() - job.begun_at
        for request_id in job.waiters:
            world.tell(request_id, Progress(phase="ready", model=job.want.name, fraction=1.0))
            world.answer(request_id, loaded(world, request_id, server, seconds=seconds, job=job))

    def after_exit(self, server: Server, event: ServerExited) -> None:
        """A server ended: whoever waited for it is told, or it is tried once more."""
        job = self._world.job_of_server(server.id)
        if job is None:
            return
        gone = self._room.after_death(job, server, event.exit)
        if gone:
            job.is_retried, job.server_id, job.record = True, "", None
            job.waiting_for, job.phase = gone, Phase.QUEUED  # the limits may be others by now
        else:
            self._fail(job, start_error(server, event))

    def fail_server(self, server: Server, error: ModeldError) -> None:
        """A server ended before it was ready: tell everybody who waited for it."""
        job = self._world.job_of_server(server.id)
        if job is not None:
            self._fail(job, error)

    def give_up(self, job: Job, because: str) -> None:
        """End a job and its server."""
        self._fail(job, Cancelled(f"{job.want.name} is not loaded: {because}"))
        if job.phase is Phase.READING:
            self._reading.give_up(job.copy_id)
        if job.server_id:
            self._lives.stop(job.server_id, because, drain=False)

    def _fail(self, job: Job, error: ModeldError) -> None:
        world = self._world
        if job in world.jobs:
            world.jobs.remove(job)
        self._refusals.note(job.want, error)
        for request_id in job.waiters:
            world.fail(request_id, error)
        for told in world.on_load_failed:
            told(job.want.model_id, error)

    def _tell(self, job: Job, phase: str, text: str, fraction: float = -1.0) -> None:
        progress = Progress(phase=phase, text=text, model=job.want.name, fraction=fraction)
        for request_id in job.waiters:
            self._world.tell(request_id, progress)
