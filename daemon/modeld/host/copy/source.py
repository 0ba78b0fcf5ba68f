"""
Reads one file from front to back, in large pieces, and knows whether it stayed the same.

Somebody waits for an urgent copy, so its pages stay in the page cache for the server that loads
behind it.  Any other copy leaves the page cache as it found it: what was in it stays, what it
brings in goes.
"""

import contextlib
import mmap
import os
import stat
from pathlib import Path

from modeld.host.copy.failure import CopyFailed, of_source
from modeld.host.copy.kernel import DONTCACHE, cached_bytes, can_not
from modeld.supervisor.ports import CopyFile

CHUNK_BYTES = 8 * 1024 * 1024
"""Large enough that a disk never seeks in between, small enough to give way in 50 ms."""


class Source:
    """One file that is copied."""

    def __init__(self, path: str) -> None:
        """
        Open it.

        Raises:
            CopyFailed: It is missing, or no regular file, or can't be opened.
        """
        self.path = path
        self._uses_flag = True
        self._cached: list[bool] = []
        # Whatever took the file's place must neither block nor become a terminal.
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self.descriptor = os.open(path, flags)
        except OSError as error:
            raise of_source(error, path) from error
        self.status = os.fstat(self.descriptor)
        if not stat.S_ISREG(self.status.st_mode):
            self.close()
            raise CopyFailed("source-changed", f"{path} is no regular file any more")
        self._look_at_cache()

    def close(self) -> None:
        """Let go of it."""
        os.close(self.descriptor)

    def check(self, file: CopyFile | None = None) -> None:
        """
        Check that it is still what it was, and what `file` says.

        Raises:
            CopyFailed: It is not.
        """
        before = _identity(self.status)
        expected = before[2:] if file is None else (file.size_bytes, file.mtime_ns)
        try:
            there = Path(self.path).stat()
        except OSError as error:
            raise CopyFailed("source-changed", f"{self.path} went away meanwhile") from error
        now = os.fstat(self.descriptor)
        if not _identity(there) == _identity(now) == before or before[2:] != expected:
            raise CopyFailed("source-changed", f"{self.path} changed meanwhile")

    def read(self, buffer: mmap.mmap, offset: int, size_bytes: int, *, keep: bool) -> None:
        """
        Fill the start of `buffer` from `offset` on.

        Args:
            buffer: Where the bytes go.
            offset: Where they come from.
            size_bytes: How many.
            keep: Whether they stay in the page cache.

        Raises:
            CopyFailed: It has ended before that, or can't be read.
        """
        try:
            done = 0
            while done < size_bytes:
                with memoryview(buffer)[done:size_bytes] as rest:
                    count = self._read_some(rest, offset + done, keep=keep)
                if not count:
                    raise CopyFailed("source-changed", f"{self.path} became shorter meanwhile")
                done += count
            if not keep and not self._uses_flag and not self._was_cached(offset):
                os.posix_fadvise(self.descriptor, offset, size_bytes, os.POSIX_FADV_DONTNEED)
        except OSError as error:
            raise of_source(error, self.path) from error

    def drop_pages(self) -> None:
        """Let go of what the kernel read ahead of the last piece."""
        if not any(self._cached) and not self._uses_flag:
            with contextlib.suppress(OSError):
                os.posix_fadvise(self.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def _read_some(self, view: memoryview, offset: int, *, keep: bool) -> int:
        if not keep and self._uses_flag:
            try:
                return os.preadv(self.descriptor, [view], offset, DONTCACHE)
            except OSError as error:
                if not can_not(error):
                    raise
                self._uses_flag = False
        return os.preadv(self.descriptor, [view], offset)

    def _look_at_cache(self) -> None:
        """Note what of it is in the page cache, before read-ahead makes that hard to tell."""
        size = self.status.st_size
        if cached_bytes(self.descriptor, 0, size):
            pieces = range(0, size, CHUNK_BYTES)
            self._cached = [
                cached_bytes(self.descriptor, start, min(CHUNK_BYTES, size - start))
                >= min(CHUNK_BYTES, size - start) // 2
                for start in pieces
            ]

    def _was_cached(self, offset: int) -> bool:
        return bool(self._cached) and self._cached[offset // CHUNK_BYTES]


def _identity(status: os.stat_result) -> tuple[int, int, int, int]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
