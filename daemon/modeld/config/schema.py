"""
Every key of the configuration, with its type, its bounds and its default.

The one place for defaults: `etc/modeld.toml`, modeld.toml(5) and the code are tested against
it.  Nothing is read here, and no value is checked beyond its own bounds.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct, field

from modeld.core.modes import Mode

Port = Annotated[int, Meta(ge=1, le=65535)]
Seconds = Annotated[float, Meta(ge=0, le=10_000_000)]
Bounded = Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00-\x1f]*\Z")]


class _Section(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file."""


class Storage(_Section, frozen=True, kw_only=True):
    """Where the models are."""

    ssd_path: Bounded = "~/.local/share/modeld/models"
    """The fast tier.  A path that does not exist is warned about, and never created."""
    hdd_paths: tuple[Bounded, ...] = ()
    """The slow tiers, hdd1 first.  Look-up order is SSD, hdd1, hdd2, ..."""
    scan_interval_seconds: Annotated[int, Meta(ge=1)] = 600
    """How often all folders are looked at even when no change was noticed."""


class Parameters(_Section, frozen=True, kw_only=True):
    """What a request may say of how to generate; what is unset says nothing."""

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    """How freely it chooses."""
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Only from the likeliest, which together make up this share."""
    top_k: Annotated[int, Meta(ge=0, le=100_000)] | None = None
    """Only from this many of the likeliest; 0 for all."""
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    """Only from those with this share of the likeliest one's chance."""
    max_tokens: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    """The most that is generated."""
    presence_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    """How much a word counts less that came before at all."""
    frequency_penalty: Annotated[float, Meta(ge=-2, le=2)] | None = None
    """How much a word counts less for each time that it came before."""
    repeat_penalty: Annotated[float, Meta(ge=0, le=2)] | None = None
    """llama.cpp's own penalty for words that came lately; 1 for none."""
    seed: Annotated[int, Meta(ge=-1, le=4_294_967_295)] | None = None
    """The same seed gives the same answer; -1 for another one each time."""
    stop: tuple[Annotated[str, Meta(max_length=4096)], ...] | None = None
    """Where generation ends."""
    enable_thinking: bool | None = None
    """For templates that know it (`chat_template_kwargs`)."""


class Options(Parameters, frozen=True, kw_only=True):
    """Defaults for requests that modeld routes itself."""

    num_ctx: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    """The context to load with, where such a request loads the model."""


class Rewrite(_Section, frozen=True, kw_only=True):
    """What is changed in every request for a model before its server sees it."""

    set: Parameters = Parameters()
    """Put in, whatever the request says."""
    default: Parameters = Parameters()
    """Put in where the request says nothing."""
    strip: tuple[Bounded, ...] = ()
    """Fields that are taken out, before anything is put in."""


class Entry(_Section, frozen=True, kw_only=True):
    """Settings of one model."""

    arguments: tuple[Bounded, ...] = ()
    """llama-server arguments, after the global ones."""
    memory_gb: Annotated[float, Meta(gt=0)] | None = None
    """What it needs, for a model whose need modeld estimates badly."""
    context_tokens: Annotated[int, Meta(ge=1)] | None = None
    """The context to load it with."""
    keep_alive: Bounded = ""
    """How long it stays when idle: `10m`, seconds, 0, or negative for ever; empty for as usual."""
    options: Options = Options()
    """Defaults for requests that routing brings to it."""
    request: Rewrite = Rewrite()
    """What is changed in every request for it."""
    variants: dict[Bounded, Rewrite] = field(default_factory=dict)
    """Further names of it, each with changes of its own."""


class Models(_Section, frozen=True, kw_only=True):
    """Which models, and how many."""

    default: Bounded = ""
    """
    What answers a request that names no model, unless a rule or heuristic does: a nickname, a
    slot, a name or a role; empty for what the default profile chooses.
    """
    max_concurrent_loaded: Annotated[int, Meta(ge=1, le=64)] = 2
    """How many may be loaded at once."""
    preset: Literal["", "aggressive", "balanced", "conservative"] = ""
    """
    Sets three keys that are not set themselves: how many, whether idle ones go, and when:
    3, false, 3600; 2, true, 300; 1, true, 60.
    """
    auto_unload_idle: bool = True
    """Whether a model that nobody uses is unloaded."""
    idle_timeout_seconds: Annotated[float, Meta(ge=0, le=10_000_000)] = 300.0
    """After how long without a request; longer than this, not equal."""
    eviction: Literal["lru", "immediate"] = "lru"
    """`immediate` unloads every idle, unpinned model before the gateway loads another."""
    preload: tuple[Bounded, ...] = ()
    """Loaded when modeld starts, as far as the limits allow."""
    limits_file: Bounded = "~/.config/modeld/limits.toml"
    """What is known of models that their files don't say; it need not be there."""
    entries: dict[Bounded, Entry] = field(default_factory=dict)
    """Settings by model: its id, name or a nickname."""


