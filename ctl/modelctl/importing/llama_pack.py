"""
llama-pack: its `config.json`, with comments, and its `stats.json`, a record for each file name.

Uses, their times (UTC, without saying so), run times, kept arguments and projectors are taken;
records are about the path, so that two files of one name are not mixed up.
"""

from collections import Counter
from datetime import UTC, datetime

from msgspec import ValidationError, convert

from modelctl.importing.arguments import cleaned
from modelctl.importing.gleaning import Gleaning, Imported, Left, Place
from modelctl.importing.source import Document, dotted
from modelctl.importing.values import Unfit, folder, number, text, texts, whole
from modeld.wire.history import MAX_TIMESTAMPS, PastUse

GATEWAY_PORT = 8080
CONFIG_KEYS = frozenset(
    (
        "ssd_path", "hdd_path", "ssd_min_free_gb", "server_binary", "default_port",
        "default_host", "stats_file", "pid_dir", "global_llama_args", "simulations",
    )
)  # fmt: skip
LEFT = (
    ("pid_dir bin_gguf_dump", "modeld has its own"),
    ("cache_test planner_ctk planner_ctv", "only its planner used it"),
    ("known_tags", "modeld has no tags yet"),
)
RECORD_LEFT = {
    "tags": "modeld has no tags yet",
    "note": "modeld has no notes yet",
    "gguf": "modeld reads it from the files",
    "size_bytes": "modeld reads it from the files",
    "mtime": "modeld reads it from the files",
    "location": "modeld looks where the copies are",
    "locations": "modeld looks where the copies are",
}
RECORD_TAKEN = frozenset(
    (
        "path", "total_uses", "last_used", "use_timestamps", "total_runtime_seconds",
        "last_runtime_seconds", "llama_args", "mmproj", "nickname", "nicknames",
    )
)  # fmt: skip
_FOREVER = 1e12


def glean(document: Document, place: Place) -> Imported:
    """Return what a configuration, or a file of statistics, comes to."""
    values = document.values
    if isinstance(values, dict) and not CONFIG_KEYS.intersection(values):
        return _statistics(document)
    return _configuration(Gleaning(document), place)


# --- config.json -----------------------------------------------------------------------------


def _configuration(gleaning: Gleaning, place: Place) -> Imported:
    gleaning.take(("ssd_path",), "storage.ssd_path", folder)
    gleaning.take(
        ("hdd_path",),
        "storage.hdd_paths",
        lambda value: [folder(one) for one in (value if isinstance(value, list) else [value])],
    )
    gleaning.take(("ssd_min_free_gb",), "cache.ssd_min_free_gb", number(0, 1e9))
    gleaning.take(("server_binary",), "servers.binary", text)
    gleaning.take(("planner_vram_gib",), "memory.vram_limit_gb", number(0.001, 1e6))
    gleaning.take(("planner_margin_mib",), "memory.vram_headroom_mb", whole(0, 10**9))
    _address(gleaning)
    _arguments(gleaning)
    for name in gleaning.table("simulations"):
        gleaning.leave(
            ("simulations", name),
            "modeld brings scenarios of its own; modelctl simulate takes the pattern as it is",
        )
    gleaning.leave_all(LEFT)
    statistics = gleaning.value("stats_file")
    gleaning.leave(("stats_file",), "what it remembers is read from there")
    beside = f"{place.directory}/stats.json"
    return gleaning.finish(also=(statistics if isinstance(statistics, str) else beside,))


def _address(gleaning: Gleaning) -> None:
    """Take the port to where clients look for a server, unless the gateway is there already."""
    if gleaning.value("default_port") == GATEWAY_PORT:
        gleaning.leave(("default_port",), "modeld's gateway listens there already")
    else:
        gleaning.take(
            ("default_port",),
            "gateway.listen",
            lambda value: [f"127.0.0.1:{whole(1, 65535)(value)}"],
            "one address for all models",
        )
    gleaning.leave(("default_host",), "modeld listens on loopback addresses (gateway.listen)")


def _arguments(gleaning: Gleaning) -> None:
    path = ("global_llama_args",)
    if gleaning.value(*path) is None:
        return
    try:
        words = texts(gleaning.value(*path))
    except Unfit as error:
        gleaning.leave(path, str(error), wrong=True)
        return
    kept, dropped = cleaned(words)
    for flag, reason in dropped.items():
        gleaning.leave((*path, words.index(flag) if flag in words else 0), f"{flag}: {reason}")
    if kept:
        gleaning.put(path, "servers.arguments", kept, "for every model")


# --- stats.json ------------------------------------------------------------------------------


def _statistics(document: Document) -> Imported:
    """Return the history of every file; what all records have in common is told once."""
    values = document.values if isinstance(document.values, dict) else {}
    left = [
        Left(dotted(trouble.path), trouble.reason, trouble.line, wrong=True)
        for trouble in document.troubles
    ]
    if not values:
        left.append(Left("the file", "expected a record for each model", wrong=True))
    history: list[PastUse] = []
    counts: Counter[str] = Counter()
    for name, record in values.items():
        if not isinstance(record, dict):
            if name != "version":
                left.append(Left(name, "expected a table: the record of a file", wrong=True))
            continue
        counts.update(key for key, value in record.items() if value not in (None, "", [], {}))
        past = _past(name, record, left)
        if past is not None:
            history.append(past)
    for key, count in counts.items():
        if key not in RECORD_TAKEN:
            reason = RECORD_LEFT.get(key, "modeld has nothing like it")
            told = "1 file has it" if count == 1 else f"{count} files have it"
            left.append(Left(f"*.{key}", f"{reason} ({told})"))
    return Imported(config={}, left=tuple(left), history=tuple(history))


def _past(name: str, record: dict[str, object], left: list[Left]) -> PastUse | None:
    """Return the record of one file, or None, and tell why."""
    stamps = record.get("use_timestamps")
    stamps = stamps if isinstance(stamps, list) else []
    read = [moment for stamp in stamps if (moment := _moment(stamp)) is not None]
    if len(read) < len(stamps):
        told = f"{len(stamps) - len(read)} of {len(stamps)} times can't be read"
        left.append(Left(f"{name}.use_timestamps", told, wrong=True))
    words = record.get("llama_args")
    kept, dropped = cleaned([str(word) for word in words] if isinstance(words, list) else [])
    left += [Left(f"{name}.llama_args", f"{flag}: {why}") for flag, why in dropped.items()]
    nicknames = record.get("nicknames")
    names = [record.get("nickname"), *(nicknames if isinstance(nicknames, list) else [])]
    fields = {
        "path": record.get("path") or name,
        "uses": record.get("total_uses") or 0,
        "last_used": _moment(record.get("last_used")) or 0.0,
        "timestamps": sorted(read)[-MAX_TIMESTAMPS:],
        "runtime_seconds": record.get("total_runtime_seconds") or 0.0,
        "last_runtime_seconds": record.get("last_runtime_seconds") or 0.0,
        "arguments": kept,
        "mmproj": record.get("mmproj") or "",
        "nicknames": [str(nickname) for nickname in names if nickname],
    }
    try:
        return convert(fields, PastUse)
    except ValidationError as error:
        left.append(Left(name, f"not as llama-pack writes it: {error}", wrong=True))
        return None


def _moment(value: object) -> float | None:
    """Return a time [unix s]; without a zone it is UTC, as llama-pack writes it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value) if 0 <= value < _FOREVER else None
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
