"""
Which disk a path is on, and whether it turns, as the kernel tells.

Only /proc, /sys and the path itself are looked at.  What the kernel does not say is not guessed:
a network, memory or a container's layers are of no known kind.
"""

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

MOUNT_INFO = Path("/proc/self/mountinfo")
SYS_BLOCK = Path("/sys/dev/block")
_ESCAPE = re.compile(r"\\([0-7]{3})")


class Kind(StrEnum):
    """What a disk is made of."""

    SSD = "ssd"
    ROTATING = "rotating"
    UNKNOWN = "unknown"


class Disk(NamedTuple):
    """One disk, or several that are one to whoever reads."""

    name: str
    """As the kernel has it, such as `nvme0n1` or `sda+sdb`; the file system where it has none."""
    kind: Kind
    number: str = ""
    """What tells file systems apart that have no disk: `MAJOR:MINOR`; empty for a disk."""


class Mount(NamedTuple):
    """One mounted file system."""

    path: str
    kind: str
    """Of the file system, such as `ext4`."""
    source: str
    """Such as `/dev/sda1`."""


def read_mounts(path: Path = MOUNT_INFO) -> list[Mount]:
    """Return what is mounted, the later over the earlier; nothing where nobody says."""
    try:
        lines = path.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return []
    mounts = []
    for line in lines:
        before, _, after = line.partition(" - ")
        words, source = before.split(" "), after.split(" ")
        if len(words) > 4 and len(source) > 1:
            mounts.append(Mount(_unescaped(words[4]), source[0], _unescaped(source[1])))
    return mounts


def disk_of(path: str, mounts: Sequence[Mount], blocks: Path = SYS_BLOCK) -> Disk:
    """Return the disk that a path is on, or would be on if it were made."""
    place = os.path.realpath(path)
    while not os.path.lexists(place):
        place = os.path.dirname(place)  # noqa: PTH120  (text: what is not there has no parent)
    mount = _mount_of(place, mounts)
    number = ""
    with suppress(OSError):
        number = _number(Path(place).stat().st_dev)
    # Btrfs gives each of its volumes a number that is no disk's
    for each in (number, _number_behind(mount.source)):
        with suppress(OSError):
            disks = _disks((blocks / (each or "none")).resolve(strict=True))
            return Disk("+".join(sorted(one.name for one in disks)), _kind(disks))
    return Disk(mount.kind or "unknown", Kind.UNKNOWN, number)


def _number_behind(source: str) -> str:
    """Return the number of the device that is mounted; empty where it is none."""
    try:
        return _number(Path(source).stat().st_rdev) if source.startswith("/dev/") else ""
    except OSError:  # a container has the mount, and not its device
        return ""


def _number(device: int) -> str:
    return f"{os.major(device)}:{os.minor(device)}"


def _mount_of(place: str, mounts: Sequence[Mount]) -> Mount:
    """Return the innermost mount above a path."""
    above = [one for one in mounts if f"{place}/".startswith(f"{one.path.rstrip('/')}/")]
    # the last one hides those that were mounted at its path before
    return max(reversed(above), key=lambda one: len(one.path), default=Mount("/", "", ""))


def _disks(place: Path) -> set[Path]:
    """Return the disks below a block device: LVM, RAID and dm-crypt stand on others."""
    slaves = place / "slaves"
    below = list(slaves.iterdir()) if slaves.is_dir() else []
    if below:
        return set().union(*(_disks(each.resolve(strict=True)) for each in below))
    return {place.parent if (place / "partition").exists() else place}


def _kind(disks: set[Path]) -> Kind:
    """Return what disks are made of; one that turns makes all of them slow."""
    try:
        flags = {(disk / "queue" / "rotational").read_text().strip() for disk in disks}
    except OSError:
        return Kind.UNKNOWN
    if "1" in flags:
        return Kind.ROTATING
    return Kind.SSD if flags == {"0"} else Kind.UNKNOWN


def _unescaped(text: str) -> str:
    """Return a path of mountinfo, where blanks are octal numbers."""
    return _ESCAPE.sub(lambda match: chr(int(match[1], 8)), text)
