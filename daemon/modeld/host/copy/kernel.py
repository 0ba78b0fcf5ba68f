"""
What copying asks of the kernel and Python has no name for.

Each function is one call with its answer checked.  Where a kernel or a file system lacks it,
that is said by the return value, and the caller goes another way; nothing here decides.
"""

import ctypes
import errno
import fcntl
import mmap
import os

DONTCACHE = 0x80
"""RWF_DONTCACHE, Linux 6.14: pages that this call brings in leave the page cache after it."""
_FICLONE = 0x40049409
_AT_RENAME_NOREPLACE = 1
_SYS_CACHESTAT = 451
"""Linux 6.5; new calls have the same number everywhere."""
_SYNC_WAIT_WRITE_WAIT = 7
_SYNC_WRITE = 2
_UNSUPPORTED = {errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ENOTTY, errno.EXDEV}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_libc.sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_libc.syscall.restype = ctypes.c_long
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p,
    ctypes.c_size_t,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int,
    ctypes.c_int64,
)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)


_Range = ctypes.c_uint64 * 2
"""Offset and length."""
_CacheStat = ctypes.c_uint64 * 5
"""Pages: in the cache, dirty, being written, evicted, evicted of late."""


def allocate(descriptor: int, size_bytes: int) -> None:
    """
    Reserve the blocks of a file, where its file system can.

    Not os.posix_fallocate: the C library writes to every block where the kernel can't reserve.

    Raises:
        OSError: There is no room.
    """
    if size_bytes and _libc.fallocate(descriptor, 0, 0, size_bytes) != 0:
        number = ctypes.get_errno()
        if number not in _UNSUPPORTED:
            raise OSError(number, os.strerror(number))


def clone(source: int, target: int) -> bool:
    """Have `target` share the blocks of `source`; return whether its file system can."""
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return False
        raise
    return True


def rename_new(source_directory: int, source: str, target_directory: int, target: str) -> None:
    """
    Rename a file, and never over another one.

    Raises:
        FileExistsError: Something has that name.
        OSError: It can't be renamed.
    """
    call = getattr(_libc, "renameat2", None)
    if call is not None:
        words = (source_directory, os.fsencode(source), target_directory, os.fsencode(target))
        if call(*words, _AT_RENAME_NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _UNSUPPORTED:
            raise OSError(number, os.strerror(number), target)
    os.link(
        source,
        target,
        src_dir_fd=source_directory,
        dst_dir_fd=target_directory,
        follow_symlinks=False,
    )
    os.unlink(source, dir_fd=source_directory)


def start_writing(descriptor: int, offset: int, size_bytes: int) -> None:
    """Have these pages written, and wait for nothing."""
    _libc.sync_file_range(descriptor, offset, size_bytes, _SYNC_WRITE)


def finish_writing(descriptor: int, offset: int, size_bytes: int) -> None:
    """Wait until these pages are written, so that they can leave the page cache."""
    _libc.sync_file_range(descriptor, offset, size_bytes, _SYNC_WAIT_WRITE_WAIT)


def cached_bytes(descriptor: int, offset: int, size_bytes: int) -> int:
    """Return how much of this part of a file is in the page cache; 0 where nobody can say."""
    where, found = _Range(offset, size_bytes), _CacheStat()
    if not size_bytes:
        return 0
    if _libc.syscall(_SYS_CACHESTAT, descriptor, ctypes.byref(where), ctypes.byref(found), 0) == 0:
        return int(min(found[0] * mmap.PAGESIZE, size_bytes))
    return _resident_bytes(descriptor, offset, size_bytes)


def _resident_bytes(descriptor: int, offset: int, size_bytes: int) -> int:
    """Return the same by mapping it, as kernels before 6.5 need it."""
    start = offset - offset % mmap.PAGESIZE
    length = offset + size_bytes - start
    address = _libc.mmap(None, length, mmap.PROT_READ, mmap.MAP_SHARED, descriptor, start)
    if address in (None, ctypes.c_void_p(-1).value):
        return 0
    pages = ctypes.create_string_buffer(-(-length // mmap.PAGESIZE))
    try:
        if _libc.mincore(address, length, pages) != 0:
            return 0
    finally:
        _libc.munmap(address, length)
    return min(sum(page & 1 for page in pages.raw) * mmap.PAGESIZE, size_bytes)


def can_not(error: OSError) -> bool:
    """Return whether an error says that a call, or a flag of it, is not supported there."""
    return error.errno in _UNSUPPORTED
