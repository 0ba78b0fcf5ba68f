"""
Which folder becomes the fast tier, and which the slow ones.

    what there is                            ssd_path            hdd_paths
    SSD folders, and slower ones             the fullest SSD     the slower ones, and other SSDs'
    slower ones, and an SSD without models   the built-in one    all of them
    one folder, and nothing slower           that one            none
    several, on SSDs or on no SSD            none                all of them, without any copies

A copy gains something only where it comes from a slower disk, and modeld writes copies: never into
another program's folder.  What is configured stays.  Pure: the disks were looked at before.
"""

from collections.abc import Sequence
from typing import NamedTuple

from modelctl.setup.disks import Disk, Kind

SSD_PATH, HDD_PATHS = "storage.ssd_path", "storage.hdd_paths"

_MOST = "the SSD folder with the most"


class Folder(NamedTuple):
    """One folder, as it was found."""

    path: str
    disk: Disk
    models: int = 0
    size_bytes: int = 0
    is_whole: bool = True
    """Whether all of it was counted."""
    owner: str = ""
    """The program whose downloads it has; empty for the user's own."""
    is_writable: bool = True


class Settled(NamedTuple):
    """What is configured already; None for what is not."""

    ssd: Folder | None = None
    has_ssd: bool = False
    """Whether `ssd_path` is set, perhaps to none."""
    hdds: tuple[Folder, ...] | None = None


class Use(NamedTuple):
    """What becomes of one folder."""

    folder: Folder
    key: str
    """The setting that it goes into, or stands in; empty where it is left."""
    why: str
    is_kept: bool = False
    """Whether it stands there already."""


class Choice(NamedTuple):
    """What becomes of everything; None for a setting that is left as it is."""

    ssd: str | None = None
    hdds: tuple[str, ...] | None = None
    uses: tuple[Use, ...] = ()


def choose(found: Sequence[Folder], default: Folder, settled: Settled) -> Choice:
    """
    Return what to write, and why.

    Args:
        found: Folders with models that are not configured yet, the user's own first.
        default: The built-in `ssd_path`, whether it is there or not.
        settled: What stays as it is.
    """
    if settled.has_ssd or settled.hdds is not None:
        return _beside(found, settled)
    fast = _fullest_ssd(found)
    slow = [one for one in found if one.disk.kind is not Kind.SSD]
    if slow and fast is None and default.disk.kind is Kind.SSD:
        return _tiers(default, found, is_default=True)
    if slow and fast is not None:
        return _tiers(fast, found, is_default=False)
    if len(found) == 1 and found[0].disk.kind is not Kind.ROTATING:
        why = "the only folder with models"
        return Choice(ssd=found[0].path, uses=(Use(found[0], SSD_PATH, why),))
    why = "loaded from where they lie: there is no faster disk to copy to"
    hdds = tuple(one.path for one in found)
    return Choice(ssd="", hdds=hdds, uses=tuple(Use(one, HDD_PATHS, why) for one in found))


def named(ssd: Folder | None, hdds: Sequence[Folder]) -> Choice:
    """Return what somebody asked for by name."""
    why = "as you say"
    uses = [Use(ssd, SSD_PATH, why)] if ssd is not None else []
    uses += [Use(one, HDD_PATHS, why) for one in hdds]
    return Choice(
        ssd=ssd.path if ssd is not None else None,
        hdds=tuple(one.path for one in hdds) if hdds else None,
        uses=tuple(uses),
    )


def _fullest_ssd(found: Sequence[Folder]) -> Folder | None:
    """Return the folder that copies may go into; None where there is none."""
    own = [one for one in found if one.disk.kind is Kind.SSD and one.is_writable and not one.owner]
    return max(own, key=lambda one: one.size_bytes, default=None)


def _tiers(fast: Folder, found: Sequence[Folder], *, is_default: bool) -> Choice:
    """Return the choice where copies gain something."""
    uses = [] if is_default else [Use(fast, SSD_PATH, _MOST)]
    uses += [_slow_or_left(one, fast) for one in found if one is not fast]
    hdds = tuple(use.folder.path for use in uses if use.key == HDD_PATHS)
    return Choice(ssd=None if is_default else fast.path, hdds=hdds, uses=tuple(uses))


def _slow_or_left(folder: Folder, fast: Folder) -> Use:
    if folder.disk == fast.disk:
        return Use(folder, "", f"left: {fast.path} is on the same disk, so a copy gains nothing")
    return Use(folder, HDD_PATHS, "what is used often is copied to the SSD")


def _beside(found: Sequence[Folder], settled: Settled) -> Choice:
    """Return the choice where some of it is made."""
    uses = [Use(settled.ssd, SSD_PATH, "as before", is_kept=True)] if settled.ssd else []
    uses += [Use(one, HDD_PATHS, "as before", is_kept=True) for one in settled.hdds or ()]
    if settled.hdds is not None:
        fast = None if settled.has_ssd else _fullest_ssd(found)
        uses += [
            Use(one, "", f"left: {HDD_PATHS} is set already")
            if one is not fast
            else Use(one, SSD_PATH, _MOST)
            for one in found
        ]
        return Choice(ssd=fast.path if fast else None, uses=tuple(uses))
    if settled.ssd is None:
        why = "loaded from where they lie: storage.ssd_path is none"
        more = [Use(one, HDD_PATHS, why) for one in found]
    else:
        more = [_slow_or_left(one, settled.ssd) for one in found]
    hdds = tuple(use.folder.path for use in more if use.key)
    return Choice(hdds=hdds or None, uses=(*uses, *more))
