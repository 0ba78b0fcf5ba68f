"""
All that changes while modeld runs, in one place.

Only the loop and the functions that it calls write here, all in one thread.  The values inside
are frozen, so whoever read one keeps what it read.  Nothing here decides: the modules beside it
ask `modeld.core` and put down what it says.
"""

from asyncio import Future
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from msgspec import Struct

from modeld.config.schema import Config
from modeld.core.backoff import Deaths
from modeld.core.entities import (
    Binary,
    LaunchRecord,
    Machine,
    Model,
    ModelStats,
    Server,
    State,
)
from modeld.core.events import HistoryAsked, LoadAsked
from modeld.core.fit import Told
from modeld.core.limits import Row
from modeld.core.plan import Plan, Want
from modeld.errors import Busy, ModeldError
from modeld.supervisor.door import OnProgress, Routes
from modeld.supervisor.naming import Naming
from modeld.supervisor.ports import Ports
from modeld.wire.codec import Progress
from modeld.wire.load import Candidate

MAX_DEFERRED = 1024
"""Requests that wait for the first look at the disks, or at the engine."""

LOOKING = "modeld looks at its disks and its engine first"


class Phase(Enum):
    """How far a load has come."""

    QUEUED = auto()
    MAKING_ROOM = auto()
    READING = auto()
    """Its copy to the SSD reads the model from the slow disk, ahead of the server."""
    LOADING = auto()


@dataclass(slots=True)
class Job:
    """One load under way, for everybody who waits for it."""

    want: Want
    arguments: tuple[str, ...]
    """All that go to llama-server besides what modeld adds."""
    one_off: tuple[str, ...] | None
    begun_at: float
    """[monotonic s]"""
    waiters: list[str] = field(default_factory=list)
    phase: Phase = Phase.QUEUED
    plan: Plan | None = None
    waiting_for: frozenset[str] = frozenset()
    """Servers that have to be gone first."""
    copy_id: str = ""
    busy_since: float = 0.0
    """[monotonic s] Since when nothing but busy servers is in its way; 0 while that isn't so."""
    keep_alive_seconds: float | None = None
    """How long whoever waits wants the model kept when idle; None where nobody says."""
    is_restart: bool = False
    """It brings back what died: it unloads nothing, and waits for a place."""
    is_retried: bool = False
    """It ran out of memory once."""
    record: LaunchRecord | None = None
    server_id: str = ""


@dataclass(slots=True)
class Waiter:
    """Somebody who asked, and what belongs into the answer to them alone."""

    future: "Future[Struct] | None" = None
    on_progress: OnProgress | None = None
    candidates: tuple[Candidate, ...] = ()
    names: tuple[str, ...] = ()
    will_send: bool = False
    """Whether a request to the server follows: a program waits, not a person."""
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Unloading:
    """An unload under way."""

    request_id: str
    left: set[str]
    """Server ids."""
    models: tuple[str, ...]
    freed_bytes: int
    kept: tuple[str, ...] = ()


@dataclass(slots=True)
class Motion:
    """The last sign that a server works on its requests."""

    moved_at: float
    """[monotonic s]"""
    looked_at: float = 0.0
    mark: str = ""


@dataclass(slots=True)
class Promise:
    """Programs that were told that a server is ready, and whose requests did not come yet."""

    requests: int = 0
    until: float = 0.0
    """[monotonic s] By then they have left without one."""


@dataclass(slots=True)
class Saving:
    """How the state file stands to the state."""

    in_flight: int = 0
    """The generation that is being written; 0 for none."""
    dirty_since: float = 0.0
    """[monotonic s] 0 when the file is up to date."""
    retry_at: float = 0.0
    problem: str = ""