class KeepAlive(_Section, frozen=True, kw_only=True):
    """Which models stay loaded, and how long the others do."""

    enabled: bool = True
    """Whether `models` and `models.preload` are loaded at the start, and `models` stay."""
    models: tuple[Bounded, ...] = ()
    """Loaded when modeld starts, and never unloaded for being idle."""
    strategy: Literal["", "ram", "ssd", "none"] = ""
    """Instead of models.idle_timeout_seconds: 30 min, 2 min with a copy on the SSD, or none."""


class Load(_Section, frozen=True, kw_only=True):
    """What `modelctl load` does."""

    replace: bool = True
    """Whether a load replaces every other unpinned model.  `--nokill` keeps them once."""


class Reload(_Section, frozen=True, kw_only=True):
    """How often an operator may load."""

    min_reload_seconds: Annotated[int, Meta(ge=0, le=86400)] = 30
    """Between two loads on one port; 0 for no throttle.  The gateway's own loads are free."""


class Memory(_Section, frozen=True, kw_only=True):
    """How much memory models may take."""

    limit_gb: Annotated[float, Meta(gt=0)] | None = None
    """The budget; unset for all of the machine's memory."""
    headroom_mb: Annotated[int, Meta(ge=0)] = 0
    """Kept free out of the budget."""
    vram_limit_gb: Annotated[float, Meta(gt=0)] | None = None
    """The budget on each GPU; unset for all of its memory."""
    vram_headroom_mb: Annotated[int, Meta(ge=0)] = 512
    """Kept free on each GPU: for its driver and for what is shown on the screen."""
    fit_params: bool = True
    """Whether llama-fit-params is asked what a model needs, where it lies beside the engine."""


class Weights(_Section, frozen=True, kw_only=True):
    """The terms of the rank."""

    recent_7d: float = 10.0
    """Points for each use in the last 7 days."""
    recent_30d: float = 3.0
    """Points for each use in the last 30 days."""
    total: float = 0.5
    """Points for each use ever."""
    recency_days: float = 7.0
    """The bonus for a use today; it falls by 1 a day to 0."""
    idle_day: float = 2.0
    """Taken off for each day without use."""


class Rank(_Section, frozen=True, kw_only=True):
    """Which model is worth more."""

    formula: Literal["documented", "legacy"] = "documented"
    """`legacy` is llama-pack's: uses - 2 * idle days, and up to 0.5 for a newer file."""
    runtime_weight: bool = True
    """Whether a long use counts more than a short one."""
    weights: Weights = Weights()


class Cache(_Section, frozen=True, kw_only=True):
    """Which models have a copy on the SSD."""

    policy: Literal["documented", "gain"] = "documented"
    """`documented` counts uses and idle days; `gain` weighs seconds saved against seconds lost."""
    promote_min_uses: Annotated[int, Meta(ge=1, le=100)] = 3
    """The uses within the window that a copy takes (documented)."""
    promote_window_days: Annotated[float, Meta(ge=0, le=3650)] = 7.0
    """The days within which they count."""
    expire_after_days: Annotated[float, Meta(ge=0, le=3650)] = 7.0
    """A copy that is idle for less is not expired (documented)."""
    ssd_min_free_gb: Annotated[float, Meta(ge=0)] = 30.0
    """Kept free on the SSD after any copy."""
    precache: bool = True
    """Whether, after an expiry, another of the best models is copied into what room is left."""
    precache_top: Annotated[int, Meta(ge=1, le=1000)] = 5
    """How many of the highest ranks are looked at for that."""
    victim_weight: Annotated[float, Meta(ge=0, le=100)] = 1.5
    """How much more a second counts that an expiry loses than one that a copy saves (gain)."""
    write_price_seconds_per_gb: Annotated[float, Meta(ge=0, le=1000)] = 3.5
    """The seconds that a written GB has to save in 7 days (gain)."""
    protect_override: Annotated[float, Meta(ge=0, le=100)] = 1.5
    """`victim_weight` of copies idle for less than `expire_after_days`; 0 never expires them."""
    calibration: bool = True
    """Whether forecasts are corrected by how earlier ones turned out (gain)."""
    wear_budget_gb_per_day: Annotated[float, Meta(ge=0)] = 0.0
    """The most that is copied to the SSD in a day; 0 for no limit."""
    copy_limit_mb_per_second: Annotated[float, Meta(ge=0)] = 0.0
    """The rate of copies that nobody waits for; 0 for no limit."""
    ssd_mb_per_second: Annotated[float, Meta(gt=0)] = 2500.0
    """How fast the SSD is read, for forecasts (gain, `modelctl simulate`)."""
    hdd_mb_per_second: Annotated[float, Meta(gt=0)] = 180.0
    """How fast the slow tiers are read, for the same."""


