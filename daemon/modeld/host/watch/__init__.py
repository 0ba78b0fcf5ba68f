"""
Notices that model folders changed: the `Watcher` port.

    watcher   folders that come, go and are polled; `FolderChanged`
    tree        inotify on a folder and everything below it
    mounts      where inotify is not enough
"""

from modeld.host.watch.watcher import FolderWatcher

__all__ = ["FolderWatcher"]
