"""Messages that take over what another program remembers of models: import-config."""

from typing import Annotated

from msgspec import Meta, Struct

from modeld.wire.common import Argument

MAX_RECORDS = 64
"""In one message; there may be any number of messages."""
MAX_TIMESTAMPS = 1000
Path = Annotated[str, Meta(min_length=1, max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*\Z")]
Seconds = Annotated[float, Meta(ge=0, le=1e12)]


class PastUse(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What another program remembers of one file."""

    path: Path
    """Where the file was when it was last used; its name alone will do."""
    uses: Annotated[int, Meta(ge=0, le=1_000_000_000)] = 0
    last_used: Seconds = 0.0
    """[unix s] 0 for not known."""
    timestamps: Annotated[tuple[Seconds, ...], Meta(max_length=MAX_TIMESTAMPS)] = ()
    """[unix s] Its last uses, in any order."""
    runtime_seconds: Seconds = 0.0
    last_runtime_seconds: Seconds = 0.0
    arguments: Annotated[tuple[Argument, ...], Meta(max_length=256)] = ()
    """llama-server arguments that were kept for it."""
    mmproj: Annotated[str, Meta(max_length=4096, pattern=r"^[^\x00-\x1f\x7f]*\Z")] = ""
    """The projector that it was used with."""
    nicknames: Annotated[tuple[str, ...], Meta(max_length=64)] = ()


class ImportHistory(
    Struct, frozen=True, kw_only=True, tag="import-history", forbid_unknown_fields=True
):
    """
    Take over uses, run times, arguments and nicknames; acknowledged when they are on the disk.

    The same record again adds nothing.  Reply: `HistoryImported`.  Fails with state_not_saved.
    """

    records: Annotated[tuple[PastUse, ...], Meta(max_length=MAX_RECORDS)] = ()
    arguments: Annotated[tuple[Argument, ...], Meta(max_length=256)] = ()
    """For every server: nothing becomes of them, only whether they may be passed on is told."""
    dry_run: bool = False


class HistoryRow(Struct, frozen=True, kw_only=True):
    """What became of one record."""

    path: str
    model: str = ""
    """Empty where nothing of it could be taken."""
    taken: tuple[str, ...] = ()
    """A sentence each."""
    left: tuple[str, ...] = ()
    """What was not taken, and why: a sentence each."""


class HistoryImported(Struct, frozen=True, kw_only=True, tag="history-imported"):
    """It is on the disk, or would be."""

    records: tuple[HistoryRow, ...] = ()
    """In the order of the request."""
    arguments_problem: str = ""
    """Why the arguments for every server can't be passed on; empty where they can."""
