"""What became of a file, as `import-config` tells it."""

from msgspec import Struct

from modelctl.importing.gleaning import Left, Taken
from modeld.wire.history import HistoryRow


class ImportReport(Struct, frozen=True, kw_only=True):
    """What became of a file."""

    kind: str
    file: str
    dry_run: bool
    written: tuple[str, ...] = ()
    """Files."""
    taken: tuple[Taken, ...] = ()
    left: tuple[Left, ...] = ()
    history: tuple[HistoryRow, ...] = ()
    changed: tuple[str, ...] = ()
    """Keys of modeld's configuration, with old and new value."""
    needs_restart: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    """What of the configuration has no effect."""
