"""
Notices that model folders changed: the `Watcher` port, on inotify by way of watchdog.

Events are hints: many become one `FolderChanged`, which only says that a scan is worth while.
Where hints may be missing (the kernel's queue ran over, its limits are reached, another machine
writes to a network disk) that is said, and the folder is polled.  What changed is not looked at,
and a folder that is missing is waited for, never made.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from watchdog.observers.inotify_c import InotifyFD

from modeld.core.events import FolderChanged
from modeld.host.watch.mounts import read_mounts, why_polled
from modeld.host.watch.tree import CHANGED, Tree, limit_of
from modeld.supervisor.ports import Emit, Folder

DEBOUNCE_SECONDS = 0.1
POLL_SECONDS = 30.0
UPKEEP_SECONDS = 2.0
"""Between two looks at whether a folder appeared, went away or was mounted over."""
CLOSE_SECONDS = 3.0


class FolderWatcher:
    """The `Watcher` port."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._folders: tuple[Folder, ...] | None = None
        self._sentences: tuple[str, ...] = ()
        self._watching: _Watching | None = None

    def watch(self, folders: Sequence[Folder]) -> Sequence[str]:
        """Watch these and no others: `FolderChanged`.  Returns a sentence a folder it polls."""
        if tuple(folders) != self._folders:
            self._folders = tuple(folders)
            if self._watching is not None:
                self._watching.stop()
            self._watching = _Watching(folders, self._emit)
            self._sentences = self._watching.start()
        return self._sentences

    async def close(self) -> None:
        """Stop watching.  Bounded."""
        watching, self._watching = self._watching, None
        if watching is not None:
            watching.stop()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watching.ended.wait(), CLOSE_SECONDS)


@dataclass(slots=True)
class _Place:
    """One folder, and how it is looked after."""

    tier: str
    path: str
    polled_because: str
    """Why inotify is not enough; empty when it is."""
    polled_at: float
    """[monotonic s]"""
    identity: tuple[int, int] | None = None
    """Device and inode of what is watched; None for nothing."""
    tree: Tree | None = None

    @property
    def sentence(self) -> str:
        """What to tell about a folder that is polled."""
        return f"{self.path} is looked at every {POLL_SECONDS:g} s only: {self.polled_because}"


class _Watching:
    """
    Looks after one set of folders until it is stopped.

    Setting up watches walks whole trees, so that happens in a thread, which a dead disk may hold;
    whoever stops it need not wait for it.
    """

    def __init__(self, folders: Sequence[Folder], emit: Emit) -> None:
        self.ended = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._hints = _Hints(self._loop, emit)
        self._stopped = threading.Event()
        self._notifier: InotifyFD | None = None
        mounts, now = read_mounts(), time.monotonic()
        self._places = [
            _Place(folder.tier, os.path.normpath(folder.path), why_polled(folder.path, mounts), now)
            for folder in folders
        ]

    def start(self) -> tuple[str, ...]:
        """Begin, and return a sentence about each folder that is polled from the start."""
        try:
            self._notifier = InotifyFD()
        except OSError as error:
            for place in self._places:
                place.polled_because = place.polled_because or limit_of(error) or str(error)
        else:
            self._notifier.start()
            for place in self._places:
                if not place.polled_because:
                    place.polled_because = _limit_already(self._notifier, place.path)
        threading.Thread(target=self._run, name="modeld-watch", daemon=True).start()
        return tuple(place.sentence for place in self._places if place.polled_because)

    def stop(self) -> None:
        """End soon, and emit nothing from now on."""
        self._hints.stop()
        self._stopped.set()

    def _run(self) -> None:
        """Look after the folders, in the thread."""
        try:
            while not self._stopped.is_set():
                for place in self._places:
                    if place.polled_because:
                        self._poll(place)
                    elif self._notifier is not None:
                        self._keep_watched(place, self._notifier)
                self._stopped.wait(UPKEEP_SECONDS)
        finally:
            if self._notifier is not None:
                self._notifier.stop()
                self._notifier.join(CLOSE_SECONDS)
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.ended.set)

    def _poll(self, place: _Place) -> None:
        """Give a hint now and then, whether or not anything changed."""
        if time.monotonic() - place.polled_at >= POLL_SECONDS:
            place.polled_at = time.monotonic()
            self._hints.give(place.tier, "polled")

    def _keep_watched(self, place: _Place, notifier: InotifyFD) -> None:
        """See to it that what is at the folder's path now is watched."""
        if place.tree is not None and place.tree.limit:
            place.polled_because = place.tree.limit
            self._hints.give(place.tier, place.sentence)
            return
        identity = _identity(place.path)
        if identity == place.identity:
            return
        if place.tree is not None:
            place.tree.close()
        place.identity, place.tree = identity, None
        if identity is None:
            self._hints.give(place.tier, "the folder went away")
            return
        # It may be another disk by now.
        place.polled_because = why_polled(place.path, read_mounts())
        if place.polled_because:
            self._hints.give(place.tier, place.sentence)
            return
        tree = Tree(notifier, place.path, partial(self._hints.give, place.tier))
        try:
            tree.open()
        except OSError as error:
            # Gone again or closed to us: it is tried again.  At a limit it is polled.
            place.identity, place.polled_because = None, limit_of(error)
            return
        tree.fill()
        place.tree = tree
        # What changed since the last scan and before this moment was not noticed.
        self._hints.give(place.tier, tree.limit or "watched from now on")


class _Hints:
    """Makes one `FolderChanged` of many hints that come together, in the loop's thread."""

    def __init__(self, loop: asyncio.AbstractEventLoop, emit: Emit) -> None:
        self._loop = loop
        self._emit = emit
        self._lock = threading.Lock()
        self._pending: dict[str, str] = {}
        self._is_stopped = False

    def give(self, tier: str, reason: str) -> None:
        """Take a hint, in any thread."""
        with self._lock:
            is_waiting = tier in self._pending
            if not is_waiting or reason != CHANGED:
                self._pending[tier] = reason
            if self._is_stopped or is_waiting:
                return
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(
                self._loop.call_later, DEBOUNCE_SECONDS, self._pass_on, tier
            )

    def stop(self) -> None:
        """Pass nothing on any more."""
        with self._lock:
            self._is_stopped = True

    def _pass_on(self, tier: str) -> None:
        """Emit, in the loop's thread."""
        with self._lock:
            reason = self._pending.pop(tier)
            if self._is_stopped:
                return
        self._emit(FolderChanged(tier=tier, reason=reason))


def _identity(path: str) -> tuple[int, int] | None:
    """Return by what a folder is known to be the same; None when there is none."""
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _limit_already(notifier: InotifyFD, path: str) -> str:
    """Return the limit that is in the way of watching a folder; empty when there is none."""
    tree = Tree(notifier, path, lambda _: None)
    try:
        tree.open()
    except OSError as error:
        return limit_of(error)
    tree.close()
    return ""
