"""What another program remembers: wire -> event.  Numbers become moments; nothing is decided."""

from modeld.core.events import HistoryAsked
from modeld.core.history import Past
from modeld.core.stats import moment
from modeld.wire.history import ImportHistory, PastUse


def asked(request: ImportHistory, request_id: str) -> HistoryAsked:
    """Return the event that a request stands for."""
    return HistoryAsked(
        request_id=request_id,
        records=tuple(_past(record) for record in request.records),
        arguments=request.arguments,
        dry_run=request.dry_run,
    )


def _past(record: PastUse) -> Past:
    return Past(
        path=record.path,
        total_uses=record.uses,
        last_used=moment(record.last_used) if record.last_used else None,
        use_timestamps=tuple(moment(each) for each in record.timestamps),
        total_runtime_seconds=record.runtime_seconds,
        last_runtime_seconds=record.last_runtime_seconds,
        arguments=record.arguments,
        mmproj=record.mmproj,
        nicknames=record.nicknames,
    )
