"""A copier on a loop of its own, driven from plain test functions, and what it said."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from modeld.core.events import (
    CopiesVerified,
    CopyEnded,
    CopyMoved,
    Event,
    FilesRemoved,
    SpaceMeasured,
)
from modeld.host.copy import FileCopier
from modeld.supervisor.ports import CopyFile, CopyOrder, Folder

PATIENCE_SECONDS = 30.0
WORK_NAME = ".modeld-copies"
RESIDENTS = {"README", "manifest.json"}
"""What may be in modeld's own folder when nothing is going on."""

_Kind = TypeVar("_Kind", bound=Event)
_Result = TypeVar("_Result")


class Copying:
    """A copier, and every event that it emitted."""

    def __init__(self, boot_id: str = "") -> None:
        self.events: list[Event] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.copier = self.call(lambda: FileCopier(self.events.append, boot_id))

    def call(self, function: Callable[[], _Result]) -> _Result:
        """Call something in the loop's thread."""

        async def run() -> _Result:
            return function()

        return asyncio.run_coroutine_threadsafe(run(), self._loop).result(PATIENCE_SECONDS)

    def wait(self, kind: type[_Kind], fits: Callable[[_Kind], bool] = lambda _: True) -> _Kind:
        """Return the first event of a kind that fits, and forget it."""
        end = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < end:
            for event in list(self.events):
                if isinstance(event, kind) and fits(event):
                    self.events.remove(event)
                    return event
            time.sleep(0.002)
        raise TimeoutError(f"no {kind.__name__} among {self.events}")

    def start(self, order: CopyOrder) -> None:
        """Begin a copy."""
        self.call(lambda: self.copier.start(order))

    def copy(self, order: CopyOrder) -> CopyEnded:
        """Copy, and return how it ended."""
        self.start(order)
        return self.ended(order.copy_id)

    def ended(self, copy_id: str = "c") -> CopyEnded:
        """Wait for the end of a copy."""
        return self.wait(CopyEnded, lambda event: event.copy_id == copy_id)

    def moved(self, fits: Callable[[CopyMoved], bool] = lambda _: True) -> CopyMoved:
        """Wait until a copy has come somewhere."""
        return self.wait(CopyMoved, fits)

    def survey(self, path: Path, tier: str = "ssd") -> SpaceMeasured:
        """Survey a folder."""
        self.call(lambda: self.copier.survey(Folder(tier=tier, path=str(path))))
        return self.wait(SpaceMeasured)

    def remove(self, folder: Path, *names: str) -> FilesRemoved:
        """Remove files below a folder."""
        paths = [str(folder / name) for name in names]
        self.call(lambda: self.copier.remove("m", str(folder), paths))
        return self.wait(FilesRemoved)

    def verify(self, folder: Path, *names: str) -> CopiesVerified:
        """Read copies again."""
        self.call(lambda: self.copier.verify(str(folder), names, False))
        return self.wait(CopiesVerified)

    def close(self) -> None:
        """Close the copier and its loop."""
        asyncio.run_coroutine_threadsafe(self.copier.close(), self._loop).result(PATIENCE_SECONDS)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def a_copier(boot_id: str = "") -> Iterator[Copying]:
    """Return a copier that is closed at the end."""
    copying = Copying(boot_id)
    try:
        yield copying
    finally:
        copying.close()


def an_order(
    sources: Path | Sequence[Path],
    target: Path,
    *,
    names: Sequence[str] = (),
    copy_id: str = "c",
    min_free_bytes: int = 0,
    rate_limit_bytes_per_s: int = 0,
    urgent: bool = False,
) -> CopyOrder:
    """Return the order to copy these files, as they are now."""
    paths = [sources] if isinstance(sources, Path) else sources
    files = []
    for path, name in zip(paths, names or [path.name for path in paths], strict=True):
        status = path.stat()
        files.append(
            CopyFile(
                source_path=str(path),
                relative_path=name,
                size_bytes=status.st_size,
                mtime_ns=status.st_mtime_ns,
            )
        )
    return CopyOrder(
        copy_id=copy_id,
        model_id="m",
        files=tuple(files),
        target_path=str(target),
        min_free_bytes=min_free_bytes,
        rate_limit_bytes_per_s=rate_limit_bytes_per_s,
        urgent=urgent,
    )


def leftovers(folder: Path) -> list[str]:
    """Return what an unfinished copy left in modeld's own folder."""
    work = folder / WORK_NAME
    return (
        sorted(each.name for each in work.iterdir() if each.name not in RESIDENTS)
        if (work.is_dir())
        else []
    )


def visible(folder: Path) -> dict[str, bytes]:
    """Return all files that a scan would find, with what is in them."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and WORK_NAME not in path.parts
    }
