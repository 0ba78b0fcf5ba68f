"""
Makes a finished copy visible, all of its files or none.

    1  a journal beside the finished files says what becomes of each, synced
    2  each file gets its name, never over another one; the first shard is the last,
       so that half a set is no model
    3  the list of copies is written
    4  the journal goes, and the folder of the copy with it

After a crash whoever finds the journal finishes the work, or takes it back where it can't be
finished.  This module writes no data and decides nothing.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import Struct

from modeld.host.copy.failure import CopyFailed
from modeld.host.copy.kernel import rename_new
from modeld.host.copy.ledger import Entry, Ledger, write_file
from modeld.host.copy.tier import (
    PART_PREFIX,
    discard_part,
    names_in,
    open_parent,
    open_part,
    opened,
    parts_of,
    remove_folders,
    status_of,
)

JOURNAL_NAME = "journal.json"
MAX_JOURNAL_BYTES = 16 * 1024 * 1024


class Step(Struct, frozen=True, kw_only=True):
    """One finished file, and the name that it gets."""

    temporary: str
    relative_path: str
    entry: Entry


class Journal(Struct, frozen=True, kw_only=True):
    """What a publication does, in order."""

    version: int = 1
    steps: tuple[Step, ...]
    folders: tuple[str, ...] = ()
    """Folders that it needs and that were not there."""


class Place(Struct, frozen=True, kw_only=True):
    """A tier, with the folders that a publication works in, open."""

    root: int
    work: int
    part: int
    ledger: Ledger


def publish(place: Place, steps: Sequence[Step]) -> bool:
    """
    Give all files their names; return whether the list of copies is written, too.

    Where it is not, the journal has to stay for the next survey.

    Raises:
        CopyFailed: A name is taken, or leads elsewhere.
        OSError: The disk refuses.  As with `CopyFailed`, nothing is visible.
    """
    journal = Journal(steps=tuple(steps), folders=_missing_folders(place.root, steps))
    write_file(place.part, JOURNAL_NAME, msgspec.json.encode(journal))
    os.fsync(place.part)
    try:
        _perform(place, journal)
    except (CopyFailed, OSError):
        _undo(place, journal)
        raise
    return _note(place, journal)


def recover(root: int, work: int, ledger: Ledger) -> None:
    """Finish or take back what earlier daemons left; remove every unfinished copy."""
    for name in names_in(work):
        if not name.startswith(PART_PREFIX):
            continue
        with contextlib.suppress(OSError, CopyFailed), open_part(work, name, make=False) as part:
            place = Place(root=root, work=work, part=part, ledger=ledger)
            journal = _read_journal(part)
            if journal is None or _finish(place, journal):
                discard_part(work, name, part)


def _finish(place: Place, journal: Journal) -> bool:
    """Go on with a publication, or take it back; return whether its journal can go."""
    try:
        _perform(place, journal)
    except (CopyFailed, OSError):
        _undo(place, journal)
        return True
    return _note(place, journal)


def _perform(place: Place, journal: Journal) -> None:
    """Do all steps; those that are done already are passed over."""
    made: list[str] = []
    for step in journal.steps:
        parts = parts_of(step.relative_path)
        with open_parent(place.root, parts, made) as parent:
            _name(place.part, parent, step)
            os.fsync(parent)
    for folder in made:
        with open_parent(place.root, parts_of(folder)) as above:
            os.fsync(above)


def _name(part: int, parent: int, step: Step) -> None:
    """Give one file its name."""
    name = parts_of(step.relative_path)[-1]
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if step.entry.fits(there):
            return
        raise CopyFailed("refused", f"{step.relative_path} is there already")
    ours = os.stat(step.temporary, dir_fd=part, follow_symlinks=False)
    if not step.entry.fits(ours):
        raise CopyFailed("io", f"{step.relative_path} is not what was written")
    try:
        rename_new(part, step.temporary, parent, name)
    except FileExistsError as error:
        raise CopyFailed("refused", f"{step.relative_path} is there already") from error


def _undo(place: Place, journal: Journal) -> None:
    """Take back what is visible, the first shard first, and the folders that were made for it."""
    for step in reversed(journal.steps):
        parts = parts_of(step.relative_path)
        with contextlib.suppress(OSError, CopyFailed):
            status = status_of(place.root, parts)
            if status is not None and step.entry.fits(status):
                with open_parent(place.root, parts) as parent:
                    os.unlink(parts[-1], dir_fd=parent)
    remove_folders(place.root, journal.folders)


def _note(place: Place, journal: Journal) -> bool:
    """Write the list; return whether the disk took it."""
    entries = {step.relative_path: step.entry for step in journal.steps}
    try:
        place.ledger.add(place.work, entries, journal.folders)
    except (OSError, CopyFailed):
        return False
    return True


def _missing_folders(root: int, steps: Sequence[Step]) -> tuple[str, ...]:
    """Return the folders that have to be made, outermost first."""
    wanted = {folder for step in steps for folder in _folders_of(step.relative_path)}
    return tuple(sorted(each for each in wanted if status_of(root, parts_of(each)) is None))


def _folders_of(relative_path: str) -> Iterator[str]:
    parts = parts_of(relative_path)
    for depth in range(1, len(parts)):
        yield "/".join(parts[:depth])


def _read_journal(part: int) -> Journal | None:
    """Return the journal of an unfinished copy; None where it never got that far."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        with opened(os.open(JOURNAL_NAME, flags, dir_fd=part)) as file:
            return msgspec.json.decode(os.read(file, MAX_JOURNAL_BYTES), type=Journal)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
