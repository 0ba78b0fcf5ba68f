"""
What to know, and what to type next, after `init` has chosen.

Sentences and commands alone: nothing is looked at, and nothing is done.
"""

import os
from collections.abc import Iterator
from shlex import quote

from modelctl.setup.choosing import HDD_PATHS, SSD_PATH, Choice, Folder
from modelctl.setup.disks import Kind
from modelctl.setup.report import NextStep


def warnings(choice: Choice) -> Iterator[str]:
    """Yield what will not work as one expects of an SSD and slower disks."""
    slow = _in(choice, HDD_PATHS)
    for fast in _in(choice, SSD_PATH) if slow else ():
        if fast.disk.kind is Kind.ROTATING:
            yield f"{fast.path} is on a disk that turns ({fast.disk.name}): copies gain little"
        if not fast.is_writable:
            yield f"{fast.path} can't be written: nothing is copied to it"
        for one in slow:
            if one.disk == fast.disk:
                yield f"{one.path} is on the same disk as {fast.path}: copies gain nothing"


def steps(choice: Choice, default: Folder, start: str, *, is_default: bool) -> Iterator[NextStep]:
    """
    Yield what to type next.

    Args:
        choice: What was chosen.
        default: The built-in `ssd_path`.
        start: The command that starts modeld; empty where it runs.
        is_default: Whether the built-in `ssd_path` holds.
    """
    fast = next(iter(_in(choice, SSD_PATH)), default if is_default else None)
    folders = [use.folder for use in choice.uses if use.key]
    if is_default and folders and default.disk.kind is Kind.SSD and not default.is_writable:
        yield NextStep(
            command=f"mkdir -p {quote(default.path)}", why="copies of what is used often go there"
        )
    left = [use.folder for use in choice.uses if not use.key]
    if left and choice.hdds is None and _in(choice, HDD_PATHS):
        paths = ",".join(one.path for one in (*_in(choice, HDD_PATHS), *left))
        command = f"modelctl config set {HDD_PATHS} {quote(paths)}"
        yield NextStep(command=command, why="to have what was left too")
    elif fast is not None:
        for one in left:
            link = f"{fast.path}/{_link_name(one)}"
            command = f"ln -s {quote(one.path)} {quote(link)}"
            yield NextStep(command=command, why="to have what was left too")
    if folders and not any(one.models for one in folders):
        command = f"cp MODEL.gguf {quote(folders[0].path)}/"
        yield NextStep(command=command, why="there is no model yet")
    if start:
        yield NextStep(command=start, why="start modeld")
    yield NextStep(command="modelctl doctor", why="is all well?")
    yield NextStep(command="modelctl list", why="every model that is there")


def _in(choice: Choice, key: str) -> list[Folder]:
    return [use.folder for use in choice.uses if use.key == key]


def _link_name(folder: Folder) -> str:
    """Return a name for a link that says whose models they are."""
    name = os.path.basename(folder.path)  # noqa: PTH119
    above = os.path.basename(os.path.dirname(folder.path))  # noqa: PTH119, PTH120
    return (folder.owner or above or name).lower().replace(" ", "-").lstrip(".")
