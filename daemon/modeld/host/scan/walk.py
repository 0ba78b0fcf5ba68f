"""
Finds the GGUF files below one folder.

Every folder is entered once, real ones before those that symbolic links lead to, so that links
in a circle end and a file is known by its real path.  Hidden files and folders are left out:
recycle bins, version control, half-made copies.  No file is opened here, and whoever calls waits
for the disk.
"""

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import NamedTuple

from modeld.core.entities import FoundFile
from modeld.supervisor.ports import Folder

SUFFIX = ".gguf"
MAX_FILES = 50_000
MAX_FOLDERS = 50_000
"""A link to `/` among the models must not make a scan endless."""
MAX_PROBLEMS = 32

_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""Control characters, and bytes that are not UTF-8 as Python shows them."""


class Walked(NamedTuple):
    """What lies below one folder."""

    files: list[FoundFile]
    """Without headers; those with a problem can't be read."""
    problems: list[str]
    """Folders that could not be looked at, one sentence each."""


def walk(folder: Folder, others: Collection[str], is_stopped: Callable[[], bool]) -> Walked:
    """
    Return all GGUF files below `folder`.

    Args:
        folder: Where to look.
        others: Paths of other model folders, which are left out when they lie within.
        is_stopped: Asked before every folder; True ends the walk early.
    """
    if problem := _root_problem(folder.path):
        return Walked([], [problem])
    walker = _Walker(folder, others)
    while walker.has_more and not is_stopped():
        walker.enter_next()
    return walker.walked


class _Walker:
    """A walk on its way."""

    def __init__(self, folder: Folder, others: Collection[str]) -> None:
        self.walked = Walked([], [])
        self._folder = folder
        self._others = others
        self._real = [""]
        """Folders to enter, as paths below the first."""
        self._linked: list[str] = []
        """The same, behind symbolic links."""
        self._visited: set[tuple[int, int]] = set()

    @property
    def has_more(self) -> bool:
        """Whether there is a folder that was not entered yet, and that may be."""
        if not self._real and not self._linked:
            return False
        if len(self._visited) < MAX_FOLDERS and len(self.walked.files) < MAX_FILES:
            return True
        path = self._folder.path
        self._complain(f"{path} has too many files or folders below it; some are left out")
        return False

    def enter_next(self) -> None:
        """Look at what one folder has."""
        below = self._real.pop() if self._real else self._linked.pop(0)
        for entry in self._entries(f"{self._folder.path}/{below}" if below else self._folder.path):
            if entry.name.startswith(".") or entry.path in self._others:
                continue
            name = f"{below}/{entry.name}" if below else entry.name
            if _is_folder(entry):
                (self._linked if entry.is_symlink() else self._real).append(name)
            elif entry.name.lower().endswith(SUFFIX):
                self.walked.files.extend(_found(self._folder.tier, name, entry))

    def _entries(self, path: str) -> list[os.DirEntry[str]]:
        """Return what is in a folder that was not looked at before, in the order of names."""
        try:
            status = Path(path).stat()
            if (status.st_dev, status.st_ino) in self._visited:
                return []
            self._visited.add((status.st_dev, status.st_ino))
            with os.scandir(path) as entries:
                return sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._complain(f"{speakable(path)} can't be read: {error.strerror}")
            return []

    def _complain(self, sentence: str) -> None:
        """Tell about a folder, unless too many were told about already."""
        if len(self.walked.problems) < MAX_PROBLEMS:
            self.walked.problems.append(sentence)


def speakable(path: str) -> str:
    """Return a path fit for a sentence and for JSON, whatever bytes it has."""
    return _UNSPEAKABLE.sub(lambda match: match[0].encode("unicode_escape").decode(), path)


def _root_problem(path: str) -> str:
    """Return why a configured folder can't be looked at; empty when it can."""
    try:
        mode = Path(path).stat().st_mode
    except FileNotFoundError:
        return f"{path} does not exist; it is not created"
    except OSError as error:
        return f"{path} can't be read: {error.strerror}"
    return "" if stat.S_ISDIR(mode) else f"{path} is not a folder"


def _is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether it is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle; _found tells
        return False


def _found(tier: str, relative_path: str, entry: os.DirEntry[str]) -> Iterator[FoundFile]:
    """Yield the file, unless it went away meanwhile."""
    size_bytes = mtime_ns = device = inode = 0
    problem = ""
    try:
        status = entry.stat()
    except FileNotFoundError:
        if not entry.is_symlink():
            return
        problem = "it is a symbolic link to nothing"
    except OSError as error:
        problem = f"it can't be looked at: {error.strerror}"
    else:
        size_bytes, mtime_ns = status.st_size, status.st_mtime_ns
        device, inode = status.st_dev, status.st_ino
        if not stat.S_ISREG(status.st_mode):
            problem = "it is not a regular file"
        elif _UNSPEAKABLE.search(relative_path):
            problem = "its name has control characters or is not UTF-8; rename it"
    yield FoundFile(
        tier=tier,
        path=speakable(entry.path),
        relative_path=speakable(relative_path),
        size_bytes=size_bytes,
        mtime_ns=mtime_ns,
        device=device,
        inode=inode,
        problem=problem,
    )
