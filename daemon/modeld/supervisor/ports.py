"""
What the supervisor needs of the machine, and nothing about how it is done.

Each port is small enough to be faked in a test in a few lines.  Calls without `await` return at
once; what comes of them arrives in the loop's queue as an event, through the `emit` function
that the adapter was built with.  `emit` must be called in the loop's thread.
"""

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from msgspec import Struct, field

from modeld.core.entities import Binary, Found, LaunchRecord, Machine, State
from modeld.core.events import Event
from modeld.wire.daemon import Happened

Emit = Callable[[Event], None]


class Clock(Protocol):
    """Time, two kinds of it."""

    def now(self) -> float:
        """Return the wall clock.  [unix s] For people and for files."""

    def monotonic(self) -> float:
        """Return time that never jumps.  [s] For durations and deadlines."""


class Servers(Protocol):
    """Starts, ends and finds llama-server processes."""

    kind: str
    """`systemd` or `direct`."""

    def start(self, record: LaunchRecord) -> None:
        """Write the record, synced, and start it: `ServerStarted`, later `ServerExited`."""

    def stop(self, server_id: str) -> None:
        """Ask it to end, by the exit line and SIGTERM; `ServerExited` follows, or not."""

    def kill(self, server_id: str) -> None:
        """End it and all its children by SIGKILL."""

    def forget(self, server_id: str) -> None:
        """Remove what is left of a server that is gone.  Idempotent."""

    async def find(self) -> Sequence[Found]:
        """
        Return every server that an earlier daemon left, and watch those that live.

        Processes without a record are stopped, and not returned.
        """

    async def log_lines(self, server_id: str, count: int) -> Sequence[str]:
        """Return its last log lines, oldest first; empty where none can be read."""

    def follow_log(self, server_id: str, backlog: int) -> AsyncGenerator[tuple[str, ...], None]:
        """
        Give its last log lines, then all that it writes, as it comes, until this is closed.

        Where nothing came for a second, nothing is given: an empty tuple.
        """

    async def close(self) -> None:
        """Let go of everything and leave the processes running."""


class Probe(Protocol):
    """Looks at running servers from outside."""

    def watch(self, record: LaunchRecord) -> None:
        """Follow one until it is ready: `ServerLoading`, then `ServerReady`."""

    def unwatch(self, server_id: str) -> None:
        """Stop following.  Idempotent."""

    def look_at_slots(self, server_id: str, socket_path: str) -> None:
        """Ask what it works on: `SlotsSeen`."""

    def measure_memory(self, server_id: str, pid: int) -> None:
        """Measure its resident memory: `MemoryMeasured`."""

    async def close(self) -> None:
        """Stop following everything."""


class Loaded(Struct, frozen=True, kw_only=True):
    """The state as the disk had it."""

    state: State
    problems: tuple[str, ...] = ()
    """What was wrong with it and what was done about that, one sentence each."""
    read_only: bool = False
    """A newer modeld wrote it: it is used, and never overwritten."""


class Store(Protocol):
    """Keeps the state."""

    def load(self) -> Loaded:
        """Read the state; a damaged file is set aside, and the one before it used."""

    def save(self, state: State) -> None:
        """Write it in the background, synced: `StateSaved` or `StateNotSaved`."""

    async def close(self) -> None:
        """Wait for the last write.  Bounded."""


class Folder(Struct, frozen=True, kw_only=True):
    """One model folder."""

    tier: str
    """`ssd`, `hdd1`, `hdd2`, ..."""
    path: str


class Scanner(Protocol):
    """Finds model files."""

    def scan(self, folders: Sequence[Folder]) -> None:
        """Look at every file below: `FilesFound`.  A call during a scan makes it run once more."""

    async def close(self) -> None:
        """Give up a scan that runs."""


class Watcher(Protocol):
    """Notices that model folders changed."""

    def watch(self, folders: Sequence[Folder]) -> Sequence[str]:
        """Watch these and no others; return a sentence for each that can't be watched."""

    async def close(self) -> None:
        """Stop watching."""


class CopyFile(Struct, frozen=True, kw_only=True):
    """One file of a copy."""

    source_path: str
    relative_path: str
    """Where it will be, POSIX, below the target folder."""
    size_bytes: int
    mtime_ns: int
    """As the catalogue saw it: a file that has changed since is not copied."""


class CopyOrder(Struct, frozen=True, kw_only=True):
    """Copy one model, all of its files, to another tier."""

    copy_id: str
    model_id: str
    files: tuple[CopyFile, ...]
    """Shards and mmproj, the first shard first; they become visible as a set, that one last."""
    target_path: str
    """The tier's folder."""
    min_free_bytes: int
    """What has to be left free there."""
    rate_limit_bytes_per_s: int = 0
    """0 for none."""
    urgent: bool = False
    """Somebody waits for these pages (the tee): read at full speed, keep them in the page cache."""


