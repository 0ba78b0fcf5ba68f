"""
Every arrow into the supervisor's loop; those of the gateway's requests are in `traffic`.

Host adapters and the front doors make events; only the loop consumes them.  The arrows out are
calls of its ports, which return at once; what comes of them is an event again.
"""

from msgspec import Struct, field

from modeld.core.catalog import Catalog
from modeld.core.entities import Binary, Exit, FoundFile, Origin, Process
from modeld.core.fit import Told
from modeld.core.history import Past
from modeld.core.names import NameChange
from modeld.errors import ModeldError


class Event(Struct, frozen=True):
    """Something that happened."""


# --- what people and programs ask -----------------------------------------------------------


class Selection(Struct, frozen=True, kw_only=True):
    """The words by which somebody means a model; exactly one of the first three is set."""

    pattern: str = ""
    """A nickname, a name, or part of one (`-m`)."""
    nickname: str = ""
    """Exactly this nickname (`-n`)."""
    slot: str = ""
    """The holder of this slot (`-n1`)."""
    best: bool = False
    """Take the top rank without a word (`--rank1`)."""
    only: bool = False
    """Several are an error (`--no-multi-match`)."""
    exact: bool = False
    """Parts of names and globs don't count, and several are an error: a program asks."""
    model_id: str = ""
    """Instead of words: exactly this model, whatever else may have its id for a name."""


class LoadAsked(Event, frozen=True, kw_only=True):
    """Make one model ready."""

    request_id: str
    selection: Selection
    origin: Origin = Origin.OPERATOR
    port: int = 0
    arguments: tuple[str, ...] | None = None
    """For llama-server; None to use what is stored for the model."""
    store: bool = False
    keep_others: bool | None = None
    """`--nokill`; None for the configured default."""
    force: bool = False
    force_pinned: bool = False
    pin: bool = False
    names: NameChange = field(default_factory=NameChange)
    names_only: bool = False
    """`--no-load`: start, stop and signal nothing."""
    dry_run: bool = False
    keep_alive_seconds: float | None = None
    """How long it is to stay when idle; negative for ever, None where nothing is said."""
    context_tokens: int = 0
    """What its server is to have, where this starts one and no argument says it; 0 for as usual."""
    by_program: bool = False
    """Not throttled, and content with what runs already where it names no arguments."""


class CancelAsked(Event, frozen=True, kw_only=True):
    """Give up a load that an earlier request began."""

    request_id: str
    load_request_id: str


class UnloadAsked(Event, frozen=True, kw_only=True):
    """Stop servers."""

    request_id: str
    selections: tuple[Selection, ...] = ()
    everything: bool = False
    force_pinned: bool = False
    now: bool = False
    """Do not wait for requests in flight."""
    idle: bool = False
    """What is idle for longer than its time; nothing where idle models stay."""


class VerdictAsked(Event, frozen=True, kw_only=True):
    """Tell whether a model could be loaded now, beside what runs."""

    request_id: str
    selection: Selection


class ServersAsked(Event, frozen=True, kw_only=True):
    """Say which servers there are, and how long they stay."""

    request_id: str


class NamesAsked(Event, frozen=True, kw_only=True):
    """Change names without loading anything."""

    request_id: str
    selection: Selection
    change: NameChange


class PinAsked(Event, frozen=True, kw_only=True):
    """Promise never to unload a model, or take the promise back."""

    request_id: str
    selection: Selection
    pinned: bool


class HistoryAsked(Event, frozen=True, kw_only=True):
    """Take over what another program remembers of models."""

    request_id: str
    records: tuple[Past, ...] = ()
    arguments: tuple[str, ...] = ()
    """For every server: only whether they could be passed on is told."""
    dry_run: bool = False


class CacheAsked(Event, frozen=True, kw_only=True):
    """Change something about the SSD."""

    request_id: str
    action: str
    """`promote`, `evict`, `pause`, `resume`, `cancel` or `verify`."""
    selection: Selection | None = None
    dry_run: bool = False


class ReloadAsked(Event, frozen=True, kw_only=True):
    """Read the configuration again."""

    request_id: str = ""
    """Empty when a signal asked."""


class WaiterLeft(Event, frozen=True, kw_only=True):
    """Whoever waited for a request went away; what it began goes on."""

    request_id: str


class UsageAsked(Event, frozen=True, kw_only=True):
    """Tell what requests cost, for people or for machines that watch."""

    request_id: str
    measures: bool = False
    """All that is measured, since modeld started; else the sums that are kept."""


# --- what the machine says ------------------------------------------------------------------


