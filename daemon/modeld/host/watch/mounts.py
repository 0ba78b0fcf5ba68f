"""
On what kind of file system a path lies, from the kernel's list of mounts.

Only /proc and symbolic links on local disks are looked at: a question to a dead network mount
would never be answered, so none is asked.
"""

import os
import re
from collections.abc import Mapping
from pathlib import Path

MOUNT_INFO = Path("/proc/self/mountinfo")
MAX_LINKS = 8

_REMOTE = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "glusterfs", "gpfs", "lustre",
        "ncpfs", "nfs", "nfs4", "orangefs", "prl_fs", "smb3", "smbfs", "vboxsf", "virtiofs",
    }
)  # fmt: skip
"""File systems that another machine, or the host of this one, writes to."""
_ESCAPE = re.compile(r"\\([0-7]{3})")


def read_mounts() -> dict[str, str]:
    """Return the type of each mounted file system, by its path; empty where nobody says."""
    try:
        lines = MOUNT_INFO.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return {}
    mounts = {}
    for line in lines:
        before, separator, after = line.partition(" - ")
        words = before.split(" ")
        if separator and len(words) > 4:
            mounts[_unescaped(words[4])] = after.split(" ")[0]
    return mounts


def why_polled(path: str, mounts: Mapping[str, str]) -> str:
    """Return why inotify does not see all changes below a path; empty when it does."""
    for _ in range(MAX_LINKS):
        kind = _kind(path, mounts)
        if kind in _REMOTE:
            return f"it is on a network file system ({kind})"
        if kind == "fuse" or kind.startswith("fuse."):
            return f"it is on a file system of another program ({kind})"
        try:
            target = os.readlink(path)  # noqa: PTH115  (a relative target must stay one)
        except OSError:
            break
        path = os.path.join(os.path.dirname(path), target)  # noqa: PTH118, PTH120
    return ""


def _kind(path: str, mounts: Mapping[str, str]) -> str:
    """Return the type of the file system that a path is on, going by the path alone."""
    place = os.path.normpath(path)
    while place not in mounts:
        above = os.path.dirname(place)  # noqa: PTH120
        if above == place:
            return ""
        place = above
    return mounts[place]


def _unescaped(text: str) -> str:
    """Return a path of mountinfo, where blanks are octal numbers."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
