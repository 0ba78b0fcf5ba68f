"""
Writes in a thread of its own what another one reads, through a few buffers that go round.

The reader asks for a free buffer, fills it and sends it; where the writing disk is the slower
one, that makes it wait.  An error of the writer reaches the reader with the next buffer it asks
for.  What is written where, and why, is not this module's business.
"""

import contextlib
import mmap
import queue
import threading
from collections.abc import Callable

from modeld.host.copy.source import CHUNK_BYTES

BUFFERS = 4
"""One is read into, one is written from, two even out what the disks do unevenly."""
WAKE_SECONDS = 0.25

Work = Callable[[], None]


class Pipe:
    """A writer thread, and the buffers between it and its reader."""

    def __init__(self, name: str, chunk_bytes: int = CHUNK_BYTES) -> None:
        self._free: queue.SimpleQueue[mmap.mmap] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[tuple[Work, mmap.mmap | None] | None] = queue.SimpleQueue()
        self._error: BaseException | None = None
        self._given_up = False
        # Anonymous maps: aligned as O_DIRECT wants it, and given back whole at the end.
        self._buffers = [mmap.mmap(-1, chunk_bytes) for _ in range(BUFFERS)]
        for buffer in self._buffers:
            self._free.put(buffer)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def buffer(self, check: Callable[[], None]) -> mmap.mmap:
        """
        Return a free buffer; wait for one.

        Raises:
            Exception: What `check` raises, or what happened to the writer.
        """
        while True:
            check()
            if self._error is not None:
                raise self._error
            with contextlib.suppress(queue.Empty):
                return self._free.get(timeout=WAKE_SECONDS)

    def send(self, work: Work, buffer: mmap.mmap | None = None) -> None:
        """Have the writer do this, in order, and free the buffer after it."""
        self._full.put((work, buffer))

    def finish(self) -> None:
        """
        Wait until everything is written.

        Raises:
            Exception: What happened to the writer.
        """
        self._full.put(None)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Give up what is not written yet, and give the buffers back."""
        self._given_up = True
        self._full.put(None)
        self._thread.join()
        for buffer in self._buffers:
            with contextlib.suppress(BufferError):
                buffer.close()

    def _run(self) -> None:
        while (item := self._full.get()) is not None:
            work, buffer = item
            if self._error is None and not self._given_up:
                try:
                    work()
                except BaseException as error:  # noqa: BLE001  (the reader raises it)
                    # Without its traceback, whose frames would hold on to the buffer.
                    self._error = error.with_traceback(None)
            if buffer is not None:
                self._free.put(buffer)