class Servers(_Section, frozen=True, kw_only=True):
    """How llama-server is run."""

    binary: Bounded = ""
    """Its path; empty for the first on PATH, else the embedded engine."""
    launcher: Literal["auto", "systemd", "direct"] = "auto"
    """`systemd` runs each as a unit of the user manager; `auto` takes it where there is one."""
    arguments: tuple[Bounded, ...] = ()
    """llama-server arguments for every model, before the model's own."""
    optimize_for: Mode = "balanced"
    """Which arguments every model gets before these: see `core.modes`."""
    context_tokens: Annotated[int, Meta(ge=0)] = 8192
    """The context where no model setting or argument says otherwise; 0 for the model's maximum."""
    stop_grace_seconds: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    """Between the request to end and SIGKILL."""
    drain_seconds: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """How long a server that is to stop may finish what it answers."""
    start_stall_seconds: Annotated[float, Meta(ge=1)] = 300.0
    """A load without any progress for this long has failed."""
    stall_seconds: Annotated[float, Meta(ge=1)] = 120.0
    """A server that has requests and moves none of them for this long is killed."""


class Roles(_Section, frozen=True, kw_only=True):
    """The models that routing chooses from; each a name of a model."""

    primary: Bounded = ""
    """For what is neither code nor short."""
    code: Bounded = ""
    """For code."""
    fast: Bounded = ""
    """For short messages."""


class Rule(_Section, frozen=True, kw_only=True):
    """Where requests go whose last message fits."""

    pattern: Bounded
    """A regular expression, found anywhere, in the letters as they are."""
    model: Bounded
    """The name of a model, or a role."""


Profile = Literal["fast", "general", "code", "creative"]


class Routing(_Section, frozen=True, kw_only=True):
    """What answers a request that names a task, or nothing."""

    enabled: bool = True
    """Whether modeld chooses at all."""
    default_profile: Profile = "general"
    """The one for a request that neither names one nor is sent anywhere by rule or heuristic."""
    heuristics: bool = True
    """Whether the words and the length of a message choose between the roles."""
    roles: Roles = Roles()
    rules: tuple[Rule, ...] = ()
    """Tried in this order, before the heuristics."""
    overrides: dict[Bounded, Bounded] = field(default_factory=dict)
    """Profile -> the model for it, while that is there."""
    options: dict[Bounded, Options] = field(default_factory=dict)
    """Profile -> defaults for requests that it routes; a model's own win."""


Dialects = Literal["openai", "anthropic", "ollama", "llamacpp", "llama-swap", "karen"]


class Gateway(_Section, frozen=True, kw_only=True):
    """The HTTP front door."""

    listen: tuple[Bounded, ...] = ("127.0.0.1:8080",)
    """Addresses, `HOST:PORT`.  Others than loopback ones need `key_file`; empty for no gateway."""
    compat: tuple[Dialects, ...] = (
        "openai", "anthropic", "ollama", "llamacpp", "llama-swap", "karen",
    )  # fmt: skip
    """The families of clients that are served; `/health`, `/ready` and `/metrics` always are."""
    key_file: Bounded = ""
    """A file of mode 0600 with a key on each line; empty for no keys."""
    rate_limit_per_minute: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    """Requests that one client may make; 0 for no limit.  More are refused with 429."""
    rate_burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    """How many of them may come at once."""
    max_requests_per_model: Annotated[int, Meta(ge=1, le=16384)] = 256
    """Requests that one model may have in flight; more are refused with 429."""
    batch_seconds: Annotated[float, Meta(ge=0, le=3600)] = 10.0
    """How long requests for a busy model may hold up those that wait for its place."""
    loading_text: bool = False
    """Whether a chat's stream says as text that its model loads."""
    karen_prompt_template: bool = False
    """Whether `/inference` puts its prompt into KAREN's template; nothing else ever does."""
    upstream: bool = False
    """Whether `/upstream/MODEL/...` passes anything to a server."""
    on_overlong: Literal["refuse", "pass"] = "refuse"
    """What becomes of a request that is longer than its model's context."""
    log_requests: bool = False
    """Whether each request to a model is logged: what it cost, and never what it says."""
    allowed_hosts: tuple[Bounded, ...] = ()
    """Further names that a Host header may have."""
    allowed_origins: tuple[Bounded, ...] = ()
    """Web origins whose pages may call; none by default."""
    other_users: bool = False
    """Whether programs of other users of this machine are served; root's are."""
    max_connections: Annotated[int, Meta(ge=1, le=16384)] = 256
    """How many may be open."""
    max_body_mb: Annotated[int, Meta(ge=1, le=1024)] = 32
    """The largest request."""
    max_waiting: Annotated[int, Meta(ge=1, le=100_000)] = 256
    """Requests that may wait for a model to load; more are refused with 429."""
    max_wait_seconds: Annotated[float, Meta(ge=1)] = 600.0
    """How long one may wait for that."""
    heartbeat_seconds: Annotated[float, Meta(ge=0.1, le=10)] = 5.0
    """Between signs of life on a stream whose model loads."""


class Log(_Section, frozen=True, kw_only=True):
    """What is logged."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """And all that is worse."""


class Config(_Section, frozen=True, kw_only=True):
    """The whole configuration."""

    storage: Storage = Storage()
    models: Models = Models()
    keep_alive: KeepAlive = KeepAlive()
    load: Load = Load()
    reload: Reload = Reload()
    memory: Memory = Memory()
    rank: Rank = Rank()
    cache: Cache = Cache()
    servers: Servers = Servers()
    routing: Routing = Routing()
    gateway: Gateway = Gateway()
    log: Log = Log()
