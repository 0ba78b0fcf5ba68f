"""
A tier's folder, entered so that nothing leads out of it.

Every name is checked, every step goes by a directory's descriptor and follows no link, and a
folder that somebody else could change is refused.  Hidden below it lies modeld's own folder, with
a marker in it: only there does modeld put half-written files, and only there does it clean up.
"""

import contextlib
import errno
import fcntl
import os
import stat
from collections.abc import Iterator, Sequence
from os.path import normpath

from modeld.host.copy.failure import CopyFailed, of_target

WORK_NAME = ".modeld-copies"
MARKER_NAME = "README"
MARKER = (
    b"modeld keeps unfinished copies of models here, and the list of those it made.\n"
    b"Without the list it takes them for yours, and never removes them.\n"
)
PART_PREFIX = "part-"
MAX_NAME_BYTES = 255
MAX_PATH_BYTES = 1024
MAX_PARTS = 16
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def parts_of(relative_path: str) -> tuple[str, ...]:
    """
    Return the folders and the name of a file below a tier.

    Raises:
        CopyFailed: It could lead elsewhere, would be hidden, or can't be written down.
    """
    parts = tuple(relative_path.split("/"))
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError as error:
        raise CopyFailed("refused", f"{relative_path!r} is not UTF-8") from error
    is_odd = any(not part or part.startswith(".") or "\0" in part for part in parts)
    is_long = max(sizes) > MAX_NAME_BYTES or sum(sizes) > MAX_PATH_BYTES or len(parts) > MAX_PARTS
    if is_odd or is_long:
        raise CopyFailed("refused", f"{relative_path!r} is no name that modeld writes to")
    return parts


def relative_to(folder: str, path: str) -> str:
    """Return `path` as seen from `folder`; empty where it is not below it."""
    if not path.startswith("/"):
        return path
    base = normpath(folder).rstrip("/") + "/"
    return path[len(base) :] if path.startswith(base) else ""


@contextlib.contextmanager
def opened(descriptor: int) -> Iterator[int]:
    """Close a descriptor at the end."""
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def open_root(path: str) -> Iterator[int]:
    """
    Open a tier's folder.

    Raises:
        CopyFailed: It is missing, no folder, or others may change it.
    """
    try:
        # The configured path itself may be a link: a person wrote it down.
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise of_target(error, path) from error
    with opened(descriptor):
        check_owner(os.fstat(descriptor), path)
        yield descriptor


def check_owner(status: os.stat_result, path: str) -> None:
    """
    Check that nobody else can change what is in a folder.

    Raises:
        CopyFailed: Another user owns it, or everybody may write to it.
    """
    if status.st_uid not in {os.geteuid(), 0}:
        raise CopyFailed("refused", f"{path} belongs to another user")
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        raise CopyFailed("refused", f"everybody may write to {path}")


@contextlib.contextmanager
def open_parent(root: int, parts: Sequence[str], made: list[str] | None = None) -> Iterator[int]:
    """
    Open the folder of the file `parts`.

    Args:
        root: The tier's folder.
        parts: The file, as `parts_of` returns it.
        made: Missing folders are made, and noted here; None to make none.

    Raises:
        CopyFailed: A folder on the way is a link, or somebody else's.
        OSError: A folder is missing, or can't be made.
    """
    with contextlib.ExitStack() as stack:
        here = root
        for depth, part in enumerate(parts[:-1], 1):
            if made is not None:
                with contextlib.suppress(FileExistsError):
                    os.mkdir(part, 0o755, dir_fd=here)
                    made.append("/".join(parts[:depth]))
            here = stack.enter_context(opened(_open_directory(here, part)))
            check_owner(os.fstat(here), "/".join(parts[:depth]))
        yield here


def _open_directory(parent: int, name: str) -> int:
    """Open a folder in a folder, and no link to one."""
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except OSError as error:
        if error.errno == errno.ELOOP or _is_link(parent, name):
            raise CopyFailed("refused", f"{name} is a link; modeld follows none here") from error
        raise


