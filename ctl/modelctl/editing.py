"""
A text in the user's editor: on a copy in a folder of its own, again as often as it takes.

What the copy means is not looked at; whoever asked for it decides whether it is good.
"""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from modeld.errors import Refused, Usage

EDITORS = ("sensible-editor", "nano", "vim", "vi")
"""Tried in this order where neither VISUAL nor EDITOR says which."""
NEW = """\
# The configuration of modeld.  Everything may be left out.
# modeld.toml(5) explains every key; modelctl config show lists them all.
"""


class Editing:
    """One copy, for as long as it is edited."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """
        Find the editor.

        Raises:
            Usage: There is none.
        """
        named = environment.get("VISUAL") or environment.get("EDITOR") or ""
        found = (shutil.which(one) for one in EDITORS)
        self._environment = dict(environment)
        try:
            self._editor = shlex.split(named) or [one for one in found if one][:1]
        except ValueError as error:
            raise Usage(f"EDITOR can't be understood: {named}") from error
        if not self._editor:
            raise Usage("there is no editor", hint="set EDITOR")
        self._folder = Path(tempfile.mkdtemp(prefix="modeld-"))
        self._copy = self._folder / "modeld.toml"
        self._original = ""
        self._is_kept = False
        self.is_edited = False
        """Whether the copy is another text than it was made of."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_kept:
            shutil.rmtree(self._folder, ignore_errors=True)

    def run(self, text: str) -> str:
        """
        Return a text as the user made it; the last edit goes on where there was one.

        Raises:
            Refused: The editor failed, or the text is no longer the one that was edited first.
        """
        if not self._copy.exists():
            self._original = text
            self._copy.write_text(text or NEW, encoding="utf-8")
        elif text != self._original:
            raise Refused("the file was changed by somebody else meanwhile")
        try:
            done = subprocess.run(
                [*self._editor, os.fspath(self._copy)], env=self._environment, check=False
            )
        except OSError as error:
            raise Refused(
                f"{self._editor[0]} can't be started: {error.strerror}", hint="set EDITOR"
            ) from error
        try:
            edited = self._copy.read_bytes().decode("utf-8", errors="replace")
        except OSError as error:
            raise Refused(
                f"{self._editor[0]} left no file: {error.strerror}; nothing was changed"
            ) from error
        self.is_edited = edited != (text or NEW)
        if done.returncode:
            how = f"ended with {done.returncode}"
            if done.returncode < 0:
                how = f"was ended by {signal.Signals(-done.returncode).name}"
            raise Refused(f"{self._editor[0]} {how}; nothing was changed")
        return edited if self.is_edited else text

    def keep(self) -> str:
        """Leave the copy where it is, and return its path."""
        self._is_kept = True
        return os.fspath(self._copy)
