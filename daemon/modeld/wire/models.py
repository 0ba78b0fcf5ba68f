"""Messages that only look: list, show, ps, status."""

from typing import Annotated

from msgspec import Meta, Struct

from modeld.wire.common import Selector, Word


class ListModels(Struct, frozen=True, kw_only=True, tag="list", forbid_unknown_fields=True):
    """Ask for the models on disk.  Reply: `Models`."""

    patterns: Annotated[tuple[Word, ...], Meta(max_length=64)] = ()
    refresh: bool = False
    """Look at the disks first."""


class ModelRow(Struct, frozen=True, kw_only=True):
    """One model on disk."""

    name: str
    """Short where that is unique, else the id."""
    id: str
    nicknames: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    tiers: tuple[str, ...] = ()
    """In look-up order; empty when the file is gone and only its history is left."""
    size_bytes: int = 0
    quantisation: str = ""
    parameters: int = 0
    context_tokens: int = 0
    architecture: str = ""
    rank: float = 0.0
    uses: int = 0
    last_used: str = ""
    """RFC 3339, UTC."""
    state: str = ""
    """Of its server; empty when it is not loaded."""
    pinned: bool = False
    path: str = ""
    problem: str = ""
    """Why it can't be loaded."""
    wanted_on_ssd: bool = False
    """It is on a slow tier only, and its use warrants a copy on the SSD."""


class Models(Struct, frozen=True, kw_only=True, tag="models"):
    """The models on disk, lowest rank first."""

    models: tuple[ModelRow, ...]
    warnings: tuple[str, ...] = ()
    scanning: bool = False
    has_hdd: bool = True
    """Whether any slow tier is configured; without one, "on the SSD only" is no news."""


class Show(Struct, frozen=True, kw_only=True, tag="show", forbid_unknown_fields=True):
    """Ask for everything about one model.  Reply: `Shown`."""

    selector: Selector


class Shown(Struct, frozen=True, kw_only=True, tag="shown"):
    """Everything about one model."""

    model: ModelRow
    locations: tuple[dict[str, str | int], ...]
    header: dict[str, str | int | float | bool]
    arguments: tuple[str, ...] = ()
    need_bytes: int = 0
    need_source: str = ""
    """Where the figure is from: measured, configured, fit-params, header or size."""
    need_gpu_bytes: tuple[int, ...] = ()
    """On each GPU, besides `need_bytes`."""
    need_parts: dict[str, int] = {}
    """What it is made of: weights, cache, compute, process, projector, draft; wherever that is."""
    runtime_seconds: float = 0.0
    rank_terms: dict[str, float] = {}
    argv: tuple[str, ...] = ()
    """Of its server, or of the one that `load` would start."""
    unit: str = ""
    request: tuple[str, ...] = ()
    """What is changed in every request for it, in words."""
    variants: dict[str, tuple[str, ...]] = {}
    """Further names of it -> what is changed in their requests."""


class Ps(Struct, frozen=True, kw_only=True, tag="ps", forbid_unknown_fields=True):
    """Ask for the servers.  Reply: `Servers`."""


class ServerRow(Struct, frozen=True, kw_only=True):
    """One server."""

    server_id: str
    name: str
    id: str
    nicknames: tuple[str, ...] = ()
    slots: tuple[str, ...] = ()
    state: str
    fraction: float = 0.0
    stage: str = ""
    pid: int = 0
    port: int = 0
    socket: str = ""
    tier: str = ""
    context_tokens: int = 0
    memory_bytes: int = 0
    gpu_bytes: tuple[int, ...] = ()
    """On each GPU; empty where none is used."""
    measured: bool = False
    """Whether `memory_bytes` was measured."""
    in_flight: int = 0
    idle_seconds: float = 0.0
    left_seconds: float | None = None
    """Until it is unloaded if nobody asks it, or, while it answers, after that; null for never."""
    stays_because: str = ""
    """What says how long it may be idle."""
    up_seconds: float = 0.0
    pinned: bool = False
    adopted: bool = False
    uses: int = 0
    cause: str = ""
    """Why it stops or failed."""


class Servers(Struct, frozen=True, kw_only=True, tag="servers"):
    """The servers, in the order they were started."""

    servers: tuple[ServerRow, ...]
    failed: tuple["FailedRow", ...] = ()


class FailedRow(Struct, frozen=True, kw_only=True):
    """A model whose server died, and what modeld does about it."""

    name: str
    id: str
    deaths: int
    retry_in_s: float
    """0 when modeld has given up until it is asked."""
    cause: str


class AskStatus(Struct, frozen=True, kw_only=True, tag="status", forbid_unknown_fields=True):
    """Ask how everything is, or, with a selector, how one model is.  Reply: `StatusReport`."""

    selector: Selector | None = None


class LoadedModel(Struct, frozen=True, kw_only=True):
    """One loaded model, in the keys of S4-13."""

    name: str
    ram_gb: float
    provider: str
    idle_seconds: float
    state: str = "ready"
    pinned: bool = False


class GpuRow(Struct, frozen=True, kw_only=True):
    """One GPU that the engine uses."""

    name: str
    total_bytes: int
    """What models may take of it together."""
    booked_bytes: int
    """What they hold, or were promised."""
    in_use_bytes: int
    """By everything on the machine."""


class StatusReport(Struct, frozen=True, kw_only=True, tag="status-report"):
    """How everything is."""

    total_ram_gb: float
    used_ram_gb: float
    available_ram_gb: float
    loaded_models_count: int
    local_models_count: int
    loaded_models: tuple[LoadedModel, ...]
    version: str
    pid: int
    up_seconds: float
    launcher: str
    """`systemd` or `direct`."""
    binary: str
    binary_version: str
    gateway: tuple[str, ...]
    models_on_disk: int
    scanning: bool
    disk_bytes: dict[str, int]
    """Tier -> bytes of models there."""
    saved: str = ""
    """Empty while the state file is up to date; else since when and why it is not."""
    gpus: tuple[GpuRow, ...] = ()
    warnings: tuple[str, ...] = ()
    copying: tuple[str, ...] = ()
    """A sentence for each copy to the SSD that is under way."""
    copied_bytes: int = 0
    """Written to the SSD since modeld counts."""
    expiries: int = 0
    regretted_expiries: int = 0
    key_file: str = ""
    """Where the gateway's keys are; empty where it needs none."""
    families: tuple[str, ...] = ()
    """Whose clients the gateway serves, as `gateway.compat` names them; empty where unsaid."""
    exists: bool | None = None
    """The next three only for one model (S1-09)."""
    loaded: bool | None = None
    last_used: str | None = None
