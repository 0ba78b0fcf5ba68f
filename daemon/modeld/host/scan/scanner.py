"""
Finds model files on this machine: the `Scanner` port.

A scan walks all folders, each in a thread of its own, so that a sleeping or dead disk does not
hide the others, and takes the headers from the cache or a worker process.  It blocks nobody and
ends as one `FilesFound`.  What the files mean is for `core.catalog`, which is asked here since it
takes its time; no folder is ever made.
"""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from os.path import normpath
from pathlib import Path

from msgspec.structs import replace

from modeld.core.catalog import Catalog, build_catalog
from modeld.core.entities import FoundFile
from modeld.core.events import FilesFound
from modeld.host.scan.headers import SETTLED_NS, HeaderCache, HeaderReader
from modeld.host.scan.walk import Walked, walk
from modeld.supervisor.ports import Emit, Folder

SILENT_SECONDS = 20.0
"""How long a walk may stand still in one folder.  A disk that sleeps needs 15 s to wake up."""
CLOSE_SECONDS = 3.0


class FileScanner:
    """The `Scanner` port."""

    def __init__(self, emit: Emit, cache_path: Path) -> None:
        self._emit = emit
        self._cache = HeaderCache(cache_path)
        self._scan: _Scan | None = None
        self._next: tuple[Folder, ...] | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._is_closed = False
        self._stuck: dict[str, _Walk] = {}

    def scan(self, folders: Sequence[Folder]) -> None:
        """Look at every file below: `FilesFound`.  A call during a scan makes it run once more."""
        if self._is_closed:
            return
        self._next = tuple(folders)
        if self._scan is None:
            self._start()

    async def close(self) -> None:
        """Give up a scan that runs.  Bounded."""
        self._is_closed = True
        if self._scan is not None:
            self._scan.give_up()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), CLOSE_SECONDS)

    def _start(self) -> None:
        """Begin what was asked for last."""
        assert self._next is not None
        folders, self._next = self._next, None
        self._idle.clear()
        self._scan = _Scan(folders, self._cache, self._stuck)
        loop = asyncio.get_running_loop()
        # Not from a pool: a pool waits at exit for threads that a dead disk holds.
        threading.Thread(
            target=self._run, args=(self._scan, loop), name="modeld-scan", daemon=True
        ).start()

    def _run(self, scan: "_Scan", loop: asyncio.AbstractEventLoop) -> None:
        """Scan, in a thread."""
        error: BaseException | None = None
        found: FilesFound | None = None
        try:
            found = scan.run()
        except BaseException as caught:  # noqa: BLE001  (raised again, where somebody sees it)
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(self._finish, found, error)

    def _finish(self, found: FilesFound | None, error: BaseException | None) -> None:
        """Report, in the loop's thread."""
        self._scan = None
        self._idle.set()
        if found is not None and not self._is_closed:
            self._emit(found)
        if self._next is not None and not self._is_closed:
            self._start()
        if error is not None:
            raise error


class _Scan:
    """One scan; everything but `give_up` runs in its thread."""

    def __init__(
        self,
        folders: Sequence[Folder],
        cache: HeaderCache,
        stuck: dict[str, "_Walk"],
    ) -> None:
        self._folders = folders
        self._cache = cache
        self._stuck = stuck
        self._reader = HeaderReader()
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """End it early; what it found does not matter any more."""
        self._given_up.set()
        self._reader.give_up()

    def run(self) -> FilesFound:
        """Return all files below the folders."""
        started = time.monotonic()
        self._cache.load()
        walked = self._walk()
        try:
            files = tuple(self._with_header(file) for file in walked.files)
        finally:
            self._reader.close()
        if not self._given_up.is_set():
            self._cache.save(files)
        tiers = tuple(folder.tier for folder in self._folders)
        return FilesFound(
            files=files,
            catalog=_catalog(files, tiers),
            problems=tuple(walked.problems),
            header_reads=self._reader.reads,
            seconds=time.monotonic() - started,
        )

    def _walk(self) -> Walked:
        """Walk all folders at once."""
        walks, problems = self._begin_walks()
        files: list[FoundFile] = []
        for one in walks:
            if not one.has_ended():
                self._stuck[one.folder.path] = one
                problems.append(_silence(one.folder))
            elif one.error is not None:
                raise one.error
            else:
                files += one.walked.files
                problems += one.walked.problems
        return Walked(files, problems)

    def _begin_walks(self) -> tuple[list["_Walk"], list[str]]:
        """Start a walk for each folder that can be walked."""
        walks: list[_Walk] = []
        problems: list[str] = []
        seen: dict[str, Folder] = {}
        paths = {normpath(folder.path) for folder in self._folders}
        for folder in self._folders:
            path = normpath(folder.path)
            if path in seen:
                problems.append(
                    f"{path} is configured twice, as {seen[path].tier} and {folder.tier}"
                )
                continue
            seen[path] = folder
            old = self._stuck.pop(path, None)
            if old is not None and old.is_going_on:
                self._stuck[path] = old
                problems.append(_silence(folder))
                continue
            here = Folder(tier=folder.tier, path=path)
            walks.append(_Walk(here, paths - {path}, self._given_up.is_set))
        return walks, problems

    def _with_header(self, file: FoundFile) -> FoundFile:
        """Return the file with its header, remembered or read."""
        if file.problem or self._given_up.is_set():
            return file
        known = self._cache.find(file)
        if known is not None:
            return known
        answer = self._reader.read(file)
        file = replace(file, header=answer.header, problem=answer.problem)
        settled = time.time_ns() - file.mtime_ns > SETTLED_NS
        if answer.is_lasting and (settled or answer.header is not None):
            self._cache.keep(file)
        return file


class _Walk:
    """A walk through one folder, in a thread that a dead disk may hold for ever."""

    def __init__(self, folder: Folder, others: set[str], is_stopped: Callable[[], bool]) -> None:
        self.folder = folder
        self.walked = Walked([], [])
        self.error: BaseException | None = None
        self._others = others
        self._is_stopped = is_stopped
        self._moved_at = time.monotonic()
        name = f"modeld-walk-{folder.tier}"
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_going_on(self) -> bool:
        """Whether it has not ended yet."""
        return self._thread.is_alive()

    def has_ended(self) -> bool:
        """Wait for the end, and return False when it does not come any nearer."""
        while self.is_going_on:
            patience = self._moved_at + SILENT_SECONDS - time.monotonic()
            if patience <= 0:
                return False
            self._thread.join(patience)
        return True

    def _run(self) -> None:
        """Walk, in the thread."""
        try:
            self.walked = walk(self.folder, self._others, self._move)
        except BaseException as error:  # noqa: BLE001  (raised again by whoever waits for it)
            self.error = error

    def _move(self) -> bool:
        """Note that one more folder is entered, and return whether to stop."""
        self._moved_at = time.monotonic()
        return self._is_stopped()


@lru_cache(maxsize=1)
def _catalog(files: tuple[FoundFile, ...], tiers: tuple[str, ...]) -> Catalog:
    """Return the models that files are: the very same where the files are the same."""
    return build_catalog(files, tiers)


def _silence(folder: Folder) -> str:
    """Return the sentence about a folder whose disk does not answer."""
    return f"{folder.path} does not answer; its models are left out until it does"
