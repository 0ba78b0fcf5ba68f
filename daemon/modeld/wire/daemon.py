"""Messages about the daemon itself: version, reload, events, logs."""

from typing import Annotated

from msgspec import Meta, Struct

from modeld.wire.common import Selector


class AskVersion(Struct, frozen=True, kw_only=True, tag="version", forbid_unknown_fields=True):
    """Ask who is there.  Reply: `VersionReport`."""


class VersionReport(Struct, frozen=True, kw_only=True, tag="version-report"):
    """Who is there."""

    version: str
    protocol: int
    python: str
    engine: str
    engine_version: str


class Reload(Struct, frozen=True, kw_only=True, tag="reload", forbid_unknown_fields=True):
    """Read the configuration again.  Reply: `Reloaded`; fails with config, changing nothing."""


class Reloaded(Struct, frozen=True, kw_only=True, tag="reloaded"):
    """The new configuration is in force."""

    changed: tuple[str, ...]
    """Keys, with old and new value: `load.replace: true -> false`."""
    needs_restart: tuple[str, ...] = ()
    """Keys that only a restart of modeld applies."""
    kept: tuple[str, ...] = ()
    """Models that go on running with the settings they were started with."""
    warnings: tuple[str, ...] = ()
    """What of it has no effect."""


class Subscribe(Struct, frozen=True, kw_only=True, tag="subscribe", forbid_unknown_fields=True):
    """
    Ask for events as they happen: a `Happened` each, until the client leaves.

    Each comes under the kind `progress`.  Without `follow` the reply `modeld.wire.load.Done` ends
    the past ones.
    """

    backlog: Annotated[int, Meta(ge=0, le=1000)] = 0
    """How many past ones first."""
    follow: bool = True


class Happened(Struct, frozen=True, kw_only=True, tag="happened"):
    """One event, as the journal has it."""

    event: str
    message: str
    at: str
    """RFC 3339, UTC."""
    priority: int = 6
    message_id: str = ""
    fields: dict[str, str | float] = {}
    missed: int = 0


class AskLogs(Struct, frozen=True, kw_only=True, tag="logs", forbid_unknown_fields=True):
    """Ask for the last log lines of a model's server, or of modeld.  Reply: `Logs`."""

    selector: Selector | None = None
    lines: Annotated[int, Meta(ge=1, le=2000)] = 50


class Logs(Struct, frozen=True, kw_only=True, tag="log-lines"):
    """Log lines, oldest first."""

    lines: tuple[str, ...]
    source: str
    """Where more are: a journalctl command or a file."""