@dataclass(eq=False)
class World:
    """Everything that the loop owns."""

    ports: Ports
    config: Config
    runtime_directory: str
    home: str = "/"
    device_environment: Mapping[str, str] = field(default_factory=dict)
    """What of the daemon's own environment a server may see."""

    state: State = field(default_factory=State)
    state_read_only: bool = False
    state_problems: tuple[str, ...] = ()
    """What was wrong with the state file at the start."""
    saving: Saving = field(default_factory=Saving)

    models: Mapping[str, Model] = field(default_factory=dict)
    gone: frozenset[str] = frozenset()
    """Ids of models that have a server and no file any more."""
    file_problems: tuple[str, ...] = ()
    folder_problems: tuple[str, ...] = ()
    """Folders that the last scan could not read."""
    watch_problems: tuple[str, ...] = ()
    """Folders whose changes are not noticed at once."""
    scanning: bool = False
    surveyed: bool = False
    """Whether the disks were looked at once."""
    last_scan_at: float = 0.0

    binary: Binary | None = None
    machine: Machine = field(default_factory=lambda: Machine(memory_bytes=0))

    returning: set[str] = field(default_factory=set)
    """Servers that are gone, and whose memory of GPUs has not come back yet."""
    told: dict[str, tuple[Told, ...]] = field(default_factory=dict)
    """What llama-fit-params answered, of the last few questions; empty for no answer."""

    servers: dict[str, Server] = field(default_factory=dict)
    """In the order of their start."""
    motions: dict[str, Motion] = field(default_factory=dict)
    at_work_until: dict[str, float] = field(default_factory=dict)
    """[monotonic s] Of servers that were seen to answer on a port of their own; by server id."""
    promises: dict[str, Promise] = field(default_factory=dict)
    """By server id."""
    jobs: list[Job] = field(default_factory=list)
    unloadings: list[Unloading] = field(default_factory=list)
    deaths: dict[str, Deaths] = field(default_factory=dict)
    last_records: dict[str, LaunchRecord] = field(default_factory=dict)
    """Model id -> what its server was started with last, to start it again."""
    last_keep_alives: dict[str, float] = field(default_factory=dict)
    """Model id -> how long requests wanted its last server kept; for the next one after a death."""
    last_words: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Model id -> the last log lines of its last server that is gone; of a few models."""

    waiters: dict[str, Waiter] = field(default_factory=dict)
    deferred: list[LoadAsked | HistoryAsked] = field(default_factory=list)
    """Requests that came before the first look at the disks, or at the engine."""
    naming: Naming = field(default_factory=Naming)
    """What every name means, as it was last asked for: `choosing.naming_of` says it as it is."""
    named_by: tuple[object, ...] = ()
    """What it was made of."""
    routes: Routes = field(default_factory=lambda: Routes(problem=LOOKING))
    limits: tuple[Row, ...] = ()
    """The user's own table of what models can do."""
    config_origins: dict[str, str] = field(default_factory=dict)
    """Key -> where it was set; what is not there is built in."""
    config_notes: tuple[str, ...] = ()
    """What was set and has no effect."""
    on_config: list[Callable[[Config], object]] = field(default_factory=list)
    """Called with every new configuration: for the doors, which read their own part."""
    when_published: list[Callable[[], object]] = field(default_factory=list)
    """Called once, when the routes show what the world is by now: some turns later, or at once."""
    on_load_failed: list[Callable[[str, ModeldError], object]] = field(default_factory=list)
    """Called with a model's id when a load of it is refused, fails or is given up."""
    gateway_addresses: tuple[str, ...] = ()
    present: Callable[[], tuple[int, int]] = lambda: (0, 0)
    """Returns the gateway's connections, and the requests in it that wait for a load."""
    started_at: float = field(init=False)
    pid: int = 0
    """Of modeld."""
    stopping: bool = False
    done: bool = False

    def __post_init__(self) -> None:
        self.started_at = self.ports.clock.monotonic()

    @property
    def problem(self) -> str:
        """What keeps every model from being loaded, a sentence; empty when nothing does."""
        if self.stopping:
            return "modeld is stopping"
        if not self.surveyed or self.binary is None:
            return LOOKING
        return self.binary.problem

    # --- answering ---------------------------------------------------------------------------

    def answer(self, request_id: str, reply: Struct) -> None:
        """Answer a request; nothing happens when whoever asked has left."""
        waiter = self.waiters.pop(request_id, None)
        if waiter is not None and waiter.future is not None and not waiter.future.done():
            waiter.future.set_result(reply)

    def fail(self, request_id: str, error: ModeldError) -> None:
        """Answer a request with an error."""
        waiter = self.waiters.pop(request_id, None)
        if waiter is not None and waiter.future is not None and not waiter.future.done():
            waiter.future.set_exception(error)

    def tell(self, request_id: str, progress: Progress) -> None:
        """Tell whoever waits how far it is."""
        waiter = self.waiters.get(request_id)
        if waiter is not None and waiter.on_progress is not None:
            waiter.on_progress(progress)

    def defer(self, ask: LoadAsked | HistoryAsked, because: str) -> None:
        """
        Take a request up later, when the disks and the engine are known.

        Raises:
            Busy: Too many wait for that already.
        """
        if len(self.deferred) >= MAX_DEFERRED:
            raise Busy("too many requests wait for the disks already", retry_after_s=1)
        self.deferred.append(ask)
        self.tell(ask.request_id, Progress(phase="queue", text=because))

    def waiter(self, request_id: str) -> Waiter:
        """Return who waits for a request; a stand-in when nobody does any more."""
        return self.waiters.get(request_id) or Waiter()

    # --- looking up --------------------------------------------------------------------------

    def stats_of(self, model_id: str) -> ModelStats:
        """Return what is remembered of a model; an empty record for a new one."""
        return self.state.models.get(model_id) or ModelStats()

    def server_of(self, model_id: str) -> Server | None:
        """Return the server that has, or will have, this model, unless it is leaving."""
        for server in self.servers.values():
            if server.record.model_id == model_id and server.is_routed:
                return server
        return None

    def job_of(self, model_id: str) -> Job | None:
        """Return the load of this model that is under way."""
        return next((job for job in self.jobs if job.want.model_id == model_id), None)

    def job_of_server(self, server_id: str) -> Job | None:
        """Return the load that started this server, while it lasts."""
        return next((job for job in self.jobs if job.server_id == server_id), None)

    def label(self, model_id: str) -> str:
        """Return the short name of a model where it is unique, else its id."""
        name = model_id.rsplit("/", 1)[-1]
        return name if len(self.routes.index.get(name, ())) <= 1 else model_id
