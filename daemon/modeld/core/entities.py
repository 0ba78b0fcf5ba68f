"""
The things that modeld knows about: models on disk, servers that run, what people said of them.

Frozen values only.  Whoever wants a changed one makes a new one with `msgspec.structs.replace`.
Nothing here decides, and nothing here touches the machine.
"""

from datetime import datetime
from enum import StrEnum
from itertools import zip_longest

from msgspec import Struct, field

from modeld.core.shapes import Measurement, Recurrence
from modeld.core.usage import Totals


class Header(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """
    What a GGUF says of itself, as far as modeld needs it.

    Source: the keys `general.*`, `ARCH.*`, `tokenizer.*` and `split.*` of the GGUF format;
    zero or empty where the file does not say.
    """

    architecture: str = ""
    name: str = ""
    size_label: str = ""
    parameters: int = 0
    """Elements of all tensors."""
    quantisation: str = ""
    """As in file names: `Q4_K_M`, `F16`."""
    context_tokens: int = 0
    layers: int = 0
    embedding: int = 0
    feed_forward: int = 0
    """The widest layer's."""
    feed_forwards: tuple[int, ...] = ()
    """One number a layer, where they differ."""
    heads: int = 0
    kv_heads: tuple[int, ...] = ()
    """One number for all layers, or one a layer."""
    key_length: int = 0
    value_length: int = 0
    sliding_window: int = 0
    sliding_period: int = 0
    """Every so many layers one sees everything; 0 where the file does not say."""
    sliding_layers: tuple[bool, ...] = ()
    """Which layers have the window, where the file says it of each."""
    sliding_key_length: int = 0
    sliding_value_length: int = 0
    """Of layers with the window, where they differ from the others."""
    shared_kv_layers: int = 0
    """The last layers, which use the cache of others."""
    prediction_layers: int = 0
    """The last layers, which predict further tokens: llama.cpp keeps no cache for them."""
    is_latent: bool = False
    """Attention caches one compressed vector a token (MLA), and no values beside it."""
    indexer_key_length: int = 0
    """Of the keys by which sparse attention chooses; 0 for none."""
    recurrence: Recurrence = Recurrence()
    vocabulary: int = 0
    experts: int = 0
    experts_used: int = 0
    expert_feed_forward: int = 0
    expert_bytes: int = 0
    """The part of `tensor_bytes` that is experts' weights."""
    embedding_bytes: int = 0
    """The part of it that is the table of tokens, which stays in the machine's memory."""
    tokenizer: str = ""
    has_chat_template: bool = False
    has_tool_template: bool = False
    """The chat template speaks of tools."""
    kind: str = "model"
    """`general.type`: model, adapter, mmproj, ..."""
    tensor_count: int = 0
    tensor_bytes: int = 0
    extent_bytes: int = 0
    """How long the file must be to hold its header and every tensor."""
    shard_count: int = 1
    shard_index: int = 0
    """From 0, `split.no`."""


class FoundFile(Struct, frozen=True, kw_only=True):
    """One GGUF file that a scan saw."""

    tier: str
    path: str
    relative_path: str
    """POSIX path below the tier's folder."""
    size_bytes: int
    mtime_ns: int
    device: int = 0
    inode: int = 0
    header: Header | None = None
    """None where the file cannot be used; `problem` says why."""
    problem: str = ""


class Location(Struct, frozen=True, kw_only=True):
    """Where one copy of a model lies."""

    tier: str
    path: str
    """The file to give to llama-server: the only one, or the first shard."""
    shard_paths: tuple[str, ...]
    """All files of this copy, `path` first."""
    mmproj_path: str = ""
    size_bytes: int
    mtime_ns: int
    stamps: tuple[tuple[int, int], ...] = ()
    """Bytes and modification time [ns] of each of `shard_paths`, then of `mmproj_path`."""


class Model(Struct, frozen=True, kw_only=True):
    """One GGUF, with its shards and mmproj, whatever disk its copies are on."""

    id: str
    """The path below its tier without `.gguf` and shard number; unique, the key of its state."""
    name: str
    """The last part of the id: what people type."""
    aliases: tuple[str, ...] = ()
    """Ids that its other copies would have."""
    size_bytes: int
    """Of one copy: all shards, without the mmproj."""
    header: Header
    locations: tuple[Location, ...]
    """In look-up order: the SSD, then the HDDs as configured.  Never empty."""

    @property
    def location(self) -> Location:
        """The copy to serve from."""
        return self.locations[0]


class ModelStats(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is remembered of one model, whether or not its file is there today."""

    total_uses: int = 0
    last_used: datetime | None = None
    use_timestamps: tuple[datetime, ...] = ()
    """The last 100 loads, oldest first, UTC."""
    use_runtimes_seconds: tuple[float, ...] = ()
    """How long each of them ran, in the same order; 0 while it runs."""
    total_runtime_seconds: float = 0.0
    last_runtime_seconds: float = 0.0
    imported_uses: int = 0
    """The part of `total_uses` that another program had counted."""
    imported_runtime_seconds: float = 0.0
    """The part of `total_runtime_seconds` that it had."""
    arguments: tuple[str, ...] = ()
    """llama-server arguments kept by `load --store`."""
    measured_bytes: int = 0
    """The newest of `measured`, as version 0.1 knows it: for a return to that."""
    measured_file_bytes: int = 0
    measured_context_tokens: int = 0
    measured: tuple[Measurement, ...] = ()
    """What earlier loads were seen to use, the newest last; a few of them."""


class Wear(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the SSD has cost so far."""

    copied_bytes: int = 0
    copies: int = 0
    expiries: int = 0
    regretted_expiries: int = 0
    """Models that were loaded again within a week of their expiry."""
    expired_at: dict[str, datetime] = field(default_factory=dict)
    """Model id -> its last expiry, for a week."""


class Kept(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a daemon has to know of a server that the one before it started."""

    last_used_at: float = 0.0
    """[monotonic s] Of the boot that the server belongs to."""
    keep_alive_seconds: float | None = None


class State(Struct, frozen=True, kw_only=True):
    """All that outlives the daemon, one file (`stats.json`)."""

    version: int = 1
    generation: int = 0
    """Grows by one a save."""
    models: dict[str, ModelStats] = field(default_factory=dict)
    nicknames: dict[str, str] = field(default_factory=dict)
    """nickname -> model id."""
    slots: dict[str, str] = field(default_factory=dict)
    """slot -> model id."""
    pins: tuple[str, ...] = ()
    """Model ids."""
    last_loads: dict[str, datetime] = field(default_factory=dict)
    """Port (`gateway` or a number) -> the last operator load there: the throttle's clock."""
    closed_servers: tuple[str, ...] = ()
    """The last servers whose run time is counted, so that a crash cannot count one twice."""
    counted_seconds: dict[str, float] = field(default_factory=dict)
    """Server id -> the part of its run time that is in its model's total already."""
    wear: Wear = Wear()
    usage: dict[str, Totals] = field(default_factory=dict)
    """Model id -> what its requests cost."""
    kept: dict[str, Kept] = field(default_factory=dict)
    """Server id -> when it was used last, and how long requests want it kept."""


class ServerState(StrEnum):
    """Where a llama-server is in its life; `core.lifecycle` holds the table."""

    STARTING = "starting"
    """The launch record is written; no process is known yet."""
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    """It finishes what it answers, gets nothing new, and is stopped then."""
    STOPPING = "stopping"
    """Asked to stop."""
    KILLING = "killing"
    """It did not listen, and was killed."""
    UNREAPABLE = "unreapable"
    """Killed and still there: a dead disk or driver holds it.  Its memory stays booked."""
    GONE = "gone"


class Origin(StrEnum):
    """Who asked for a load."""

    OPERATOR = "operator"
    GATEWAY = "gateway"


class LaunchRecord(Struct, frozen=True, kw_only=True):
    """
    Everything that starts one llama-server, and later recognises it.

    Written, and synced, before the process is asked for; read by the launcher and by the next
    daemon.  One JSON file a server.
    """

    version: int = 1
    server_id: str
    """16 of [a-z0-9]; also the unit's instance name."""
    model_id: str
    model_name: str
    model_path: str
    tier: str
    argv: tuple[str, ...]
    """argv[0] is an absolute path.  Nothing expands it."""
    environment: dict[str, str]
    """The whole environment of the process."""
    socket_path: str
    stdin_path: str
    """A FIFO that the server holds open itself, so that its stdin never ends."""
    stdout_path: str
    """A FIFO for its state lines."""
    log_path: str
    """Where the direct launcher sends stderr; the journal has it under systemd."""
    port: int = 0
    """An extra loopback TCP listener; 0 for none."""
    arguments: tuple[str, ...] = ()
    """What the person and the configuration asked for, for comparison."""
    one_off: tuple[str, ...] | None = None
    """The part of them that this load alone asked for; None for what is stored."""
    origin: Origin = Origin.OPERATOR
    need_bytes: int = 0
    need_gpu_bytes: tuple[int, ...] = ()
    """On each GPU."""
    context_tokens: int = 0
    created_at: datetime
    boot_id: str = ""
    file_mark: str = ""
    """What told the model's file from another in its place; empty in records of older daemons."""


class Process(Struct, frozen=True, kw_only=True):
    """One living process, so identified that a reused pid cannot be taken for it."""

    pid: int
    start_ticks: int
    """Field 22 of /proc/PID/stat."""
    boot_id: str = ""


class Exit(Struct, frozen=True, kw_only=True):
    """How a server ended."""

    how: str = "exited"
    """`exited`, `signalled`, `oom-kill`, `not-started` or `unknown` (nobody watched)."""
    code: int = 0
    """Exit status or signal number."""
    detail: str = ""
    """Why it could not be started, where that is what happened."""
    lines: tuple[str, ...] = ()
    """Its last error lines."""
    ended_at: datetime | None = None
    """Where known: it may have ended before the daemon looked."""


class Found(Struct, frozen=True, kw_only=True):
    """A launch record that a starting daemon met, and what became of its process."""

    record: LaunchRecord
    process: Process | None
    """None where it is gone; `exit` then says how."""
    exit: Exit | None = None


class Server(Struct, frozen=True, kw_only=True):
    """One llama-server as the supervisor sees it."""

    record: LaunchRecord
    state: ServerState = ServerState.STARTING
    process: Process | None = None
    stage: str = ""
    """What it loads now: `text_model`, `mmproj_model`, ..."""
    fraction: float = 0.0
    ready_at: float = 0.0
    """[monotonic s] When it was ready first, for this daemon; 0 before."""
    last_used_at: float = 0.0
    """[monotonic s] The end of its last request, or the moment it became ready."""
    asked_at: float = 0.0
    """[monotonic s] The start of its last request."""
    keep_alive_seconds: float | None = None
    """How long the last request that said so wants it kept when idle; negative for ever."""
    in_flight: int = 0
    resident_bytes: int = 0
    """Measured, with the weights that it uses from the page cache; 0 when not yet."""
    first_bytes: int = 0
    """What was measured first when it was ready; 0 when not yet, or when nobody saw that."""
    copied_bytes: int = 0
    """The weights that it had in memory of its own then, and not in the page cache alone."""
    gpu_bytes: tuple[int, ...] = ()
    """Measured, on each GPU; empty when not yet, or where nobody tells."""
    context_tokens: int = 0
    deadline: float = 0.0
    """[monotonic s] When the present state has lasted too long; 0 for never."""
    stopping_because: str = ""
    """Why it was asked to stop; empty when it was not."""
    adopted: bool = False

    @property
    def id(self) -> str:
        """The server's id."""
        return self.record.server_id

    @property
    def is_routed(self) -> bool:
        """Whether requests for the model wait for this server, or go to it."""
        return self.state in (ServerState.STARTING, ServerState.LOADING, ServerState.READY)

    @property
    def booked_bytes(self) -> int:
        """The memory to count for it: what was measured, or what it was expected to need."""
        return max(self.resident_bytes, self.record.need_bytes)

    @property
    def booked_gpu_bytes(self) -> tuple[int, ...]:
        """The same on each GPU."""
        pairs = zip_longest(self.gpu_bytes, self.record.need_gpu_bytes, fillvalue=0)
        return tuple(max(pair) for pair in pairs)


class Binary(Struct, frozen=True, kw_only=True):
    """One llama-server program, as its own `--help` and `--version` describe it."""

    argv: tuple[str, ...]
    """How to start it; more than one word for the embedded engine."""
    version: str = ""
    flags: dict[str, bool] = field(default_factory=dict)
    """Each spelling of each option -> whether it takes a value."""
    canonical: dict[str, str] = field(default_factory=dict)
    """Each spelling -> the one that stands for all of its meaning: `-c` -> `--ctx-size`."""
    estimator: str = ""
    """The llama-fit-params that belongs to it; empty where there is none."""
    devices: tuple[str, ...] = ()
    """The GPUs that it can use, by its own names: `CUDA0`; empty where it uses none."""
    problem: str = ""
    """Why it can't be used; empty when it can."""


class Gpu(Struct, frozen=True, kw_only=True):
    """One GPU and its own memory."""

    name: str
    total_bytes: int
    used_bytes: int = 0
    """By everything on the machine.  It warns, it never decides."""


class Machine(Struct, frozen=True, kw_only=True):
    """What this machine has."""

    memory_bytes: int
    available_bytes: int = 0
    """What the kernel says is free now.  It warns, it never decides."""
    gpus: tuple[Gpu, ...] = ()
    boot_id: str = ""
