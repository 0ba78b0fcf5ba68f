"""
How many models lie below a folder, and how large they are, within limits.

The manners are those of modeld's own scan: hidden names are left out, links are followed, every
folder is entered once.  No file is opened, so that what is counted may still turn out damaged.
"""

import os
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

SUFFIX = ".gguf"
MAX_DEPTH = 8
"""Below the folder; the deepest of the usual ones, Hugging Face's, needs three."""
MAX_ENTRIES = 50_000
"""Files and folders: a link to `/` must not make a look endless."""
_LATER_SHARD = re.compile(r"-0*(?:[2-9]|[1-9]\d+)-of-\d+\.gguf$", re.IGNORECASE)
_NO_MODEL = re.compile(r"mmproj|^ggml-vocab-", re.IGNORECASE)
"""A projector belongs to a model, and a vocabulary is a fixture of llama.cpp's tests."""


class Contents(NamedTuple):
    """What lies below a folder."""

    models: int = 0
    size_bytes: int = 0
    is_whole: bool = True
    """Whether no limit ended the look before its time."""


def look(folder: str, until: float, clock: Callable[[], float]) -> Contents:
    """
    Return what lies below a folder; nothing where it can't be read.

    Args:
        folder: Its path.
        until: [unix s] When to give up.
        clock: Tells the time.
    """
    seen: set[tuple[int, int]] = set()
    folders = [(folder, 0)]
    models = size_bytes = entries = 0
    while folders:
        path, depth = folders.pop()
        for entry in _entries(path, seen):
            entries += 1
            if entries > MAX_ENTRIES or clock() > until:
                return Contents(models, size_bytes, is_whole=False)
            if entry.name.startswith("."):
                continue
            if _is_folder(entry):
                if depth < MAX_DEPTH:
                    folders.append((entry.path, depth + 1))
                continue
            if size := _size(entry, seen):
                size_bytes += size
                models += not (_LATER_SHARD.search(entry.name) or _NO_MODEL.search(entry.name))
    return Contents(models, size_bytes)


def _entries(path: str, seen: set[tuple[int, int]]) -> Iterator[os.DirEntry[str]]:
    """Yield what is in a folder that was not entered before."""
    try:
        status = os.stat(path)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            return
        seen.add((status.st_dev, status.st_ino))
        with os.scandir(path) as entries:
            yield from entries
    except OSError:
        return


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _size(entry: os.DirEntry[str], seen: set[tuple[int, int]]) -> int:
    """Return the bytes of a GGUF file that was not counted before; 0 for anything else."""
    if not entry.name.lower().endswith(SUFFIX):
        return 0
    try:
        status = entry.stat()
    except OSError:
        return 0
    if (status.st_dev, status.st_ino) in seen or not entry.is_file():
        return 0
    seen.add((status.st_dev, status.st_ino))
    return status.st_size
