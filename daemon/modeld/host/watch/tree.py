"""
inotify watches on a folder and everything below it, on watchdog's inotify layer.

It keeps up with folders that come and go, and says what watchdog's own observers don't: that
the kernel dropped events, and that a limit left folders unwatched.  Links to folders are not
followed.  Callbacks come from the notifier's thread, and must return at once.
"""

import errno
import os
import threading
from collections.abc import Callable
from itertools import count

from watchdog.observers.inotify_c import (
    CallbackId,
    InotifyConstants,
    InotifyEvent,
    InotifyFD,
    Mask,
    WatchCallback,
    WatchDescriptor,
)

SUFFIX = b".gguf"
CHANGED = "changed"
"""The plainest hint; any other says more."""
MAX_WATCHES = 50_000
"""As many as a scan enters."""

_BELOW = Mask(
    InotifyConstants.IN_CLOSE_WRITE
    | InotifyConstants.IN_MOVE
    | InotifyConstants.IN_CREATE  # a link is never written to
    | InotifyConstants.IN_DELETE
    | InotifyConstants.IN_ONLYDIR
    | InotifyConstants.IN_DONT_FOLLOW
)
_TOP = Mask(
    (_BELOW & ~InotifyConstants.IN_DONT_FOLLOW)
    | InotifyConstants.IN_DELETE_SELF
    | InotifyConstants.IN_MOVE_SELF
)
_LIMITS = {
    errno.ENOSPC: "the limit fs.inotify.max_user_watches is reached",
    errno.EMFILE: "the limit fs.inotify.max_user_instances is reached",
    errno.ENFILE: "the system has no file descriptors left",
}
_ids = count(1)


def limit_of(error: OSError) -> str:
    """Return which limit of inotify an error is about; empty when it is about none."""
    return _LIMITS.get(error.errno or 0, "")


class Tree(WatchCallback):
    """The watches on one folder and everything below it."""

    def __init__(self, notifier: InotifyFD, path: str, on_change: Callable[[str], None]) -> None:
        """
        Watch nothing yet.

        Args:
            notifier: A running one, which other trees may share.
            path: The folder.
            on_change: Told in a word or two what happened, in any thread.
        """
        self.limit = ""
        """Why some folders are not watched; empty while all are."""
        self._notifier = notifier
        self._top = os.fsencode(path)
        self._on_change = on_change
        self._lock = threading.RLock()
        self._watches: dict[WatchDescriptor, tuple[bytes, CallbackId]] = {}
        self._by_path: dict[bytes, WatchDescriptor] = {}

    def open(self) -> None:
        """
        Watch the folder itself.

        Raises:
            OSError: It is not there, can't be read, or a limit is reached.
        """
        with self._lock:
            self._add(self._top, _TOP)

    def fill(self) -> None:
        """Watch every folder below as well."""
        self._add_below(self._top)

    def close(self) -> None:
        """Watch nothing any more."""
        with self._lock:
            watches = [(wd, own_id) for wd, (_, own_id) in self._watches.items()]
            self._watches.clear()
            self._by_path.clear()
            self._notifier.remove_callbacks(watches)

    # --- what the notifier calls, in its thread -----------------------------------------------

    def on_event(self, event: InotifyEvent) -> None:
        """Follow folders that come and go, and tell of what matters."""
        with self._lock:
            folder, _ = self._watches.get(event.wd, (None, None))
        if folder is None:
            return
        if event.mask & (InotifyConstants.IN_DELETE_SELF | InotifyConstants.IN_MOVE_SELF):
            self._on_change("the folder went away")
            return
        if not event.name or event.name.startswith(b"."):
            return
        if event.is_directory:
            path = os.path.join(folder, event.name)  # noqa: PTH118  (bytes)
            with self._lock:
                self._drop(path)
            if event.is_create or event.is_moved_to:
                self._add_below(path)
        elif not event.name.lower().endswith(SUFFIX):
            return
        self._on_change(CHANGED)

    def on_watch_deleted(self, wd: WatchDescriptor) -> None:
        """Forget a watch that the kernel took away, with its folder."""
        with self._lock:
            path, _ = self._watches.pop(wd, (None, None))
            if path is not None and self._by_path.get(path) == wd:
                del self._by_path[path]

    def on_queue_overflow(self) -> None:
        """Watch what appeared unseen, then tell that events were lost."""
        self._add_below(self._top)
        self._on_change("changes came faster than they could be noticed")

    # --- the watches --------------------------------------------------------------------------

    def _add_below(self, top: bytes) -> None:
        """Watch a folder, and every folder below."""
        pending = [top]
        while pending:
            path = pending.pop()
            try:
                with self._lock:
                    # Before it is listed: what appears after that is an event.
                    self._add(path, _BELOW)
                with os.scandir(path) as entries:
                    pending += [
                        entry.path
                        for entry in entries
                        if not entry.name.startswith(b".") and entry.is_dir(follow_symlinks=False)
                    ]
            except OSError as error:
                if limit := limit_of(error):
                    self.limit = limit
                    self._on_change(limit)
                    return
                # Else it is gone again or closed to us; a scan tells of the latter.

    def _add(self, path: bytes, mask: Mask) -> None:
        """Watch one folder, unless it is watched."""
        if path in self._by_path:
            return
        if len(self._watches) >= MAX_WATCHES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if not os.access(path, os.R_OK):
            # watchdog takes no notice of EACCES.
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        # Every watch has an id of its own: a folder that moved keeps its descriptor for a moment.
        own_id = CallbackId(next(_ids))
        descriptor = self._notifier.add_callback(path, mask, self, own_id)
        self._watches[descriptor] = (path, own_id)
        self._by_path[path] = descriptor

    def _drop(self, top: bytes) -> None:
        """Stop watching a folder and everything below, where it is watched."""
        if top not in self._by_path:
            return
        inside = top + b"/"
        gone = [path for path in self._by_path if path == top or path.startswith(inside)]
        descriptors = [self._by_path.pop(path) for path in gone]
        watches = [(wd, self._watches.pop(wd)[1]) for wd in descriptors if wd in self._watches]
        self._notifier.remove_callbacks(watches)
