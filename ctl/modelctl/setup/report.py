"""What `init` found and did, as it tells it."""

from msgspec import Struct


class FolderRow(Struct, frozen=True, kw_only=True):
    """One folder with models, or one that is configured."""

    path: str
    models: int
    """Shards count as one, projectors as none."""
    size_bytes: int
    complete: bool
    """Whether all of it was counted within the limits."""
    disk: str
    disk_kind: str
    """`ssd`, `rotating` or `unknown`."""
    owner: str
    """The program whose downloads they are; empty for a folder of one's own."""
    key: str
    """The setting that it is in now; empty where it is left."""
    kept: bool
    """Whether it was in there before."""
    why: str


class NextStep(Struct, frozen=True, kw_only=True):
    """A command to type next."""

    command: str
    why: str


class InitReport(Struct, frozen=True, kw_only=True):
    """All of it."""

    file: str
    dry_run: bool
    written: bool = False
    searched: tuple[str, ...] = ()
    """The folders that were looked for; none where all were named."""
    folders: tuple[FolderRow, ...] = ()
    changed: tuple[str, ...] = ()
    """Keys of modeld's configuration, with old and new value."""
    needs_restart: tuple[str, ...] = ()
    reloaded: bool = False
    warnings: tuple[str, ...] = ()
    next: tuple[NextStep, ...] = ()