class FilesFound(Event, frozen=True, kw_only=True):
    """A scan saw these files, all that there are below the configured folders."""

    files: tuple[FoundFile, ...]
    catalog: Catalog
    """The models that the files are: made by whoever scanned, for it takes its time."""
    problems: tuple[str, ...] = ()
    """Folders that could not be read, one sentence each."""
    header_reads: int = 0
    seconds: float = 0.0


class FolderChanged(Event, frozen=True, kw_only=True):
    """Something below a model folder changed, or changes may have been missed."""

    tier: str
    reason: str = ""


class ServerStarted(Event, frozen=True, kw_only=True):
    """The process exists."""

    server_id: str
    process: Process


class ServerLoading(Event, frozen=True, kw_only=True):
    """A state line, or another sign that loading goes on."""

    server_id: str
    stage: str = ""
    fraction: float = 0.0


class ServerReady(Event, frozen=True, kw_only=True):
    """It answered `/health`."""

    server_id: str
    context_tokens: int = 0


class ServerExited(Event, frozen=True, kw_only=True):
    """The process is gone, or never was."""

    server_id: str
    exit: Exit


class SlotsSeen(Event, frozen=True, kw_only=True):
    """What a server says of its work; equal marks mean that nothing moved in between."""

    server_id: str
    mark: str
    """Empty when it did not answer."""
    is_busy: bool = False


class MemoryMeasured(Event, frozen=True, kw_only=True):
    """Memory of a server's process."""

    server_id: str
    resident_bytes: int
    """All that is in memory, with what it maps of files."""
    private_bytes: int = 0
    """The part of it that is no file's; 0 where that isn't known."""
    gpu_bytes: tuple[int, ...] = ()
    """On each GPU; empty where nobody tells."""


class GpusFreed(Event, frozen=True, kw_only=True):
    """A server's memory of GPUs came back, or was waited for long enough."""

    server_id: str


class NeedTold(Event, frozen=True, kw_only=True):
    """llama-fit-params answered a question about a model, or did not."""

    key: str
    told: tuple[Told, ...] = ()


class CopyMoved(Event, frozen=True, kw_only=True):
    """A copy to the SSD has come this far; a few times a second at most."""

    copy_id: str
    copied_bytes: int
    total_bytes: int
    rate_bytes_per_s: float
    read_bytes: int = 0
    """How far its source is read and in the page cache; 0 where its pages were not all kept."""


class PagesRead(Event, frozen=True, kw_only=True):
    """A model is being read into the page cache, ahead of its server."""

    read_id: str
    read_bytes: int
    total_bytes: int
    is_over: bool = False
    """Nothing more will be read, whether or not all was."""


class CopyEnded(Event, frozen=True, kw_only=True):
    """A copy is published, or nothing of it is left."""

    copy_id: str
    error: str = ""
    """Empty when it is published; else one sentence."""
    reason: str = "done"
    """`done`, `cancelled`, or a word for what went wrong: those of `CopyFailed`."""
    seconds: float = 0.0


class FilesRemoved(Event, frozen=True, kw_only=True):
    """A model's files on the SSD were removed, or could not be."""

    model_id: str
    freed_bytes: int
    error: str = ""


class CopiesVerified(Event, frozen=True, kw_only=True):
    """Copies were read again; paths are relative to the folder."""

    folder: str
    intact: tuple[str, ...] = ()
    damaged: tuple[str, ...] = ()
    """Not what modeld wrote: not to be served, and to be removed."""
    error: str = ""
    """What kept the others from being read."""


class SpaceMeasured(Event, frozen=True, kw_only=True):
    """What a tier's file system has."""

    tier: str
    total_bytes: int
    free_bytes: int
    problem: str = ""
    """Why nothing can be written there: missing, read-only, not a folder; empty when it can."""


class BinaryProbed(Event, frozen=True, kw_only=True):
    """The configured llama-server was asked for its options."""

    binary: Binary


class StateSaved(Event, frozen=True, kw_only=True):
    """That generation is on the disk, synced."""

    generation: int


class StateNotSaved(Event, frozen=True, kw_only=True):
    """The disk refused that generation; the file before it is intact."""

    generation: int
    reason: str


class ConfigRead(Event, frozen=True, kw_only=True):
    """The configuration files were read again."""

    request_id: str
    config: object | None
    """A `modeld.config.schema.Config`; None when it is invalid (core does not import config)."""
    origins: dict[str, str] = {}
    """Key -> where it was set."""
    notes: tuple[str, ...] = ()
    """What was set and has no effect."""
    changed: tuple[str, ...] = ()
    """What else is new than its keys: a sentence each."""
    error: ModeldError | None = None


class Tick(Event, frozen=True, kw_only=True):
    """Time passed; once a second."""


class StopAsked(Event, frozen=True, kw_only=True):
    """The daemon is to end."""

    leave_servers: bool
    """Whether the servers go on, for the next daemon to adopt."""
