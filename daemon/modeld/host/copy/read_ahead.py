"""
Reading a model ahead of the server that will map it.

llama-server maps a file and faults it in page by page, which a disk with a head answers at a
seventh of its speed (26 of 180 MB/s with the kernel's usual read-ahead).  Read once from front
to back in large pieces, the same file is in the page cache at the disk's full speed, and the
server finds it there.  What is cached already is not read again; what would not stay in memory
is not read at all.  Nothing is copied here, and a failure is none: the server reads by itself.
"""

import asyncio
import contextlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from modeld.core.events import PagesRead
from modeld.host.copy.kernel import cached_bytes
from modeld.supervisor.ports import Emit

CHUNK_BYTES = 8 << 20
"""Large enough that a seek between two pieces does not matter."""
TELL_SECONDS = 0.2
CLOSE_SECONDS = 2.0


class PageReader:
    """The `PageCache` port."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._stopped: dict[str, threading.Event] = {}
        self._threads: dict[str, threading.Thread] = {}

    def read(self, read_id: str, paths: Sequence[str], most_bytes: int) -> None:
        """Read these files into the page cache, unless they are larger: `PagesRead`."""
        if read_id in self._threads:
            return
        loop = asyncio.get_running_loop()
        stopped = self._stopped[read_id] = threading.Event()

        def tell(event: PagesRead) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._tell, event)

        thread = threading.Thread(
            target=_read_all,
            args=(read_id, tuple(paths), most_bytes),
            kwargs={"stopped": stopped, "tell": tell},
            name=f"modeld-read-{read_id[:6]}",
            daemon=True,
        )
        self._threads[read_id] = thread
        thread.start()

    def stop(self, read_id: str) -> None:
        """Read no further.  Idempotent."""
        stopped = self._stopped.get(read_id)
        if stopped is not None:
            stopped.set()

    async def close(self) -> None:
        """Stop all reading.  Bounded: a dead disk is left to the kernel."""
        for stopped in self._stopped.values():
            stopped.set()
        await asyncio.to_thread(self._join)

    def _join(self) -> None:
        end = time.monotonic() + CLOSE_SECONDS
        for thread in list(self._threads.values()):
            thread.join(max(0.0, end - time.monotonic()))

    def _tell(self, event: PagesRead) -> None:
        if event.is_over:
            self._threads.pop(event.read_id, None)
            self._stopped.pop(event.read_id, None)
        self._emit(event)


def _read_all(
    read_id: str,
    paths: Sequence[str],
    most_bytes: int,
    *,
    stopped: threading.Event,
    tell: Callable[[PagesRead], None],
) -> None:
    """Read in a thread; the last event says that it is over, whatever happened."""
    done = total = 0
    said_at = 0.0
    try:
        sizes = [os.stat(path).st_size for path in paths]  # noqa: PTH116
        total = sum(sizes)
        with mmap.mmap(-1, CHUNK_BYTES) as buffer:
            for path, size in zip(paths, sizes, strict=True) if total <= most_bytes else ():
                for count in _pieces(path, size, buffer):
                    done += count
                    if stopped.is_set():
                        return
                    if time.monotonic() - said_at >= TELL_SECONDS:
                        said_at = time.monotonic()
                        tell(PagesRead(read_id=read_id, read_bytes=done, total_bytes=total))
    except OSError:
        return  # the server will say what is wrong with its file
    finally:
        tell(PagesRead(read_id=read_id, read_bytes=done, total_bytes=total, is_over=True))


def _pieces(path: str, size: int, buffer: mmap.mmap) -> Iterator[int]:
    """Bring a file into the page cache piece by piece; yield the size of each."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        for offset in range(0, size, CHUNK_BYTES):
            count = min(CHUNK_BYTES, size - offset)
            if cached_bytes(descriptor, offset, count) < count:
                with memoryview(buffer)[:count] as view:
                    os.preadv(descriptor, [view], offset)
            yield count
    finally:
        os.close(descriptor)
