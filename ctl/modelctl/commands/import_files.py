"""
What an import writes: a drop-in of its own, and rows at the end of the table of limits.

Nobody's file is touched without need, and an import is taken back by removing one file.  modeld
checks each text before it lies where modeld would read it, and puts it in force when it does.
"""

from __future__ import annotations

import os
import tempfile
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING

from modelctl.errors import Refusal
from modelctl.importing.gleaning import Left
from modelctl.importing.toml import dumps
from modelctl.user_file import UserFile
from modeld.errors import ErrorCode, Usage
from modeld.wire.configuration import AskConfig, CheckConfig, ConfigChecked, ConfigReport
from modeld.wire.daemon import Reload, Reloaded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelctl.importing.gleaning import Config
    from modelctl.questions import Questions

HEAD = "# From {}, by modelctl import-config {}.  To take it back, remove this file.\n"
ROWS_HEAD = "\n# From {}, by modelctl import-config {}:\n"
LIMITS_KEY = "models.limits_file"
LAST = "zz-checked-only.toml"
"""A name for a drop-in that is checked and never written; it comes after all others."""


class Writing:
    """The files of one import."""

    def __init__(self, questions: Questions, kind: str, source: str) -> None:
        """
        Find out where modeld reads its configuration.

        Raises:
            Usage: It reads one file and no drop-ins.
        """
        self._questions = questions
        self._about = (source.encode("unicode_escape").decode(), kind)
        report = questions.ask(AskConfig(files_only=True), ConfigReport)
        if len(report.files) == 1:
            raise Usage(
                f"modeld reads {report.user_file} and no drop-ins",
                hint="see --dry-run, and write there what you want of it",
            )
        directory = os.path.dirname(report.user_file)  # noqa: PTH120
        self._folder = f"{directory}/modeld.d"
        self.drop_in = f"{self._folder}/50-import-{kind}.toml"

    def setting(self, key: str) -> object:
        """Return what a setting of modeld's is now."""
        settings = self._questions.ask(AskConfig(key=key), ConfigReport).settings
        return settings[0].value if settings else None

    def text_of(self, config: Config) -> str:
        """Return the text of the drop-in."""
        return HEAD.format(*self._about) + dumps(config)

    def check(self, text: str) -> ConfigChecked:
        """
        Return what the drop-in would change.

        Raises:
            Refusal: modeld would not take it, and why.
        """
        return self._questions.ask(CheckConfig(path=self.drop_in, text=text), ConfigChecked)

    def before(self) -> str:
        """Return what an earlier import wrote; empty for nothing."""
        return UserFile(self.drop_in).text

    def put(self, text: str) -> Reloaded | None:
        """
        Put the drop-in in place and in force; None where no modeld runs.

        Raises:
            Refusal: modeld will not have it; what was there before is there again.
        """
        file = UserFile(self.drop_in)
        before = file.text if file.exists else None
        file.replace(text)
        try:
            return self.reload()
        except Refusal as refusal:
            if refusal.word == ErrorCode.CONFIG and before is not None:
                file.replace(before)
            elif refusal.word == ErrorCode.CONFIG:
                with suppress(OSError):
                    os.unlink(self.drop_in)  # noqa: PTH108
            raise

    def reload(self) -> Reloaded | None:
        """Have modeld read its configuration again; None where none runs."""
        return self._questions.ask(Reload(), Reloaded) if self._questions.is_daemon else None

    # --- the table of limits -------------------------------------------------------------------

    def new_rows(
        self, rows: Sequence[dict[str, object]]
    ) -> tuple[list[dict[str, object]], list[Left]]:
        """Return the rows that the table does not have yet, and the others with a reason."""
        known = set()
        with suppress(tomllib.TOMLDecodeError):
            table = tomllib.loads(UserFile(self.limits_path).text).get("model", [])
            known = {row.get("pattern") for row in table if isinstance(row, dict)}
        fresh = [row for row in rows if row["pattern"] not in known]
        left = [
            Left(str(row["pattern"]), f"{self.limits_path} has a row for it")
            for row in rows
            if row["pattern"] in known
        ]
        return fresh, left

    @property
    def limits_path(self) -> str:
        """The file of the table."""
        return os.path.expanduser(str(self.setting(LIMITS_KEY)))  # noqa: PTH111

    def add_rows(self, rows: Sequence[dict[str, object]], *, dry_run: bool) -> str:
        """
        Add rows at the end of the table; return its file.

        Raises:
            Refusal: modeld would not take the table, and why.
        """
        file = UserFile(self.limits_path)
        text = file.text.rstrip("\n") + "\n" * bool(file.text)
        text += ROWS_HEAD.format(*self._about) + dumps({"model": list(rows)})
        # checked as the table that a drop-in names
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".toml") as trial:
            trial.write(text)
            trial.flush()
            named = dumps({"models": {"limits_file": trial.name}})
            self._questions.ask(
                CheckConfig(path=f"{self._folder}/{LAST}", text=named), ConfigChecked
            )
        if not dry_run:
            file.replace(text.lstrip("\n"))
        return file.path
