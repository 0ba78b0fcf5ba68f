"""
The folders with models on this machine, each with what is in it and what it is on.

All looks together have a limit of time, so that a machine full of files costs seconds, not minutes.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence

from modelctl.setup.choosing import Folder
from modelctl.setup.disks import disk_of, read_mounts
from modelctl.setup.looking import Contents, look
from modelctl.setup.places import default_folder, usual

PATIENCE_S = 10.0
"""For all folders together."""


class Finder:
    """One look at the machine."""

    def __init__(
        self, environment: Mapping[str, str], home: str, clock: Callable[[], float]
    ) -> None:
        self._environment = environment
        self._home = home
        self._clock = clock
        self._until = clock() + PATIENCE_S
        self._mounts = read_mounts()
        self.searched: tuple[str, ...] = ()
        """The places that were looked for, there or not."""

    def default(self) -> Folder:
        """Return the built-in `ssd_path`; what is in it is not counted."""
        path = default_folder(self._home)
        is_writable = os.access(path, os.W_OK | os.X_OK)
        return Folder(path, disk_of(path, self._mounts), is_writable=is_writable)

    def folder(self, path: str, owner: str = "") -> Folder:
        """Return a folder with what is in it; with nothing, where it can't be read."""
        contents = look(path, self._until, self._clock) if path else Contents()
        return Folder(
            path=path,
            disk=disk_of(path, self._mounts),
            models=contents.models,
            size_bytes=contents.size_bytes,
            is_whole=contents.is_whole,
            owner=owner,
            is_writable=os.access(path, os.W_OK | os.X_OK),
        )

    def search(self, known: Sequence[str]) -> tuple[Folder, ...]:
        """Return the usual places that have models, but those that `known` folders cover."""
        places = list(usual(self._environment, self._home, self._mounts))
        self.searched = tuple(dict.fromkeys(one.path for one in places))
        owners = {one.path: one.owner for one in reversed(places)}
        taken = [os.path.realpath(one) for one in known]
        found = []
        for path in _apart(self.searched, taken):
            folder = self.folder(path, owners[path])
            if folder.models:
                found.append(folder)
        return tuple(found)


def _apart(paths: Sequence[str], taken: Sequence[str]) -> Iterator[str]:
    """Yield the folders that are there, and do not lie in or around one that was yielded."""
    seen = list(taken)
    # one that can't be written into a configuration is no place to look at
    real = {path: os.path.realpath(path) for path in paths if path.isprintable()}
    for path, place in sorted(real.items(), key=lambda pair: len(pair[1])):
        if not os.path.isdir(place) or any(overlap(place, each) for each in seen):  # noqa: PTH112
            real.pop(path)
        else:
            seen.append(place)
    yield from real


def overlap(one: str, other: str) -> bool:
    """Return whether two folders are the same, or one lies in the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")
