"""
Whose turn it is to read from a disk.

A disk with a head is fast for one reader and slow for two, so one copy reads from it at a time,
chunk by chunk: those that somebody waits for first, then the older ones.  While a server loads
from the disk itself, only the urgent ones go on.  Nothing here reads a file.
"""

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

SYS_BLOCK = Path("/sys/dev/block")


def disk_of(device: int, blocks: Path = SYS_BLOCK) -> str:
    """Return a name for the disk behind a device number: partitions of one disk share it."""
    major, minor = os.major(device), os.minor(device)
    place = blocks / f"{major}:{minor}"
    try:
        return "+".join(sorted(_disks(place.resolve(strict=True))))
    except OSError:  # a network, a FUSE or a Btrfs: as good as a disk of its own
        return f"{major}:{minor}"


def _disks(place: Path) -> set[str]:
    """Return the disks below a block device: LVM, RAID and dm-crypt stand on others."""
    slaves = place / "slaves"
    below = list(slaves.iterdir()) if slaves.is_dir() else []
    if below:
        return set().union(*(_disks(each.resolve(strict=True)) for each in below))
    return {place.parent.name if (place / "partition").exists() else place.name}


class Reader(Protocol):
    """What wants to read from a disk."""

    @property
    def disk(self) -> str:
        """The disk."""

    @property
    def is_urgent(self) -> bool:
        """Whether somebody waits for it."""

    @property
    def is_paused(self) -> bool:
        """Whether it is to hold still."""

    def check(self) -> None:
        """Raise what ends it, where something does."""


class Turns:
    """Who reads now, and who waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line: list[Reader] = []
        self._reading: dict[str, Reader] = {}
        self._loading: frozenset[str] = frozenset()

    def enter(self, reader: Reader) -> None:
        """Queue up."""
        with self._changed:
            self._line.append(reader)

    def leave(self, reader: Reader) -> None:
        """Want nothing more.  Idempotent."""
        with self._changed:
            if reader in self._line:
                self._line.remove(reader)
            self._changed.notify_all()

    @contextlib.contextmanager
    def turn(self, reader: Reader) -> Iterator[None]:
        """
        Wait for one's turn, and have the disk for one chunk.

        Raises:
            Exception: What `reader.check` raises.
        """
        with self._changed:
            while not self._may_read(reader):
                self._changed.wait()
            self._reading[reader.disk] = reader
        try:
            yield
        finally:
            with self._changed:
                del self._reading[reader.disk]
                self._changed.notify_all()

    def rest(self, reader: Reader, seconds: float) -> None:
        """
        Wait some time, or until something changes.

        Raises:
            Exception: What `reader.check` raises.
        """
        with self._changed:
            reader.check()
            self._changed.wait(seconds)

    def set_loading(self, disks: frozenset[str]) -> None:
        """Note from which disks servers load."""
        with self._changed:
            self._loading = disks
            self._changed.notify_all()

    def wake(self) -> None:
        """Have everyone look again: something about a reader changed."""
        with self._changed:
            self._changed.notify_all()

    def _may_read(self, reader: Reader) -> bool:
        reader.check()
        if reader.is_paused or reader.disk in self._reading:
            return False
        if reader.disk in self._loading and not reader.is_urgent:
            return False
        line = [one for one in self._line if one.disk == reader.disk and not one.is_paused]
        return min(line, key=lambda one: not one.is_urgent, default=reader) is reader
