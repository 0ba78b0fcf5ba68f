"""
The list of the copies that modeld made on a tier: what is in it may be removed, nothing else.

One JSON file in modeld's own folder, replaced as a whole and synced.  It is read anew before
every change, under a lock, so that two daemons can't undo each other's.  What it says of a file
counts only as long as the file is the same one: inode, size and time of change.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Callable, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct, field
from msgspec.structs import replace

from modeld.host.copy.failure import CopyFailed
from modeld.host.copy.tier import opened, parts_of, status_of

NAME = "manifest.json"
VERSION = 1
MAX_BYTES = 64 * 1024 * 1024
_TEMPORARY = "manifest.new"
_DAMAGED = "manifest.damaged"


class Entry(Struct, frozen=True, kw_only=True):
    """One copy."""

    size_bytes: Annotated[int, Meta(ge=0)]
    mtime_ns: int
    """That of its source, so that both look like the same file."""
    inode: int
    checksum: str = ""
    """`crc32:` and eight digits; empty for a clone, which shares its source's blocks."""
    source: str = ""
    copied_at: float = 0.0
    """[unix s]"""
    is_verified: bool = True
    """False after the machine went down without a word, until somebody has read it again."""

    def fits(self, status: os.stat_result) -> bool:
        """Return whether that is the file that modeld made, and not one that took its name."""
        found = (status.st_ino, status.st_size, status.st_mtime_ns)
        return stat.S_ISREG(status.st_mode) and found == (
            self.inode,
            self.size_bytes,
            self.mtime_ns,
        )


class Manifest(Struct, frozen=True, kw_only=True):
    """What modeld made on a tier."""

    version: Annotated[int, Meta(ge=1)] = VERSION
    boot_id: str = ""
    """During which it was last used."""
    is_open: bool = False
    """Somebody uses the tier; the end of a daemon makes it False."""
    files: dict[str, Entry] = field(default_factory=dict)
    """Path below the tier -> copy."""
    folders: tuple[str, ...] = ()
    """Folders that were made for them."""


class Ledger:
    """The list of one tier, and what it last said."""

    def __init__(self, boot_id: str) -> None:
        self._boot_id = boot_id
        self.files: Mapping[str, Entry] = {}
        """As last read or written; replaced, never changed."""

    def change(self, work: int, edit: Callable[[Manifest], Manifest]) -> None:
        """
        Read the list, change it and write it.

        Raises:
            CopyFailed: A newer modeld wrote it.
            OSError: The disk refuses; the list there is as before, the one in memory is changed.
        """
        with opened(os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=work)) as own:
            fcntl.flock(own, fcntl.LOCK_EX)
            before = _read(own)
            after = edit(opened_again(before, self._boot_id))
            self.files = after.files
            if after != before:
                _write(own, after)

    def add(self, work: int, files: Mapping[str, Entry], folders: tuple[str, ...]) -> None:
        """
        Note copies.

        Raises:
            CopyFailed: A newer modeld wrote the list.
            OSError: The disk refuses.
        """
        self.change(
            work,
            lambda manifest: replace(
                manifest,
                files=manifest.files | dict(files),
                folders=tuple(sorted({*manifest.folders, *folders})),
            ),
        )


def opened_again(manifest: Manifest, boot_id: str) -> Manifest:
    """Return the list as a daemon finds it: after a crash of the machine, nothing is verified."""
    files = manifest.files
    if manifest.is_open and manifest.boot_id != boot_id:
        files = {
            name: replace(entry, is_verified=not entry.checksum) for name, entry in files.items()
        }
    return replace(manifest, files=files, boot_id=boot_id, is_open=True)


def without_strangers(root: int, manifest: Manifest) -> Manifest:
    """Return the list without files that are gone, or that are not modeld's any more."""
    kept = {name: entry for name, entry in manifest.files.items() if _is_there(root, name, entry)}
    return replace(manifest, files=kept)


def _is_there(root: int, name: str, entry: Entry) -> bool:
    try:
        status = status_of(root, parts_of(name))
    except CopyFailed:
        return False
    except OSError:
        return True  # the disk does not say: an entry is not forgotten for that
    return status is not None and entry.fits(status)


def _read(work: int) -> Manifest:
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(NAME, flags, dir_fd=work)
    except FileNotFoundError:
        return Manifest()
    with opened(descriptor):
        status = os.fstat(descriptor)
        is_ours = status.st_uid == os.geteuid() and stat.S_ISREG(status.st_mode)
        data = _read_all(descriptor, status.st_size) if is_ours else b""
    try:
        if msgspec.json.decode(data, type=_Version).version > VERSION:
            raise CopyFailed("refused", "a newer modeld made the copies there")
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Its copies become somebody's own files: what is not known for sure is never removed.
        os.rename(NAME, _DAMAGED, src_dir_fd=work, dst_dir_fd=work)
        return Manifest()


class _Version(Struct, frozen=True):
    version: int = VERSION


def _read_all(descriptor: int, size_bytes: int) -> bytes:
    pieces = []
    left = min(size_bytes, MAX_BYTES)
    while left > 0 and (piece := os.read(descriptor, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _write(work: int, manifest: Manifest) -> None:
    data = msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=1)
    write_file(work, _TEMPORARY, data)
    os.rename(_TEMPORARY, NAME, src_dir_fd=work, dst_dir_fd=work)
    os.fsync(work)


def write_file(directory: int, name: str, data: bytes) -> None:
    """
    Write a new file and sync it; nothing of it stays where that fails.

    Raises:
        OSError: The disk refuses.
    """
    with contextlib.suppress(FileNotFoundError):
        os.unlink(name, dir_fd=directory)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(name, flags, 0o600, dir_fd=directory)
    try:
        with opened(descriptor):
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=directory)
        raise
