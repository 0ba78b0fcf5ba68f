"""
The runtime directory, and the lock that makes modeld the only one in it.

Everything there is 0700 and this user's; a directory that is not is refused rather than repaired,
for whoever made it may have left something in it.
"""

import contextlib
import fcntl
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from modeld.errors import Busy, ConfigInvalid, NotPermitted
from modeld.wire.endpoint import MAX_PATH_BYTES

SUBDIRECTORIES = ("launch", "kids")
LONGEST_NAME = "kids/0123456789abcdef.sock"


def prepare_runtime(path: str) -> None:
    """
    Make the runtime directory and what belongs in it.

    Raises:
        ConfigInvalid: No socket could be made in it: its path is too long.
        NotPermitted: Something is there that another user owns or may write to.
        OSError: It can't be made.
    """
    check_socket(f"{path}/{LONGEST_NAME}")
    for directory in (Path(path), *(Path(path) / name for name in SUBDIRECTORIES)):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = os.lstat(directory)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise NotPermitted(
                f"{directory} is not a directory of this user",
                hint=f"look at it: ls -ld {directory}",
            )
        if stat.S_IMODE(found.st_mode) & 0o077:
            directory.chmod(0o700)


def check_socket(path: str) -> None:
    """
    Check that a socket can have this path.

    Raises:
        ConfigInvalid: It is too long.
    """
    over = len(os.fsencode(path)) - MAX_PATH_BYTES
    if over > 0:
        raise ConfigInvalid(
            f"no socket can have a path as long as {path}",
            hint=f"shorten XDG_RUNTIME_DIR or MODELD_SOCKET by {over} bytes",
        )


@contextlib.contextmanager
def take_lock(path: str) -> Iterator[None]:
    """
    Hold the lock of the runtime directory.

    Raises:
        Busy: Another modeld holds it.
    """
    descriptor = os.open(f"{path}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            pid = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
            raise Busy(
                f"another modeld runs already (pid {pid or 'unknown'})",
                hint="modelctl status asks it; one is enough",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
