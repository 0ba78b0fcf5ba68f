"""
One copy to the SSD as the supervisor follows it, and where a model's files lie.

Values and sentences only; `cache` begins copies and hears of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modeld.core.entities import Location, Model
from modeld.core.holdings import Decision
from modeld.supervisor.ports import CopyFile, CopyOrder
from modeld.units import format_bytes, format_duration

SSD = "ssd"


@dataclass(slots=True)
class Copy:
    """One copy under way."""

    order: CopyOrder
    name: str
    decision: Decision
    waiting_for: set[str]
    """Models whose files have to be gone first."""
    copied_bytes: int = 0
    read_bytes: int = 0
    rate_bytes_per_s: float = 0.0
    paused: bool = False
    started: bool = False
    said_at: float = 0.0
    moved_at: float = 0.0
    """[monotonic s] When it last went on, or began."""

    @property
    def total_bytes(self) -> int:
        """Of all its files."""
        return sum(each.size_bytes for each in self.order.files)


def progress(copy: Copy) -> str:
    """Return how far a copy is: `43 %, 2.0 of 4.7 GB, 180 MB/s, 15 s left`."""
    total, rate = max(1, copy.total_bytes), copy.rate_bytes_per_s
    left = format_duration((total - copy.copied_bytes) / rate) + " left" if rate > 0 else ""
    words = [
        f"{copy.copied_bytes / total:.0%}",
        f"{format_bytes(copy.copied_bytes)} of {format_bytes(total)}",
        f"{format_bytes(int(rate))}/s" if rate > 0 else "",
        "paused" if copy.paused else left,
    ]
    return ", ".join(word for word in words if word)


def paths_below(folder: str, paths: Sequence[str]) -> tuple[str, ...]:
    """Return paths relative to a folder."""
    return tuple(path.removeprefix(folder).lstrip("/") for path in paths)


def on_ssd(model: Model) -> Location | None:
    """Return a model's copy on the SSD."""
    return next((each for each in model.locations if each.tier == SSD), None)


def source_of(model: Model) -> Location | None:
    """Return where a model would be copied from: the first slow tier that has it."""
    return next((each for each in model.locations if each.tier != SSD), None)


def files_of(location: Location, folder: str) -> tuple[CopyFile, ...]:
    """Return the files of a copy, the first shard first, with their places below the tier."""
    paths = (*location.shard_paths, *filter(None, (location.mmproj_path,)))
    return tuple(
        CopyFile(
            source_path=path,
            relative_path=path.removeprefix(folder).lstrip("/"),
            size_bytes=size_bytes,
            mtime_ns=mtime_ns,
        )
        for path, (size_bytes, mtime_ns) in zip(paths, location.stamps, strict=True)
    )