class Copier(Protocol):
    """Copies models between tiers, and removes copies that modeld made."""

    def start(self, order: CopyOrder) -> None:
        """Begin: `CopyMoved` now and then, `CopyEnded` once.  One reader a disk; others queue."""

    def make_urgent(self, copy_id: str) -> None:
        """Somebody waits for it now: full speed, and the pages stay in the cache."""

    def pause(self, copy_id: str) -> None:
        """Stop after the present chunk, and keep what is there."""

    def resume(self, copy_id: str) -> None:
        """Go on."""

    def cancel(self, copy_id: str) -> None:
        """Give it up; nothing of it stays.  Idempotent."""

    def yield_to_load(self, path: str, busy: bool) -> None:
        """A server loads `path` (or is done): background copies from its disk hold still."""

    def remove(self, model_id: str, folder: str, paths: Sequence[str]) -> None:
        """Remove copies below `folder`, only those that modeld made: `FilesRemoved`."""

    def is_ours(self, folder: str, path: str) -> bool:
        """Whether modeld made this copy (asked of what `survey` read; touches no disk)."""

    def is_verified(self, folder: str, path: str) -> bool:
        """Whether a copy may be used unread; False after the machine went down without a word."""

    def verify(self, folder: str, paths: Sequence[str], urgent: bool) -> None:
        """Read copies again, into the page cache when `urgent`: `CopiesVerified`."""

    def survey(self, folder: Folder) -> None:
        """Measure a tier, discard leftovers of copies: `SpaceMeasured`."""

    async def close(self) -> None:
        """Stop all copies; what was written stays for the next daemon to resume or discard."""


class PageCache(Protocol):
    """Brings files into the page cache."""

    def read(self, read_id: str, paths: Sequence[str], most_bytes: int) -> None:
        """Read these files, unless they are larger than that together: `PagesRead`."""

    def stop(self, read_id: str) -> None:
        """Read no further.  Idempotent."""

    async def close(self) -> None:
        """Stop all reading."""


class Hardware(Protocol):
    """What this machine has."""

    def machine(self) -> Machine:
        """Return memory sizes now."""

    def probe_binary(self, wanted: str) -> None:
        """Find llama-server and ask for its options, cached by file: `BinaryProbed`."""

    def await_gpus(self, server_id: str, used_bytes: Sequence[int]) -> None:
        """Wait until no more than that is used of each GPU, or for some seconds: `GpusFreed`."""


class Estimator(Protocol):
    """Knows what models would take, from the engine itself."""

    def ask(self, key: str, words: Sequence[str]) -> None:
        """Ask by this command, cached by key: `NeedTold`."""

    async def close(self) -> None:
        """End what was asked."""


class NoEstimator:
    """Knows nothing."""

    def ask(self, key: str, words: Sequence[str]) -> None:
        """Do nothing: no answer comes."""

    async def close(self) -> None:
        """Do nothing."""


class Journal(Protocol):
    """Says what was done."""

    def record(self, event: str, message: str, *, priority: int = 6, **fields: str | float) -> None:
        """Log one committed event.  Field names as in modeld(8), lower case, without the prefix."""

    def recent(self, count: int) -> Sequence[Happened]:
        """Return the last events, oldest first."""

    def subscribe(self, listener: Callable[[Happened], None]) -> Callable[[], None]:
        """Have `listener` called with every event from now on; returns what ends that."""


class Notify(Protocol):
    """Talks to the service manager."""

    def ready(self) -> None:
        """Say that modeld serves."""

    def status(self, text: str) -> None:
        """Set the line that `systemctl status` shows."""

    def reloading(self) -> None:
        """Say that the configuration is being read; `ready` ends it."""

    def stopping(self) -> None:
        """Say that modeld ends."""

    def watchdog(self) -> None:
        """Say that the loop makes progress."""


class Ports(Struct, frozen=True, kw_only=True):
    """All ports together."""

    clock: Clock
    servers: Servers
    probe: Probe
    store: Store
    scanner: Scanner
    watcher: Watcher
    copier: Copier
    page_cache: PageCache
    hardware: Hardware
    estimator: Estimator = field(default_factory=NoEstimator)
    journal: Journal
    notify: Notify


def no_binary(problem: str) -> Binary:
    """Return a binary that cannot be used, and says why."""
    return Binary(argv=(), problem=problem)
