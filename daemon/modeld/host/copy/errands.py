"""
What is done on a tier besides copying: measure and tidy it, remove copies, read them again.

Plain functions that block, for a thread.  Each ends in one event, whatever happens.
"""

import contextlib
import errno
import mmap
import os
import zlib
from collections.abc import Callable, Iterator, Sequence

from msgspec.structs import replace

from modeld.core.events import CopiesVerified, FilesRemoved, SpaceMeasured
from modeld.host.copy.failure import CopyFailed, of_target
from modeld.host.copy.kernel import DONTCACHE, can_not
from modeld.host.copy.ledger import Entry, Ledger, Manifest, without_strangers
from modeld.host.copy.publish import recover
from modeld.host.copy.sink import checksum_text
from modeld.host.copy.source import CHUNK_BYTES
from modeld.host.copy.tier import (
    check_owner,
    open_parent,
    open_root,
    open_work,
    opened,
    parts_of,
    remove_folders,
)
from modeld.supervisor.ports import Folder

# --- survey -------------------------------------------------------------------------------------


def survey(folder: Folder, ledger: Ledger) -> SpaceMeasured:
    """Finish or discard what earlier daemons left, read the list of copies, measure."""
    try:
        descriptor = os.open(folder.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        sentence = of_target(error, folder.path).sentence
        return SpaceMeasured(tier=folder.tier, total_bytes=0, free_bytes=0, problem=sentence)
    with opened(descriptor) as root:
        problem = ""
        try:
            check_owner(os.fstat(root), folder.path)
            _check_writable(root, folder.path)
        except CopyFailed as failure:
            problem = failure.sentence
        problem = _tidy(root, folder.path, ledger) or problem
        space = os.fstatvfs(root)
        return SpaceMeasured(
            tier=folder.tier,
            total_bytes=space.f_blocks * space.f_frsize,
            free_bytes=space.f_bavail * space.f_frsize,
            problem=problem,
        )


def _check_writable(root: int, path: str) -> None:
    if os.fstatvfs(root).f_flag & os.ST_RDONLY:
        raise CopyFailed("read-only", f"{path} is mounted read-only")
    if not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
        raise CopyFailed("read-only", f"this user may not write to {path}")


def _tidy(root: int, path: str, ledger: Ledger) -> str:
    """Do what is to be done in modeld's own folder; return what keeps it from that."""
    try:
        with open_work(root, make=False) as work:
            recover(root, work, ledger)
            ledger.change(work, lambda manifest: without_strangers(root, manifest))
    except FileNotFoundError:
        ledger.files = {}
    except CopyFailed as failure:
        ledger.files = {}
        return failure.sentence
    except OSError as error:
        return of_target(error, path).sentence
    return ""


def let_go(path: str, ledger: Ledger) -> None:
    """Note that the tier was left in order."""
    with (
        contextlib.suppress(OSError, CopyFailed),
        open_root(path) as root,
        open_work(root, make=False) as work,
    ):
        ledger.change(work, lambda manifest: replace(manifest, is_open=False))


# --- remove -------------------------------------------------------------------------------------


def remove(
    model_id: str, folder: str, relative_paths: Sequence[str], ledger: Ledger
) -> FilesRemoved:
    """
    Unlink copies that modeld made, all or none; the first file first, so that none is half there.

    Unlinked, and never truncated: a server that has one of them mapped goes on with it.
    """
    freed = 0
    try:
        with open_root(folder) as root, open_work(root, make=False) as work:
            ledger.change(work, lambda manifest: manifest)
            found = [(path, _ours(root, path, ledger)) for path in relative_paths]
            gone = []
            try:
                for path, entry in found:
                    freed += _unlink(root, path) if entry is not None else 0
                    gone.append(path)
            finally:
                ledger.change(work, lambda manifest: _without(root, manifest, gone))
    except CopyFailed as failure:
        return FilesRemoved(model_id=model_id, freed_bytes=freed, error=failure.sentence)
    except OSError as error:
        sentence = of_target(error, folder).sentence
        return FilesRemoved(model_id=model_id, freed_bytes=freed, error=sentence)
    return FilesRemoved(model_id=model_id, freed_bytes=freed)


def _ours(root: int, path: str, ledger: Ledger) -> Entry | None:
    """
    Return what is known of a copy; None where it is gone already.

    Raises:
        CopyFailed: modeld did not make it.
    """
    entry = ledger.files.get(path)
    if entry is None:
        raise CopyFailed("refused", f"{path} was not made by modeld")
    parts = parts_of(path)
    try:
        with open_parent(root, parts) as parent:
            status = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None
    if not entry.fits(status):
        raise CopyFailed("refused", f"{path} is not the file any more that modeld made")
    return entry


def _unlink(root: int, path: str) -> int:
    """Remove one file; return what that frees, as soon as nobody has it open."""
    parts = parts_of(path)
    with open_parent(root, parts) as parent:
        status = os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
        os.unlink(parts[-1], dir_fd=parent)
        os.fsync(parent)
    return status.st_blocks * 512 if status.st_nlink == 1 else 0


def _without(root: int, manifest: Manifest, gone: Sequence[str]) -> Manifest:
    """Return the list without files that are gone, and without folders that are empty now."""
    files = {path: entry for path, entry in manifest.files.items() if path not in gone}
    empty = [
        each for each in manifest.folders if not any(path.startswith(each + "/") for path in files)
    ]
    removed = remove_folders(root, empty)
    folders = tuple(each for each in manifest.folders if each not in removed)
    return replace(manifest, files=files, folders=folders)


# --- verify -------------------------------------------------------------------------------------


def verify(
    folder: str,
    relative_paths: Sequence[str],
    ledger: Ledger,
    *,
    keep: bool,
    check: Callable[[], None],
) -> CopiesVerified:
    """
    Read copies again and compare size and checksum.

    Args:
        folder: The tier's folder.
        relative_paths: The copies.
        ledger: The tier's list.
        keep: A server is about to load them: leave them in the page cache.
        check: Raises what ends it early; called once a chunk.
    """
    intact: list[str] = []
    damaged: list[str] = []
    error = ""
    try:
        with open_root(folder) as root, open_work(root, make=False) as work:
            for path in relative_paths:
                is_intact = _is_intact(root, path, ledger, keep=keep, check=check)
                (intact if is_intact else damaged).append(path)
            ledger.change(work, lambda manifest: _with_verified(manifest, intact, damaged))
    except CopyFailed as failure:
        error = failure.sentence
    except OSError as caught:
        error = of_target(caught, folder).sentence
    return CopiesVerified(folder=folder, intact=tuple(intact), damaged=tuple(damaged), error=error)


def _is_intact(
    root: int, path: str, ledger: Ledger, *, keep: bool, check: Callable[[], None]
) -> bool:
    entry = ledger.files.get(path)
    if entry is None:
        raise CopyFailed("refused", f"{path} was not made by modeld")
    try:
        with _open_copy(root, path) as descriptor:
            if not entry.fits(os.fstat(descriptor)):
                return False
            if not entry.checksum:
                return True
            return _checksum(descriptor, keep=keep, check=check) == entry.checksum
    except OSError as error:
        if error.errno in {errno.EIO, errno.ENOENT, errno.ELOOP, errno.EUCLEAN}:
            return False
        raise


@contextlib.contextmanager
def _open_copy(root: int, path: str) -> Iterator[int]:
    parts = parts_of(path)
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
    with open_parent(root, parts) as parent:
        descriptor = os.open(parts[-1], flags, dir_fd=parent)
    with opened(descriptor):
        yield descriptor


def _checksum(descriptor: int, *, keep: bool, check: Callable[[], None]) -> str:
    """Return the checksum of what the disk has now."""
    flags = 0 if keep else DONTCACHE
    if not keep:  # what the page cache remembers says nothing about the disk
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    value, offset = 0, 0
    with mmap.mmap(-1, CHUNK_BYTES) as buffer, memoryview(buffer) as view:
        while True:
            check()
            try:
                count = os.preadv(descriptor, [view], offset, flags)
            except OSError as error:
                if not flags or not can_not(error):
                    raise
                flags = 0
                continue
            if not count:
                break
            value = zlib.crc32(view[:count], value)
            offset += count
    if not keep and not flags:
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    return checksum_text(value)


def _with_verified(manifest: Manifest, intact: Sequence[str], damaged: Sequence[str]) -> Manifest:
    files = {
        path: replace(
            entry, is_verified=path in intact or (entry.is_verified and path not in damaged)
        )
        for path, entry in manifest.files.items()
    }
    return replace(manifest, files=files)
