"""Messages that start and stop servers: load, can-load, cancel, unload, wait."""

from typing import Annotated

from msgspec import Meta, Struct

from modeld.wire.common import Argument, Names, Selector


class Load(Struct, frozen=True, kw_only=True, tag="load", forbid_unknown_fields=True):
    """
    Make one model ready.

    Reply: `Loaded`, after any number of `Progress`; with `dry_run`, `Planned`; with `names_only`,
    `modeld.wire.names.Named`.  Fails with model_not_found, name_not_found, ambiguous, throttled,
    does_not_fit, too_many_loaded, pinned, argument_denied, server_failed, state_not_saved, busy.
    """

    selector: Selector
    port: Annotated[int, Meta(ge=0, le=65535)] = 0
    arguments: Annotated[tuple[Argument, ...], Meta(max_length=256)] | None = None
    """After `--`; None to use what is stored for the model, an empty list for none at all."""
    store: bool = False
    keep_others: bool | None = None
    force: bool = False
    force_pinned: bool = False
    pin: bool = False
    names: Names = Names()
    names_only: bool = False
    dry_run: bool = False
    keep_alive_seconds: float | None = None
    """How long it stays when idle; negative for ever, None where nothing is said."""
    by_program: bool = False
    """Not throttled, and content with what runs already where it names no arguments."""


class Loaded(Struct, frozen=True, kw_only=True, tag="loaded"):
    """The model is ready."""

    model: str
    server_id: str
    address: str
    """Where raw HTTP reaches it: `127.0.0.1:8080`, the gateway, or its own port."""
    seconds: float
    already: bool = False
    """It ran with the same arguments before; nothing was done."""
    message: str
    """One sentence for people."""
    memory_bytes: int = 0
    context_tokens: int = 0
    tier: str = ""
    unloaded: tuple[str, ...] = ()
    """Models that had to go."""
    candidates: tuple["Candidate", ...] = ()
    """Where several fitted: all of them, best first; the first was taken."""
    names: tuple[str, ...] = ()
    """What was changed about names, a sentence each."""
    warnings: tuple[str, ...] = ()


class Warmed(Struct, frozen=True, kw_only=True):
    """A model that is ready and has said a word; modelctl's own, it travels nowhere."""

    model: str
    seconds: float
    """For the load; 0 where it ran already."""
    already: bool
    word_seconds: float | None
    """For one token; null where it generates none."""
    memory_bytes: int = 0
    tier: str = ""


class Candidate(Struct, frozen=True, kw_only=True):
    """A model that fitted the pattern."""

    model: str
    rank: float


class Planned(Struct, frozen=True, kw_only=True, tag="planned"):
    """What a load would do."""

    model: str
    steps: tuple["Step", ...]
    reason: str
    """The inequality that decided, in numbers."""
    argv: tuple[str, ...] = ()
    candidates: tuple[Candidate, ...] = ()
    warnings: tuple[str, ...] = ()


class Step(Struct, frozen=True, kw_only=True):
    """One step of a plan."""

    action: str
    """`name`, `stop`, `start` or `nothing`."""
    model: str
    reason: str


class Cancel(Struct, frozen=True, kw_only=True, tag="cancel", forbid_unknown_fields=True):
    """Give up a load.  Reply: `Done`; failing with `inactive` when there is none such."""

    load_id: Annotated[str, Meta(max_length=64)]
    """The header's id of the load."""


class CanLoad(Struct, frozen=True, kw_only=True, tag="can-load", forbid_unknown_fields=True):
    """Ask whether a model could be loaded now, beside what runs.  Reply: `Verdict`."""

    selector: Selector


class Verdict(Struct, frozen=True, kw_only=True, tag="verdict"):
    """Whether a model could be loaded, and why not."""

    can_load: bool
    reason: str
    model: str = ""
    need_bytes: int = 0
    need_gpu_bytes: tuple[int, ...] = ()
    """On each GPU, besides `need_bytes`."""
    need_source: str = ""
    """Where the figure is from, as in `Shown`."""
    need_parts: dict[str, int] = {}
    available_bytes: int = 0


class Unload(Struct, frozen=True, kw_only=True, tag="unload", forbid_unknown_fields=True):
    """Stop servers.  Reply: `Unloaded`, when they are gone."""

    selectors: Annotated[tuple[Selector, ...], Meta(max_length=64)] = ()
    everything: bool = False
    force_pinned: bool = False
    now: bool = False
    idle: bool = False
    """What is idle for longer than its time; nothing where idle models stay."""


class Unloaded(Struct, frozen=True, kw_only=True, tag="unloaded"):
    """They are gone."""

    models: tuple[str, ...]
    freed_bytes: int = 0
    kept: tuple[str, ...] = ()
    """Pinned ones that `--all` left alone."""


class Wait(Struct, frozen=True, kw_only=True, tag="wait", forbid_unknown_fields=True):
    """Wait until a model is ready, or gone.  Reply: `Done`; bounded by the header's deadline."""

    selector: Selector
    until: Annotated[str, Meta(pattern="^(ready|gone)$")] = "ready"


class Done(Struct, frozen=True, kw_only=True, tag="done"):
    """It is so."""

    message: str = ""
