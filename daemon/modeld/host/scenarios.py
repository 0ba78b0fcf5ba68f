"""
The scenarios that modeld brings, as files: which there are, and what they say.

Reads below its folders and nowhere else; what the text means is `core.scenario`'s business.
"""

import contextlib
import re
from collections.abc import Sequence
from pathlib import Path

SUFFIX = ".toml"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")
"""No separator and no dot at the beginning: a name can't leave its folder."""


class ScenarioFolders:
    """Scenarios in folders, the first of which wins."""

    def __init__(self, folders: Sequence[Path]) -> None:
        self._folders = tuple(folders)

    def names(self) -> list[str]:
        """Return the names of all, sorted."""
        found = {path.stem for folder in self._folders for path in folder.glob(f"*{SUFFIX}")}
        return sorted(name for name in found if _NAME.fullmatch(name))

    def text(self, name: str) -> str | None:
        """Return the text of a scenario; None if there is none of that name."""
        if not _NAME.fullmatch(name):
            return None
        for folder in self._folders:
            with contextlib.suppress(OSError, UnicodeDecodeError):
                return (folder / f"{name}{SUFFIX}").read_text(encoding="utf-8")
        return None
