"""The user's file is replaced as a whole or not at all."""

import os
from pathlib import Path

import pytest

from modelctl.user_file import UserFile
from modeld.errors import ConfigInvalid, Refused, StateNotSaved


def test_file_is_replaced_and_keeps_its_mode(tmp_path: Path) -> None:
    """Whoever made it private meant it."""
    path = tmp_path / "f"
    path.write_text("a")
    path.chmod(0o600)
    UserFile(str(path)).replace("b")

    assert path.read_text() == "b"
    assert path.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_new_file_is_made_with_its_folder(tmp_path: Path) -> None:
    """The first `config set` of all."""
    path = tmp_path / "a" / "b" / "f"
    file = UserFile(str(path))

    assert (file.exists, file.text) == (False, "")
    file.replace("x")
    assert path.read_text() == "x"
    assert not path.stat().st_mode & 0o022


def test_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    """People keep their settings under version control."""
    target = tmp_path / "dotfiles"
    target.write_text("a")
    link = tmp_path / "link"
    link.symlink_to(target)
    UserFile(str(link)).replace("b")

    assert link.is_symlink()
    assert target.read_text() == "b"


@pytest.mark.parametrize("now", ["c", "", None])
def test_change_by_somebody_else_is_not_lost(tmp_path: Path, now: str | None) -> None:
    """An editor may have the file open."""
    path = tmp_path / "f"
    path.write_text("a")
    file = UserFile(str(path))
    if now is None:
        path.unlink()
    else:
        path.write_text(now)

    with pytest.raises(Refused, match="somebody else"):
        file.replace("b")
    assert (path.read_text() if path.exists() else None) == now
    assert len(list(tmp_path.iterdir())) == (now is not None)


def test_file_that_somebody_made_meanwhile_is_not_lost(tmp_path: Path) -> None:
    """Two first changes at once."""
    path = tmp_path / "f"
    file = UserFile(str(path))
    path.write_text("c")

    with pytest.raises(Refused):
        file.replace("b")
    assert path.read_text() == "c"


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_folder_that_can_not_be_written_is_told(tmp_path: Path) -> None:
    """Somebody else's file, or a disk that is mounted for reading."""
    path = tmp_path / "f"
    path.write_text("a")
    file = UserFile(str(path))
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StateNotSaved, match="was not changed"):
            file.replace("b")
    finally:
        tmp_path.chmod(0o700)
    assert path.read_text() == "a"


def test_folder_that_is_a_file_is_told(tmp_path: Path) -> None:
    """As it is for root too."""
    (tmp_path / "f").write_text("")
    with pytest.raises((StateNotSaved, ConfigInvalid)):
        UserFile(str(tmp_path / "f" / "g")).replace("b")


def test_file_that_is_no_text_is_told(tmp_path: Path) -> None:
    """It is not overwritten with what could be read of it."""
    path = tmp_path / "f"
    path.write_bytes(b"\xff")
    with pytest.raises(ConfigInvalid, match="can't decode"):
        UserFile(str(path))