def _is_link(parent: int, name: str) -> bool:
    """Return whether a name is a symbolic link: as a folder, the kernel says ENOTDIR of one."""
    with contextlib.suppress(OSError):
        return stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode)
    return False


def status_of(root: int, parts: Sequence[str]) -> os.stat_result | None:
    """
    Return what has this name below a tier; None where nothing has.

    Raises:
        CopyFailed: A folder on the way is a link, or somebody else's.
        OSError: It can't be looked at.
    """
    try:
        with open_parent(root, parts) as parent:
            return os.stat(parts[-1], dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def open_work(root: int, *, make: bool) -> Iterator[int]:
    """
    Open modeld's own folder below a tier.

    Raises:
        CopyFailed: What has its name is not modeld's, or others may write to it.
        OSError: It is missing, or can't be made.
    """
    if make:
        _make_work(root)
    with opened(_open_directory(root, WORK_NAME)) as work:
        status = os.fstat(work)
        if status.st_uid != os.geteuid() or status.st_mode & 0o022:
            raise CopyFailed("refused", f"others may write to {WORK_NAME}: nothing in it counts")
        if status_of(work, (MARKER_NAME,)) is None:
            if not make:
                raise CopyFailed("refused", f"{WORK_NAME} was not made by modeld")
            _write_marker(work)
        yield work


def _make_work(root: int) -> None:
    """Make modeld's own folder where it is missing."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(WORK_NAME, 0o700, dir_fd=root)
        os.fsync(root)


def _write_marker(work: int) -> None:
    """Mark a folder as modeld's, unless something is in it already."""
    strange = [name for name in names_in(work) if name != MARKER_NAME]
    if strange:
        raise CopyFailed("refused", f"{WORK_NAME} was not made by modeld: {strange[0]} is in it")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with (
        contextlib.suppress(FileExistsError),
        opened(os.open(MARKER_NAME, flags, 0o600, dir_fd=work)) as marker,
    ):
        os.write(marker, MARKER)


@contextlib.contextmanager
def open_part(work: int, name: str, *, make: bool) -> Iterator[int]:
    """
    Open the folder of one unfinished copy and hold its lock: who has it, works on it.

    Raises:
        BlockingIOError: It is being worked on.
        OSError: It is missing, or can't be made.
    """
    if make:
        os.mkdir(name, 0o700, dir_fd=work)
    try:
        descriptor = _open_directory(work, name)
    except (OSError, CopyFailed):
        if make:
            with contextlib.suppress(OSError):
                os.rmdir(name, dir_fd=work)
        raise
    with opened(descriptor) as part:
        fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(part).st_nlink == 0:  # a survey was faster, and took it for left behind
            raise BlockingIOError(errno.EAGAIN, "it is gone", name)
        yield part


def names_in(directory: int) -> list[str]:
    """Return what is in a folder now."""
    # Anew: on Btrfs a descriptor lists what was there when it was opened.
    with opened(os.open(".", _DIRECTORY, dir_fd=directory)) as fresh, os.scandir(fresh) as entries:
        return [entry.name for entry in entries]


def discard_part(work: int, name: str, part: int) -> None:
    """Remove an unfinished copy, as far as it can be removed."""
    with contextlib.suppress(OSError):
        for inner in names_in(part):
            os.unlink(inner, dir_fd=part)
        os.rmdir(name, dir_fd=work)


def remove_folders(root: int, folders: Sequence[str]) -> list[str]:
    """Remove those folders that are empty, deepest first; return those that are gone."""
    gone = []
    for folder in sorted(folders, key=len, reverse=True):
        parts = parts_of(folder)
        try:
            with open_parent(root, parts) as parent:
                os.rmdir(parts[-1], dir_fd=parent)
        except FileNotFoundError:
            pass
        except (OSError, CopyFailed):
            continue
        gone.append(folder)
    return gone


def available_bytes(root: int) -> int:
    """Return how much this user may still write there."""
    space = os.fstatvfs(root)
    return space.f_bavail * space.f_frsize
