"""
Writes one file behind the reader, without filling the page cache, and sums it up on the way.

Three ways, the first that the file system takes: writes whose pages leave the cache by
themselves, writes past the cache, or plain ones that are pushed out and dropped behind.
"""

import fcntl
import os
import stat
import zlib
from enum import Enum, auto

from modeld.host.copy.kernel import (
    DONTCACHE,
    allocate,
    can_not,
    clone,
    finish_writing,
    start_writing,
)
from modeld.host.copy.ledger import Entry
from modeld.host.copy.source import Source

ALIGNMENT = 4096
BEHIND_BYTES = 32 * 1024 * 1024
"""How far plain writes may be behind: the disk is kept busy, the page cache stays small."""


class Way(Enum):
    """How the page cache is spared."""

    DROPPING = auto()
    """RWF_DONTCACHE."""
    DIRECT = auto()
    """O_DIRECT."""
    BEHIND = auto()
    """sync_file_range(2), then posix_fadvise(2)."""


class Ways:
    """The way that each file system took; asked once."""

    def __init__(self) -> None:
        self._known: dict[int, Way] = {}

    def of(self, device: int) -> Way:
        """Return the way to try."""
        return self._known.get(device, Way.DROPPING)

    def refuse(self, device: int, way: Way) -> Way:
        """Note that a file system can't do that; return the next way."""
        after = Way.DIRECT if way is Way.DROPPING else Way.BEHIND
        self._known[device] = after
        return after


class Sink:
    """One file that is written."""

    def __init__(self, directory: int, name: str, source: Source, ways: Ways) -> None:
        """
        Make it, and have it share its source's blocks, or reserve its own.

        Raises:
            OSError: The disk refuses.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self.descriptor = os.open(name, flags, 0o600, dir_fd=directory)
        self.is_clone = False
        """It has all of its source's bytes already: one file system holds both, and can do that."""
        self._ways = ways
        self._device = os.fstat(self.descriptor).st_dev
        self._checksum = 0
        self._is_direct = False
        self._pushed = 0
        try:
            size_bytes = source.status.st_size
            self.is_clone = size_bytes > 0 and clone(source.descriptor, self.descriptor)
            if not self.is_clone:
                allocate(self.descriptor, size_bytes)
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def write(self, data: memoryview, offset: int) -> None:
        """
        Write the next piece.

        Raises:
            OSError: The disk refuses.
        """
        # crc32 keeps up with every disk (4 GB/s) and lets other threads run; what it must find
        # is a disk's silent mistake, not a forger.
        self._checksum = zlib.crc32(data, self._checksum)
        done = 0
        while done < len(data):
            done += self._write_some(data[done:], offset + done)
        if self._ways.of(self._device) is Way.BEHIND:
            self._push_out(offset, len(data))

    def finish(self, source: Source, now: float) -> Entry:
        """
        Make it look like its source, sync it, and return what it is.

        Raises:
            OSError: The disk refuses; a sync is never tried twice, for the second would lie.
        """
        self._set_direct(on=False)
        mode = 0o600 | (source.status.st_mode & 0o044)
        os.fchmod(self.descriptor, stat.S_IMODE(mode))
        os.utime(self.descriptor, ns=(source.status.st_atime_ns, source.status.st_mtime_ns))
        os.fsync(self.descriptor)
        os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)  # tails of plain writes
        status = os.fstat(self.descriptor)
        return Entry(
            size_bytes=status.st_size,
            mtime_ns=status.st_mtime_ns,
            inode=status.st_ino,
            checksum="" if self.is_clone else checksum_text(self._checksum),
            source=source.path,
            copied_at=now,
        )

    def _write_some(self, data: memoryview, offset: int) -> int:
        way = self._ways.of(self._device)
        try:
            if way is Way.DROPPING:
                return os.pwritev(self.descriptor, [data], offset, DONTCACHE)
            whole = len(data) - len(data) % ALIGNMENT
            if way is Way.DIRECT and whole and offset % ALIGNMENT == 0:
                self._set_direct(on=True)
                return os.pwritev(self.descriptor, [data[:whole]], offset)
        except OSError as error:
            if not can_not(error):
                raise
            self._ways.refuse(self._device, way)
        self._set_direct(on=False)
        return os.pwritev(self.descriptor, [data], offset)

    def _set_direct(self, *, on: bool) -> None:
        if on != self._is_direct:
            flags = fcntl.fcntl(self.descriptor, fcntl.F_GETFL)
            wanted = flags | os.O_DIRECT if on else flags & ~os.O_DIRECT
            fcntl.fcntl(self.descriptor, fcntl.F_SETFL, wanted)
            self._is_direct = on

    def _push_out(self, offset: int, size_bytes: int) -> None:
        """Have this piece written now, and drop what is a good deal behind it."""
        start_writing(self.descriptor, offset, size_bytes)
        behind = offset + size_bytes - BEHIND_BYTES - self._pushed
        if behind > 0:
            finish_writing(self.descriptor, self._pushed, behind)
            os.posix_fadvise(self.descriptor, self._pushed, behind, os.POSIX_FADV_DONTNEED)
            self._pushed += behind


def checksum_text(value: int) -> str:
    """Return a checksum as the list of copies has it."""
    return f"crc32:{value:08x}"
