"""The user's editor works on a copy, which outlives everything but success."""

from pathlib import Path

import pytest

from modelctl.editing import NEW, Editing
from modeld.errors import Refused, Usage


def _editor(folder: Path, script: str) -> dict[str, str]:
    path = folder / "my editor"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return {"EDITOR": f"'{path}' -x", "PATH": "/usr/bin:/bin"}


def test_editor_has_its_options_and_the_copy(tmp_path: Path) -> None:
    """`EDITOR="code --wait"` is a command line."""
    with Editing(_editor(tmp_path, 'test "$1" = -x && echo b >> "$2"')) as editing:
        assert editing.run("a\n") == "a\nb\n"
        assert editing.is_edited


def test_second_edit_goes_on_from_the_first(tmp_path: Path) -> None:
    """There is one mistake to mend, not everything to do again."""
    with Editing(_editor(tmp_path, 'echo b >> "$2"')) as editing:
        editing.run("a\n")

        assert editing.run("a\n") == "a\nb\nb\n"


def test_second_edit_of_another_text_is_refused(tmp_path: Path) -> None:
    """Somebody else's change would be lost."""
    with Editing(_editor(tmp_path, 'echo b >> "$2"')) as editing:
        editing.run("a\n")
        with pytest.raises(Refused, match="somebody else"):
            editing.run("c\n")


def test_copy_goes_unless_it_is_kept(tmp_path: Path) -> None:
    """Nothing is left lying about, and nothing is lost."""
    with Editing(_editor(tmp_path, "")) as editing:
        assert editing.run("") == ""
        copy = Path(editing.keep())
    assert copy.read_text() == NEW
    with Editing(_editor(tmp_path, f'echo "$2" > {tmp_path}/name')) as editing:
        editing.run("a")
    assert not Path((tmp_path / "name").read_text().strip()).exists()
    copy.unlink()
    copy.parent.rmdir()


def test_editor_that_is_no_command_line_is_told() -> None:
    """An open quote."""
    with pytest.raises(Usage, match="can't be understood"):
        Editing({"VISUAL": "vi 'x"})


def test_no_editor_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container has none."""
    monkeypatch.setenv("PATH", "")
    with pytest.raises(Usage, match="no editor"):
        Editing({})
