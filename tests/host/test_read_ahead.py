"""`host.copy.read_ahead`: a model in the page cache before its server maps it."""

import asyncio
import os
from pathlib import Path

from modeld.core.events import Event, PagesRead
from modeld.host.copy.kernel import cached_bytes
from modeld.host.copy.read_ahead import PageReader
from tests.support.running import asynchronous

SIZE = 24 << 20


def cold_file(folder: Path, name: str = "big.gguf") -> Path:
    """Write a file and have the page cache let go of it."""
    path = folder / name
    path.write_bytes(os.urandom(1 << 20) * (SIZE >> 20))
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)
    return path


def cached(path: Path) -> int:
    """Return how much of a file is in the page cache."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return cached_bytes(descriptor, 0, path.stat().st_size)
    finally:
        os.close(descriptor)


async def read(paths: list[str], most_bytes: int = 1 << 40) -> list[PagesRead]:
    """Read to the end, and return what was told."""
    events: list[Event] = []
    over = asyncio.Event()

    def emit(event: Event) -> None:
        events.append(event)
        if isinstance(event, PagesRead) and event.is_over:
            over.set()

    reader = PageReader(emit)
    reader.read("x", paths, most_bytes)
    await asyncio.wait_for(over.wait(), 20)
    await reader.close()
    return [event for event in events if isinstance(event, PagesRead)]


def test_file_is_in_the_page_cache_when_it_was_read(tmp_path: Path) -> None:
    """The server that maps it then waits for no disk."""
    path = cold_file(tmp_path)

    @asynchronous
    async def run() -> None:
        events = await read([str(path)])
        assert (events[-1].read_bytes, events[-1].total_bytes) == (SIZE, SIZE)

    run()
    assert cached(path) == SIZE


def test_file_that_would_not_fit_is_not_read_at_all(tmp_path: Path) -> None:
    """It would push out what is useful, and itself."""
    path = cold_file(tmp_path)
    before = cached(path)

    @asynchronous
    async def run() -> None:
        assert (await read([str(path)], most_bytes=SIZE - 1))[-1].read_bytes == 0

    run()
    assert cached(path) == before


def test_file_that_is_gone_ends_the_reading_and_nothing_else() -> None:
    """The server says what is wrong with its file."""

    @asynchronous
    async def run() -> None:
        assert (await read(["/nowhere/at/all.gguf"]))[-1].is_over

    run()
